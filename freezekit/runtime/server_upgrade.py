"""Upgrade a database that only SQLAlchemy can reach: look, lock, look again, run, look once more.

Where a server can undo changes of its schema (PostgreSQL), all revisions are one transaction. Where it cannot (MySQL,
MariaDB), a journal makes a killed upgrade resumable: see :mod:`.journal`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from freezekit.errors import FreezekitError, MigrationFailed, UpgradeCancelled
from freezekit.runtime.advisory import Advisory, advisory_of
from freezekit.runtime.borrowed import begun, sqlalchemy_contents
from freezekit.runtime.environment import Run
from freezekit.runtime.job import check_result, execute_env
from freezekit.runtime.pulse import Pulse
from freezekit.runtime.reports import Report, Status
from freezekit.runtime.server_lock import ServerLock
from freezekit.runtime.server_target import ServerTarget
from freezekit.runtime.status import refuse_unusable, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from freezekit.runtime.job import Job


def upgrade_server(job: Job) -> Report:
    """Upgrade a database of a server, or one that the host lends; see :meth:`freezekit.Migrations.upgrade`."""
    status, advisory = job.database.connected(lambda connection: _look_and_find_lock(job, connection))
    if not job.planned(status):
        return Report((), None, status.state, 0.0, status.current)
    attempt = _Attempt(job, Pulse(job.database.name, job.manifest, job.request))
    if advisory is None:
        return attempt.report()
    with ServerLock(job.database, advisory, job.request.timeout, attempt.pulse.stops) as attempt.lock:
        return attempt.report()


def _look(job: Job, connection: Connection) -> Status:
    status = status_of(sqlalchemy_contents(connection, job.manifest), job.manifest)
    refuse_unusable(status, job.database.name)
    return status


def _look_and_find_lock(job: Job, connection: Connection) -> tuple[Status, Advisory | None]:
    """Return where a database stands, and how it is locked; a lent connection's transaction stays as it was."""
    status, was_open = _look(job, connection), connection.in_transaction()
    advisory = advisory_of(connection, job.manifest.version_table or "")
    if advisory is not None and job.database.connection is not None:
        advisory.lent = connection.scalar(advisory.session)
    if not was_open and connection.in_transaction():
        connection.rollback()
    return status, advisory


@dataclass
class _Attempt:
    """One upgrade, under the lock where there is one."""

    job: Job
    pulse: Pulse
    lock: ServerLock | None = None
    is_in_hosts_transaction: bool = False

    def report(self) -> Report:
        """Run what is still pending, and report."""
        job = self.job
        # An async env.py begins an event loop of its own, so it cannot run inside the one of a connection.
        status, run = self._run_apart() if job.database.is_async else job.database.connected(self._run)
        if run is None:
            return Report((), None, status.state, 0.0, status.current)
        versions = job.database.connected(self._versions)
        check_result(run, job, versions)
        self.pulse.done(run.applied)
        return Report(run.applied, None, status.state, 0.0, versions)

    def _run_apart(self) -> tuple[Status, Run | None]:
        """Run with env.py's own connection only."""
        status = self.job.database.connected(lambda connection: _look(self.job, connection))
        return status, self._execute(status, None) if self.job.planned(status) else None

    def _run(self, connection: Connection) -> tuple[Status, Run | None]:
        """Run with a connection that env.py may use."""
        self.is_in_hosts_transaction = connection.in_transaction()
        with begun(connection):
            status = _look(self.job, connection)
            return status, self._execute(status, connection) if self.job.planned(status) else None

    def _execute(self, status: Status, connection: Connection | None) -> Run:
        job = self.job
        url = job.database.url if connection is None else connection.engine.url
        planned = job.planned(status)
        self.pulse.plan(len(planned))
        with ServerTarget.of(job, url, connection, self.pulse, self.lock, planned) as target:
            run = Run(job.scripts.for_alembic(), job.request.revision, target.step)
            facts_told = self._facts_told(status, run, target, connection)
            # An interrupted statement of SQLite undoes the whole transaction, and what the host did in it.
            beating = self.pulse.beating(None if self.is_in_hosts_transaction else target.interrupt)
            with facts_told, _undone_in_its_transaction(connection, target), beating:
                with target.watching():
                    execute_env(job, run, target, None if connection is None else lambda: connection)
                if connection is not None:
                    check_result(run, job, self._versions(connection))
        return run

    def _versions(self, connection: Connection) -> tuple[str, ...]:
        return sqlalchemy_contents(connection, self.job.manifest).versions or ()

    @contextlib.contextmanager
    def _facts_told(
        self, status: Status, run: Run, target: ServerTarget, connection: Connection | None
    ) -> Iterator[None]:
        """Make an error say what the database holds now, as the database says it."""
        had_begun = connection is not None and connection.in_transaction()
        try:
            yield
        except (MigrationFailed, UpgradeCancelled) as error:
            if connection is not None and connection.in_transaction() and not had_begun:
                connection.rollback()
            try:
                versions = self._versions(connection) if connection else self.job.database.connected(self._versions)
                restored = target.is_undone(status) and sorted(versions) == sorted(status.current)
            except (SQLAlchemyError, FreezekitError):
                versions, restored = run.applied, False
            raise self._with_facts(error, run, versions, target.progress, restored=restored) from error.__cause__

    def _with_facts(
        self,
        error: MigrationFailed | UpgradeCancelled,
        run: Run,
        versions: tuple[str, ...],
        progress: str,
        *,
        restored: bool,
    ) -> FreezekitError:
        manifest, name = self.job.manifest, self.job.database.name
        planned = run.planned or ()
        missing = manifest.unreached(planned, versions)
        applied = tuple(one for one in planned if one not in missing)
        if isinstance(error, UpgradeCancelled):
            return UpgradeCancelled(name, applied=applied, restored=restored)
        failed = error.failed or run.current
        pending = [one for one in missing if one != failed]
        reason = error.reason + progress
        return MigrationFailed(name, reason, applied=applied, failed=failed, pending=pending, restored=restored)


@contextlib.contextmanager
def _undone_in_its_transaction(connection: Connection | None, target: ServerTarget) -> Iterator[None]:
    """Undo a failed upgrade inside a transaction that goes on, the host's above all, by a savepoint."""
    has_savepoints = connection is not None and connection.dialect.name in ("postgresql", "sqlite")
    if connection is None or not has_savepoints or not connection.in_transaction():
        yield
        return
    savepoint = connection.begin_nested()
    try:
        yield
    except BaseException:
        if savepoint.is_active:
            # After some errors SQLite has undone everything by itself.
            if getattr(connection.connection.dbapi_connection, "in_transaction", True):
                savepoint.rollback()
            target.is_rolled_back = True
        raise
    if savepoint.is_active:
        savepoint.commit()
