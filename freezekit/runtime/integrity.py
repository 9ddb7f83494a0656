"""Whether an SQLite database is sound: its pages, and the rows that others refer to."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections import Counter

from freezekit.runtime.sqlite_file import ask, quoted

# What a rule of a table says about a row, not what is wrong with the file: a document may hold such rows for years.
# https://www.sqlite.org/pragma.html#pragma_integrity_check
_ABOUT_CONTENT = re.compile(
    r"(NULL|NUMERIC|TEXT|non-\w+) value in |CHECK constraint failed in |malformed inverted index"
)
_MOST_FINDINGS = 1_000_000


def damage(connection: sqlite3.Connection) -> str | None:
    """Return what SQLite finds wrong with the structure of a database, or None.

    Raises:
        sqlite3.Error: It was interrupted, or the file cannot be read.
    """
    for (finding,) in ask(connection, f"PRAGMA quick_check({_MOST_FINDINGS})"):
        if finding != "ok" and not _ABOUT_CONTENT.match(finding):
            return str(finding)
    return None


def dangling_references(connection: sqlite3.Connection) -> Counter[tuple[str, str]]:
    """Count the rows that refer to a row that is not there, by referring and referred table."""
    try:
        return Counter((row[0], row[2]) for row in ask(connection, "PRAGMA foreign_key_check"))
    except sqlite3.OperationalError:
        return _checked_one_by_one(connection)


def _checked_one_by_one(connection: sqlite3.Connection) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    tables = [name for (name,) in ask(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        # Columns that refer to something without a unique index cannot be checked, nor be enforced.
        with contextlib.suppress(sqlite3.OperationalError):
            for row in ask(connection, f"PRAGMA foreign_key_check({quoted(table)})"):
                found[row[0], row[2]] += 1
    return found


def new_dangling(before: Counter[tuple[str, str]], after: Counter[tuple[str, str]]) -> int:
    """Return how many rows began to dangle; those of a table that was only renamed did not."""
    return min((after - before).total(), max(after.total() - before.total(), 0)) if before else after.total()
