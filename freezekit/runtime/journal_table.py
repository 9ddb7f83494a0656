"""The journal as a table: its columns, what a killed upgrade left in it, and the schema it is compared with."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Integer, MetaData, String, Table, Text, inspect, select, text
from sqlalchemy.dialects.mysql import LONGTEXT

from freezekit.runtime.borrowed import JOURNAL_PREFIX
from freezekit.runtime.statements import Kind

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LONGEST_NAME = 64


def journal_table(schema: str, version_table: str) -> Table:
    """Return the journal's table for one database and version table."""
    name = JOURNAL_PREFIX + version_table
    if len(name) > _LONGEST_NAME:
        name = JOURNAL_PREFIX + hashlib.sha256(version_table.encode()).hexdigest()[:20]
    return Table(
        name,
        MetaData(),
        Column("revision", String(200), primary_key=True),
        Column("position", Integer, primary_key=True, autoincrement=False),
        Column("kind", String(16), nullable=False),
        Column("digest", String(64), nullable=False),
        Column("statement", Text, nullable=False),
        Column("answer", LONGTEXT),
        Column("schema_before", String(64)),
        schema=schema,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mariadb_engine="InnoDB",
        mariadb_charset="utf8mb4",
    )


@dataclass
class Entry:
    """One statement of a revision, as the journal has it."""

    position: int
    kind: Kind
    digest: str
    statement: str
    answer: str | None = None
    schema_before: str | None = None


def found_entries(connection: Connection, table: Table) -> list[tuple[str, Entry]]:
    """Return what a killed upgrade left, with the revisions; make the table if there is none.

    A last statement that has not taken effect is left out.
    """
    if not inspect(connection).has_table(table.name, schema=table.schema):
        table.create(connection)
        return []
    columns = table.c
    rows = connection.execute(select(table).order_by(columns.revision, columns.position)).mappings()
    found = [(row["revision"], _entry_of(row)) for row in rows]
    last = found[-1][1] if found else None
    if last is None or last.kind is not Kind.COMMITS:
        return found
    if last.schema_before == schema_digest(connection, table, last.statement):
        found.pop()
    return found


def _entry_of(row: Any) -> Entry:
    fields = {name: row[name] for name in ("position", "digest", "statement", "answer", "schema_before")}
    return Entry(kind=Kind(row["kind"]), **fields)


def drop_if_settled(connection: Connection, table: Table) -> None:
    """Drop the journal, unless a revision is unfinished; fails if somebody's open transaction still uses it."""
    connection.execute(text("SET SESSION lock_wait_timeout = 1"))
    if not found_entries(connection, table):
        table.drop(connection)


_OBJECTS = """
    SELECT TABLE_NAME, VIEW_DEFINITION, CHECK_OPTION, SECURITY_TYPE
    FROM information_schema.VIEWS WHERE TABLE_SCHEMA = :schema ORDER BY 1;
    SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT
    FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = :schema ORDER BY 1;
    SELECT ROUTINE_NAME, ROUTINE_TYPE, DTD_IDENTIFIER, ROUTINE_DEFINITION
    FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = :schema ORDER BY 1, 2;
    SELECT EVENT_NAME, EVENT_DEFINITION, INTERVAL_VALUE, INTERVAL_FIELD, STATUS
    FROM information_schema.EVENTS WHERE EVENT_SCHEMA = :schema ORDER BY 1
"""
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")


def schema_digest(connection: Connection, journal: Table, statement: str) -> str:
    """Return a digest of the journal's database, as far as a statement names what is or is not in it."""
    schema = journal.schema or ""
    quoted = connection.dialect.identifier_preparer.quote_identifier
    tables = connection.exec_driver_sql(f"SHOW FULL TABLES FROM {quoted(schema)}").all()
    seen: list[object] = []
    for name, kind in tables:
        if _names(statement, name) and name != journal.name:
            seen.append((name, kind))
            if kind in {"BASE TABLE", "SEQUENCE"}:
                what = "TABLE" if kind == "BASE TABLE" else kind
                made = connection.exec_driver_sql(f"SHOW CREATE {what} {quoted(schema)}.{quoted(name)}").one()[1]
                seen.append(_COUNTER.sub("", made))
    for query in _OBJECTS.split(";"):
        rows = connection.execute(text(query), {"schema": schema})
        seen += [tuple(row) for row in rows if _names(statement, row[0])]
    return hashlib.sha256(repr(seen).encode("utf-8", "surrogatepass")).hexdigest()


def _names(statement: str, name: str) -> bool:
    return re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", statement, re.IGNORECASE) is not None
