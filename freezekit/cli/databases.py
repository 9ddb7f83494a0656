"""Commands on databases: what they are, what an upgrade would do, and the upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from freezekit.cli.answers import Answer, Table, error_document, is_expected, reason
from freezekit.cli.command import MigrationsCommand
from freezekit.cli.options import backup_of, backup_options, timeout_option, x_arguments_option
from freezekit.cli.progress import cancelled_by_interrupt, progress_bar
from freezekit.errors import UsageError
from freezekit.runtime.database import database_of
from freezekit.runtime.migrations import ALL_HEADS
from freezekit.runtime.reports import State, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from freezekit.runtime.migrations import Migrations
    from freezekit.runtime.reports import Report

STATE_CODES = {
    State.CURRENT: 0,
    State.BEHIND: 10,
    State.NEW: 11,
    State.AHEAD: 12,
    State.UNVERSIONED: 13,
    State.FOREIGN: 14,
}
"""Exit codes of ``status``."""


_database = click.argument("db", metavar="DB")
_revision = click.option(
    "--revision", metavar="TARGET", default=ALL_HEADS, show_default=True, help="Any target of 'alembic upgrade'."
)


@click.command(cls=MigrationsCommand)
@click.argument("dbs", metavar="DB...", nargs=-1, required=True)
def status(migrations: Migrations, dbs: Sequence[str]) -> Answer:
    """Say where each database stands.

    Changes nothing, creates no file and takes no lock. DB is a path or a URL. The exit code is that of the state; of
    several databases, the highest one, or 1 if one of them could not be read.
    """
    names = [database_of(db).name for db in dbs]
    # Scripts that cannot be used are no fault of a database.
    _ = migrations.heads
    found = [_status_of(migrations, db, alone=len(dbs) == 1) for db in dbs]
    failed = any(isinstance(one, Exception) for one in found)
    codes = [STATE_CODES[one.state] for one in found if isinstance(one, Status)]
    return Answer(
        {"databases": [_status_document(name, one) for name, one in zip(names, found, strict=True)]},
        table=Table(
            ("Database", "State", "At", ""),
            tuple(_status_row(name, one) for name, one in zip(names, found, strict=True)),
        ),
        exit_code=1 if failed else max(codes),
    )


def _status_of(migrations: Migrations, db: str, *, alone: bool) -> Status | Exception:
    try:
        return migrations.status(db)
    except Exception as error:
        if alone or not is_expected(error):
            raise
        return error


def _status_document(name: str, found: Status | Exception) -> Mapping[str, object]:
    if isinstance(found, Exception):
        return {"database": name, "error": error_document(found)}
    return {
        "database": name,
        "state": found.state.value,
        "current": found.current,
        "heads": found.heads,
        "pending": found.pending,
        "reason": found.reason,
        "tables": found.tables,
        "leftovers": found.leftovers,
    }


def _status_row(name: str, found: Status | Exception) -> tuple[str, str, str, str]:
    if isinstance(found, Exception):
        return name, "failed", "", reason(found)
    left = f"; plain Alembic was stopped here and left {', '.join(found.leftovers)}" if found.leftovers else ""
    details = {
        State.BEHIND: f"{len(found.pending)} pending{left}",
        State.NEW: f"{len(found.pending)} pending",
        State.AHEAD: f"written by a newer program; this one knows revisions up to {', '.join(found.heads)}",
        State.UNVERSIONED: f"no version, but tables: {', '.join(found.tables)}",
        State.FOREIGN: found.reason,
    }
    return name, found.state.value, ", ".join(found.current), details.get(found.state, "")


@click.command(cls=MigrationsCommand)
@_database
@_revision
def plan(migrations: Migrations, db: str, revision: str) -> Answer:
    """List the revisions an upgrade would run.

    Runs and changes nothing. DB is a path or a URL.
    """
    name, found = database_of(db).name, migrations.plan(db, revision)
    revisions = [{"revision": one.revision, "doc": one.doc, "file": one.file} for one in found]
    document = {"database": name, "state": found.state.value, "target": revision, "revisions": revisions}
    if not revisions:
        return Answer(document, f"{name} is {found.state.value}; there is nothing to do.")
    table = Table(("Revision", "Does", "File"), tuple((one.revision, one.doc, one.file) for one in found))
    return Answer(document, f"{name} is {found.state.value}; an upgrade would run:", table)


@click.command(cls=MigrationsCommand)
@_database
@_revision
@x_arguments_option
def sql(migrations: Migrations, db: str, revision: str, x_arguments: Mapping[str, str | list[str]]) -> Answer:
    """Print the SQL an upgrade would run.

    The database is not changed. DB is a path or a URL.
    """
    name, text = database_of(db).name, migrations.sql(db, revision, x_arguments=x_arguments)
    return Answer({"database": name, "target": revision, "sql": text}, text)


@click.command(cls=MigrationsCommand)
@_database
@_revision
@x_arguments_option
@backup_options
@click.option("--rehearse", is_flag=True, help="Do everything to a private copy; the database is left alone.")
@timeout_option
def upgrade(migrations: Migrations, db: str, **options: Any) -> Answer:
    """Upgrade a database, or create it.

    DB is a path or a URL. An SQLite file is changed as a whole, or not at all; a copy is made before its first change,
    and Ctrl-C leaves it as it was.
    """
    name, backup = database_of(db).name, backup_of(options)
    with cancelled_by_interrupt() as cancel, progress_bar() as on_progress:
        report = migrations.upgrade(
            db,
            options["revision"],
            on_progress=on_progress,
            cancel=cancel,
            backup=backup,
            timeout=options["timeout"],
            x_arguments=options["x_arguments"],
            rehearse=options["rehearse"],
        )
    document = {
        "database": name,
        "applied": report.applied,
        "backup": report.backup,
        "state_before": report.state_before.value,
        "heads": report.heads,
        "seconds": round(report.seconds, 3),
        "dangling": report.dangling,
        "rehearsed": report.rehearsed,
        "fits": report.fits,
    }
    return Answer(document, _upgraded(name, report))


def _upgraded(name: str, report: Report) -> str:
    at = ", ".join(report.heads)
    if not report.applied:
        return f"{name} is at {at}; there was nothing to do."
    did = "created at" if report.state_before is State.NEW else "upgraded to"
    said = [f"{name} {'would be' if report.rehearsed else 'was'} {did} {at}", *_remarks(report)]
    return f"{said[0]} in {report.seconds:.1f} s: {', '.join(report.applied)}.{''.join(said[1:])}"


def _remarks(report: Report) -> Iterator[str]:
    if report.backup:
        yield f" As it was before: {report.backup}"
    if report.dangling:
        yield f" Rows that now refer to a row that is not there: {report.dangling}."
    if report.fits is False:
        yield " There is too little room for the backup and the journal of a real upgrade."


@click.command(cls=MigrationsCommand)
@click.argument("path", metavar="FILE")
def create(migrations: Migrations, path: str) -> Answer:
    """Create a new SQLite file at head.

    It is a copy of the empty database that shipped, or made by running all revisions. What exists is never replaced.
    """
    if path == ":memory:":
        raise UsageError("A database in memory is gone with the command that makes it: name a file.")
    report = migrations.create(path)
    document = {"database": path, "heads": report.heads, "seconds": round(report.seconds, 3)}
    return Answer(document, f"{path} was created at {', '.join(report.heads)}.")


@click.command(cls=MigrationsCommand)
@_database
@timeout_option
def adopt(migrations: Migrations, db: str, timeout: float) -> Answer:
    """Give a database without a version the one its schema has.

    It must have the schema of exactly one revision. DB is the path of an SQLite file; only its version is written.
    """
    found = migrations.adopt(db, timeout=timeout)
    name = database_of(db).name
    return Answer(dict(_status_document(name, found)), f"{name} is at {', '.join(found.current)}: {found.state.value}.")
