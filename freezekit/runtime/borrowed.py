"""Databases that only SQLAlchemy can reach: servers, and connections that the host lends."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import column, inspect, select, table

from freezekit.errors import UsageError
from freezekit.runtime.environment import Target, file_name
from freezekit.runtime.sqlite_file import Contents
from freezekit.runtime.sqlite_upgrade import same_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, ScalarResult

    from freezekit.manifest import Manifest

# The journals of upgrades on MySQL and MariaDB are no tables of the application.
JOURNAL_PREFIX = "freezekit_journal_"


def sqlalchemy_contents(connection: Connection, manifest: Manifest) -> Contents:
    """Read what a database says of itself; leaves the connection's transaction as it was."""
    lent = connection.in_transaction()
    try:
        return _contents(connection, manifest.version_table or "")
    finally:
        if not lent and connection.in_transaction():
            connection.rollback()


def _contents(connection: Connection, name: str) -> Contents:
    inspector = inspect(connection)
    if inspector.has_table(name):
        return _versions(connection, name)
    tables = tuple(one for one in inspector.get_table_names() if not one.startswith(JOURNAL_PREFIX))
    if name in tables:  # another program has begun an upgrade meanwhile
        return _versions(connection, name)
    shared = any([one["name"] for one in inspector.get_columns(other)] == ["version_num"] for other in tables)
    return Contents(None, tables, has_other_chain=shared)


def _versions(connection: Connection, name: str) -> Contents:
    rows: ScalarResult[str] = connection.scalars(select(column("version_num")).select_from(table(name)))
    return Contents(tuple(sorted(str(row) for row in rows)), ())


@contextlib.contextmanager
def begun(connection: Connection) -> Iterator[None]:
    """Make what happens to a lent SQLite connection one transaction; its host's own transaction stays the host's.

    Raises:
        UsageError: The host has a transaction open with enforced foreign keys, which SQLite cannot switch off inside
            one, so that a table rebuild would delete the rows of child tables.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    raw: Any = connection.connection.dbapi_connection
    enforced = bool(raw.execute("PRAGMA foreign_keys").fetchone()[0])
    if connection.in_transaction():
        if enforced:
            raise UsageError("This connection has a transaction open with foreign_keys on: commit it first.")
        if not raw.in_transaction:
            raw.execute("BEGIN IMMEDIATE")
        yield
        return
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        with connection.begin():
            raw.execute("BEGIN IMMEDIATE")
            yield
    finally:
        raw.execute(f"PRAGMA foreign_keys = {int(enforced)}")


class _Lent:
    """A DBAPI connection that env.py may use but neither end nor close."""

    def __init__(self, raw: Any) -> None:
        self.__dict__["raw"] = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Ignore settings such as ``isolation_level``, which would commit."""

    def commit(self) -> None:
        """Do nothing: the transaction is the host's."""

    rollback = close = commit


class SqlalchemyTarget(Target):
    """A database reached through a connection that the host lends, or a server known by its URL."""

    def __init__(self, url: Any, connection: Connection | None = None) -> None:
        self._connection = connection
        self._url = url
        self._lent: _Lent | None = None
        if connection is not None and connection.dialect.name == "sqlite":
            self._lent = _Lent(connection.connection.dbapi_connection)
            self._file = file_name(*connection.dialect.create_connect_args(url))

    def url(self, driver: str | None) -> str:  # noqa: ARG002 - the host's URL names its driver
        """Return the host's URL."""
        return str(self._url.render_as_string(hide_password=False))

    def leads_here(self, dialect: Any, arguments: Sequence[Any]) -> bool:
        """Return whether an engine is to be given the lent connection, or may connect to the server by itself."""
        if self._lent is None:
            return True
        name = str(arguments[0])
        return dialect.name == "sqlite" and (name == self._file or same_file(name, self._file))

    def connect(self) -> Any:
        """Return the lent SQLite connection; None for a server, where env.py connects by itself."""
        return self._lent

    @property
    def interrupt(self) -> Callable[[], object] | None:
        """What ends the running statement of a lent SQLite connection, from any thread; None for a server."""
        return None if self._lent is None else getattr(self._lent.raw, "interrupt", None)

    def is_ours(self, connection: Any) -> bool:
        """Return whether a connection is the lent one, or one to the same database of the same server."""
        if connection is self._connection:
            return True
        if self._lent is not None:
            return connection.connection.dbapi_connection in (self._lent, self._lent.raw)
        return _place(connection.engine.url) == _place(self._url)


def _place(url: Any) -> tuple[object, ...]:
    host = url.host or url.query.get("host") or url.query.get("unix_socket") or "localhost"
    return (url.get_backend_name(), host, url.port, url.database)
