"""What a killed upgrade had done on MySQL and MariaDB, so that the next one does exactly the rest.

There every statement that changes a schema commits, so a revision cannot be undone. The journal remembers the
statements of the running revision, with their answers. It is written together with what it describes: the entry of a
statement on rows in the same transaction, and the entry of a statement that commits before that statement begins, with
a digest of the schema as it was. The next upgrade runs the revision from its beginning, answers from the journal what
was done, and continues behind it. Whether the last statement took effect is seen from the schema: each such statement
takes effect as a whole or not at all.

The journal is a table of the database itself, so that a copy of the database always has the journal that belongs to it.
It is emptied by the transaction that writes the new version, and dropped when the upgrade ends.
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, event
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy
from sqlalchemy.engine.interfaces import ExecuteStyle

from freezekit.errors import MigrationFailed
from freezekit.runtime.journal_table import Entry
from freezekit.runtime.statements import Kind, decoded, digest_of, encoded, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Table

_SHOWN = 200
_KEPT = 8_000  # characters of a statement
# More rows of answers than these are not kept in memory.
_MOST_ROWS = 200_000


@dataclass(frozen=True)
class Call:
    """One statement that SQLAlchemy is about to execute."""

    cursor: Any
    statement: str
    parameters: Any
    context: Any
    run: Callable[[], object]


class Journal:
    """Keeps the statements of the running revision, and answers for those that a killed upgrade had done.

    Attributes:
        kept: How many statements of the running revision are permanent.
        asleep: Whether the statement that runs is the journal's own.
    """

    def __init__(
        self, table: Table, database: str, found: Sequence[tuple[str, Entry]], look: Callable[[str], str]
    ) -> None:
        self._table = table
        self._database = database
        self._found = found
        self._look = look
        self._connection: Connection | None = None
        self._revision: str | None = None
        self.asleep = False
        self._refusal: MigrationFailed | None = None
        self._begin(None)

    def _begin(self, revision: str | None) -> None:
        self._revision = revision
        entries = [entry for one, entry in self._found if one == revision]
        self._replayed = deque(entries)
        self._position = 0
        self._pending: list[Entry] = []
        self._rows = 0
        self._is_clean = False
        self.kept = len(entries)

    def begin(self, revision: str | None) -> None:
        """Expect the statements of a revision; None at the end."""
        if revision != self._revision:
            self._begin(revision)

    @contextlib.contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        """See every statement of a connection until the end of the ``with`` block."""
        self._connection = connection
        dialect = connection.dialect
        listeners: list[tuple[object, str, Any]] = [
            (dialect, "do_execute", self._on_execute),
            (dialect, "do_executemany", self._on_executemany),
            (dialect, "do_execute_no_params", self._on_execute_no_params),
            (connection, "commit", self._on_commit),
        ]
        for target, name, listener in listeners:
            event.listen(target, name, listener)
        try:
            yield
        finally:
            for target, name, listener in listeners:
                event.remove(target, name, listener)

    def applied(self, **_facts: object) -> None:
        """Forget a revision in the transaction that writes the new version; an ``on_version_apply`` of Alembic."""
        self._refuse_again()
        if self._replayed:
            raise self._refuse(f"it ended before {_shown(self._replayed[0].statement)}, which it had done")
        if self._connection is not None and (self._found or self._is_clean):
            with self._unseen():
                self._connection.execute(delete(self._table))
        self._revision, self.kept = None, 0
        self._pending.clear()

    def _on_execute(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        run = lambda: context.dialect.do_execute(cursor, statement, parameters, context)  # noqa: E731
        return self._take_over(Call(cursor, statement, parameters, context, run))

    def _on_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        run = lambda: context.dialect.do_executemany(cursor, statement, parameters, context)  # noqa: E731
        return self._take_over(Call(cursor, statement, parameters, context, run))

    def _on_execute_no_params(self, cursor: Any, statement: str, context: Any) -> bool:
        run = lambda: context.dialect.do_execute_no_params(cursor, statement, context)  # noqa: E731
        return self._take_over(Call(cursor, statement, None, context, run))

    def _on_commit(self, _connection: Connection) -> None:
        if self._revision is not None and not self.asleep:
            self._write()

    def _take_over(self, call: Call) -> bool:
        """Execute a statement, or answer for it; return whether either was done."""
        if self.asleep or self._revision is None or call.context.root_connection is not self._connection:
            return False
        self._refuse_again()
        self._position += 1
        digest = digest_of(call.statement, call.parameters)
        if self._replayed:
            return self._replay(self._replayed.popleft(), call, digest)
        work: Any = call.context.root_connection
        entry = Entry(self._position, kind_of(call.statement), digest, call.statement[:_KEPT])
        if entry.kind is Kind.WRITES and _commits_each(work):
            self._in_transaction(entry, call)
        else:
            self._perform(entry, call)
        return True

    def _replay(self, entry: Entry, call: Call, digest: str) -> bool:
        if entry.digest != digest:
            raise self._refuse(f"it now asks {_shown(call.statement)} where it had asked {_shown(entry.statement)}")
        if entry.kind is Kind.LOSES:
            raise self._refuse(f"{_shown(entry.statement)} left something in a session that is gone")
        if entry.kind is Kind.WRITES and entry.answer is None:
            raise self._refuse(f"the answer to {_shown(entry.statement)} could not be kept")
        if entry.kind is Kind.SESSION or (entry.kind is Kind.READS and entry.answer is None):
            return False
        if entry.answer is not None:
            _answer(call, decoded(entry.answer), failed=entry.kind is Kind.FAILED)
        return True

    def _in_transaction(self, entry: Entry, call: Call) -> None:
        """Execute a statement that would commit by itself together with its entry."""
        connection = call.context.root_connection
        with self._unseen():
            connection.exec_driver_sql("START TRANSACTION")
        try:
            self._perform(entry, call)
            self._write()
        finally:
            with self._unseen():
                connection.exec_driver_sql("COMMIT")

    def _perform(self, entry: Entry, call: Call) -> None:
        if entry.kind is Kind.COMMITS:
            entry.schema_before = self._look(entry.statement)
            self._pending.append(entry)
            self._write()
        try:
            call.run()
        except Exception as error:
            self.kept -= entry.kind is Kind.COMMITS
            entry.kind, entry.answer = Kind.FAILED, encoded([type(error).__name__, list(error.args)])
            self._pending.append(entry)
            raise
        if entry.kind is not Kind.COMMITS:
            entry.answer = self._answer_of(call)
            self._pending.append(entry)

    def _answer_of(self, call: Call) -> str | None:
        """Return what a cursor answered, and let SQLAlchemy read it afterwards all the same."""
        cursor, context = call.cursor, call.context
        counted = [cursor.rowcount, getattr(cursor, "lastrowid", None)]
        if cursor.description is None:
            return encoded([None, None, *counted])
        if context.execute_style is ExecuteStyle.INSERTMANYVALUES or context._is_server_side:  # noqa: SLF001 - no other way
            return None
        rows, columns = cursor.fetchall(), cursor.description
        context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
            cursor, alternate_description=columns, initial_buffer=rows
        )
        self._rows += len(rows)
        return encoded([[one[:2] for one in columns], rows, *counted]) if self._rows <= _MOST_ROWS else None

    def _write(self) -> None:
        """Write the entries that the next commit makes permanent."""
        if not self._pending or self._connection is None:
            return
        table, pending = self._table, self._pending
        rows = [{"revision": self._revision, **vars(entry), "kind": entry.kind.value} for entry in pending]
        with self._unseen():
            if not self._is_clean:
                stale = (table.c.revision != self._revision) | (table.c.position >= pending[0].position)
                self._connection.execute(delete(table).where(stale))
            self._amend(pending)
            self._connection.execute(table.insert(), rows)
        self._is_clean = True
        self.kept += len(pending)
        pending.clear()

    def _amend(self, pending: Sequence[Entry]) -> None:
        """Make room for what is known better now: a statement that was about to commit, and failed."""
        failed = [entry.position for entry in pending if entry.kind is Kind.FAILED]
        if failed and self._connection is not None:
            of_these = (self._table.c.revision == self._revision) & self._table.c.position.in_(failed)
            self._connection.execute(delete(self._table).where(of_these))

    @contextlib.contextmanager
    def _unseen(self) -> Iterator[None]:
        self.asleep = True
        try:
            yield
        finally:
            self.asleep = False

    def _refuse(self, reason: str) -> MigrationFailed:
        advice = (
            f"{self.kept} statements of it are done and in table {self._table.name!r}; finish it by hand, write its "
            "version, and drop that table"
        )
        why = f"the revision had been stopped halfway and cannot be continued: {reason}; {advice}"
        self._refusal = MigrationFailed(self._database, why, failed=self._revision, restored=False)
        return self._refusal

    def _refuse_again(self) -> None:
        """Let no statement run after a refusal that the revision swallowed."""
        if self._refusal is not None:
            raise self._refusal


def _shown(statement: str) -> str:
    """Return a statement as a message shows it."""
    line = " ".join(statement.split())
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ...")


def _commits_each(connection: Connection) -> bool:
    """Return whether each statement of a connection commits by itself."""
    raw: Any = connection.connection.dbapi_connection
    with contextlib.suppress(AttributeError):
        return bool(raw.get_autocommit())
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def _answer(call: Call, answer: Any, *, failed: bool) -> None:
    """Give SQLAlchemy the answer that a statement had, or raise the error it raised."""
    if failed:
        name, arguments = answer
        raise getattr(call.context.dialect.loaded_dbapi, name)(*arguments)
    columns, rows, rowcount, lastrowid = answer
    with contextlib.suppress(AttributeError):  # some drivers' cursors let nobody set these
        call.cursor.rowcount = rowcount
        call.cursor.lastrowid = lastrowid
    call.context._rowcount = rowcount  # noqa: SLF001 - as the dialect does
    if columns is not None:
        call.context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
            call.cursor,
            alternate_description=[(*one, *[None] * 5) for one in columns],
            initial_buffer=[tuple(row) for row in rows],
        )
