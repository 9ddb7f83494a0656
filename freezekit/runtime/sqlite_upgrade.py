"""Hold an SQLite file while it is upgraded: its write lock, the one commit, and private copies.

*In place*: everything runs in one transaction on the file; its changed pages wait in memory, and the file itself is not
touched before the commit. *Copy back*: what cannot run inside a transaction, or changes more than may wait in memory,
runs on a private copy, and the result is written over the file through SQLite's backup API, which is one transaction
too. Both were old or new after every kill, I/O error, full disk and power cut.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from typing import TYPE_CHECKING

from freezekit.errors import DatabaseInUse, MigrationFailed, NotADatabase, UpgradeCancelled
from freezekit.runtime.files import refuse_missing_folder
from freezekit.runtime.guard import BEAT_OPERATIONS, GuardedConnection
from freezekit.runtime.sqlite_file import COPY_SUFFIX, ask, file_uri, has_leftover_copy, is_busy, opened, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias, TypeVar

    T = TypeVar("T")
    C = TypeVar("C", bound=sqlite3.Connection)
    _Identity: TypeAlias = tuple[int, int]

IN_PLACE_BYTES = 128 * 1024 * 1024
"""The largest file with a rollback journal that is upgraded in place: rewritten, its pages still fit in memory."""

_POLL_SECONDS = 0.05
_REOPENINGS = 100
_PAGES_A_STEP = 2_000
# SQLITE_BUSY and SQLITE_LOCKED: Connection.backup tries again for ever.
_IN_USE = {5, 6}
_COMPANIONS = ("", "-journal", "-wal", "-shm")


@contextlib.contextmanager
def write_locked(  # noqa: PLR0913 - each is a choice of its own
    path: str,
    timeout: float,
    *,
    cancelled: Callable[[], bool] = bool,
    is_private: bool = False,
    references: bool = False,
    creates: bool = True,
) -> Iterator[GuardedConnection]:
    """Hold the write lock of a file for the duration of a block, and undo whatever the block did not commit.

    The lock is SQLite's own, so a crash frees it and nothing of it stays in the file.

    Args:
        path: The file; created if there is none, and removed again if nothing was committed to it.
        timeout: How long to wait for another program, in seconds.
        cancelled: Asked now and then while waiting and while statements run; True interrupts them.
        is_private: Whether nobody else knows the file and losing it is no loss: then it need not be safe on disk.
        references: Whether foreign keys are enforced.
        creates: Whether a file that does not exist is created.

    Raises:
        DatabaseInUse: Another program kept the lock.
        NotADatabase: The file cannot be opened or written, or does not exist and is not to be created.
        UpgradeCancelled: ``cancelled`` said so while waiting.
    """

    def connect() -> GuardedConnection:
        return GuardedConnection(path, is_private=is_private, references=references, creates=creates)

    def begun() -> tuple[GuardedConnection, _Identity | None]:
        return _held(path, connect, GuardedConnection.begin, creates=creates)

    connection, created = _named(path, lambda: _retried(path, begun, timeout, cancelled))
    try:
        connection.beat_with(cancelled)
        yield connection
    except Exception as error:
        connection.pass_interrupt(error)
        raise
    finally:
        try:
            connection.finish("ROLLBACK")
        finally:
            with turn:
                connection.remove_journal()
                _close(connection, path, created)


@contextlib.contextmanager
def exclusively_locked(
    path: str, timeout: float, *, cancelled: Callable[[], bool], creates: bool = True
) -> Iterator[sqlite3.Connection]:
    """Hold a file so that nobody else reads or writes it, without a transaction, for the duration of a block.

    Args:
        path: The file; created if there is none, and removed again if nothing was written to it.
        timeout: How long to wait for other programs, in seconds; one that keeps a write-ahead log open never lets go.
        cancelled: Asked now and then while waiting and while statements run; True interrupts them.
        creates: Whether a file that does not exist is created.

    Raises:
        DatabaseInUse: Another program kept it.
        NotADatabase: The file cannot be opened or written, or does not exist and is not to be created.
        UpgradeCancelled: ``cancelled`` said so while waiting.
    """

    def begun() -> tuple[sqlite3.Connection, _Identity | None]:
        return _held_alone(path, creates=creates)

    connection, created = _named(path, lambda: _retried(path, begun, timeout, cancelled))
    connection.set_progress_handler(cancelled, BEAT_OPERATIONS)
    try:
        yield connection
    finally:
        connection.set_progress_handler(None, 0)
        with turn:
            _close(connection, path, created)


def held_alone(path: str) -> sqlite3.Connection:
    """Return a connection that holds SQLite's exclusive lock and has no transaction open; it does not wait."""
    return _held_alone(path, creates=True)[0]


def _held_alone(path: str, *, creates: bool) -> tuple[sqlite3.Connection, _Identity | None]:
    def connect() -> sqlite3.Connection:
        name = file_uri(path, f"mode={'rwc' if creates else 'rw'}")
        return sqlite3.connect(name, uri=True, timeout=0, isolation_level=None, check_same_thread=False)

    def lock(connection: sqlite3.Connection) -> None:
        for statement in (
            "PRAGMA locking_mode = EXCLUSIVE",
            "PRAGMA synchronous = EXTRA",
            "BEGIN EXCLUSIVE",
            "ROLLBACK",
        ):
            connection.execute(statement)

    return _held(path, connect, lock, creates=creates)


def _held(
    path: str, connect: Callable[[], C], lock: Callable[[C], object], *, creates: bool
) -> tuple[C, _Identity | None]:
    """Open a file and lock it, without waiting; once more if somebody removed it before it was locked.

    A new file to which nothing was committed is removed by whoever made it, who holds its lock then. Others may have
    opened it before, and would write into a file that has no name any more.

    Returns:
        The connection, and which file it is if it was made just now.
    """
    for _ in range(_REOPENINGS):
        with turn:
            before = _identity(path)
            if before is None and not creates:
                raise NotADatabase(path, "there is no such file")
            connection = connect()
            opened = _identity(path)
            try:
                lock(connection)
            except BaseException as error:
                # An open handle in write-ahead mode would keep everybody from locking the file, this program too.
                _close(connection, path, None if before else opened)
                if isinstance(error, sqlite3.OperationalError) and opened != _identity(path):
                    continue
                raise
            if opened == _identity(path) and opened is not None and before in (None, opened):
                return connection, None if before else opened
            sqlite3.Connection.close(connection)
    raise sqlite3.OperationalError("locked: it is removed again and again")


def _identity(path: str) -> _Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _close(connection: sqlite3.Connection, path: str, created: _Identity | None) -> None:
    """Close a connection; remove the file that was created for it, if that is empty, and nobody else's by now."""
    if created is not None and os.name != "nt":
        with contextlib.suppress(sqlite3.Error, OSError):
            if not os.path.getsize(path):
                ask(connection, "BEGIN IMMEDIATE")
                _remove_empty(path, created)
    sqlite3.Connection.close(connection)
    if created is not None and os.name == "nt":
        with contextlib.suppress(OSError):  # Windows removes no file that somebody has open
            _remove_empty(path, created)


def _remove_empty(path: str, created: _Identity) -> None:
    if created == _identity(path) and not os.path.getsize(path):
        os.unlink(os.path.realpath(path))  # a link to it stays


def _named(path: str, action: Callable[[], T]) -> T:
    """Do something with a file; what SQLite says against it becomes an error that names it."""
    try:
        return action()
    except sqlite3.OperationalError as error:
        refuse_missing_folder(path)
        if "unable to open" in str(error):
            raise NotADatabase(path, f"it cannot be opened ({error})") from error
        raise MigrationFailed(path, str(error)) from error
    except sqlite3.DatabaseError as error:
        raise NotADatabase(path, f"it is damaged ({error})") from error


def commit(connection: GuardedConnection, path: str, timeout: float, *, cancelled: Callable[[], bool] = bool) -> None:
    """Make the whole upgrade permanent at once.

    Raises:
        DatabaseInUse: Readers kept the file for the whole time; everything is undone.
        MigrationFailed: The volume is full or failing; everything is undone.
        UpgradeCancelled: ``cancelled`` said so while waiting for readers; everything is undone.
    """
    try:
        _retried(path, lambda: connection.finish("COMMIT"), timeout, cancelled)
    except sqlite3.Error as error:
        raise MigrationFailed(path, f"it could not be written ({error})") from error


def _retried(path: str, action: Callable[[], T], timeout: float, cancelled: Callable[[], bool]) -> T:
    """Try until nobody is in the way any more.

    Raises:
        DatabaseInUse: Somebody was, for the whole time.
        UpgradeCancelled: ``cancelled`` said so.
    """
    started = time.monotonic()
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:  # noqa: PERF203 - it waits anyway
            waited = time.monotonic() - started
            if not is_busy(error):
                raise
            if waited >= timeout:
                raise DatabaseInUse(path, waited) from error
            if cancelled():
                raise UpgradeCancelled(path) from error
            time.sleep(_POLL_SECONDS)


def is_too_large_to_wait(connection: GuardedConnection) -> bool:
    """Return whether an upgrade could change more pages than may wait in memory before the file itself is touched.

    In write-ahead mode they go to the log, so the file is left alone however much changes.
    """
    if connection.is_logged:
        return False
    (pages,) = ask(connection, "PRAGMA page_count").fetchone()
    return bool(pages * connection.page_size > IN_PLACE_BYTES)


@contextlib.contextmanager
def working_copy(original: sqlite3.Connection, path: str, on_step: Callable[[float], object]) -> Iterator[str]:
    """Yield a private copy beside a database that is exclusively locked; it is removed afterwards.

    Args:
        original: The connection that holds the lock.
        path: Its file.
        on_step: Called with the share that was copied.
    """
    copy = path + COPY_SUFFIX
    sweep(path)
    try:
        _copied(original, copy, _stepping(on_step))
        yield copy
    finally:
        sweep(path)


def _copied(source: sqlite3.Connection, target: str, on_step: Callable[[int, int, int], object]) -> None:
    with contextlib.closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA synchronous = OFF")
        source.backup(copy, pages=_PAGES_A_STEP, progress=on_step)


def _stepping(on_step: Callable[[float], object]) -> Callable[[int, int, int], object]:
    return lambda _status, remaining, total: on_step(1 - remaining / total if total else 1.0)


def write_back(copy: str, original: sqlite3.Connection, path: str, on_step: Callable[[float], object]) -> None:
    """Replace the content of an exclusively locked database by that of a copy, as one transaction.

    Raises:
        MigrationFailed: It could not be written; the database is as before.
    """
    try:
        with contextlib.closing(sqlite3.connect(copy)) as finished:
            finished.backup(original, pages=_PAGES_A_STEP, progress=_stepping(on_step))
    except sqlite3.Error as error:
        raise MigrationFailed(path, f"it could not be written ({error})") from error


def sweep(path: str) -> None:
    """Remove the private copy of an upgrade that was killed; the caller holds the lock, so none is running."""
    # With a long name beside which there can be no copy, asking for one is an error.
    if has_leftover_copy(path):
        for companion in reversed(_COMPANIONS):  # the copy last: while it is there, the next start comes here again
            with contextlib.suppress(OSError):
                os.unlink(path + COPY_SUFFIX + companion)


def set_journal_mode(path: str, mode: str) -> None:
    """Give a file the journal mode its env.py asked for, if it is one that the file keeps; no harm if that fails."""
    if mode in ("wal", "delete"):
        no_harm = contextlib.suppress(sqlite3.Error)
        uri = file_uri(path, "mode=rw")
        with turn, no_harm, contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")


@contextlib.contextmanager
def scratch_copy(path: str, timeout: float = 0.0, on_step: Callable[[float], object] = bool) -> Iterator[str]:
    """Yield a private copy of a database, an empty one if there is none; it is removed afterwards.

    Args:
        path: The database.
        timeout: How long to wait for a program that keeps it to itself, in seconds.
        on_step: Called with the share that was copied, also while waiting; what it raises ends that.

    Raises:
        DatabaseInUse: Another program kept it.
    """
    copying, started = _stepping(on_step), time.monotonic()

    def copying_or_waiting(status: int, remaining: int, total: int) -> None:
        if status not in _IN_USE:
            copying(status, remaining, total)
            return
        on_step(0.0)
        if (waited := time.monotonic() - started) >= timeout:
            raise DatabaseInUse(path, waited)

    with tempfile.TemporaryDirectory(prefix="freezekit-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        if os.path.exists(path):
            with opened(path, timeout=0, is_long=True) as source:
                _copied(source, copy, copying_or_waiting)
        yield copy


def same_file(name: str, path: str) -> bool:
    """Return whether two paths lead to the same file, which need not exist yet."""
    try:
        return os.path.samefile(name, path)
    except OSError:
        return os.path.realpath(name) == os.path.realpath(path)
