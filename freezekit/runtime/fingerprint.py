"""A digest of an SQLite schema that says what the schema means, not how it was written down.

Two ways to the same schema, ``CREATE TABLE`` from models and a history with table rebuilds, leave different text in
``sqlite_master``: other spelling, other order, quotes and brackets that SQLite adds when it rewrites. So the structure
is read through SQLite's own PRAGMAs, and what only the text has (checks, collations, generated columns, views,
triggers) is compared as normalised words, in no particular order.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from freezekit.runtime.sqlite_file import quoted

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_WORD = re.compile(
    r"""
    --[^\n]* | /\*.*?\*/ | \s+                     # comments and space: no words
    | (?P<string>'(?:[^']|'')*')
    | "(?P<name>(?:[^"]|"")*)" | `(?P<tick>[^`]*)` | \[(?P<bracket>[^\]]*)\]
    | (?P<word>[\w.$]+)
    | (?P<sign><>|!=|==|<=|>=|\|\||<<|>>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_SAME_SIGN = {"==": "=", "!=": "<>"}


class Fingerprints:
    """Digests of schemas that follow each other: what is said of a table is remembered until its text changes."""

    def __init__(self, version_table: str) -> None:
        self._version_table = version_table.casefold()
        self._known: dict[tuple[str, ...], list[str]] = {}

    def of(self, connection: sqlite3.Connection) -> str:
        """Return the digest of a database's schema; see :func:`fingerprint`."""
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        indexes: dict[str, list[str]] = {}
        for kind, name, table, sql in rows:
            if kind == "index":
                indexes.setdefault(table, []).append(f"{name} {sql}")
        facts: list[str] = []
        for kind, name, table, sql in rows:
            if self._version_table in (name.casefold(), table.casefold()) or name.startswith("sqlite_"):
                continue
            if kind == "table":
                key = (sql or "", *sorted(indexes.get(name, ())))
                if key not in self._known:
                    self._known[key] = list(_table_facts(connection, name, words(sql or "")))
                facts += self._known[key]
            elif kind != "index":
                facts.append(f"{kind} {name.casefold()}: {' '.join(words(sql or ''))}")
        return hashlib.sha256("\n".join(sorted(facts)).encode()).hexdigest()


def fingerprint(connection: sqlite3.Connection, version_table: str) -> str:
    """Return the digest of a database's schema; its version table, its rows and SQLite's own tables do not count.

    Column order does not matter, nor do names of constraints. The rules of what SQLite keeps where are from
    https://www.sqlite.org/pragma.html and https://www.sqlite.org/schematab.html.

    Args:
        connection: An open connection.
        version_table: Table to leave out.
    """
    return Fingerprints(version_table).of(connection)


def _table_facts(connection: sqlite3.Connection, name: str, text: list[str]) -> Iterator[str]:
    table = f"table {name.casefold()}"
    options = [option for option in (["autoincrement"], ["without", "rowid"], ["strict"]) if _ends_with(text, option)]
    yield f"{table}: {options}"
    for _, column, kind, not_null, default, key, hidden in connection.execute(f"PRAGMA table_xinfo({quoted(name)})"):
        # A primary key column of a table with a rowid may be written with or without NOT NULL.
        facts = [column.casefold(), words(kind or ""), bool(not_null) and not key, _default(default), key, hidden]
        yield f"{table} column {facts}"
    keys: dict[int, list[object]] = {}
    for number, place, parent, column, to, on_update, on_delete, match in connection.execute(
        f"PRAGMA foreign_key_list({quoted(name)})"
    ):
        pair = (column.casefold(), (to or "").casefold(), place)
        keys.setdefault(number, [parent.casefold(), on_update, on_delete, match]).append(pair)
    yield from (f"{table} foreign key {facts}" for facts in keys.values())
    yield from (f"{table} {facts}" for facts in _index_facts(connection, name))
    yield from (f"{table} says {clause}" for clause in _clauses(text))


def _index_facts(connection: sqlite3.Connection, name: str) -> Iterator[str]:
    for _, index, unique, origin, partial in connection.execute(f"PRAGMA index_list({quoted(name)})"):
        if origin == "pk":
            continue
        columns = [
            ((column or "an expression").casefold(), descending, (collation or "").casefold())
            for _, _, column, descending, collation, is_key in connection.execute(
                f"PRAGMA index_xinfo({quoted(index)})"
            )
            if is_key
        ]
        text = ""
        if origin == "c" and (partial or any(column == "an expression" for column, _, _ in columns)):
            (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
            text = " ".join(words(sql))
        made = index.casefold() if origin == "c" else "constraint"
        yield f"index {made} {unique} {columns} {text}"


def _default(text: str | None) -> list[str] | None:
    """Return the words of a default, without the brackets SQLite and Alembic may put around it."""
    if text is None:
        return None
    return _unwrapped(words(text))


def _clauses(text: list[str]) -> Iterator[str]:
    """Yield the parts of a CREATE TABLE that no PRAGMA tells: checks, collations, generated columns."""
    for place, word in enumerate(text):
        following = text[place + 1 : place + 2]
        if word in ("check", "as") and following == ["("]:
            yield f"{word} {' '.join(_unwrapped(text[place + 1 : _closing(text, place + 1) + 1]))}"
        elif word == "collate":
            yield f"collate {' '.join(following)}"


def _unwrapped(group: list[str]) -> list[str]:
    while len(group) > 1 and group[0] == "(" and _closing(group, 0) == len(group) - 1:
        group = group[1:-1]
    return group


def _closing(text: list[str], opening: int) -> int:
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
    return len(text) - 1


def _ends_with(text: list[str], option: list[str]) -> bool:
    outside = text[_closing(text, text.index("(")) + 1 :] if "(" in text else []
    where = text if option == ["autoincrement"] else outside
    return any(where[place : place + len(option)] == option for place in range(len(where)))


def words(sql: str) -> list[str]:
    """Return the words and signs of SQL text: without comments, quotes around names, and difference of case."""
    found = []
    for match in _WORD.finditer(sql):
        name = match["name"] or match["tick"] or match["bracket"] or match["word"]
        if match["string"]:
            found.append(match["string"])
        elif name:
            found.append(name.casefold())
        elif match["sign"] and match["sign"] != ";":
            found.append(_SAME_SIGN.get(match["sign"], match["sign"]))
    return found
