"""A private copy of the scripts, for what needs real files that may be written beside.

Alembic's own commands load each script with the ordinary importer, which needs a folder and may leave ``__pycache__``
in it. From an archive, and in a bundle that would be written into, they are given a copy.
"""

from __future__ import annotations

import atexit
import os
import posixpath
import shutil
import tempfile
from typing import TYPE_CHECKING

from freezekit.errors import UnreadableBundle
from freezekit.tree import FolderTree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.tree import Tree


def private_copy(tree: Tree, folders: Iterable[str]) -> FolderTree:
    """Copy scripts into a new folder that only this user can enter, removed when the program ends.

    Args:
        tree: Where the scripts are.
        folders: What to copy, relative to the folder of ``env.py``; may begin with ``../``.

    Raises:
        UnreadableBundle: A member's name leads out of the tree, or its content is damaged; nothing is left behind.
    """
    names = dict.fromkeys(name for folder in folders for name in tree.files(folder))
    depth = max((name.split("/").count("..") for name in names), default=0)
    outer = tempfile.mkdtemp(prefix="freezekit-")
    atexit.register(shutil.rmtree, outer, ignore_errors=True)
    home = posixpath.join(outer, *(f"level{level}" for level in range(depth)), "migrations")
    try:
        for name in names:
            _copy(tree, name, os.path.normpath(posixpath.join(home, name)), outer)
    except BaseException:
        shutil.rmtree(outer, ignore_errors=True)
        raise
    return FolderTree(os.path.normpath(home))


def _copy(tree: Tree, name: str, target: str, outer: str) -> None:
    if os.path.commonpath([outer, target]) != outer:
        raise UnreadableBundle(tree.path(name), "its name leads out of the scripts")
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    content = tree.read(name)
    with open(target, "wb") as file:
        file.write(content)
