"""Whether there is room for a backup and a journal, asked before anything is written."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from freezekit.errors import MigrationFailed
from freezekit.runtime.files import led_to
from freezekit.runtime.reports import Space

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.runtime.reports import Backup

_UNIT = 1000


def space_needed(path: str, backup: Backup | None, *, by_copy: bool = False) -> tuple[Space, ...]:
    """Return the room that an upgrade needs, one entry for each volume; nothing is changed.

    Needed are a journal of about the document's size on its own volume, and as much again for the backup on the volume
    of the backup's folder, which need not exist yet.

    Args:
        path: The document; none is needed for one that does not exist.
        backup: Where the backup goes; None if none is made.
        by_copy: Whether the upgrade runs on a private copy, which lies beside the document.
    """
    path = os.path.abspath(led_to(path))
    size = document_size(path)
    demands = [(os.path.dirname(path), size * (1 + by_copy))]
    if backup is not None:
        demands.append((os.fspath(backup.folder or os.path.dirname(path)), size))
    return spaces(demands)


def refuse_too_little_space(path: str, backup: Backup | None, *, by_copy: bool = False) -> None:
    """Raise if an upgrade would not fit; the arguments are those of :func:`space_needed`.

    Raises:
        MigrationFailed: It says how much is needed, how much is free, and where; nothing was changed.
    """
    refuse_unfit(path, space_needed(path, backup, by_copy=by_copy))


def refuse_unfit(path: str, needed: Iterable[Space], action: str = "upgrade") -> None:
    """Raise if one of the volumes has too little room.

    Raises:
        MigrationFailed: It says how much is needed, how much is free, and where; nothing was changed.
    """
    for one in needed:
        if not one.fits:
            reason = f"it needs {_readable(one.needed)} in {one.folder}, where {_readable(one.free or 0)} are free"
            raise MigrationFailed(path, reason, disk_full=True, action=action)


def document_size(path: str) -> int:
    """Return the bytes of a document and of its write-ahead log; 0 where there is none. Opens neither."""
    return sum(os.path.getsize(name) for name in (path, f"{path}-wal") if os.path.isfile(name))


def spaces(demands: Iterable[tuple[str, int]]) -> tuple[Space, ...]:
    """Return what is needed in folders, summed up by volume."""
    volumes: dict[int, tuple[str, int]] = {}
    for folder, size in demands:
        there = _existing(folder)
        volume = os.stat(there).st_dev
        first, before = volumes.get(volume, (there, 0))
        volumes[volume] = first, before + size
    return tuple(Space(folder, needed, _free(folder)) for folder, needed in volumes.values())


def _existing(folder: str) -> str:
    """Return a folder, or the nearest one above it that exists."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


def _free(folder: str) -> int | None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    # Some network file systems say that everything is 0.
    return usage.free if usage.total else None


def _readable(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < _UNIT:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= _UNIT
    return f"{size:.1f} TB"
