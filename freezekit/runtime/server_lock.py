"""The lock on a server database: held by a connection of its own, in a thread of its own, gone with the process."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from freezekit.errors import DatabaseInUse, MigrationFailed, UpgradeCancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from typing_extensions import Self

    from freezekit.runtime.advisory import Advisory
    from freezekit.runtime.database import Database

T = TypeVar("T")

_POLL_SECONDS = (0.03, 0.15)
_ASK_SECONDS = 0.1
_CANCEL_AGAIN_SECONDS = 0.5
# Often enough for servers and firewalls that close connections on which nothing happens.
_PING_SECONDS = 10.0


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
        self._given_up = threading.Event()

    def __enter__(self) -> Self:
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
        self._given_up.set()
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
            if self._cancelled() or self._given_up.is_set():
                raise UpgradeCancelled(name)
            waited = time.monotonic() - started
            if waited >= self._timeout:
                raise DatabaseInUse(name, waited)
            self._given_up.wait(min(random.uniform(*_POLL_SECONDS), self._timeout - waited))  # noqa: S311 - no secret

    def _interrupt_if_cancelled(self, connection: Connection) -> None:
        """Stop env.py's statement, again and again: it may not have begun when it was first told."""
        now = time.monotonic()
        if now < self._cancel_at or not self._cancelled():
            return
        self._cancel_at = now + _CANCEL_AGAIN_SECONDS
        worker = self.advisory.worker(connection)
        if worker is not None:
            with contextlib.suppress(SQLAlchemyError):  # its connection may be gone by now
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
