"""Make PyInstaller notice that a migration was added, edited or deleted since the last build.

PyInstaller repeats its analysis when the list of hook folders differs from last time, and asks for that list at every
build. So each build leaves a note of what it shipped, and the list gets one more folder, an empty one, whose name is
the digest of all that as it is now. The note lies in PyInstaller's own cache, one for each working directory.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from freezekit.pyproject import PYPROJECT, tool_tables
from freezekit.tree import FolderTree

if TYPE_CHECKING:
    from collections.abc import Iterable

_MARK = "migrations-"


def remember(cache: str, work: str, paths: Iterable[str]) -> str:
    """Note what the build of one work folder shipped, and return the folder that stands for its present state.

    Args:
        cache: PyInstaller's cache folder.
        work: The work folder of the build; one working directory may have several.
        paths: Folders of scripts, and configuration files, whether they exist or not.
    """
    note = _note(cache)
    builds = {folder: kept for folder, kept in _read(note).items() if os.path.isdir(folder)}
    builds[work] = sorted(set(paths))
    os.makedirs(os.path.dirname(note), exist_ok=True)
    with open(note, "w", encoding="utf-8") as file:
        json.dump(builds, file, indent=1)
    return _mark(note, builds)


def recall(cache: str) -> str | None:
    """Return the folder that stands for what was shipped from here, as it is now; None before the first build."""
    note = _note(cache)
    builds = _read(note)
    return _mark(note, builds) if builds else None


def is_mark(folder: str) -> bool:
    """Return whether a hook folder is one of those made here."""
    return os.path.basename(folder).startswith(_MARK)


def _note(cache: str) -> str:
    here = hashlib.sha256(os.getcwd().encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return os.path.join(cache, "freezekit", here, "builds.json")


def _read(note: str) -> dict[str, list[str]]:
    try:
        with open(note, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _mark(note: str, builds: dict[str, list[str]]) -> str:
    paths = sorted({path for kept in builds.values() for path in kept})
    folder = os.path.join(os.path.dirname(note), _MARK + state(paths)[:20])
    os.makedirs(folder, exist_ok=True)
    return folder


def state(paths: Iterable[str]) -> str:
    """Return a digest of folders and files: names and content; of pyproject.toml only what is about migrations.

    Args:
        paths: What to look at; what does not exist counts as that.
    """
    from freezekit import __version__

    found = hashlib.sha256(__version__.encode())
    for path in paths:
        names = FolderTree(path).files() if os.path.isdir(path) else [""]
        for name in names:
            found.update(f"\0{path}\0{name}\0".encode("utf-8", "surrogateescape"))
            found.update(_content(os.path.join(path, name) if name else path))
    return found.hexdigest()


def _content(path: str) -> bytes:
    if os.path.basename(path) == PYPROJECT:
        tool = tool_tables(path)
        return json.dumps([tool.get("freezekit"), tool.get("alembic")], default=str, sort_keys=True).encode()
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return b"missing"
