"""Put a backup in place of a database: all or nothing, alone with the file, and keeping what is replaced.

A database that SQLite can read is written over through SQLite's backup API: one transaction on the same file, so links,
rights and other programs' handles stay. What SQLite cannot read is first kept byte for byte, with its journal, before
anything touches it: even opening it could.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from freezekit.errors import DatabaseInUse, ForeignDatabase, MigrationFailed, NotADatabase, UsageError
from freezekit.runtime.backup import (
    copy_database,
    folder_of,
    label_of,
    list_backups,
    refuse_damaged,
    remove_surplus,
    replaced_name,
    replaced_names,
)
from freezekit.runtime.database import database_of
from freezekit.runtime.files import (
    named_part,
    private_part,
    publish,
    remove_sidecars,
    sync_folder_of,
    take_rights,
)
from freezekit.runtime.reports import State
from freezekit.runtime.space import document_size, refuse_unfit, spaces
from freezekit.runtime.sqlite_file import (
    closed_in_turn,
    is_busy,
    open_handle,
    opened,
    read_contents,
    size_of_file,
    turn,
    version_rows,
)
from freezekit.runtime.sqlite_upgrade import held_alone
from freezekit.runtime.status import refuse_unusable, status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.manifest import Manifest
    from freezekit.runtime.database import DatabaseLike
    from freezekit.runtime.reports import BackupFile

T = TypeVar("T")

_POLL_SECONDS = 0.05
_JOURNALS = ("-journal", "-wal")
# https://www.sqlite.org/src/file/src/os.h: PENDING_BYTE, and what follows it up to the end of the shared range.
_LOCK_BYTE, _LOCK_BYTES = 0x40000000, 512


def backups(db: DatabaseLike, folder: str | os.PathLike[str] | None, manifest: Manifest) -> tuple[BackupFile, ...]:
    """Return the backups of a database; see :meth:`freezekit.Migrations.backups`."""
    path = _path_of(db)
    return list_backups(path, folder_of(path, folder), manifest.by_id)


def prune(db: DatabaseLike, keep: int, folder: str | os.PathLike[str] | None, manifest: Manifest) -> tuple[str, ...]:
    """Remove older backups of a database; see :meth:`freezekit.Migrations.prune`."""
    if keep < 1:
        raise UsageError(f"At least one backup is kept, not {keep}.")
    return remove_surplus(backups(db, folder, manifest), keep, check=True)


def restore(backup: str, db: DatabaseLike, manifest: Manifest, timeout: float) -> str | None:
    """Put a backup in place of a database; see :meth:`freezekit.Migrations.restore`."""
    path = _path_of(db)
    if not size_of_file(backup):
        raise NotADatabase(backup, "there is no such file, or it is empty")
    if os.path.exists(path) and os.path.samefile(backup, path):
        raise UsageError(f"{backup} is the database itself. Nothing was changed.")
    try:
        with opened(backup, timeout) as source:
            _refuse_unfit_backup(source, backup, manifest)
            room = document_size(path) + max(document_size(path), document_size(backup))
            refuse_unfit(path, spaces([(os.path.dirname(path), room)]), action="restore")
            (kept,) = _retried(lambda: _try_to_put(source, backup, path, manifest, timeout), path, timeout)
            return kept
    except (sqlite3.Error, OSError) as error:
        raise MigrationFailed(path, str(error), action="restore") from error


def _path_of(db: DatabaseLike) -> str:
    database = database_of(db)
    if database.path is None:
        raise UsageError(f"{database.name} is no SQLite file: freezekit makes no backups of it.")
    return os.path.realpath(database.path)


def _refuse_unfit_backup(source: sqlite3.Connection, backup: str, manifest: Manifest) -> None:
    """Raise unless a file is a sound database of this chain; until the connection closes it stays as it is.

    Raises:
        NotADatabase: It is damaged, or nothing is in it.
        DatabaseInUse: Another program is writing it.
        DatabaseAhead, DatabaseUnversioned, ForeignDatabase: As for an upgrade.
    """
    try:
        source.execute("BEGIN")
        refuse_damaged(source)
        status = status_of(read_contents(source, manifest), manifest)
    except sqlite3.DatabaseError as error:
        if is_busy(error):
            raise DatabaseInUse(backup, 0.0) from error
        raise NotADatabase(backup, f"it is damaged, or no backup ({error})") from error
    refuse_unusable(status, backup)
    if status.state is State.NEW:
        raise NotADatabase(backup, "nothing is in it")


def _try_to_put(
    source: sqlite3.Connection, backup: str, path: str, manifest: Manifest, timeout: float
) -> tuple[str | None] | None:
    """Put a backup where it belongs; return what was kept, or None if the document is in use or another by now."""
    if not os.path.lexists(path):
        return (_create(source, backup, path),)
    if not _is_readable(path, manifest, timeout):
        return _try_over_damaged(source, path)
    if (document := _try_alone(path)) is None:
        return None
    with closed_in_turn(document):
        kept = _keep(document, path, manifest)
        _write_over(source, document)
    return (kept,)


def _is_readable(path: str, manifest: Manifest, timeout: float) -> bool:
    """Return whether SQLite can read the whole document; nothing is changed, no journal rolled back.

    Raises:
        ForeignDatabase: It can, and the document is another application's.
        DatabaseInUse: Another program keeps it locked.
    """
    if not size_of_file(path):
        return not _journals(path)
    try:
        with opened(path, timeout, is_long=True) as connection:
            refuse_damaged(connection)
            (found,) = connection.execute("PRAGMA application_id").fetchone()
    except NotADatabase:
        return False
    except sqlite3.DatabaseError as error:
        if is_busy(error):
            raise DatabaseInUse(path, timeout) from error
        return False
    if manifest.application_id and found not in (0, manifest.application_id):
        raise ForeignDatabase(path, f"its application_id is {found:#x}, not {manifest.application_id:#x}")
    return True


def _try_alone(path: str) -> sqlite3.Connection | None:
    """Take SQLite's exclusive lock without a transaction, which the backup API could not work inside."""
    try:
        return held_alone(path)
    except sqlite3.OperationalError as error:
        if is_busy(error):
            return None
        raise


def _retried(attempt: Callable[[], T | None], path: str, timeout: float) -> T:
    started = time.monotonic()
    while (found := attempt()) is None:
        waited = time.monotonic() - started
        if waited >= timeout:
            raise DatabaseInUse(path, waited)
        time.sleep(_POLL_SECONDS)
    return found


def _keep(document: sqlite3.Connection, path: str, manifest: Manifest) -> str | None:
    """Copy what is about to be replaced; return None if that is nothing."""
    if not document.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return None
    rows = version_rows(document).get(manifest.version_table or "")
    label = "unversioned" if rows is None else label_of(rows)
    target = replaced_name(path, label)
    with named_part(target) as part:
        copy_database(document, part, version_rows(document).values())
        take_rights(path, part)
        # Whoever tries twice keeps the same thing once.
        for name in replaced_names(path):
            if filecmp.cmp(name, part, shallow=False):
                return name
        os.replace(part, target)
        sync_folder_of(target)
    return target


def _write_over(source: sqlite3.Connection, document: sqlite3.Connection) -> None:
    """Write a backup over a document in one transaction, which a crash at any moment undoes."""
    sizes = [one.execute("PRAGMA page_size").fetchone()[0] for one in (source, document)]
    if sizes[0] != sizes[1]:
        # In write-ahead mode the size of a page is fixed; the backup says which mode comes next.
        document.execute("PRAGMA journal_mode = DELETE")
    source.backup(document)


def _try_over_damaged(source: sqlite3.Connection, path: str) -> tuple[str] | None:
    """Put a backup over a document that cannot be read, unless that is in use or has been replaced.

    Closing the file drops the locks that this process has on it: there must be none, and none comes while it is our
    turn.
    """
    with turn:
        if open_handle(path) is not None:
            return None
        with open(path, "r+b", buffering=0) as held:
            return _put_over_damaged(source, held, path) if _try_lock(held, path) else None


def _put_over_damaged(source: sqlite3.Connection, held: BinaryIO, path: str) -> tuple[str] | None:
    """Keep the bytes of a document that cannot be read, then write over it, or replace it where SQLite cannot."""
    kept = _keep_bytes(held, path)
    try:
        if (document := _try_alone(path)) is None:
            return None
        with closed_in_turn(document):
            _write_over(source, document)
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # a subclass: locked, full, read-only
            raise
        # With its own handle SQLite has closed our lock, too.
        if not _try_lock(held, path):
            return None
        if os.name == "nt":
            held.close()
        _replace(source, path)
    return (kept,)


def _try_lock(held: BinaryIO, path: str) -> bool:
    """Take the lock SQLite takes for writing, on a file it may be unable to open, and which still has its name.

    Closing the file frees it.
    """
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_BYTE)
        except (BlockingIOError, PermissionError):
            return False
    try:
        return os.path.samestat(os.fstat(held.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _journals(path: str) -> list[str]:
    return [end for end in _JOURNALS if os.path.isfile(path + end) and os.path.getsize(path + end)]


def _keep_bytes(held: BinaryIO | None, path: str) -> str:
    """Copy a document that SQLite cannot read, or is missing, and its journals; return the name of the copy.

    Whoever tries twice keeps the same thing once.
    """
    target = replaced_name(path, "damaged")
    ends = _journals(path)
    with named_part(target) as part:
        for end in ends:
            with open(path + end, "rb") as journal:
                _write_copy(journal, part + end, path + end)
        if held is not None:
            _write_copy(held, part, path)
            for name in replaced_names(path):
                if _journals(name) == ends and all(filecmp.cmp(name + e, part + e, shallow=False) for e in ("", *ends)):
                    return name
        for end in [*ends, *([""] if held is not None else [])]:
            os.replace(part + end, target + end)
        sync_folder_of(target)
    return target if held is not None else target + ends[0]


def _write_copy(source: BinaryIO, copy: str, original: str) -> None:
    with open(copy, "wb", opener=_private) as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
    take_rights(original, copy)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _replace(source: sqlite3.Connection, path: str) -> None:
    """Put a copy of a backup where a file lies that is no database; its journals would spoil the copy."""
    with named_part(f"{path}.restored") as part:
        copy_database(source, part, version_rows(source).values())
        take_rights(path, part)
        remove_sidecars(path)
        os.replace(part, path)
        sync_folder_of(path)


def _create(source: sqlite3.Connection, backup: str, path: str) -> str | None:
    """Put a copy of a backup where there is nothing, or nothing but a journal."""
    with private_part(path, "restore") as part:
        open(part, "xb").close()
        copy_database(source, part, version_rows(source).values())
        take_rights(backup, part)
        kept = _keep_bytes(None, path) if _journals(path) else None
        if not os.path.lexists(path):  # else they are those of a file that somebody made meanwhile
            remove_sidecars(path)
        publish(part, path)
    return kept
