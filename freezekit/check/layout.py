"""Which freezer made a folder, and where in it modules are imported from."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.check.nuitka import is_nuitka_program
from freezekit.check.pyinstaller import is_program
from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from freezekit.check.contents import Item

_EXECUTABLE = 0o111
_LIBRARY = re.compile(r"\.(so|dll|dylib|pyd)(\.|$)")
_APPLICATION = re.compile(r"(.*\.app)/Contents/|^()Contents/(?=MacOS/|Frameworks/|Resources/)")
_CX_LIBRARY = re.compile(r"(^|/)lib/library\.(zip|dat)$")
_SCRIPT_MODE = re.compile(r"\.(py|pyc|sh|bat|txt|json|zip|dat|pem)$")


@dataclass(frozen=True)
class Layout:
    """How a folder is laid out.

    Attributes:
        kind: What it is, for people.
        freezer: Name of the freezer.
        roots: Folders that modules are imported from, each with a slash behind it unless it is the folder itself.
        programs: Programs with an archive of PyInstaller behind them; of a zipapp, the archive.
    """

    kind: str
    freezer: str
    roots: tuple[str, ...]
    programs: tuple[str, ...] = ()


def find_layout(items: Sequence[Item], folder: str, shown: str) -> Layout:
    """Return how a folder is laid out, or the one bundle that lies somewhere in it.

    Args:
        items: Its files.
        folder: Where it is.
        shown: What to call it in messages.

    Raises:
        UnreadableBundle: It holds no bundle, or several.
    """
    found = [*_with_libraries(items, folder)]
    if not found:
        found = [*_in_one_file(items, folder), *_zipapps(items)] or [*_nuitka(items, folder)]
    if len(found) > 1:
        places = ", ".join(sorted({(one.roots or one.programs)[0].rstrip("/") or "." for one in found}))
        raise UnreadableBundle(shown, f"it holds several bundles ({places}): name one of them")
    if not found:
        raise UnreadableBundle(shown, "it holds no bundle of PyInstaller, cx_Freeze or Nuitka, and no zipapp")
    return found[0]


def _with_libraries(items: Sequence[Item], folder: str) -> Iterator[Layout]:
    """Find the folders of PyInstaller and cx_Freeze by the library each of them writes."""
    applications = set()
    for one in items:
        parent = one.path[: -len(one.name)]
        if one.name == "base_library.zip":
            application = _APPLICATION.match(one.path)
            if application is None:
                yield Layout("PyInstaller folder", "PyInstaller", (parent,), _programs(items, folder, parent))
            elif application[0] not in applications:
                applications.add(application[0])
                contents = application[0] if application[0].endswith("/") else f"{application[0]}/"
                roots = (f"{contents}Frameworks/", f"{contents}Resources/")
                programs = tuple(_signed(items, folder, {f"{contents}MacOS"}))
                yield Layout("macOS application", "PyInstaller", roots, programs)
    libraries = {one.path[: -len(one.name)] for one in items if _CX_LIBRARY.search(one.path)}
    for parent in sorted(libraries):
        kind = "macOS application" if _APPLICATION.match(parent) else "cx_Freeze folder"
        yield Layout(kind, "cx_Freeze", (parent,))


def _programs(items: Iterable[Item], folder: str, contents: str) -> tuple[str, ...]:
    inside = contents.rstrip("/")
    return tuple(_signed(items, folder, {inside, posixpath.dirname(inside)}))


def _signed(items: Iterable[Item], folder: str, parents: set[str] | None) -> Iterator[str]:
    """Yield the programs in some folders, or in all, that PyInstaller made."""
    for one in items:
        is_there = parents is None or posixpath.dirname(one.path) in parents
        if is_there and _may_be_program(one) and is_program(os.path.join(folder, *one.path.split("/"))):
            yield one.path


def _may_be_program(item: Item) -> bool:
    if _LIBRARY.search(item.name) or _SCRIPT_MODE.search(item.name):
        return False
    return item.name.endswith(".exe") or item.mode is None or bool(item.mode & _EXECUTABLE)


def _in_one_file(items: Iterable[Item], folder: str) -> Iterator[Layout]:
    for name in _signed(items, folder, None):
        yield Layout("PyInstaller program", "PyInstaller", (), (name,))


def _zipapps(items: Iterable[Item]) -> Iterator[Layout]:
    for one in items:
        if one.name.endswith(".pyz"):
            yield Layout("zipapp", "zipapp", (), (one.path,))
        if one.path == "__main__.py":
            yield Layout("folder with __main__.py", "zipapp", ("",))


def _nuitka(items: Iterable[Item], folder: str) -> Iterator[Layout]:
    """Find the folders of programs that Nuitka compiled; extension modules and data lie beside them."""
    known = set()
    for one in items:
        parent = one.path[: -len(one.name)]
        path = os.path.join(folder, *one.path.split("/"))
        if parent not in known and _may_be_program(one) and is_nuitka_program(path):
            known.add(parent)
            yield Layout("Nuitka folder", "Nuitka", (parent,))
