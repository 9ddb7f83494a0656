"""The copy of a database that is made before its first change: how it is made, what it is called, which ones stay.

``NAME.<revision>.bak`` is the newest copy of a database at a revision; a number behind ``~`` marks older ones with
other content, ``~replaced`` what :mod:`.restore` kept. In a folder that several databases may share, NAME carries a
digest of where the database lies, so that two of one name never meet.
"""

from __future__ import annotations

import contextlib
import filecmp
import glob
import hashlib
import itertools
import os
import re
import sqlite3
from functools import lru_cache
from typing import TYPE_CHECKING

from freezekit.errors import FreezekitError, MigrationFailed, NotADatabase
from freezekit.runtime.database import name_of_file
from freezekit.runtime.files import named_part, remove, sync, sync_folder_of, take_rights
from freezekit.runtime.guard import BEAT_OPERATIONS
from freezekit.runtime.integrity import damage
from freezekit.runtime.reports import BackupFile
from freezekit.runtime.space import refuse_too_little_space
from freezekit.runtime.sqlite_file import file_uri, opened, size_of_file, version_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Sequence

    from freezekit.runtime.reports import Backup

_SUFFIX = ".bak"
_PAGES_A_STEP = 2_000
_MARK = "~"
_REPLACED = "replaced"
_TAIL = re.compile(rf"|\d+|{_REPLACED}\d*")
_MAX_LETTERS = 100
_MAX_NAME_BYTES = 120
_LOOK_SECONDS = 1.0
_MOST_ASKED = 500


def make_backup(  # noqa: PLR0913 - facts about one copy
    path: str,
    current: Sequence[str],
    backup: Backup,
    revisions: Collection[str],
    *,
    is_linear: bool = False,
    source: sqlite3.Connection | None = None,
    on_step: Callable[[float], object] | None = None,
    cancelled: Callable[[], bool] = bool,
    syncs_folder: bool = False,
) -> str:
    """Copy a database while its write lock is held; the copy is complete, checked and on disk before that changes.

    The name carries the revision the database is at, so that a program that fails at every start makes one copy, not
    one each time. A copy of that name with other content is first renamed. Older backups of the same database are
    removed once the new one is safe, up to ``backup.keep``.

    Args:
        path: The database; its write lock is held on another connection, so nobody changes it meanwhile.
        current: Its revisions.
        backup: Where to and how many.
        revisions: Every revision of the scripts: only backups at some of them count as older backups.
        is_linear: Whether a database is at one of them at a time.
        source: The connection to copy from, where nobody else can read the file: an upgrade that runs on a copy.
        on_step: Called with the fraction that is copied; what it raises ends the copying and leaves unchanged.
        cancelled: Asked now and then while the copy is checked; True ends that.
        syncs_folder: Whether the database's folder is synced before the database is changed, which is soon enough for
            a copy in the same folder.

    Returns:
        Path of the copy.

    Raises:
        MigrationFailed: No copy could be made, or there is too little room; the database was not touched, older backups
            are all there, and no part of a copy is left.
    """
    path = os.path.realpath(path)
    folder = folder_of(path, backup.folder)
    target = f"{_start_of(path, folder)}{label_of(current)}{_SUFFIX}"
    steps = _Steps(on_step)
    try:
        refuse_too_little_space(path, backup, by_copy=source is not None)
        os.makedirs(folder, exist_ok=True)
        with named_part(target) as part:
            with (
                contextlib.closing(_opened_again(path))
                if source is None
                else contextlib.nullcontext(source) as original
            ):
                copy_database(original, part, [tuple(current)] if current else [], steps, cancelled)
            take_rights(path, part)
            _set_aside(target, part)
            os.replace(part, target)
            may_have_older = not is_linear or _may_have_older(_start_of(path, folder), target, revisions)
            if may_have_older or not syncs_folder or folder != os.path.dirname(path):
                sync_folder_of(target)
    except (sqlite3.Error, OSError) as error:
        if error is steps.raised:
            raise
        said = error.strerror or error if isinstance(error, OSError) else error
        raise MigrationFailed(path, f"no backup could be made in {folder} ({said})") from error
    if may_have_older:
        remove_surplus(list_backups(path, folder, revisions, besides=target), max(backup.keep, 1) - 1)
    return target


def _may_have_older(start: str, target: str, revisions: Collection[str]) -> bool:
    """Return whether there may be more backups of a database; listing a folder of many thousand takes longer."""
    if len(revisions) > _MOST_ASKED:
        return True
    stems = [f"{start}{label_of(rows)}" for rows in ((), *((one,) for one in revisions))]
    names = (f"{stem}{tail}{_SUFFIX}" for stem in stems for tail in ("", f"{_MARK}2"))
    return any(os.path.lexists(name) for name in names if name != target)


class _Steps:
    """Tells how far a copy is, and remembers what its listener raised, which is no failure of the copy."""

    def __init__(self, on_step: Callable[[float], object] | None) -> None:
        self._on_step = on_step
        self.raised: BaseException | None = None

    def __call__(self, _status: int, remaining: int, total: int) -> None:
        if self._on_step is None:
            return
        try:
            self._on_step(1 - remaining / total if total else 1.0)
        except BaseException as error:
            self.raised = error
            raise


def _opened_again(path: str) -> sqlite3.Connection:
    return sqlite3.connect(file_uri(path, "mode=rw"), uri=True)


def copy_database(
    source: sqlite3.Connection,
    part: str,
    versions: Iterable[tuple[str, ...]],
    progress: Callable[[int, int, int], object] | None = None,
    cancelled: Callable[[], bool] = bool,
) -> None:
    """Copy a database into an empty file through SQLite, which knows what of a journal belongs to it.

    Args:
        source: The database.
        part: The empty file.
        versions: Rows that its version tables have; not read here, for that takes reading the whole schema.
        progress: Called as by :meth:`sqlite3.Connection.backup`.
        cancelled: Asked now and then while the copy is checked; True ends that.

    Raises:
        sqlite3.DatabaseError: The copy is damaged, or has other versions; or it was ``cancelled``.
    """
    with contextlib.closing(sqlite3.connect(file_uri(part, "mode=rw"), uri=True, isolation_level=None)) as copy:
        # Nobody needs half a copy back: no journal, and one sync at the end.
        for setting in ("journal_mode = OFF", "synchronous = OFF"):
            copy.execute(f"PRAGMA {setting}")
        source.backup(copy, pages=_PAGES_A_STEP, progress=progress)
    with contextlib.closing(sqlite3.connect(file_uri(part, "mode=ro&immutable=1"), uri=True)) as copy:
        copy.set_progress_handler(cancelled, BEAT_OPERATIONS)
        refuse_damaged(copy)
        if not set(versions) <= set(version_rows(copy).values()):
            raise sqlite3.DatabaseError("the copy has another version than the database")
    sync(part)


def refuse_damaged(connection: sqlite3.Connection) -> None:
    """Read a whole database.

    Raises:
        sqlite3.DatabaseError: It is damaged.
    """
    if (found := damage(connection)) is not None:
        raise sqlite3.DatabaseError(f"it is damaged: {found}")


def _set_aside(target: str, new: str) -> None:
    """Rename what has the name of a new backup already, unless it is the same: it may hold what nothing else holds."""
    if os.path.isfile(target) and not filecmp.cmp(target, new, shallow=False):
        os.rename(target, _unused(target, ""))


def _unused(target: str, word: str) -> str:
    """Return the first unused numbered name of a backup, such as ``NAME.<revision>~2.bak``."""
    stem = target[: -len(_SUFFIX)]
    numbers = itertools.count(2) if not word else itertools.chain([""], itertools.count(2))
    names = (f"{stem}{_MARK}{word}{number}{_SUFFIX}" for number in numbers)
    return next(name for name in names if not any(os.path.lexists(name + end) for end in ("", "-journal", "-wal")))


def replaced_name(path: str, label: str) -> str:
    """Return an unused name, beside a database, for what is about to be replaced in it."""
    return _unused(f"{_start_of(path, os.path.dirname(path))}{label}{_SUFFIX}", _REPLACED)


def replaced_names(path: str) -> list[str]:
    """Return the names of what was replaced in a database before."""
    return glob.glob(f"{glob.escape(_start_of(path, os.path.dirname(path)))}*{_MARK}{_REPLACED}*{_SUFFIX}")


def folder_of(path: str, folder: str | os.PathLike[str] | None) -> str:
    """Return the folder in which the backups of a database lie."""
    return os.path.dirname(path) if folder is None else os.path.abspath(name_of_file(folder))


def _start_of(path: str, folder: str) -> str:
    """Return what the paths of a database's backups begin with; in a folder of others, it tells which one is meant."""
    name, home = os.path.basename(path), os.path.dirname(path)
    at_home = folder == home or os.path.normcase(os.path.realpath(folder)) == os.path.normcase(home)
    if not at_home or len(os.fsencode(name)) > _MAX_NAME_BYTES:
        while len(os.fsencode(name)) > _MAX_NAME_BYTES:
            name = name[:-1]
        name = f"{name}-{_digest(os.path.normcase(path))}"
    return os.path.join(folder, f"{name}.")


def label_of(revisions: Sequence[str]) -> str:
    """Return what stands for a database's revisions in the name of a backup."""
    return _label_of(tuple(revisions))


@lru_cache(maxsize=1024)
def _label_of(revisions: tuple[str, ...]) -> str:
    label = "".join(one if one.isalnum() or one in "+._-" else "_" for one in "+".join(revisions) or "base")
    return label if len(label) <= _MAX_LETTERS else f"{label[:_MAX_LETTERS]}-{_digest(label)}"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def list_backups(path: str, folder: str, revisions: Container[str], besides: str = "") -> tuple[BackupFile, ...]:
    """Return the backups of one database in a folder, newest first, without the one ``besides`` which they are wanted.

    A file counts by its name and by its content: it is a database at the revisions its name says, and these are among
    those given. Files that only look alike do not count.
    """
    start = _start_of(path, folder)
    names = (name for name in glob.glob(f"{glob.escape(start)}*{_SUFFIX}") if name != besides)
    found = (_backup_file(name, start, revisions) for name in names)
    return tuple(sorted(filter(None, found), key=lambda one: (one.time, one.path), reverse=True))


def _backup_file(name: str, start: str, revisions: Container[str]) -> BackupFile | None:
    label, _, tail = name[len(start) : -len(_SUFFIX)].partition(_MARK)
    if not _TAIL.fullmatch(tail):
        return None
    try:
        if not size_of_file(name):
            return None
        with opened(name, _LOOK_SECONDS) as connection:
            tables = version_rows(connection)
        found = os.stat(name)
    except (NotADatabase, sqlite3.Error, OSError):
        return None
    for rows in (*tables.values(), *(() if tables else ((),))):
        if label_of(rows) == label and all(one in revisions for one in rows):
            return BackupFile(name, rows, found.st_size, found.st_mtime, replaced=tail.startswith(_REPLACED))
    return None


def remove_surplus(files: Iterable[BackupFile], keep: int, *, check: bool = False) -> tuple[str, ...]:
    """Remove backups made by upgrades, but for the newest ones; never what restoring kept.

    Args:
        files: Backups of one database, newest first.
        keep: How many stay.
        check: Read each that is to be kept: a damaged one stays too, but does not count.

    Returns:
        The paths of those removed. One that cannot be removed is passed over.
    """
    removed, kept = [], 0
    for one in files:
        if one.replaced:
            continue
        if kept < keep:
            kept += not check or is_sound(one.path)
            continue
        with contextlib.suppress(OSError):
            remove(one.path)
            removed.append(one.path)
    return tuple(removed)


def is_sound(path: str) -> bool:
    """Return whether a database can be read as a whole."""
    try:
        if not size_of_file(path):
            return False
        with opened(path, _LOOK_SECONDS) as connection:
            refuse_damaged(connection)
    except (FreezekitError, sqlite3.Error, OSError):
        return False
    return True
