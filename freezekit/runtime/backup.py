"""The copy of a database that is made before its first change."""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3
from typing import TYPE_CHECKING

from freezekit.errors import MigrationFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from freezekit.runtime.reports import Backup

_SUFFIX = ".bak"
_PAGES_A_STEP = 2_000


def make_backup(  # noqa: PLR0913 - facts about one copy
    path: str,
    current: Sequence[str],
    backup: Backup,
    revisions: Container[str],
    *,
    source: sqlite3.Connection | None = None,
    on_step: Callable[[float], object] | None = None,
) -> str:
    """Copy a database while its write lock is held; the copy is complete and on disk when this returns.

    The name carries the revision the database is at, so that a program that fails at every start makes one copy, not
    one each time. Older backups of the same database are removed once the new one is safe, up to ``backup.keep``.

    Args:
        path: The database; its write lock is held on another connection, so nobody changes it meanwhile.
        current: Its revisions.
        backup: Where to and how many.
        revisions: Every revision of the scripts: only files named after one of them count as older backups.
        source: The connection to copy from, where nobody else can read the file.
        on_step: Called with the share that was copied.

    Returns:
        Path of the copy.

    Raises:
        MigrationFailed: No copy could be made; the database was not touched and no part of a copy is left.
    """
    folder = os.fspath(backup.folder) if backup.folder is not None else os.path.dirname(path)
    name = os.path.basename(path)
    target = os.path.join(folder, f"{name}.{_safe('+'.join(current) or 'base')}{_SUFFIX}")
    part = f"{target}.part"
    try:
        os.makedirs(folder or ".", exist_ok=True)
        _copy_database(path, part, source, on_step)
        os.replace(part, target)
        _sync(folder or ".")
    except (sqlite3.Error, OSError) as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise MigrationFailed(path, f"no backup could be made in {folder or '.'} ({error})") from error
    _prune(os.path.join(folder, name), target, backup.keep, revisions)
    return target


def _safe(revision: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "+._-" else "_" for letter in revision)


def _copy_database(
    path: str, target: str, source: sqlite3.Connection | None, on_step: Callable[[float], object] | None
) -> None:
    """Copy through SQLite, which knows what of the journal belongs to the database, and read the copy once."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)

    def step(_status: int, remaining: int, total: int) -> None:
        if on_step is not None and total:
            on_step(1 - remaining / total)

    own = contextlib.nullcontext(source) if source is not None else contextlib.closing(sqlite3.connect(path))
    with own as opened, contextlib.closing(sqlite3.connect(target)) as copy:
        opened.backup(copy, pages=_PAGES_A_STEP, progress=step)
        (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"the copy is damaged: {verdict}")
    _sync(target)


def _sync(path: str) -> None:
    if os.name == "nt" and os.path.isdir(path):
        return
    handle = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prune(stem: str, newest: str, keep: int, revisions: Container[str]) -> None:
    others = [
        name
        for name in glob.glob(f"{glob.escape(stem)}.*{_SUFFIX}")
        if name != newest and all(one in revisions for one in name[len(stem) + 1 : -len(_SUFFIX)].split("+"))
    ]
    others.sort(key=os.path.getmtime, reverse=True)
    for name in others[max(keep, 1) - 1 :]:
        with contextlib.suppress(OSError):
            os.unlink(name)
