"""The command line: ``freezekit``, ``python -m freezekit``, and the same inside a shipped program.

Needs the extra ``[cli]``; nothing else of freezekit imports it. To add a command, write a function that returns an
:class:`~freezekit.cli.answers.Answer` in a module beside this one, and name it in :mod:`freezekit.cli.program`,
or in :mod:`freezekit.cli.developers` if it is of no use inside a bundle.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from freezekit.cli.answers import refuse, wanted_output, wants_json
from freezekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.runtime.migrations import Migrations

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, migrations: Migrations | None = None, program: str | None = None) -> int:
    """Run one command and say what came of it; never ends the process, and works without a stdout.

    Args:
        argv: The arguments, without the program's name; those of the process if None.
        migrations: The scripts, in a shipped program. If None, they come from ``--migrations``, or from what the
            project in the working directory configures.
        program: What a person types before the arguments, for messages and help: ``"myapp db"``. If None, the name of
            the program's file.

    Returns:
        The exit code, as ``freezekit --help`` lists them.

    Example:
        >>> sys.exit(freezekit.cli.main(["status", "old.notes"], migrations=freezekit.locate("sample_app:migrations")))
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        from freezekit.cli.program import run
    except ImportError as error:
        if error.name != "click":
            raise
        missing = UsageError("The command line needs more packages: install freezekit[cli].")
        return refuse(
            missing, program or "freezekit", None, as_json=wants_json(arguments), output=wanted_output(arguments)
        )
    return run(arguments, migrations, program)
