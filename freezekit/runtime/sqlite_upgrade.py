"""One SQLite file, one connection, one transaction: what makes an upgrade all or nothing, whatever env.py does.

The connection given to env.py looks like any other, but committing, rolling back and closing it are not env.py's to do:
``commit`` only confirms what was done so far, and the one real commit comes after the result was checked. Design and
measurements: an upgrade run in place within one transaction was old or new after every kill.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import tempfile
import time
from typing import TYPE_CHECKING, Any, Literal

from freezekit.errors import DatabaseInUse, MigrationFailed, NotADatabase
from freezekit.runtime.sqlite_file import is_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POLL_SECONDS = 0.05
_CANCEL_OPERATIONS = 10_000
_KEYWORD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*([A-Za-z]+)\s*(\w*)", re.DOTALL)
_PRAGMA_SET = re.compile(r"\s*PRAGMA\s+(?:\w+\.)?(\w+)\s*[=(]", re.IGNORECASE)
_READING = {"SELECT", "PRAGMA", "EXPLAIN", "SAVEPOINT", "RELEASE"}
# What would fail, or be ignored, inside a transaction; an application's connect listener often sets one of them.
_SETTINGS = {"journal_mode", "synchronous", "locking_mode", "foreign_keys", "auto_vacuum", "page_size", "temp_store"}
_ENDING = {"BEGIN", "COMMIT", "END", "ROLLBACK"}
_OUTSIDE = {"VACUUM", "ATTACH", "DETACH"}


class GuardedConnection(sqlite3.Connection):
    """The connection env.py is given; its transaction belongs to the upgrade, not to env.py."""

    def __init__(self, path: str) -> None:
        # Without cached statements none that was prepared earlier slips past the authorizer.
        super().__init__(path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=0)
        self._guarding = False
        self._unconfirmed = False
        self.undone = False

    def begin(self) -> None:
        """Take the write lock, without waiting; from now on only :meth:`finish` ends the transaction."""
        for setting in ("foreign_keys = OFF", "synchronous = FULL", "cache_spill = OFF"):
            super().execute(f"PRAGMA {setting}")
        super().execute("BEGIN IMMEDIATE")
        self.set_authorizer(self._authorize)
        self._guarding = True

    def finish(self, statement: str) -> None:
        """End the transaction with ``COMMIT`` or ``ROLLBACK``."""
        self._guarding = False
        if self.in_transaction:
            try:
                super().execute(statement)
            except sqlite3.Error:
                self._guarding = self.in_transaction
                raise

    def claim(self, application_id: int | None) -> None:
        """Mark the file as this application's, unless it bears a mark."""
        if application_id and not self.execute("PRAGMA application_id").fetchone()[0]:
            self.execute(f"PRAGMA application_id = {application_id}")

    def record(self, statements: list[str]) -> None:
        """Collect what is run from now on and changes something, as SQL text with its values."""

        def traced(sql: str) -> None:
            match = _KEYWORD.match(sql)
            if match and match[1].upper() not in _READING | _ENDING:
                statements.append(sql)

        self.set_trace_callback(traced)

    def really_close(self) -> None:
        """Close the connection; env.py's closing it does nothing."""
        super().close()

    def _authorize(self, action: int, *_details: object) -> int:
        forbidden = action == sqlite3.SQLITE_TRANSACTION or not self.in_transaction
        return sqlite3.SQLITE_DENY if self._guarding and forbidden else sqlite3.SQLITE_OK

    def accepts(self, sql: str) -> str | None:
        """Return the statement to run in place of one of env.py's, or None for one that is to be passed over."""
        match = _KEYWORD.match(sql)
        if not self._guarding or match is None:
            return sql
        keyword, following = match[1].upper(), match[2].upper()
        if keyword == "PRAGMA":
            return self._accepted_pragma(sql)
        if keyword in ("BEGIN", "COMMIT", "END") or (keyword == "ROLLBACK" and following != "TO"):
            (self.rollback if keyword == "ROLLBACK" else self.commit)()
            return None
        if keyword in _OUTSIDE:
            raise sqlite3.OperationalError(f"{keyword} cannot run inside an upgrade, which is one transaction")
        if keyword not in _READING:
            self._refuse_after_undoing()
            self._unconfirmed = True
        return sql

    def _accepted_pragma(self, sql: str) -> str:
        match = _PRAGMA_SET.match(sql)
        return f"PRAGMA {match[1]}" if match and match[1].lower() in _SETTINGS else sql

    def _refuse_after_undoing(self) -> None:
        if self.undone or not self.in_transaction:
            self.undone = True
            raise sqlite3.OperationalError("the upgrade has been rolled back; nothing more can be written")

    def commit(self) -> None:
        """Confirm what was done so far; the database is written by :meth:`finish` alone."""
        if not self._guarding:
            super().commit()
        self._unconfirmed = False

    def rollback(self) -> None:
        """Undo what was not confirmed: as one transaction cannot be undone in part, the whole upgrade fails."""
        if not self._guarding:
            super().rollback()
        elif self._unconfirmed:
            self.undone = True

    def close(self) -> None:
        """Do nothing: the upgrade closes its connection itself."""

    @property
    def isolation_level(self) -> None:
        """None: transactions are begun and ended by the upgrade, whatever is set."""
        return

    @isolation_level.setter
    def isolation_level(self, value: object) -> None:
        """Ignore what SQLAlchemy or a revision sets: setting it would commit."""

    def __exit__(self, kind: object, *_details: object) -> Literal[False]:
        (self.commit if kind is None else self.rollback)()
        return False

    def cursor(self, *_factory: object) -> GuardedCursor:  # type: ignore[override]
        """Return a cursor that passes over what is not env.py's to do."""
        return super().cursor(GuardedCursor)

    def execute(self, sql: str, parameters: Any = ()) -> GuardedCursor:
        """Run one statement; sqlite3's own shortcut would go past :meth:`cursor`."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any) -> GuardedCursor:
        """Run one statement for each set of parameters."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, sql_script: str) -> GuardedCursor:
        """Run several statements."""
        return self.cursor().executescript(sql_script)


class GuardedCursor(sqlite3.Cursor):
    """Runs what the connection accepts."""

    connection: GuardedConnection

    def execute(self, sql: str, parameters: Any = ()) -> GuardedCursor:
        """Run one statement."""
        accepted = self.connection.accepts(sql)
        if accepted is not None:
            super().execute(accepted, parameters)
        return self

    def executemany(self, sql: str, parameters: Any) -> GuardedCursor:
        """Run one statement for each set of parameters."""
        accepted = self.connection.accepts(sql)
        if accepted is not None:
            super().executemany(accepted, parameters)
        return self

    def executescript(self, sql_script: str) -> GuardedCursor:
        """Run several statements, without the commit that sqlite3 puts before them."""
        for statement in split_script(sql_script):
            self.execute(statement)
        return self


def split_script(script: str) -> Iterator[str]:
    """Yield the statements of a script, triggers whole."""
    statement = ""
    for part in re.split(r"(?<=;)", script):
        statement += part
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


@contextlib.contextmanager
def write_locked(path: str, timeout: float, *, cancelled: Callable[[], bool]) -> Iterator[GuardedConnection]:
    """Hold the write lock of a file for the duration of a block, and undo whatever the block did not commit.

    The lock is SQLite's own, so a crash frees it and nothing of it stays in the file.

    Args:
        path: The file; created if there is none, and removed again if nothing was committed to it.
        timeout: How long to wait for another program, in seconds.
        cancelled: Asked now and then while statements run; True interrupts them.

    Raises:
        DatabaseInUse: Another program kept the lock.
        NotADatabase: The file cannot be opened or written.
    """
    is_new = not os.path.exists(path)
    connection = _open(path)
    try:
        _begin(connection, path, timeout)
        connection.set_progress_handler(cancelled, _CANCEL_OPERATIONS)
        yield connection
    finally:
        connection.set_progress_handler(None, 0)
        connection.finish("ROLLBACK")
        connection.really_close()
        if is_new and os.path.exists(path) and not os.path.getsize(path):
            os.unlink(path)


def _open(path: str) -> GuardedConnection:
    try:
        return GuardedConnection(path)
    except sqlite3.Error as error:
        folder = os.path.dirname(os.path.abspath(path))
        reason = "its folder does not exist" if not os.path.isdir(folder) else f"it cannot be opened ({error})"
        raise NotADatabase(path, reason) from error


def _begin(connection: GuardedConnection, path: str, timeout: float) -> None:
    try:
        waited = _retried(connection.begin, timeout)
    except sqlite3.OperationalError as error:
        reason = "the file or its folder is read-only" if "readonly" in str(error) else str(error)
        raise MigrationFailed(path, reason) from error
    except sqlite3.DatabaseError as error:
        raise NotADatabase(path, f"it is damaged ({error})") from error
    if waited is not None:
        raise DatabaseInUse(path, waited)


def commit(connection: GuardedConnection, path: str, timeout: float) -> None:
    """Make the whole upgrade permanent at once.

    Raises:
        DatabaseInUse: Readers kept the file for the whole time; everything is undone.
        MigrationFailed: The volume is full or failing; everything is undone.
    """
    try:
        waited = _retried(lambda: connection.finish("COMMIT"), timeout)
    except sqlite3.Error as error:
        raise MigrationFailed(path, f"it could not be written ({error})") from error
    if waited is not None:
        raise DatabaseInUse(path, waited)


def _retried(action: Callable[[], None], timeout: float) -> float | None:
    """Try until it works; return None, or how long it was tried in vain, in seconds."""
    started = time.monotonic()
    while True:
        try:
            action()
        except sqlite3.OperationalError as error:  # noqa: PERF203 - it waits anyway
            waited = time.monotonic() - started
            if not is_busy(error):
                raise
            if waited >= timeout:
                return waited
            time.sleep(_POLL_SECONDS)
        else:
            return None


@contextlib.contextmanager
def scratch_copy(path: str) -> Iterator[str]:
    """Yield a private copy of a database, an empty one if there is none; it is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="freezekit-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        if os.path.exists(path):
            with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as new:
                source.backup(new)
        yield copy


def same_file(name: str, path: str) -> bool:
    """Return whether two paths lead to the same file, which need not exist yet."""
    try:
        return os.path.samefile(name, path)
    except OSError:
        return os.path.realpath(name) == os.path.realpath(path)
