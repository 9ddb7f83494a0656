"""Advisory locks of PostgreSQL, and of MySQL and MariaDB: taken by trying, never by waiting on the server.

Two locks belong to one database and version table. The *upgrade lock* is that of the connection that does nothing else.
The *work lock* is taken by the connection that env.py uses: it says whether a killed program's last statement is still
running on the server, and which connection to interrupt when the upgrade is cancelled. Neither is stored in the
database, and both end with their connections.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection


class Advisory:
    """How a kind of server takes, shows and breaks advisory locks, for one database and version table.

    Attributes:
        lent: The session of a connection that the host lends; its transaction may hold the work lock already.
    """

    isolation = "AUTOCOMMIT"
    session = text("SELECT CONNECTION_ID()")
    lent: int | None = None

    def __init__(self, schema: str, version_table: str) -> None:
        self.schema = schema
        self.upgrade, self.work = (f"{kind}:{schema}:{version_table}" for kind in ("upgrade", "work"))

    def take(self, connection: Connection) -> bool:
        """Take the upgrade lock if it and the work lock are free; return whether it was taken."""
        raise NotImplementedError

    def take_work(self, connection: Connection) -> bool:
        """Take the work lock on env.py's connection, if it is free or that connection's already."""
        raise NotImplementedError

    def release_work(self, cursor: Any) -> None:
        """Release the work lock, with a cursor of the connection that holds it."""

    def worker(self, connection: Connection) -> int | None:
        """Return which connection holds the work lock."""
        raise NotImplementedError

    def is_held(self, connection: Connection) -> bool:
        """Return whether this connection still holds the upgrade lock."""
        raise NotImplementedError

    def interrupt(self, connection: Connection, worker: int) -> None:
        """Stop the statement that a connection runs, if it runs one."""
        raise NotImplementedError


class PostgresAdvisory(Advisory):
    """Locks of a transaction, not of a session: they also hold through PgBouncer, which shares sessions out.

    The connection that holds the upgrade lock keeps its transaction open. Nothing runs in it, so it has no snapshot and
    holds up neither VACUUM nor CREATE INDEX CONCURRENTLY.
    """

    isolation = "READ COMMITTED"
    session = text("SELECT pg_backend_pid()")

    _SETTINGS = text(
        "SELECT set_config(name, '0', true) FROM pg_settings"
        " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
    )
    _TRY = text("SELECT pg_try_advisory_xact_lock(:key)")
    _HOLDER = text(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid::bigint = :high AND objid::bigint = :low"
    )

    def take(self, connection: Connection) -> bool:
        """Take the upgrade lock, and keep the transaction it belongs to."""
        # psycopg prepares what it runs often, which PgBouncer cannot share out.
        raw: Any = connection.connection.dbapi_connection
        if hasattr(raw, "prepare_threshold"):
            raw.prepare_threshold = None
        connection.execute(self._SETTINGS)
        key = _number(self.upgrade)
        if connection.scalar(self._TRY, {"key": key}) and self.worker(connection) in {None, self.lent}:
            return True
        connection.rollback()
        return False

    def take_work(self, connection: Connection) -> bool:
        """Take the work lock for the transaction that the revisions run in."""
        return bool(connection.scalar(self._TRY, {"key": _number(self.work)}))

    def worker(self, connection: Connection) -> int | None:
        """Return the process id of the server process that holds the work lock."""
        return self._holder(connection, self.work)

    def is_held(self, connection: Connection) -> bool:
        """Return whether the connection's transaction still holds the upgrade lock."""
        return bool(self._holder(connection, self.upgrade) == connection.scalar(self.session))

    def transaction(self, connection: Connection) -> int:
        """Return the id of the transaction that a connection is in."""
        return int(connection.scalar(text("SELECT txid_current()")) or 0)

    def was_committed(self, connection: Connection, transactions: Collection[int]) -> bool:
        """Return whether one of these transactions is permanent, or may be."""
        status = text("SELECT txid_status(:id)")
        return any(connection.scalar(status, {"id": one}) in {"committed", None} for one in transactions)

    def interrupt(self, connection: Connection, worker: int) -> None:
        """Cancel the running statement; its transaction can then only be rolled back."""
        with connection.begin_nested():  # an error must not end the transaction that holds the lock
            connection.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": worker})

    def _holder(self, connection: Connection, lock: str) -> int | None:
        key = _number(lock)
        halves = {"high": key >> 32 & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}
        found: int | None = connection.scalar(self._HOLDER, halves)
        return found


class MysqlAdvisory(Advisory):
    """Named locks of a session, which are the server's: their names say which database is meant."""

    def __init__(self, schema: str, version_table: str) -> None:
        super().__init__(schema, version_table)
        # A name may have 64 characters.
        self.upgrade, self.work = (f"freezekit:{_digest(lock).hex()[:40]}" for lock in (self.upgrade, self.work))

    def take(self, connection: Connection) -> bool:
        """Take the upgrade lock."""
        if not connection.scalar(text("SELECT GET_LOCK(:name, 0)"), {"name": self.upgrade}):
            return False
        if self.worker(connection) in {None, self.lent}:
            return True
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": self.upgrade})
        return False

    def take_work(self, connection: Connection) -> bool:
        """Take the work lock, for as long as env.py has the connection."""
        mine = text("SELECT COALESCE(IS_USED_LOCK(:name) = CONNECTION_ID(), 0) OR GET_LOCK(:name, 0)")
        return bool(connection.scalar(mine, {"name": self.work}))

    def release_work(self, cursor: Any) -> None:
        """Release the work lock: the connection may go back into a pool."""
        cursor.execute(f"SELECT RELEASE_LOCK('{self.work}')")
        cursor.fetchall()

    def worker(self, connection: Connection) -> int | None:
        """Return the connection id that holds the work lock."""
        found: int | None = connection.scalar(text("SELECT IS_USED_LOCK(:name)"), {"name": self.work})
        return found

    def is_held(self, connection: Connection) -> bool:
        """Return whether the connection still holds the upgrade lock."""
        mine = text("SELECT COALESCE(IS_USED_LOCK(:name) = CONNECTION_ID(), 0)")
        return bool(connection.scalar(mine, {"name": self.upgrade}))

    def interrupt(self, connection: Connection, worker: int) -> None:
        """Kill the running statement, not the connection."""
        connection.exec_driver_sql(f"KILL QUERY {int(worker)}")


def advisory_of(connection: Connection, version_table: str) -> Advisory | None:
    """Return how to lock the database a connection leads to; None for a server whose locks are not known here."""
    name = connection.dialect.name
    if name == "postgresql":
        return PostgresAdvisory(str(connection.scalar(text("SELECT current_schema()"))), version_table)
    if name in {"mysql", "mariadb"}:
        return MysqlAdvisory(str(connection.scalar(text("SELECT DATABASE()"))), version_table)
    return None


def _digest(lock: str) -> bytes:
    return hashlib.sha256(f"freezekit:{lock}".encode()).digest()


def _number(lock: str) -> int:
    return int.from_bytes(_digest(lock)[:8], "big", signed=True)
