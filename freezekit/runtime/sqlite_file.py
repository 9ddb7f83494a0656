"""Look at an SQLite file without changing it: no lock that stays, no file created, no journal rolled back.

SQLite opens a file whose journal or write-ahead log is left over only after recovering it, which writes. Such a file is
looked at through a private copy.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import sqlite3
import stat
import time

from freezekit.errors import DatabaseInUse, MigrationFailed, NotADatabase
from freezekit.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from freezekit.errors import FreezekitError
    from freezekit.manifest import Manifest

# https://www.sqlite.org/fileformat.html, section 1.3
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_WAL_VERSION = 2
_LOOK_SECONDS = 5.0
# A system without /proc may set no limit, and to ask about each takes a microsecond.
_MOST_HANDLES = 65_536
# Errors of a system that has too little of something just then, which say nothing of the file.
_LACKS = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_COPIED_BYTES = 1024 * 1024
_VERSION = "version_num"
COPY_SUFFIX = ".freezekit-upgrading"
"""Ends the name of the private copy of an upgrade that cannot run in place."""
turn = _thread.RLock()
"""Held while a file is read without SQLite, while SQLite opens or closes one, and while it takes the lock to write.

To close any handle of a file drops the POSIX locks of the whole process on it. SQLite knows that, and yet closes one if
it saw none of its locks a moment before; another thread may have taken one since (``unixClose`` in its os_unix.c; seen
with 3.40 and 3.54).
"""
if hasattr(os, "register_at_fork"):
    # Another thread may hold it just then, of which the child has none.
    os.register_at_fork(after_in_child=turn._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001
# alembic/operations/batch.py names so the table it fills before it drops the one that is rebuilt.
_LEFTOVERS = "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB '_alembic_tmp_*'"


@record
class Contents:
    """What a look at a database found.

    Attributes:
        versions: Rows of the version table; None when there is no version table.
        tables: Names of all tables and views, where there is no version table; otherwise empty.
        application_id: SQLite's mark of whose file it is; 0 when unset or not SQLite.
        has_other_chain: Another version table is there: the database is shared with another Alembic history.
        leftovers: Tables that plain Alembic left when it was stopped while it rebuilt others.
    """

    versions: tuple[str, ...] | None
    tables: tuple[str, ...]
    application_id: int = 0
    has_other_chain: bool = False
    leftovers: tuple[str, ...] = ()


def look(path: str, manifest: Manifest, timeout: float = _LOOK_SECONDS, *, alone: bool = False) -> Contents | None:
    """Read what a database says of itself; changes nothing and creates nothing.

    Args:
        path: The file.
        manifest: Names the version table.
        timeout: How long to wait for a program that is just writing, in seconds.
        alone: Whether nothing else in this process can have the file open, because it is a process for looking.

    Returns:
        None when there is no file or it is empty.

    Raises:
        NotADatabase: A folder, a device, some other file, a damaged database.
        DatabaseInUse: It stayed locked for the whole time.
        MigrationFailed: The system lacks room or handles for a look; the file may be sound.
    """
    if not size_of_file(path):
        return None
    started = time.monotonic()
    try:
        with opened(path, timeout, alone=alone) as connection:
            return read_contents(connection, manifest)
    except sqlite3.DatabaseError as error:
        if is_busy(error):
            raise DatabaseInUse(path, time.monotonic() - started) from error
        raise NotADatabase(path, f"it is damaged, or no SQLite file ({error})") from error
    except OSError as error:
        raise _not_looked_at(path, error) from error


def read_contents(connection: sqlite3.Connection, manifest: Manifest) -> Contents:
    """Read what a database says of itself, through an open connection."""
    wanted = manifest.version_table or ""
    select = f"SELECT version_num FROM {quoted(wanted)}"  # noqa: S608 - quoted
    (application_id,) = ask(connection, "PRAGMA application_id").fetchone()
    try:
        rows = ask(connection, select).fetchall()
    except sqlite3.OperationalError:
        tables = _tables(connection)
        if wanted in tables:
            raise
        shared = any(_columns(connection, name) == [_VERSION] for name in _tables_with_versions(connection))
        return Contents(None, tables, application_id, has_other_chain=shared)
    versions = tuple(sorted(str(row[0]) for row in rows))
    # They matter to an upgrade, and most databases need none.
    leftovers = () if versions == manifest.heads else tuple(row[0] for row in ask(connection, _LEFTOVERS))
    return Contents(versions, (), application_id, leftovers=leftovers)


def _tables(connection: sqlite3.Connection) -> tuple[str, ...]:
    names = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    return tuple(row[0] for row in ask(connection, names))


def _tables_with_versions(connection: sqlite3.Connection) -> list[str]:
    """Return the tables that may have a column of versions; asking each for its columns takes longer."""
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%version!_num%' ESCAPE '!'"
    return [name for (name,) in ask(connection, names)]


def _columns(connection: sqlite3.Connection, name: str) -> list[str]:
    return [row[1] for row in ask(connection, f"PRAGMA table_info({quoted(name)})")]


def has_leftover_copy(path: str) -> bool:
    """Return whether an upgrade that was killed has left its private copy behind."""
    return os.path.exists(path + COPY_SUFFIX)


def quoted(name: str) -> str:
    """Return an identifier as SQL text."""
    return '"' + name.replace('"', '""') + '"'


def ask(connection: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
    """Run a statement of ours; the connection that env.py is given would look at it as at one of env.py's."""
    return sqlite3.Connection.execute(connection, sql)


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether an error means that another program holds a lock."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def version_rows(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """Return the rows of each Alembic version table, whatever its name, sorted."""
    tables = [name for name in _tables_with_versions(connection) if _VERSION in _columns(connection, name)]
    # An application's own table may have such a column, and many rows.
    selects = {name: f"SELECT {_VERSION} FROM {quoted(name)} LIMIT 1000" for name in tables}  # noqa: S608 - quoted
    return {name: tuple(sorted(str(row[0]) for row in ask(connection, sql))) for name, sql in selects.items()}


def size_of_file(path: str) -> int:
    """Return the size of an ordinary file, 0 if there is none.

    Raises:
        NotADatabase: It is no ordinary file, or cannot be looked at.
        MigrationFailed: The system lacks memory for that.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _unreadable(path, "looked at", error) from error
    if not stat.S_ISREG(found.st_mode):
        raise NotADatabase(path, "it is a folder" if stat.S_ISDIR(found.st_mode) else "it is not an ordinary file")
    return found.st_size


def _unreadable(path: str, how: str, error: OSError) -> FreezekitError:
    """Return what to say of a file that the system does not open, which may be sound."""
    if error.errno in _LACKS:
        return _not_looked_at(path, error)
    return NotADatabase(path, f"it cannot be {how} ({error.strerror or error})")


def _not_looked_at(path: str, error: OSError) -> MigrationFailed:
    """Return what to say where a look failed for want of room, handles or a folder for temporary files."""
    lacks_more_than_room = error.errno in _LACKS - {errno.ENOSPC, errno.EDQUOT}
    advice = "try again when less is open on this system" if lacks_more_than_room else ""
    return MigrationFailed(path, f"it cannot be looked at ({error.strerror or error})", action="reading", advice=advice)


@contextlib.contextmanager
def opened(path: str, timeout: float, *, is_long: bool = False, alone: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a file for reading in the way that leaves it and its folder alone.

    Args:
        path: The file.
        timeout: How long SQLite waits for a program that is just writing, in seconds.
        is_long: Whether reading takes so long that a writer must not be overlooked, even if an index of the write-ahead
            log appears beside the file meanwhile.
        alone: Whether nothing else in this process can have the file open.
    """
    with contextlib.ExitStack() as copies:
        with turn:
            name, how = _way_to_open(path, copies, is_long=is_long, alone=alone)
            connection = sqlite3.connect(file_uri(name, how), uri=True, timeout=timeout)
        with closed_in_turn(connection):
            yield connection


@contextlib.contextmanager
def closed_in_turn(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Yield a connection, and close it when no other thread is just taking a lock: see :data:`turn`."""
    try:
        yield connection
    finally:
        with turn:
            connection.close()


def _way_to_open(path: str, copies: contextlib.ExitStack, *, is_long: bool, alone: bool) -> tuple[str, str]:
    """Return what to open, a copy where the file itself cannot be looked at, and the options of its URI."""
    handle = None if alone else open_handle(path)
    try:
        leftover = _leftover(path, _header(path, handle))
        if leftover:
            return copies.enter_context(_private_copy(path, handle)), "mode=rw"
    except _HandleClosed:
        return _way_to_open(path, copies, is_long=is_long, alone=alone)
    if leftover is None:
        # An absent or empty write-ahead log holds nothing; going without it creates no index beside the file.
        return path, "mode=rw" if is_long and os.access(os.path.dirname(path), os.W_OK) else "mode=ro&immutable=1"
    return path, "mode=ro"


def file_uri(path: str, how: str) -> str:
    """Return the URI of a file: https://www.sqlite.org/uri.html, section 3.1, says which letters to replace."""
    name = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    if os.name == "nt":
        name = name.replace("\\", "/")
        name = name if name.startswith("/") else f"/{name}"
    # With the two slashes a path that begins with two is a path still.
    return f"file://{name}?{how}"


def open_handle(path: str) -> int | None:
    """Return a handle through which this process has the file open already, or None.

    Opening and closing the file once more would drop the locks SQLite holds on it in this process; while
    :data:`turn` is held, no other thread begins to hold one.
    https://www.sqlite.org/howtocorrupt.html, section 2.2; true of POSIX locks, so of every system but Windows.
    """
    if os.name == "nt":
        return None
    wanted = os.stat(path)
    for handle in _handles():
        with contextlib.suppress(OSError):
            # One that is only for writing is none of SQLite's.
            if os.path.samestat(os.fstat(handle), wanted) and (os.pread(handle, 1, 0) or not wanted.st_size):
                return handle
    return None


def _handles() -> Iterable[int]:
    """Return the numbers of this process's open handles; all there can be where the system does not list them.

    Raises:
        OSError: There is no handle left to list them with.
    """
    try:
        return map(int, os.listdir("/dev/fd"))
    except OSError as error:
        if error.errno in _LACKS:
            raise
        limit = os.sysconf("SC_OPEN_MAX")
        return range(limit if 0 < limit < _MOST_HANDLES else _MOST_HANDLES)


def _header(path: str, handle: int | None) -> bytes:
    try:
        with contextlib.closing(_chunks(path, handle, _HEADER_BYTES)) as chunks:
            header = next(chunks, b"")
    except OSError as error:
        raise _unreadable(path, "read", error) from error
    if not header.startswith(_MAGIC):
        raise NotADatabase(path, "it is not an SQLite file")
    if len(header) < _HEADER_BYTES:
        raise NotADatabase(path, "it is damaged: it ends within its header")
    return header


def _chunks(path: str, handle: int | None, size: int) -> Generator[bytes]:
    """Yield a file's content in pieces; through an open handle, whose position stays, if there is one."""
    if handle is None:
        with open(path, "rb", buffering=0) as file:
            yield from iter(lambda: file.read(size), b"")
        return
    at = 0
    while content := _read_at(path, handle, size, at):
        yield content
        at += len(content)


class _HandleClosed(Exception):
    """Whoever had a file open has closed it meanwhile."""


def _read_at(path: str, handle: int, size: int, at: int) -> bytes:
    try:
        content = os.pread(handle, size, at)
        is_same = os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError as error:
        raise _HandleClosed from error
    if not is_same:
        raise _HandleClosed
    return content


def _leftover(path: str, header: bytes) -> bool | None:
    """Return whether recovery is due before the file can be read; None for write-ahead mode without a log."""
    if header[18] == _WAL_VERSION:
        return not os.path.exists(path + "-shm") if _size(path + "-wal") else None
    return bool(_size(path + "-journal")) and not _is_readable(path)


def _is_readable(path: str) -> bool:
    """Return whether a file with a journal needs no recovery: a program is writing now, or the journal is spent."""
    with contextlib.closing(sqlite3.connect(file_uri(path, "mode=ro"), uri=True, timeout=0)) as connection:
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            return is_busy(error)
    return True


@contextlib.contextmanager
def _private_copy(path: str, handle: int | None) -> Iterator[str]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="freezekit-") as folder:
        copy = os.path.join(folder, "database")
        for suffix in ("", "-journal", "-wal"):
            if os.path.exists(path + suffix):
                with open(copy + suffix, "wb") as file:
                    file.writelines(_chunks(path + suffix, None if suffix else handle, _COPIED_BYTES))
        yield copy


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
