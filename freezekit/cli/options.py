"""Options that several commands have, and what they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from freezekit.cli.written import check_target
from freezekit.errors import UsageError
from freezekit.runtime.reports import Backup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    F = TypeVar("F", bound=Callable[..., Any])


def unharmed(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return the file that an option says to write; one that must not be written over is refused at once."""
    if value is not None:
        try:
            check_target(value, param.opts[0])
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error
    return value


def _pairs(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> dict[str, str | list[str]]:
    """Return ``name=value`` arguments by name; a name that comes again gets a list."""
    given: dict[str, list[str]] = {}
    for pair in values:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{pair!r} is not name=value.")
        given.setdefault(name, []).append(value)
    return {name: found if len(found) > 1 else found[0] for name, found in given.items()}


x_arguments_option = click.option(
    "-x",
    "x_arguments",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_pairs,
    help="Argument for env.py, as of 'alembic -x'; can be repeated.",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="S",
    default=30.0,
    show_default=True,
    help="Seconds to wait for another program that uses the database.",
)


_BACKUP_OPTIONS = (
    click.option("--no-backup", is_flag=True, help="Make no copy before the first change."),
    click.option("--backup-folder", metavar="FOLDER", help="Where the copy is put; without it, beside the database."),
    click.option(
        "--keep", type=click.IntRange(min=1), metavar="N", help="How many copies of it are kept.  [default: 1]"
    ),
)


def backup_options(function: F) -> F:
    """Give a command the options about the copy made before the first change."""
    for option in reversed(_BACKUP_OPTIONS):
        function = option(function)
    return function


def backup_of(options: Mapping[str, Any]) -> Backup | None:
    """Return how the copy is kept that the options ask for, None for no copy.

    Raises:
        UsageError: They contradict each other.
    """
    keep, folder = options["keep"], options["backup_folder"]
    if not options["no_backup"]:
        return Backup(keep or 1, folder)
    if keep is not None or folder is not None:
        raise UsageError("--no-backup makes no copy that --keep or --backup-folder could be about.")
    return None
