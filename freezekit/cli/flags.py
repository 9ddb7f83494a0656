"""The command for builds that the hooks cannot help: ``freezekit flags``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from freezekit.build import FREEZERS
from freezekit.cli.answers import Answer
from freezekit.cli.command import LOCATING, Command
from freezekit.cli.project import importable, only_chain
from freezekit.manifest import DEFAULT_SECTION

if TYPE_CHECKING:
    from freezekit.build.cargo import Cargo


class _Locating(Command):
    """A command about scripts that it finds by itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += LOCATING.values()


@click.command(cls=_Locating, name="flags")
@click.argument("freezer", type=click.Choice(FREEZERS, case_sensitive=False), metavar="FREEZER")
@click.option(
    "--folder",
    metavar="FOLDER",
    default=os.path.join("build", "freezekit"),
    show_default=True,
    help="Where what ships is laid out for the freezer; made anew each time.",
)
def flags_command(freezer: str, folder: str, script_location: str | None, section: str | None) -> Answer:
    """Print a freezer's options that ship the migrations.

    For a build that the hooks cannot help: another tool calls the freezer, or it has no hooks. FREEZER is pyinstaller,
    cx_Freeze or nuitka. There is one option on each line; scripts, manifest and empty database are copied to FOLDER, so
    run it before each build.
    """
    from freezekit.build.flags import flags

    project = os.getcwd()
    with importable(project):
        found = flags(freezer, _cargo(freezer, project, script_location, section), folder)
    return Answer({"freezer": freezer, "folder": folder, "flags": found}, "\n".join(found))


def _cargo(freezer: str, project: str, location: str | None, section: str | None) -> Cargo:
    """Return what ships: the chain that is named, else every one that the project configures."""
    from freezekit.build.cargo import load_explicitly
    from freezekit.build.flags import freezer_version

    if location is None and section is not None:
        location = only_chain(project, section).script_location
    return load_explicitly(location, section or DEFAULT_SECTION, project, freezer_version(freezer))
