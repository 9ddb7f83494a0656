"""What must be true of the rows of a database after an upgrade, looked at from outside with Python's own SQLite.

Two rules. Without being told anything: no table has fewer rows than before, unless it is named as one that may shrink;
a table that is gone counts as one without rows. And whatever the author writes down: a file of SELECT statements, each
of which must find nothing; the database as it was before is attached as ``old``.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.errors import UsageError
from freezekit.runtime.fingerprint import fingerprint
from freezekit.runtime.sqlite_file import quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def copy_database(source: Path, target: Path) -> Path:
    """Copy a database with the journal beside it, which may hold its last changes, or what is to be rolled back."""
    for suffix in ("", "-wal", "-journal"):
        if not suffix or os.path.exists(f"{source}{suffix}"):
            shutil.copyfile(f"{source}{suffix}", f"{target}{suffix}")
    return target


def statements(text: str) -> tuple[str, ...]:
    """Return the statements of a file of SQL.

    Raises:
        UsageError: The last one is not complete, or one is no SELECT.
    """
    found, current = [], ""
    for piece in re.split("(?<=;)", text):
        current += piece
        if sqlite3.complete_statement(current):
            found.append(current.strip())
            current = ""
    if _without_comments(current):
        found.append(current.strip())
    for one in found:
        if not _without_comments(one).lower().startswith(("select", "with", "values")):
            raise UsageError(f"A rule about content is a SELECT that must find nothing, not: {one}")
    return tuple(found)


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()


def broken_rules(
    before: Path, after: Path, *, may_shrink: Collection[str] = (), rules: Collection[str] = ()
) -> list[str]:
    """Return what an upgrade did to a database that it must not do; changes neither file.

    Args:
        before: The database of a past release.
        after: The same after an upgrade.
        may_shrink: Names of tables that may lose rows.
        rules: SELECT statements that must find nothing.
    """
    allowed = {name.casefold() for name in may_shrink}
    now = {name.casefold(): count for name, count in row_counts(after).items()}
    found = [
        f"table {name} had {count} rows and has {now.get(name.casefold(), 0)}"
        for name, count in row_counts(before).items()
        if now.get(name.casefold(), 0) < count and name.casefold() not in allowed
    ]
    with closing(_opened(after)) as connection:
        connection.execute("ATTACH ? AS old", (f"{before.absolute().as_uri()}?mode=ro",))
        return found + [broken for rule in rules if (broken := _broken(connection, rule))]


def _broken(connection: sqlite3.Connection, rule: str) -> str:
    try:
        row = connection.execute(rule).fetchone()
    except sqlite3.Error as error:
        return f"{rule} cannot be asked: {error}"
    return f"{rule} found {row}" if row is not None else ""


def row_counts(database: Path) -> dict[str, int]:
    """Return how many rows each table has; SQLite's own tables and version tables do not count."""
    with closing(_opened(database)) as connection:
        return {
            name: connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0]  # noqa: S608 - quoted
            for name in _tables(connection)
        }


def versions(database: Path, table: str) -> tuple[str, ...]:
    """Return the rows of a version table; none if there is no such table."""
    with closing(_opened(database)) as connection:
        try:
            rows = connection.execute(f"SELECT version_num FROM {quoted(table)}")  # noqa: S608 - quoted
            return tuple(sorted(str(row[0]) for row in rows))
        except sqlite3.OperationalError:
            return ()


def difference(one: Path, other: Path, version_table: str, *, is_repeatable: bool) -> str:
    """Return in what two databases differ that should be alike, or an empty text.

    Args:
        one: A database.
        other: Another one.
        version_table: Name of the version table.
        is_repeatable: Whether two runs of the history give the same rows; otherwise only their number counts.
    """
    with closing(_opened(one)) as first, closing(_opened(other)) as second:
        for connection in (first, second):
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return "it is damaged"
        if fingerprint(first, version_table) != fingerprint(second, version_table):
            return "the schema is another one"
    if versions(one, version_table) != versions(other, version_table):
        return f"it is at {versions(one, version_table)}, not at {versions(other, version_table)}"
    mine, theirs = (_rows(path) if is_repeatable else row_counts(path) for path in (one, other))
    wrong = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
    return f"the rows are others in {', '.join(wrong)}" if wrong else ""


def _rows(database: Path) -> dict[str, list[str]]:
    with closing(_opened(database)) as connection:
        connection.row_factory = sqlite3.Row
        rows = {name: connection.execute(f"SELECT * FROM {quoted(name)}") for name in _tables(connection)}  # noqa: S608
        return {name: sorted(repr(sorted(dict(row).items())) for row in found) for name, found in rows.items()}


def _tables(connection: sqlite3.Connection) -> Iterator[str]:
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    for (name,) in connection.execute(names).fetchall():
        columns = connection.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
        if [str(column[1]) for column in columns] != ["version_num"]:
            yield name


def _opened(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(database).absolute().as_uri()}?mode=ro", uri=True)
