"""Upgrade one database: look, lock, look again, back up, run, check, commit.

An SQLite file is upgraded inside one transaction on a connection of our own (:mod:`.sqlite_upgrade`). Any other
database is reached through SQLAlchemy (:mod:`.server_upgrade`).
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from freezekit.errors import (
    EnvironmentIgnoredDatabase,
    FreezekitError,
    MigrationFailed,
    NotADatabase,
    UpgradeCancelled,
    UsageError,
)
from freezekit.runtime import sqlite_upgrade
from freezekit.runtime.backup import make_backup
from freezekit.runtime.database import Database
from freezekit.runtime.environment import ManifestScripts, Run, Target, build_config, run_env, running
from freezekit.runtime.guard import NeedsCopy
from freezekit.runtime.host import undisturbed
from freezekit.runtime.integrity import damage, dangling_references, new_dangling
from freezekit.runtime.pulse import Pulse
from freezekit.runtime.reports import Report, State, Status
from freezekit.runtime.space import document_size, refuse_too_little_space, space_needed
from freezekit.runtime.sqlite_file import read_contents
from freezekit.runtime.status import refuse_unusable, status_of

if TYPE_CHECKING:
    import threading
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from freezekit.manifest import Manifest
    from freezekit.runtime.guard import GuardedConnection
    from freezekit.runtime.reports import Backup, Progress
    from freezekit.tree import FolderTree


@dataclass(frozen=True)
class Scripts:
    """The scripts an upgrade runs: real files, what they are, and where their modules are imported from."""

    tree: FolderTree
    manifest: Manifest
    prepend_sys_path: tuple[str, ...] = ()

    def for_alembic(self) -> ManifestScripts:
        """Return the scripts as Alembic sees them."""
        return ManifestScripts(self.tree, self.manifest)


@dataclass(frozen=True)
class Request:
    """What the caller of an upgrade asked for; see :meth:`freezekit.Migrations.upgrade`."""

    revision: str
    on_progress: Callable[[Progress], object] | None = None
    cancel: Callable[[], object] | threading.Event | None = None
    backup: Backup | None = None
    timeout: float = 30.0
    x_arguments: Mapping[str, str | Sequence[str]] | None = None

    def cancelled(self) -> bool:
        """Return whether the caller wants the upgrade to stop."""
        if self.cancel is None:
            return False
        return bool(self.cancel() if callable(self.cancel) else self.cancel.is_set())


@dataclass(frozen=True)
class Job:
    """One upgrade of one database."""

    scripts: Scripts
    database: Database
    request: Request

    @property
    def manifest(self) -> Manifest:
        """What the scripts are."""
        return self.scripts.manifest

    @property
    def path(self) -> str:
        """The SQLite file; only for a database that is one."""
        return self.database.path or ""

    @property
    def enforces_references(self) -> bool:
        """Whether the project wants its revisions to run with enforced foreign keys."""
        return self.manifest.foreign_keys == "on"

    def planned(self, status: Status) -> tuple[str, ...]:
        """Return the ids of the revisions that would run, in order.

        Raises:
            UsageError: The target is unknown or ambiguous.
            NotADatabase: The revisions the database is at contradict each other.
        """
        return self.scripts.for_alembic().between(self.database.name, status.current, self.request.revision)


def upgrade(job: Job) -> Report:
    """Upgrade a database and report; see :meth:`freezekit.Migrations.upgrade`."""
    started = time.monotonic()
    with running:
        report = _upgrade_file(job) if job.database.path is not None else _upgrade_server(job)
    return replace(report, seconds=time.monotonic() - started)


def _upgrade_server(job: Job) -> Report:
    from freezekit.runtime.server_upgrade import upgrade_server

    return upgrade_server(job)


def rehearse(job: Job) -> Report:
    """Upgrade a private copy of an SQLite file and report; see :meth:`freezekit.Migrations.upgrade`.

    Raises:
        UsageError: It is no SQLite file.
    """
    if job.database.path is None:
        raise UsageError(f"{job.database.name} is no SQLite file, so there is no private copy to rehearse on.")
    started = time.monotonic()
    pulse = Pulse(job.database.name, job.manifest, job.request)
    with running, _sqlite_errors_named(job, pulse), sqlite_upgrade.scratch_copy(job.path, _backup_step(pulse)) as copy:
        scratch = replace(job, database=replace(job.database, path=copy), request=replace(job.request, backup=None))
        report = _upgrade_file(scratch, pulse)
    outside = set(job.manifest.outside_transaction) & set(report.applied)
    by_copy = bool(outside) or document_size(job.path) > sqlite_upgrade.IN_PLACE_BYTES
    fits = all(one.fits for one in space_needed(job.path, job.request.backup, by_copy=by_copy))
    return replace(report, seconds=time.monotonic() - started, rehearsed=True, fits=fits)


def _upgrade_file(job: Job, pulse: Pulse | None = None) -> Report:
    pulse = pulse or Pulse(job.database.name, job.manifest, job.request)
    with _sqlite_errors_named(job, pulse):
        try:
            report, journal_mode = _upgrade_in_place(job, pulse)
        except NeedsCopy:
            report, journal_mode = _upgrade_by_copy(job, pulse)
    if journal_mode is not None:
        sqlite_upgrade.set_journal_mode(job.path, journal_mode)
    if report.applied:
        pulse.phase("done")
    return report


def _upgrade_in_place(job: Job, pulse: Pulse) -> tuple[Report, str | None]:
    """Run everything as one transaction on the file itself."""
    request = job.request
    with sqlite_upgrade.write_locked(
        job.path, request.timeout, cancelled=pulse.beat, references=job.enforces_references
    ) as connection:
        sqlite_upgrade.sweep(job.path)
        status = _usable_status(job, connection)
        planned = job.planned(status)
        if not planned:
            return Report((), None, status.state, 0.0, status.current), None
        if set(job.manifest.outside_transaction) & set(planned) or sqlite_upgrade.is_too_large_to_wait(connection):
            raise NeedsCopy
        before = dangling_references(connection)
        backup = _back_up(job, status, pulse, len(planned), connection)
        report = _migrate(job, connection, pulse, before)
        pulse.phase("commit")
        sqlite_upgrade.commit(connection, job.path, request.timeout, cancelled=pulse.beat)
    return replace(report, backup=backup, state_before=status.state), connection.journal_mode


def _upgrade_by_copy(job: Job, pulse: Pulse) -> tuple[Report, str | None]:
    """Run everything on a private copy, and write the result over the file as one transaction."""
    path, request = job.path, job.request
    with sqlite_upgrade.exclusively_locked(path, request.timeout, cancelled=pulse.beat) as original:
        status = _usable_status(job, original)
        planned = job.planned(status)
        if not planned:
            return Report((), None, status.state, 0.0, status.current), None
        before = dangling_references(original)
        backup = _back_up(job, status, pulse, len(planned), original, by_copy=True)
        with sqlite_upgrade.working_copy(original, path, _backup_step(pulse)) as copy:
            with sqlite_upgrade.write_locked(
                copy, 0.0, cancelled=pulse.beat, is_private=True, references=job.enforces_references
            ) as connection:
                report = _migrate(job, connection, pulse, before)
                sqlite_upgrade.commit(connection, path, 0.0)
            sqlite_upgrade.write_back(copy, original, path, lambda share: pulse.phase("commit", share))
    return replace(report, backup=backup, state_before=status.state), connection.journal_mode


def _usable_status(job: Job, connection: sqlite3.Connection) -> Status:
    status = status_of(read_contents(connection, job.manifest), job.manifest)
    refuse_unusable(status, job.database.name)
    return status


def _refuse_damaged(job: Job, connection: sqlite3.Connection) -> None:
    """Refuse a file whose structure is broken."""
    if (found := damage(connection)) is not None:
        raise NotADatabase(job.database.name, f"it is damaged ({found})")


def _back_up(  # noqa: PLR0913 - facts of one moment
    job: Job, status: Status, pulse: Pulse, total: int, connection: sqlite3.Connection, *, by_copy: bool = False
) -> str | None:
    """Copy a sound database, or refuse a damaged one and one for which there is no room."""
    pulse.plan(total)
    backup = job.request.backup if status.state is not State.NEW else None
    if backup is None:
        refuse_too_little_space(job.path, None, by_copy=by_copy)
        _refuse_damaged(job, connection)
        return None
    pulse.phase("backup")
    source, on_step = connection if by_copy else None, _backup_step(pulse)
    try:
        return make_backup(job.path, status.current, backup, job.manifest.by_id, source=source, on_step=on_step)
    except MigrationFailed:
        _refuse_damaged(job, connection)
        raise


def _backup_step(pulse: Pulse) -> Callable[[float], object]:
    return lambda share: pulse.phase("backup", share)


def _migrate(job: Job, connection: GuardedConnection, pulse: Pulse, before: Counter[tuple[str, str]]) -> Report:
    """Run env.py, and refuse a result that is not what was asked for."""
    connection.claim(job.manifest.application_id)
    run = _run_on_file(job, connection, _new_run(job, pulse))
    _check_version_table(run, job)
    reached = read_contents(connection, replace(job.manifest, version_table=run.version_table)).versions or ()
    check_result(run, job, reached)
    pulse.phase("check")
    dangling = new_dangling(before, dangling_references(connection))
    if dangling and _must_not_dangle(job, connection):
        reason = f"{dangling} rows refer to a row that is not there any more"
        raise MigrationFailed(job.database.name, reason, pending=run.applied)
    if (found := damage(connection)) is not None:
        raise MigrationFailed(job.database.name, f"it would be damaged ({found})", pending=run.applied)
    return Report(run.applied, None, State.BEHIND, 0.0, reached, dangling)


def _must_not_dangle(job: Job, connection: GuardedConnection) -> bool:
    """Return whether the project, env.py or the application's engine has references enforced."""
    if job.manifest.foreign_keys == "off" or connection.enforces_references:
        return job.manifest.foreign_keys != "off"
    if job.database.engine is not None:
        with contextlib.suppress(Exception), job.database.engine.connect() as asked:
            return bool(asked.exec_driver_sql("PRAGMA foreign_keys").scalar())
    return False


@contextlib.contextmanager
def _sqlite_errors_named(job: Job, pulse: Pulse) -> Iterator[None]:
    """Turn what SQLite says between the steps of an upgrade into an error that names the database."""
    name = job.database.name
    try:
        yield
    except (sqlite3.Error, MigrationFailed) as error:
        if pulse.failure is not None:
            raise pulse.failure from error
        if isinstance(error, MigrationFailed):
            raise
        if job.request.cancelled():
            raise UpgradeCancelled(name) from error
        if isinstance(error, sqlite3.OperationalError):
            raise MigrationFailed(name, str(error)) from error
        raise NotADatabase(name, f"it is damaged ({error})") from error


class _FileTarget(Target):
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
        return dialect.name == "sqlite" and bool(arguments) and sqlite_upgrade.same_file(str(arguments[0]), path)

    def connect(self) -> GuardedConnection:
        """Return the guarded connection."""
        return self._connection

    def is_ours(self, connection: Any) -> bool:
        """Return whether a connection is the guarded one underneath."""
        return connection.connection.dbapi_connection is self._connection


def _run_on_file(job: Job, connection: GuardedConnection, run: Run | None = None) -> Run:
    run = run or _new_run(job, Pulse(job.database.name, job.manifest, job.request))
    engine = create_engine(job.database.file_url(None), creator=lambda: connection, poolclass=NullPool)
    with engine.connect() as offered:
        # Some env.py expect an engine here, which is what pytest-alembic puts there.
        offered.connect = lambda: contextlib.nullcontext(offered)  # type: ignore[attr-defined]
        execute_env(job, run, _FileTarget(job.database, connection), offered)
    if connection.undone:
        rest = (run.planned or ())[len(run.applied) + bool(run.current) :]
        raise MigrationFailed(
            job.database.name, "env.py or a revision rolled it back", failed=run.current, pending=rest
        )
    return run


def _new_run(job: Job, pulse: Pulse) -> Run:
    return Run(job.scripts.for_alembic(), job.request.revision, pulse.step)


def execute_env(job: Job, run: Run, target: Target, offered: object) -> None:
    """Run env.py on a database; whatever goes wrong leaves as an error of ours that names the revision."""
    scripts, request = job.scripts, job.request
    url = target.url(scripts.manifest.driver)
    config = build_config(scripts.tree, scripts.manifest, url, connection=offered, x_arguments=request.x_arguments)
    with _failures_named(run, job), undisturbed(scripts.prepend_sys_path):
        run_env(config, run, target, job.database.name)


@contextlib.contextmanager
def _failures_named(run: Run, job: Job) -> Iterator[None]:
    name = job.database.name
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, FreezekitError):
            raise
        if run.elsewhere is not None:
            raise EnvironmentIgnoredDatabase(name, run.elsewhere) from error
        if job.request.cancelled():
            raise UpgradeCancelled(name) from error
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        rest = (run.planned or ())[len(run.applied) + bool(run.current) :]
        restored = job.database.path is not None
        applied = () if restored else run.applied
        raise MigrationFailed(
            name, reason, applied=applied, failed=run.current, pending=rest, restored=restored
        ) from error


def _check_version_table(run: Run, job: Job) -> None:
    """Refuse a version table that the next start would not look for: the file could not be opened again."""
    wanted = job.manifest.version_table
    if run.planned is not None and run.version_table != wanted:
        reason = f"env.py keeps the version in {run.version_table!r}, and {wanted!r} was expected"
        advice = f"say version_table = {run.version_table!r} in [tool.freezekit]"
        raise MigrationFailed(job.database.name, f"{reason}; {advice}", pending=run.planned)


def check_result(run: Run, job: Job, versions: Sequence[str]) -> None:
    """Refuse a result that is not what was asked for: some env.py swallow errors, or run nothing."""
    name = job.database.name
    if run.planned is None or run.elsewhere is not None:
        raise EnvironmentIgnoredDatabase(name, run.elsewhere)
    reached = job.manifest.ancestors(one for one in versions if one in job.manifest.by_id)
    missing = [revision for revision in run.planned if revision not in reached]
    if missing or run.applied != run.planned:
        restored = job.database.path is not None
        applied = () if restored else tuple(one for one in run.planned if one in reached)
        reason = "env.py ended without an error, but not all revisions were applied to the database"
        raise MigrationFailed(name, reason, applied=applied, failed=run.current, pending=missing, restored=restored)


def file_sql(job: Job) -> list[str]:
    """Return the SQL that an upgrade of an SQLite file would run, by running it on a private copy."""
    statements: list[str] = []
    with running, sqlite_upgrade.scratch_copy(job.path) as copy:
        scratch = replace(job, database=replace(job.database, path=copy))
        with sqlite_upgrade.write_locked(copy, 0.0, is_private=True) as connection:
            if job.planned(_usable_status(scratch, connection)):
                connection.record(statements)
                _run_on_file(scratch, connection)
    return statements


def replay(scripts: Scripts, path: str, on_state: Callable[[GuardedConnection, Sequence[str]], object]) -> None:
    """Make a new database by running every revision once.

    Args:
        scripts: The scripts.
        path: The new file.
        on_state: Called after each revision with the connection and the ids the version table then holds.

    Raises:
        MigrationFailed: A revision failed; no file is left.
    """
    job = Job(scripts, Database(name=path, path=path), Request("heads"))
    with running, sqlite_upgrade.write_locked(path, 0.0, is_private=True) as connection:

        def step(run: Run) -> None:
            if run.applied:
                manifest = replace(job.manifest, version_table=run.version_table)
                on_state(connection, read_contents(connection, manifest).versions or ())

        connection.claim(job.manifest.application_id)
        run = _run_on_file(job, connection, Run(scripts.for_alembic(), "heads", step))
        check_result(
            run, job, read_contents(connection, replace(job.manifest, version_table=run.version_table)).versions or ()
        )
        sqlite_upgrade.commit(connection, path, 0.0)


def stamp(scripts: Scripts, database: Database, revisions: Sequence[str], request: Request) -> None:
    """Write into the version table of an SQLite file that it is at these revisions, as ``alembic stamp`` would.

    Raises:
        DatabaseInUse: It stayed locked; nothing was changed.
    """
    path, table = database.path or "", scripts.manifest.version_table or ""
    with sqlite_upgrade.write_locked(path, request.timeout, cancelled=request.cancelled) as connection:
        if read_contents(connection, scripts.manifest).versions:
            raise UsageError(f"{database.name} has been given a version meanwhile. Nothing was changed.")
        engine = create_engine(database.file_url(None), creator=lambda: connection, poolclass=NullPool)
        with engine.connect() as offered:
            scripts.for_alembic().stamp(offered, revisions, table)
        sqlite_upgrade.commit(connection, path, request.timeout)


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

    with running, sqlite_upgrade.scratch_copy("probe.db") as path:
        job = Job(scripts, Database(name=path, path=path), Request("heads"))
        run = Run(scripts.for_alembic(), "heads", stop)
        with (
            sqlite_upgrade.write_locked(path, 0.0, is_private=True) as connection,
            contextlib.suppress(_Probed),
        ):
            _run_on_file(job, connection, run)
    if run.version_table is None:
        raise EnvironmentIgnoredDatabase(path, run.elsewhere)
    return run.version_table
