"""The lock on a server database: held by a connection of its own, in a thread of its own, gone with the process.

Two advisory locks belong to one database and version table. The *upgrade lock* is taken by try-and-wait on a connection
that does nothing else. The *work lock* is taken by the connection that env.py uses: it says whether a killed program's
last statement is still running on the server, and which connection to interrupt when the upgrade is cancelled. Neither
is stored in the database, and both end with their connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import random
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Engine, text

from freezekit.errors import DatabaseInUse, MigrationFailed, UpgradeCancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from freezekit.runtime.database import Database

T = TypeVar("T")

_POLL_SECONDS = (0.03, 0.15)
_ASK_SECONDS = 0.1
_CANCEL_AGAIN_SECONDS = 0.5
# Often enough for servers and firewalls that close connections on which nothing happens.
_PING_SECONDS = 10.0


class Advisory:
    """How a kind of server takes, shows and breaks advisory locks, for one database and version table."""

    isolation = "AUTOCOMMIT"

    def __init__(self, schema: str, version_table: str) -> None:
        self.schema = schema
        self.upgrade, self.work = (f"{kind}:{schema}:{version_table}" for kind in ("upgrade", "work"))

    def take(self, connection: Connection) -> bool:
        """Take the upgrade lock if it and the work lock are free; return whether it was taken."""
        raise NotImplementedError

    def take_work(self, connection: Connection) -> bool:
        """Take the work lock on env.py's connection, if it is free or that connection's already."""
        raise NotImplementedError

    def release_work(self, cursor: Any) -> None:
        """Release the work lock, with a cursor of the connection that holds it."""

    def worker(self, connection: Connection) -> int | None:
        """Return which connection holds the work lock."""
        raise NotImplementedError

    def is_held(self, connection: Connection) -> bool:
        """Return whether this connection still holds the upgrade lock."""
        raise NotImplementedError

    def interrupt(self, connection: Connection, worker: int) -> None:
        """Stop the statement that a connection runs, if it runs one."""
        raise NotImplementedError


class PostgresAdvisory(Advisory):
    """Locks of a transaction, not of a session: they also hold through PgBouncer, which shares sessions out.

    The connection that holds the upgrade lock keeps its transaction open. Nothing runs in it, so it has no snapshot and
    holds up neither VACUUM nor CREATE INDEX CONCURRENTLY.
    """

    isolation = "READ COMMITTED"

    _SETTINGS = text(
        "SELECT set_config(name, '0', true) FROM pg_settings"
        " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
    )
    _TRY = text("SELECT pg_try_advisory_xact_lock(:key)")
    _HOLDER = text(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid::bigint = :high AND objid::bigint = :low"
    )

    def take(self, connection: Connection) -> bool:
        """Take the upgrade lock, and keep the transaction it belongs to."""
        # psycopg prepares what it runs often, which PgBouncer cannot share out.
        if hasattr(connection.connection.dbapi_connection, "prepare_threshold"):
            connection.connection.dbapi_connection.prepare_threshold = None
        connection.execute(self._SETTINGS)
        key = _number(self.upgrade)
        if connection.scalar(self._TRY, {"key": key}) and self.worker(connection) is None:
            return True
        connection.rollback()
        return False

    def take_work(self, connection: Connection) -> bool:
        """Take the work lock for the transaction that the revisions run in."""
        return bool(connection.scalar(self._TRY, {"key": _number(self.work)}))

    def worker(self, connection: Connection) -> int | None:
        """Return the process id of the server process that holds the work lock."""
        return self._holder(connection, self.work)

    def is_held(self, connection: Connection) -> bool:
        """Return whether the connection's transaction still holds the upgrade lock."""
        return self._holder(connection, self.upgrade) == connection.scalar(text("SELECT pg_backend_pid()"))

    def interrupt(self, connection: Connection, worker: int) -> None:
        """Cancel the running statement; its transaction can then only be rolled back."""
        connection.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": worker})

    def _holder(self, connection: Connection, lock: str) -> int | None:
        key = _number(lock)
        halves = {"high": key >> 32 & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}
        found: int | None = connection.scalar(self._HOLDER, halves)
        return found


class MysqlAdvisory(Advisory):
    """Named locks of a session, which are the server's: their names say which database is meant."""

    def __init__(self, schema: str, version_table: str) -> None:
        super().__init__(schema, version_table)
        # A name may have 64 characters.
        self.upgrade, self.work = (f"freezekit:{_digest(lock).hex()[:40]}" for lock in (self.upgrade, self.work))

    def take(self, connection: Connection) -> bool:
        """Take the upgrade lock."""
        if not connection.scalar(text("SELECT GET_LOCK(:name, 0)"), {"name": self.upgrade}):
            return False
        if self.worker(connection) is None:
            return True
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": self.upgrade})
        return False

    def take_work(self, connection: Connection) -> bool:
        """Take the work lock, for as long as env.py has the connection."""
        mine = text("SELECT COALESCE(IS_USED_LOCK(:name) = CONNECTION_ID(), 0) OR GET_LOCK(:name, 0)")
        return bool(connection.scalar(mine, {"name": self.work}))

    def release_work(self, cursor: Any) -> None:
        """Release the work lock: the connection may go back into a pool."""
        cursor.execute(f"SELECT RELEASE_LOCK('{self.work}')")
        cursor.fetchall()

    def worker(self, connection: Connection) -> int | None:
        """Return the connection id that holds the work lock."""
        found: int | None = connection.scalar(text("SELECT IS_USED_LOCK(:name)"), {"name": self.work})
        return found

    def is_held(self, connection: Connection) -> bool:
        """Return whether the connection still holds the upgrade lock."""
        mine = text("SELECT COALESCE(IS_USED_LOCK(:name) = CONNECTION_ID(), 0)")
        return bool(connection.scalar(mine, {"name": self.upgrade}))

    def interrupt(self, connection: Connection, worker: int) -> None:
        """Kill the running statement, not the connection."""
        connection.exec_driver_sql(f"KILL QUERY {int(worker)}")


def advisory_of(connection: Connection, version_table: str) -> Advisory | None:
    """Return how to lock the database a connection leads to; None for a server whose locks are not known here."""
    name = connection.dialect.name
    if name == "postgresql":
        return PostgresAdvisory(str(connection.scalar(text("SELECT current_schema()"))), version_table)
    if name in {"mysql", "mariadb"}:
        return MysqlAdvisory(str(connection.scalar(text("SELECT DATABASE()"))), version_table)
    return None


class ServerLock:
    """The upgrade lock, held from ``with`` to its end by a thread with a connection of its own.

    Attributes:
        name: Of the database, for messages.
        advisory: The locks.
    """

    def __init__(
        self, database: Database, advisory: Advisory, timeout: float, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self.advisory = advisory
        self.name = database.name
        self._database = database
        self._timeout = timeout
        self._cancelled = cancelled
        self._tasks: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._held: Future[None] = Future()
        self._thread = threading.Thread(target=self._keep, name="freezekit-lock", daemon=True)
        self._failure: BaseException | None = None
        self._cancel_at = 0.0

    def __enter__(self) -> ServerLock:
        """Wait for the lock.

        Raises:
            DatabaseInUse: Another program kept it for longer than the time limit; nothing was changed.
            UpgradeCancelled: The caller did not want to wait any longer.
        """
        self._thread.start()
        try:
            self._held.result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._tasks.put(None)
        self._thread.join()

    def ask(self, work: Callable[[Connection], T]) -> T:
        """Do some work with the lock's own connection, and wait for the answer.

        Raises:
            MigrationFailed: The lock's connection is lost, and the lock with it.
        """
        answer: Future[T] = Future()
        self._tasks.put((work, answer))
        while not wait([answer], _ASK_SECONDS).done:
            if not self._thread.is_alive():
                raise self._lost() from self._failure
        return answer.result()

    def confirm(self) -> None:
        """Raise if the lock was lost, because its connection was closed by the server or on the way."""
        try:
            if self.ask(self.advisory.is_held):
                return
        except MigrationFailed:
            raise
        except Exception as error:
            raise self._lost() from error
        raise self._lost()

    def _lost(self) -> MigrationFailed:
        return MigrationFailed(self.name, "the connection that held the lock was lost", restored=False)

    def _keep(self) -> None:
        try:
            apart(self._database, self._hold)
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits
            self._failure = error
            if not self._held.done():
                self._held.set_exception(error)

    def _hold(self, connection: Connection) -> None:
        connection = connection.execution_options(isolation_level=self.advisory.isolation)
        self._wait(connection)
        self._held.set_result(None)
        ping_at = time.monotonic() + _PING_SECONDS
        while True:
            try:
                task = self._tasks.get(timeout=_ASK_SECONDS)
            except queue.Empty:
                self._interrupt_if_cancelled(connection)
                if time.monotonic() > ping_at:
                    ping_at = time.monotonic() + _PING_SECONDS
                    connection.execute(text("SELECT 1"))
                continue
            if task is None:
                return
            _answer(task, connection)

    def _wait(self, connection: Connection) -> None:
        name, started = self.name, time.monotonic()
        while not self.advisory.take(connection):
            if self._cancelled():
                raise UpgradeCancelled(name)
            waited = time.monotonic() - started
            if waited >= self._timeout:
                raise DatabaseInUse(name, waited)
            time.sleep(min(random.uniform(*_POLL_SECONDS), max(self._timeout - waited, 0.0)))  # noqa: S311 - no secret

    def _interrupt_if_cancelled(self, connection: Connection) -> None:
        """Stop env.py's statement, again and again: it may not have begun when it was first told."""
        now = time.monotonic()
        if now < self._cancel_at or not self._cancelled():
            return
        self._cancel_at = now + _CANCEL_AGAIN_SECONDS
        worker = self.advisory.worker(connection)
        if worker is not None:
            self.advisory.interrupt(connection, worker)


def _answer(task: tuple[Callable[[Connection], Any], Future[Any]], connection: Connection) -> None:
    work, answer = task
    try:
        answer.set_result(work(connection))
    except Exception as error:  # noqa: BLE001 - it belongs to the thread that asked
        answer.set_exception(error)


def apart(database: Database, work: Callable[[Connection], T]) -> T:
    """Do some work with a connection of its own, even where the host lends one or an engine with a pool of one."""
    lent = database.connection.engine if database.connection is not None else database.engine
    if lent is None:
        return database.connected(work)
    # Connects as the host's engine does, whatever it was given for that.
    engine = Engine(lent.pool.recreate(), lent.dialect, lent.url)

    def connected() -> T:
        try:
            with engine.connect() as connection:
                return work(connection)
        finally:
            engine.dispose()

    if not lent.dialect.is_async:
        return connected()
    from sqlalchemy.util import greenlet_spawn

    async def in_a_loop() -> T:
        result: T = await greenlet_spawn(connected)
        return result

    return asyncio.run(in_a_loop())


def _digest(lock: str) -> bytes:
    return hashlib.sha256(f"freezekit:{lock}".encode()).digest()


def _number(lock: str) -> int:
    return int.from_bytes(_digest(lock)[:8], "big", signed=True)
