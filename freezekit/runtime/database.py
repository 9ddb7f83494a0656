"""What the caller means by ``db``: a path, a URL, an Engine or a Connection.

SQLAlchemy is imported only where the answer needs it: not for a path, nor for the plain URL of a file.
"""

from __future__ import annotations

import contextlib
import os
import sys

from freezekit.errors import UsageError
from freezekit.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias, TypeVar

    from sqlalchemy import URL, Connection, Engine

    DatabaseLike: TypeAlias = str | os.PathLike[str] | URL | Engine | Connection
    T = TypeVar("T")

# A URL of an SQLite file that means the same with and without SQLAlchemy's unquoting.
_PLAIN_SQLITE_URL = r"sqlite(?P<driver>\+\w+)?:///(?!file:|:memory:)(?P<path>[^?%]+)"
# What of a query tells one database from another, and how it is reached.
_PLACE = {"host", "port", "service", "dbname", "unix_socket", "options"}
_SHOWN_OF_QUERY = _PLACE | {"driver", "charset", "sslmode", "mode", "cache", "uri"}
# A path that is in a URL as it is.
_PLAIN_PATH = r"/[\w./-]+"


@record
class Database:
    """One database: an SQLite file, or something only SQLAlchemy can reach.

    Attributes:
        name: What messages call it; without a password.
        path: The file, for an SQLite file; absolute, because env.py may change the working directory.
        driver: Driver its URL names, such as ``"aiosqlite"``; empty for the default one.
        url: The URL, for a database that is no SQLite file.
        engine: The engine that was given, or None.
        connection: The connection that was given, or None.
    """

    name: str
    path: str | None = None
    driver: str = ""
    url: URL | None = None
    engine: Engine | None = None
    connection: Connection | None = None

    def file_url(self, driver: str | None) -> str:
        """Return the URL of an SQLite file, for a driver or the default one."""
        import re

        chosen = self.driver or driver
        dialect = f"sqlite+{chosen}" if chosen else "sqlite"
        if re.fullmatch(_PLAIN_PATH, self.path or "", re.ASCII):
            return f"{dialect}:///{self.path}"
        from urllib.parse import quote

        from sqlalchemy.engine import URL, make_url

        url = URL.create(dialect, database=self.path)
        with contextlib.suppress(UnicodeEncodeError):  # a name that is no text
            text = url.render_as_string(hide_password=False)
            if make_url(text).database == url.database:
                return text
        # SQLAlchemy 2.0 ends a name at its first question mark; https://www.sqlite.org/uri.html has an escape for it.
        uri = f"file://{quote(os.fsencode(self.path or ''))}"
        return URL.create(dialect, database=uri, query={"uri": "true"}).render_as_string(hide_password=False)

    @property
    def is_async(self) -> bool:
        """Whether it is a URL whose driver is an async one."""
        is_url = self.url is not None and self.engine is None and self.connection is None
        return is_url and self.url is not None and self.url.get_dialect().is_async

    def connected(self, work: Callable[[Connection], T]) -> T:
        """Do some work with a connection; one that was given is used as it is, and stays open."""
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        if self.connection is not None:
            return work(self.connection)
        if self.url is not None and self.is_async:
            return self._connected_async(self.url, work)
        engine = self.engine or create_engine(self.url or "", poolclass=NullPool)
        with engine.connect() as connection:
            return work(connection)

    @staticmethod
    def _connected_async(url: URL, work: Callable[[Connection], T]) -> T:
        import asyncio

        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        async def main() -> T:
            async with create_async_engine(url, poolclass=NullPool).connect() as connection:
                return await connection.run_sync(work)

        return asyncio.run(main())


def database_of(db: DatabaseLike) -> Database:
    """Return what the caller means.

    Args:
        db: A path or ``os.PathLike`` (an SQLite file), a URL (``str`` with ``://``, or ``sqlalchemy.URL``), an
            ``Engine`` or a ``Connection``.

    Raises:
        UsageError: It is none of these.
    """
    if isinstance(db, (str, os.PathLike)):
        text = os.fspath(db)
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{db!r} is no database: give a path, a URL, an Engine or a Connection.")
        name_of_file(text)
        if text == ":memory:":
            raise _leads_to_no_file(text)
        is_url = "://" in text and isinstance(db, str)
        return _of_url(text) if is_url else Database(name=text, path=os.path.abspath(text))
    if "sqlalchemy" in sys.modules:
        return _of_object(db)
    raise _no_database(db)


def name_of_file(path: str | os.PathLike[str]) -> str:
    """Return a path as text.

    Raises:
        UsageError: No file can have that name; the functions of the system would raise a bare ValueError.
    """
    name = os.fspath(path)
    if not isinstance(name, str) or "\0" in name:
        # A URL may hold a password.
        shown = f"{name.partition('://')[0]}://..." if isinstance(name, str) and "://" in name else repr(name)
        raise UsageError(f"{shown} is no name of a file: it is no text, or has a NUL character in it.")
    return name


def _of_url(text: str) -> Database:
    import re

    if match := re.fullmatch(_PLAIN_SQLITE_URL, text):
        path = os.path.abspath(match["path"])
        return Database(name=match["path"], path=path, driver=(match["driver"] or "")[1:])
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(text)
        url.get_dialect()
        return _of_object(url)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        shown = text.partition("://")[0] + "://..."  # the rest may hold a password, and so may the error
        cause = error if isinstance(error, NoSuchModuleError) else None
        raise UsageError(f"{shown} is no database URL, or one of a dialect that is not installed.") from cause


def _of_object(db: Any) -> Database:
    from sqlalchemy import URL, Connection, Engine

    if isinstance(db, URL):
        if (path := _file_of(db)) is not None:
            return Database(name=path, path=os.path.abspath(path), driver=db.drivername.partition("+")[2])
        if db.get_backend_name() == "sqlite":
            raise _leads_to_no_file(shown_url(db))
        return Database(name=shown_url(db), url=db)
    if isinstance(db, Engine):
        # An engine with a pool of one connection is how a database in memory is shared.
        if (path := _file_of(db.url)) is not None:
            return Database(name=path, path=os.path.abspath(path), engine=db)
        return Database(name=shown_url(db.url), url=db.url, engine=db)
    if isinstance(db, Connection):
        return Database(name=shown_url(db.engine.url), url=db.engine.url, connection=db)
    raise _no_database(db)


def _leads_to_no_file(shown: str) -> UsageError:
    return UsageError(f"{shown} leads to no file: give an Engine or a Connection of a database in memory.")


def _file_of(url: URL) -> str | None:
    """Return the SQLite file a URL leads to; None for a database in memory, a URI with options, another system."""
    if url.get_backend_name() != "sqlite":
        return None
    name = name_of_file(url.database or "")
    if dict(url.query) == {"uri": "true"} and name.startswith("file:///"):
        from urllib.parse import unquote_to_bytes

        return name_of_file(os.fsdecode(unquote_to_bytes(name.removeprefix("file://").partition("#")[0])))
    is_file = name and not url.query.get("uri") and not name.startswith(("file:", ":memory:"))
    return name if is_file else None


def shown_url(url: URL) -> str:
    """Return a URL without its password; of its query, in which drivers take one too, what is known to hold none."""
    hidden = [name for name in url.query if name not in _SHOWN_OF_QUERY]
    return url.difference_update_query(hidden).render_as_string(hide_password=True)


def _no_database(db: object) -> UsageError:
    kind = type(db).__name__
    hint = " Give its sync_engine or sync_connection." if kind.startswith("Async") else ""
    return UsageError(f"{kind} is no database: give a path, a URL, an Engine or a Connection.{hint}")
