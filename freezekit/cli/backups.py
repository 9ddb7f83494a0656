"""Commands on the copies that upgrades make: list them, put one back, remove the older ones."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

from freezekit.cli.answers import Answer, Table
from freezekit.cli.command import MigrationsCommand
from freezekit.runtime.database import database_of

if TYPE_CHECKING:
    from freezekit.runtime.migrations import Migrations
    from freezekit.runtime.reports import BackupFile

_database = click.argument("db", metavar="DB")
_folder = click.option(
    "--folder", metavar="FOLDER", help="Where 'upgrade --backup-folder' put them; without it, beside the database."
)


@click.group(no_args_is_help=False)
def backups() -> None:
    """List, restore and remove the copies that upgrades make.

    DB is the path of an SQLite file.
    """


def _when(one: BackupFile) -> str:
    return dt.datetime.fromtimestamp(one.time).astimezone().isoformat(" ", "seconds")


def _document(one: BackupFile) -> dict[str, object]:
    return {
        "path": one.path,
        "revisions": one.revisions,
        "size": one.size,
        "time": _when(one),
        "replaced": one.replaced,
    }


@backups.command("list", cls=MigrationsCommand)
@_database
@_folder
def list_(migrations: Migrations, db: str, folder: str | None) -> Answer:
    """List the backups of a database, newest first.

    What 'restore' has kept is among them. DB need not exist any more.
    """
    name, found = database_of(db).name, migrations.backups(db, folder)
    document = {"database": name, "backups": [_document(one) for one in found]}
    if not found:
        return Answer(document, f"{name} has no backups{f' in {folder}' if folder else ''}.")
    rows = tuple(
        (one.path, ", ".join(one.revisions), str(one.size), _when(one), "kept by restore" if one.replaced else "")
        for one in found
    )
    return Answer(document, table=Table(("Backup", "At", "Bytes", "Made", ""), rows))


@backups.command(cls=MigrationsCommand)
@click.argument("backup", metavar="BACKUP")
@_database
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="S",
    default=30.0,
    show_default=True,
    help="Seconds to wait until no other program uses the database.",
)
def restore(migrations: Migrations, backup: str, db: str, timeout: float) -> Answer:
    """Put a backup in place of a database.

    DB may be older, newer, damaged or missing. What is replaced is kept in a file beside it, and DB changes as a whole,
    or not at all. BACKUP stays where it is.
    """
    name, kept = database_of(db).name, migrations.restore(backup, db, timeout=timeout)
    at = migrations.status(db).current
    said = f" What was there before: {kept}" if kept else ""
    document = {"database": name, "backup": backup, "current": at, "kept": kept}
    return Answer(document, f"{name} is at {', '.join(at)} again, as in {backup}.{said}")


@backups.command(cls=MigrationsCommand)
@_database
@_folder
@click.option("--keep", type=click.IntRange(min=1), metavar="N", required=True, help="How many stay.")
def prune(migrations: Migrations, db: str, folder: str | None, keep: int) -> Answer:
    """Remove all but the newest backups of a database.

    What 'restore' has kept is never removed; a damaged backup does not count as one that stays.
    """
    name, removed = database_of(db).name, migrations.prune(db, keep, folder)
    text = "\n".join(f"Removed {one}" for one in removed) or f"{name} has no more than {keep}; nothing was removed."
    return Answer({"database": name, "removed": removed}, text)
