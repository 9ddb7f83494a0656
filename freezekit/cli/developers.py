"""The commands about projects and builds: of no use inside a bundle, so the hooks leave them out."""

from __future__ import annotations

from freezekit.cli.checks import check
from freezekit.cli.flags import flags_command
from freezekit.cli.init import init
from freezekit.cli.releases import diff
from freezekit.cli.smoke import smoke

COMMANDS = (init, flags_command, diff, check, smoke)
