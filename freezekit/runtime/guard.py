"""The SQLite connection env.py is given: it looks like any other, but its transaction is the upgrade's.

``commit`` only confirms what was done so far, ``rollback`` of what was not confirmed fails the upgrade, ``close`` does
nothing; the one real commit comes after the result was checked. What cannot run inside a transaction raises
:class:`NeedsCopy`, unless the file is a private copy already, where a commit in between does no harm.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from typing import TYPE_CHECKING, Any, Literal

from freezekit.runtime.sqlite_file import file_uri, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY_BYTES = 256 * 1024 * 1024
"""How many bytes of changed pages wait in memory for the commit; what is more goes to the file before it."""

BEAT_OPERATIONS = 10_000
"""After so many operations of SQLite a caller is heard; asking it so often cost nothing that could be measured."""

_SPACE = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_KEYWORD = re.compile(_SPACE + r"([A-Za-z]+)\s*(\w*)", re.DOTALL)
_PRAGMA_SET = re.compile(_SPACE + r"PRAGMA\s+(?:\w+\.)?(\w+)\s*[=(]\s*['\"]?(\w*)", re.IGNORECASE | re.DOTALL)
_DROP_TABLE = re.compile(
    _SPACE + r"DROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:main\.)?[\"'`\[]?([^\"'`\]\s;]+)", re.IGNORECASE | re.DOTALL
)
_READING = {"SELECT", "PRAGMA", "EXPLAIN", "SAVEPOINT", "RELEASE"}
# What would fail, or be ignored, inside a transaction; an application's connect listener often sets one of them.
_SETTINGS = {"journal_mode", "synchronous", "locking_mode", "foreign_keys", "auto_vacuum", "page_size", "temp_store"}
# These two only say what the next VACUUM is to do.
_SETTINGS_OF_VACUUM = {"auto_vacuum", "page_size"}
_ENDING = {"BEGIN", "COMMIT", "END", "ROLLBACK"}
_ON = {"on", "1", "true", "yes"}
_OTHER_FILES = {"ATTACH", "DETACH"}
_REFERRING = """
    SELECT name FROM sqlite_master WHERE type = 'table' AND name <> :table COLLATE NOCASE AND EXISTS (
        SELECT 1 FROM pragma_foreign_key_list(sqlite_master.name) AS one WHERE one."table" = :table COLLATE NOCASE
    )
"""


class NeedsCopy(BaseException):
    """What cannot be done in place must be done on a copy; no ``except Exception`` of env.py stops this."""


class GuardedConnection(sqlite3.Connection):
    """The connection env.py is given; its transaction belongs to the upgrade, not to env.py.

    Attributes:
        page_size: Bytes of one of its pages.
        is_logged: The file has a write-ahead log.
        undone: Something was rolled back, so the upgrade has failed.
        syncs_folder: SQLite has all names of the file's folder on disk before it changes the file, as it does whenever
            it creates a journal: https://www.sqlite.org/atomiccommit.html, section 3.7.
        enforces_references: env.py, or a listener of its engine, asked for enforced foreign keys.
        journal_mode: The journal mode it asked for, which can only be set after the commit; None if it did not.
    """

    def __init__(self, path: str, *, is_private: bool = False, references: bool = False, creates: bool = True) -> None:
        # Without cached statements none that was prepared earlier slips past the authorizer.
        how: dict[str, Any] = {
            "timeout": 0,
            "isolation_level": None,
            "check_same_thread": False,
            "cached_statements": 0,
        }
        super().__init__(file_uri(path, f"mode={'rwc' if creates else 'rw'}"), uri=True, **how)
        self._path = path
        self._is_private = is_private
        self._references = references
        self._guarding = False
        self._unconfirmed = False
        self._has_refused = self._has_stopped = False
        self._has_journal = False
        self.page_size = 0
        self.is_logged = False
        self.syncs_folder = False
        self._beat: Callable[[], bool] = bool
        self.undone = False
        self.enforces_references = references
        self.journal_mode: str | None = None

    def begin(self) -> None:
        """Take the write lock, without waiting; from now on only :meth:`finish` ends the transaction."""
        (self.page_size,) = super().execute("PRAGMA page_size").fetchone()
        (journal_mode,) = super().execute("PRAGMA journal_mode").fetchone()
        self.is_logged = journal_mode == "wal"
        settings = {
            "foreign_keys": "ON" if self._references else "OFF",
            "synchronous": "OFF" if self._is_private else "EXTRA",
            "cache_spill": "ON" if self._is_private else str(MEMORY_BYTES // self.page_size),
        }
        if journal_mode == "delete":
            # A journal ends by an overwritten header, which is synced; to remove it takes a sync of its folder.
            settings["journal_mode"] = "PERSIST"
            self._has_journal = True
        for name, value in settings.items():
            super().execute(f"PRAGMA {name} = {value}")
        super().execute("BEGIN IMMEDIATE")
        self.syncs_folder = self._has_journal and not self._is_private and not os.path.lexists(f"{self._path}-journal")
        self.set_authorizer(self._authorize)
        self._guarding = True

    def finish(self, statement: str) -> None:
        """End the transaction with ``COMMIT`` or ``ROLLBACK``.

        Raises:
            KeyboardInterrupt: Ctrl-C came just then; the transaction is open still.
            sqlite3.Error: It could not be ended.
        """
        self._guarding = False
        if self.in_transaction:
            super().set_authorizer(self._authorize)  # a revision may have set its own
            try:
                super().execute(statement)
            except sqlite3.Error as error:
                self._guarding = self.in_transaction
                self.pass_interrupt(error)
                raise

    def pass_interrupt(self, error: BaseException) -> None:
        """Raise KeyboardInterrupt if a statement failed only because Ctrl-C came while SQLite asked us about it.

        The exception goes no further than the module sqlite3, which takes it for an answer: not to run the statement.
        """
        cause: BaseException | None = error
        while cause is not None:
            # SQLITE_AUTH has this very class; that extensions cannot be loaded is an OperationalError.
            is_refused = type(cause) is sqlite3.DatabaseError and str(cause) == "not authorized"
            is_stopped = isinstance(cause, sqlite3.OperationalError) and str(cause) == "interrupted"
            if (is_refused and not self._has_refused) or (is_stopped and not self._has_stopped):
                raise KeyboardInterrupt from error
            cause = cause.__cause__

    def beat_with(self, beat: Callable[[], bool]) -> None:
        """Call a function now and then while statements run, and before each; True from it interrupts them."""

        def stops() -> bool:
            try:
                stop = beat()
            except Exception:
                self._has_stopped = True
                raise
            self._has_stopped |= stop  # what is asked again soon may not answer yet
            return stop

        self._beat = stops
        self.set_progress_handler(stops, BEAT_OPERATIONS)

    def claim(self, application_id: int | None) -> None:
        """Mark the file as this application's, unless it bears a mark."""
        if application_id and not super().execute("PRAGMA application_id").fetchone()[0]:
            super().execute(f"PRAGMA application_id = {application_id}")

    def record(self, statements: list[str]) -> None:
        """Collect what is run from now on and changes something, as SQL text with its values."""

        def traced(sql: str) -> None:
            match = _KEYWORD.match(sql)
            if match and match[1].upper() not in _READING | _ENDING:
                statements.append(sql)

        self.set_trace_callback(traced)

    def remove_journal(self) -> None:
        """Remove the journal that was kept for the next transaction: this was the last one."""
        self.set_progress_handler(None, 0)
        self._guarding = False
        if self._has_journal:
            with contextlib.suppress(sqlite3.Error):
                super().rollback()  # if Ctrl-C kept it from being done
                super().execute("PRAGMA journal_mode = DELETE")

    def set_authorizer(self, *how: Any, **named: Any) -> None:
        """Let env.py have its own say; what that refuses is no Ctrl-C that was lost."""
        self._has_refused |= self._guarding
        super().set_authorizer(*how, **named)

    def _authorize(self, action: int, *_details: object) -> int:
        if self._guarding and (action == sqlite3.SQLITE_TRANSACTION or not self.in_transaction):
            self._has_refused = True
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

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
        if keyword in _OTHER_FILES:
            raise sqlite3.OperationalError(f"{keyword} cannot run inside an upgrade, which is one change to one file")
        if keyword not in _READING:
            self._prepare_to_write(sql, keyword, following)
        return sql

    def _prepare_to_write(self, sql: str, keyword: str, following: str) -> None:
        self._refuse_after_undoing()
        if keyword == "VACUUM" and not self._is_private:
            raise NeedsCopy(sql)
        if self._references and (keyword, following) == ("DROP", "TABLE"):
            self._refuse_to_drop_referenced(sql)
        self._unconfirmed = True
        if self._beat():
            raise sqlite3.OperationalError("interrupted")

    def _accepted_pragma(self, sql: str) -> str:
        match = _PRAGMA_SET.match(sql)
        if match is None:
            return sql
        name, value = match[1].lower(), match[2].lower()
        if name == "foreign_keys" and value in _ON:
            self.enforces_references = True
        if name == "journal_mode":
            self.journal_mode = value
        if name not in _SETTINGS or (self._is_private and name in _SETTINGS_OF_VACUUM):
            return sql
        return f"PRAGMA {name}"

    def _refuse_to_drop_referenced(self, sql: str) -> None:
        """Refuse what SQLite would turn into deleting the rows of child tables."""
        match = _DROP_TABLE.match(sql)
        children = [row[0] for row in self.execute(_REFERRING, {"table": match[1]})] if match else []
        if match and children:
            raise sqlite3.OperationalError(
                f"{quoted(match[1])} cannot be dropped or rebuilt with foreign_keys = 'on': {', '.join(children)} "
                "refers to it, and SQLite would delete or refuse its rows"
            )

    def _refuse_after_undoing(self) -> None:
        if self.undone or not self.in_transaction:
            self.undone = True
            raise sqlite3.OperationalError("the upgrade has been rolled back; nothing more can be written")

    def run_outside(self, run: Callable[[], object]) -> None:
        """Run on a private copy what cannot run inside a transaction."""
        self.finish("COMMIT")
        try:
            run()
        finally:
            super().execute("BEGIN IMMEDIATE")
            self._guarding = True

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
            run = super().execute
            try:
                if is_outside(accepted) and self.connection.in_transaction:
                    self.connection.run_outside(lambda: run(accepted, parameters))
                else:
                    run(accepted, parameters)
            except sqlite3.DatabaseError as error:
                self.connection.pass_interrupt(error)
                raise
        return self

    def executemany(self, sql: str, parameters: Any) -> GuardedCursor:
        """Run one statement for each set of parameters."""
        accepted = self.connection.accepts(sql)
        if accepted is not None:
            try:
                super().executemany(accepted, parameters)
            except sqlite3.DatabaseError as error:
                self.connection.pass_interrupt(error)
                raise
        return self

    def executescript(self, sql_script: str) -> GuardedCursor:
        """Run several statements, without the commit that sqlite3 puts before them."""
        for statement in split_script(sql_script):
            self.execute(statement)
        return self


def is_outside(sql: str) -> bool:
    """Return whether a statement cannot run inside a transaction, but can between two."""
    match = _KEYWORD.match(sql)
    return match is not None and match[1].upper() == "VACUUM"


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
