"""A server's database under an upgrade: env.py's connection is watched, marked, and given back as it was."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from freezekit.errors import FreezekitError, MigrationFailed
from freezekit.runtime.advisory import MysqlAdvisory, PostgresAdvisory
from freezekit.runtime.borrowed import SqlalchemyTarget
from freezekit.runtime.journal import Journal
from freezekit.runtime.journal_table import drop_if_settled, found_entries, journal_table, schema_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection

    from freezekit.runtime.environment import Run
    from freezekit.runtime.job import Job
    from freezekit.runtime.pulse import Pulse
    from freezekit.runtime.reports import Status
    from freezekit.runtime.server_lock import ServerLock


class ServerTarget(SqlalchemyTarget):
    """What env.py is led to, for one upgrade; made by :meth:`of`.

    Attributes:
        is_rolled_back: A savepoint from before the upgrade was rolled back to.
    """

    def __init__(
        self, url: Any, connection: Connection | None, pulse: Pulse, lock: ServerLock | None, journal: Journal | None
    ) -> None:
        super().__init__(url, connection)
        self._pulse = pulse
        self._lock = lock
        self._journal = journal
        self._ends = contextlib.ExitStack()
        self._work: Connection | None = None
        self._transactions: set[int] = set()
        self.is_rolled_back = False

    @classmethod
    @contextlib.contextmanager
    def of(  # noqa: PLR0913, PLR0917 - what one upgrade consists of
        cls,
        job: Job,
        url: Any,
        connection: Connection | None,
        pulse: Pulse,
        lock: ServerLock | None,
        planned: Sequence[str],
    ) -> Iterator[ServerTarget]:
        """Prepare a target, and remove every trace of it afterwards but the journal of an unfinished revision."""
        with _journal(job, lock) as journal:
            target = cls(url, connection, pulse, lock, journal)
            if lock is not None and isinstance(lock.advisory, PostgresAdvisory):
                target.options = {"transactional_ddl": True, "transaction_per_migration": _leaves(job, planned)}
            yield target

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Let go of env.py's connection when the block ends."""
        with self._ends:
            yield

    def configured(self, context: MigrationContext) -> None:
        """Watch the connection that env.py will run the revisions with."""
        self._ends.close()  # some env.py configure more than once
        work = self._work = context.connection
        if work is None:
            return
        self._listen(work, "before_cursor_execute", self._before_statement)
        if self._lock is None or self._journal is None:
            return
        self._ends.callback(self._release, work)
        self._listen(work.engine, "checkin", self._given_back)
        self._ends.enter_context(self._journal.watching(work))
        context.on_version_apply_callbacks = (*context.on_version_apply_callbacks, self._journal.applied)

    def _listen(self, target: object, name: str, listener: Any) -> None:
        event.listen(target, name, listener)
        self._ends.callback(event.remove, target, name, listener)

    def step(self, run: Run) -> None:
        """Prepare the next revision: hear the caller, and see that both locks are held."""
        self._pulse.step(run)
        lock, work = self._lock, self._work
        if lock is None or work is None or run.current is None:
            return
        lock.confirm()
        if not lock.advisory.take_work(work):
            raise MigrationFailed(lock.name, "another connection upgrades it already", restored=False)
        if self._journal is not None:
            self._journal.begin(run.current)
        if isinstance(lock.advisory, PostgresAdvisory):
            self._transactions.add(lock.advisory.transaction(work))

    def _before_statement(self, *_call: object) -> None:
        """Hear the caller: of many short statements, none may be running when it is to be stopped."""
        if (self._journal is None or not self._journal.asleep) and self._pulse.beat():
            self._pulse.refuse_if_cancelled()

    def _given_back(self, raw: Any, _record: object) -> None:
        """Take the work lock off a connection that a pool may keep open."""
        if raw is not None and self._lock is not None:
            with contextlib.suppress(Exception), contextlib.closing(raw.cursor()) as cursor:
                self._lock.advisory.release_work(cursor)

    def _release(self, work: Connection) -> None:
        """Take the work lock off a connection that its host keeps open."""
        if not work.closed and not work.invalidated:
            self._given_back(work.connection.dbapi_connection, None)

    def is_undone(self, before: Status) -> bool:
        """Return whether nothing of a failed upgrade is permanent, provided that the version is as before."""
        if self._journal is not None:
            # A version table that Alembic made for a new database stays.
            return self._journal.kept == 0 and bool(before.current)
        lock, transactions = self._lock, self._transactions
        if lock is None or not isinstance(lock.advisory, PostgresAdvisory):
            return self.is_rolled_back
        was_committed = lock.advisory.was_committed
        try:
            return not lock.ask(lambda connection: was_committed(connection, transactions))
        except (FreezekitError, SQLAlchemyError):
            return False

    @property
    def progress(self) -> str:
        """What to add to the reason of a failure."""
        if self._journal is None or not self._journal.kept:
            return ""
        return f" (of this revision {self._journal.kept} statements are done; the next upgrade continues behind them)"


def _leaves(job: Job, planned: Sequence[str]) -> bool:
    """Return whether a revision leaves the transaction, so that each needs one of its own."""
    tree, by_id = job.scripts.tree, job.manifest.by_id
    return any(b"autocommit_block" in tree.read(by_id[one].file) for one in planned)


@contextlib.contextmanager
def _journal(job: Job, lock: ServerLock | None) -> Iterator[Journal | None]:
    if lock is None or not isinstance(lock.advisory, MysqlAdvisory):
        yield None
        return
    table = journal_table(lock.advisory.schema, job.manifest.version_table or "")
    found = lock.ask(lambda connection: found_entries(connection, table))
    try:
        yield Journal(
            table, lock.name, found, lambda statement: lock.ask(lambda one: schema_digest(one, table, statement))
        )
    finally:
        with contextlib.suppress(SQLAlchemyError, MigrationFailed):
            lock.ask(lambda connection: drop_if_settled(connection, table))
