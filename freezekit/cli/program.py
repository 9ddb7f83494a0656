"""All commands under one name, and the run of one of them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

import click

from freezekit import __version__
from freezekit.cli.answers import refuse, wanted_output, wants_json
from freezekit.cli.backups import backups
from freezekit.cli.builds import manifest, verify
from freezekit.cli.command import name_of
from freezekit.cli.databases import adopt, create, plan, sql, status, upgrade
from freezekit.cli.fleets import upgrade_many_command
from freezekit.cli.written import check_target
from freezekit.errors import FreezekitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.runtime.migrations import Migrations

SHIPPED = (status, plan, sql, upgrade, upgrade_many_command, create, adopt, backups, verify, manifest)
"""The commands that a shipped program has."""

_EXIT_CODES = """\b
Exit codes:
  0   fine; of status: current
  1   failed, or something is wrong with what was looked at
  2   wrong usage or configuration; nothing was changed
Exit codes of status, for several databases the highest:
  10  behind: revisions are pending
  11  new: no file, or nothing in it
  12  ahead: written by a newer program
  13  unversioned: it has tables, but no version
  14  foreign: no database, or another application's
"""


class _Program(click.Group):
    """The commands; a shipped program has only those that ship."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return list(self._by_name(ctx))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        return self._by_name(ctx).get(cmd_name)

    @staticmethod
    def _by_name(ctx: click.Context) -> dict[str, click.Command]:
        commands: tuple[click.Command, ...] = SHIPPED
        if ctx.obj is None:
            from freezekit.cli.developers import COMMANDS

            commands += COMMANDS
        return {command.name or "": command for command in commands}


@click.group(cls=_Program, epilog=_EXIT_CODES, no_args_is_help=False)
@click.version_option(__version__, prog_name="freezekit", message="%(prog)s %(version)s")
def program() -> None:
    """Look after databases and their Alembic migrations.

    DB is the path of an SQLite file, or a URL.
    """


def run(argv: Sequence[str], migrations: Migrations | None, name: str | None) -> int:
    """Run one command; see :func:`freezekit.cli.main`."""
    as_json, output, name = wants_json(argv), _answer_file(argv), name or _program_name(migrations)
    try:
        # click's own main would end the process to complete words for a shell, if a variable says so.
        # Older click fails to print its help where there is no stdout.
        stdout = contextlib.redirect_stdout(sys.stdout or io.StringIO())
        with stdout, program.make_context(name, list(argv), obj=migrations) as ctx:
            return int(program.invoke(ctx))
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        ctx_of = getattr(error, "ctx", None)
        command = (name_of(ctx_of) if ctx_of is not None else "") or None
        path = ctx_of.command_path if ctx_of is not None else name
        usage = UsageError(f"{error.format_message()} See '{path} --help'.")
        return refuse(usage, name, command, as_json=as_json, output=output)
    except KeyboardInterrupt:
        return refuse(FreezekitError("Interrupted."), name, None, as_json=as_json, output=output)
    except BrokenPipeError:
        _end_output()
        return 1


def _answer_file(argv: Sequence[str]) -> str | None:
    """Return the file of ``--output`` if it may be written."""
    output = wanted_output(argv)
    try:
        check_target(output or "", "--output")
    except UsageError:
        return None
    return output


def _program_name(migrations: Migrations | None) -> str:
    started_as = sys.argv[0] if sys.argv else ""
    return "freezekit" if migrations is None else os.path.basename(started_as or sys.executable)


def _end_output() -> None:
    """Let Python flush to nowhere what a closed pipe does not take."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
