"""Upgrade one database: look, lock, look again, back up, run, check, commit.

An SQLite file is upgraded inside one transaction on a connection of our own (:mod:`.sqlite_upgrade`). Any other
database is reached through SQLAlchemy; env.py then runs its own transactions on it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from freezekit.errors import (
    EnvironmentIgnoredDatabase,
    FreezekitError,
    MigrationFailed,
    UpgradeCancelled,
    UsageError,
)
from freezekit.runtime import sqlite_upgrade
from freezekit.runtime.backup import make_backup
from freezekit.runtime.borrowed import SqlalchemyTarget, begun, sqlalchemy_contents
from freezekit.runtime.database import Database
from freezekit.runtime.environment import ManifestScripts, Run, Target, build_config, run_env, running
from freezekit.runtime.host import undisturbed
from freezekit.runtime.reports import Progress, Report, State, Status
from freezekit.runtime.sqlite_file import read_contents
from freezekit.runtime.status import refuse_unusable, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from freezekit.manifest import Manifest
    from freezekit.runtime.reports import Backup
    from freezekit.runtime.sqlite_upgrade import GuardedConnection
    from freezekit.tree import FolderTree


@dataclass(frozen=True)
class Scripts:
    """The scripts an upgrade runs: real files, what they are, and where their modules are imported from."""

    tree: FolderTree
    manifest: Manifest
    prepend_sys_path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What the caller of an upgrade asked for; see :meth:`freezekit.Migrations.upgrade`."""

    revision: str
    on_progress: Callable[[Progress], object] | None
    cancel: Callable[[], object]
    backup: Backup | None
    timeout: float
    x_arguments: Mapping[str, str | Sequence[str]] | None

    def cancelled(self) -> bool:
        """Return whether the caller wants the upgrade to stop."""
        return bool(self.cancel())


def upgrade(scripts: Scripts, database: Database, request: Request) -> Report:
    """Upgrade a database and report; see :meth:`freezekit.Migrations.upgrade`."""
    started = time.monotonic()
    with running:
        work = _upgrade_file if database.path is not None else _upgrade_other
        report = work(scripts, database, request)
    return replace(report, seconds=time.monotonic() - started)


def planned(scripts: Scripts, current: Sequence[str], revision: str) -> tuple[str, ...]:
    """Return the ids of the revisions that an upgrade to a target would run, in order.

    Raises:
        UsageError: The target is unknown or ambiguous.
    """
    try:
        return ManifestScripts(scripts.tree, scripts.manifest).between(current, revision)
    except CommandError as error:
        raise UsageError(f"{revision!r} is no target for an upgrade: {error}") from error


def _upgrade_file(scripts: Scripts, database: Database, request: Request) -> Report:
    path = database.path or ""
    with sqlite_upgrade.write_locked(path, request.timeout, cancelled=request.cancelled) as connection:
        status = _status_under_lock(connection, scripts.manifest, path)
        if not planned(scripts, status.current, request.revision):
            return Report((), None, status.state, 0.0, status.current)
        backup = None
        if request.backup is not None and status.state is not State.NEW:
            backup = make_backup(path, status.current, request.backup, scripts.manifest.by_id)
        run = _run_on_file(scripts, database, request, connection)
        contents = read_contents(connection, replace(scripts.manifest, version_table=run.version_table))
        _check(run, scripts.manifest, path, contents.versions or ())
        sqlite_upgrade.commit(connection, path, request.timeout)
    return Report(run.applied, backup, status.state, 0.0, contents.versions or ())


def _status_under_lock(connection: GuardedConnection, manifest: Manifest, path: str) -> Status:
    contents = read_contents(connection, manifest)
    status = status_of(contents, manifest)
    refuse_unusable(status, path)
    return status


class _FileTarget(Target):
    """An SQLite file whose engines all get the one guarded connection."""

    def __init__(self, database: Database, connection: GuardedConnection) -> None:
        self._database = database
        self._path = database.path or ""
        self._connection = connection

    def url(self, driver: str | None) -> str:
        return self._database.file_url(driver)

    def leads_here(self, dialect: Any, arguments: Sequence[Any]) -> bool:
        return dialect.name == "sqlite" and bool(arguments) and sqlite_upgrade.same_file(str(arguments[0]), self._path)

    def connect(self) -> GuardedConnection:
        return self._connection

    def is_ours(self, connection: Any) -> bool:
        return connection.connection.dbapi_connection is self._connection


def _run_on_file(
    scripts: Scripts, database: Database, request: Request, connection: GuardedConnection, run: Run | None = None
) -> Run:
    run = run or _new_run(scripts, database, request)
    engine = create_engine(database.file_url(None), creator=lambda: connection, poolclass=NullPool)
    with engine.connect() as offered:
        target = _FileTarget(database, connection)
        _execute_env(scripts, database, request, run, target, offered)
    if connection.undone:
        raise MigrationFailed(database.name, "env.py or a revision rolled it back", pending=run.planned or ())
    return run


def _upgrade_other(scripts: Scripts, database: Database, request: Request) -> Report:
    def look_at(connection: Connection) -> Status:
        status = status_of(sqlalchemy_contents(connection, scripts.manifest), scripts.manifest)
        refuse_unusable(status, database.name)
        return status

    def work(connection: Connection) -> tuple[Status, Run | None]:
        with begun(connection):
            status = look_at(connection)
            if not planned(scripts, status.current, request.revision):
                return status, None
            target = SqlalchemyTarget(connection)
            run = _new_run(scripts, database, request)
            _execute_env(scripts, database, request, run, target, connection)
            return status, run

    status, run = database.connected(work)
    if run is None:
        return Report((), None, status.state, 0.0, status.current)
    contents = database.connected(lambda connection: sqlalchemy_contents(connection, scripts.manifest))
    _check(run, scripts.manifest, database.name, contents.versions or (), restored=False)
    return Report(run.applied, None, status.state, 0.0, contents.versions or ())


def _new_run(scripts: Scripts, database: Database, request: Request) -> Run:
    step = _stepper(scripts.manifest, database, request)
    return Run(ManifestScripts(scripts.tree, scripts.manifest), request.revision, step)


def _execute_env(
    scripts: Scripts, database: Database, request: Request, run: Run, target: Target, offered: object
) -> None:
    """Run env.py on a database; whatever goes wrong leaves as an error of ours that names the revision."""
    url = target.url(scripts.manifest.driver)
    config = build_config(scripts.tree, scripts.manifest, url, connection=offered, x_arguments=request.x_arguments)
    with _failures_named(run, database, request), undisturbed(scripts.prepend_sys_path):
        run_env(config, run, target, database.name, transactional_ddl=_transactional(database))


def _transactional(database: Database) -> bool | None:
    return True if database.path is not None else None


def _stepper(manifest: Manifest, database: Database, request: Request) -> Callable[[Run], None]:
    def step(run: Run) -> None:
        if request.cancelled():
            raise UpgradeCancelled(database.name)
        if request.on_progress is not None:
            doc = manifest.by_id[run.current].doc if run.current else ""
            request.on_progress(Progress(run.current, len(run.applied), len(run.planned or ()), doc))

    return step


@contextlib.contextmanager
def _failures_named(run: Run, database: Database, request: Request) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, FreezekitError):
            raise
        if run.elsewhere is not None:
            raise EnvironmentIgnoredDatabase(database.name, run.elsewhere) from error
        if request.cancelled():
            raise UpgradeCancelled(database.name) from error
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        rest = (run.planned or ())[len(run.applied) + bool(run.current) :]
        restored = database.path is not None
        applied = () if restored else run.applied
        raise MigrationFailed(
            database.name, reason, applied=applied, failed=run.current, pending=rest, restored=restored
        ) from error


def _check(run: Run, manifest: Manifest, name: str, versions: Sequence[str], *, restored: bool = True) -> None:
    """Refuse a result that is not what was asked for: some env.py swallow errors, or run nothing."""
    if run.planned is None or run.elsewhere is not None:
        raise EnvironmentIgnoredDatabase(name, run.elsewhere)
    reached = manifest.ancestors(one for one in versions if one in manifest.by_id)
    missing = [revision for revision in run.planned if revision not in reached]
    if missing or run.applied != run.planned:
        reason = "env.py ended without an error, but not all revisions were applied to the database"
        applied = tuple(one for one in run.planned if one in reached and not restored)
        raise MigrationFailed(name, reason, applied=applied, failed=run.current, pending=missing, restored=restored)


def file_sql(scripts: Scripts, database: Database, request: Request) -> list[str]:
    """Return the SQL that an upgrade of an SQLite file would run, by running it on a private copy."""
    statements: list[str] = []
    path = database.path or ""
    with running, sqlite_upgrade.scratch_copy(path) as copy:
        scratch = replace(database, path=copy)
        with sqlite_upgrade.write_locked(copy, request.timeout, cancelled=request.cancelled) as connection:
            if planned(scripts, _status_under_lock(connection, scripts.manifest, path).current, request.revision):
                connection.record(statements)
                _run_on_file(scripts, scratch, request, connection)
    return statements


class _Probed(BaseException):
    """Ends env.py once it has said which version table it uses; no ``except Exception`` in it can stop this."""


def probed_version_table(scripts: Scripts) -> str:
    """Return the version table that env.py configures, found by running env.py on an empty scratch database.

    Raises:
        MigrationFailed: env.py fails.
        EnvironmentIgnoredDatabase: It does not use the database it is given.
    """

    def stop(_run: Run) -> None:
        raise _Probed

    request = Request("heads", None, lambda: False, None, 0.0, None)
    with running, sqlite_upgrade.scratch_copy("probe.db") as path:
        database = Database(name=path, path=path)
        with sqlite_upgrade.write_locked(path, 0.0, cancelled=request.cancelled) as connection:
            run = Run(ManifestScripts(scripts.tree, scripts.manifest), "heads", stop)
            with contextlib.suppress(_Probed):
                _run_on_file(scripts, database, request, connection, run)
    if run.version_table is None:
        raise EnvironmentIgnoredDatabase(path, run.elsewhere)
    return run.version_table
