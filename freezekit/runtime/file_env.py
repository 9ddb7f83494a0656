"""Run env.py on an SQLite file, through a connection that only looks like its own."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from freezekit.errors import MigrationFailed
from freezekit.runtime.environment import Run, Target
from freezekit.runtime.job import check_result, execute_env
from freezekit.runtime.sqlite_file import ask, quoted, read_contents
from freezekit.runtime.sqlite_upgrade import same_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection

    from freezekit.runtime.database import Database
    from freezekit.runtime.guard import GuardedConnection
    from freezekit.runtime.job import Job


class FileTarget(Target):
    """An SQLite file whose engines all get the one guarded connection."""

    def __init__(self, database: Database, connection: GuardedConnection) -> None:
        self._database = database
        self._connection = connection

    def url(self, driver: str | None) -> str:
        """Return the URL env.py is given."""
        return self._database.file_url(driver)

    def leads_here(self, dialect: Any, arguments: Sequence[Any]) -> bool:
        """Return whether an engine opens the file."""
        path = self._database.path or ""
        return dialect.name == "sqlite" and bool(arguments) and same_file(str(arguments[0]), path)

    def connect(self) -> GuardedConnection:
        """Return the guarded connection."""
        return self._connection

    def is_ours(self, connection: Any) -> bool:
        """Return whether a connection is the guarded one underneath."""
        return connection.connection.dbapi_connection is self._connection

    def configured(self, context: MigrationContext) -> None:
        """Have Alembic read the version table without SQLAlchemy, which takes as long as to run a revision."""
        ask_alembic = context.get_current_heads

        def heads() -> tuple[str, ...]:
            try:
                select = f"SELECT version_num FROM {quoted(context.version_table)}"  # noqa: S608 - quoted
                return tuple(row[0] for row in ask(self._connection, select))
            except sqlite3.OperationalError:  # most of all: there is no such table yet
                return ask_alembic()

        if not context.as_sql and context.version_table_schema is None:
            context.get_current_heads = heads  # type: ignore[method-assign]


def run_on_file(job: Job, connection: GuardedConnection, run: Run) -> None:
    """Run env.py on a file whose write lock is held, and leave its transaction open.

    Args:
        job: The upgrade.
        connection: Holds the lock.
        run: What is to be done; says afterwards what was done.

    Raises:
        MigrationFailed: A revision failed, or something was rolled back.
        EnvironmentIgnoredDatabase: env.py connected elsewhere.
    """
    with contextlib.ExitStack() as offers:

        def connect() -> Connection:
            engine = create_engine(job.database.file_url(None), creator=lambda: connection, poolclass=NullPool)
            offered = offers.enter_context(engine.connect())
            # Some env.py expect an engine here, which is what pytest-alembic puts there.
            offered.connect = lambda: contextlib.nullcontext(offered)  # type: ignore[attr-defined]
            return offered

        execute_env(job, run, FileTarget(job.database, connection), connect)
    if connection.undone:
        rest = (run.planned or ())[len(run.applied) + bool(run.current) :]
        raise MigrationFailed(
            job.database.name, "env.py or a revision rolled it back", failed=run.current, pending=rest
        )


def refuse_other_version_table(run: Run, job: Job) -> None:
    """Refuse a version table that the next start would not look for: the file could not be opened again."""
    wanted = job.manifest.version_table
    if run.planned is not None and run.version_table != wanted:
        reason = f"env.py keeps the version in {run.version_table!r}, and {wanted!r} was expected"
        advice = f"say version_table = {run.version_table!r} in [tool.freezekit]"
        raise MigrationFailed(job.database.name, reason, pending=run.planned, advice=advice)


def checked_versions(run: Run, job: Job, connection: GuardedConnection) -> tuple[str, ...]:
    """Return what the version table holds after a run.

    Raises:
        MigrationFailed: It is not what was asked for.
        EnvironmentIgnoredDatabase: env.py ran nothing.
    """
    known = job.manifest
    manifest = known if run.version_table == known.version_table else replace(known, version_table=run.version_table)
    versions = read_contents(connection, manifest).versions or ()
    check_result(run, job, versions)
    return versions
