"""Programs made by PyInstaller: what their archive holds, read with PyInstaller's own reader."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from freezekit.check.contents import READ_LIMIT, Item, limited, refuse_escape
from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC = b"MEI\014\013\012\013\016"
_CHUNK = 1 << 20
_PYZ = "z"
_FILES = ("b", "x", "Z")
# Of entries in the archive of modules: a package, a folder without code of its own (loader/pyimod01_archive.py).
_PACKAGES = (1, 3)
# Whatever a damaged table of contents makes the reader do.
_DAMAGE = (Exception, SystemExit)


@dataclass(frozen=True)
class Program:
    """What is inside a program made by PyInstaller.

    Attributes:
        items: The files of a program in one file; none in a folder, where they lie beside it.
        modules: Names of the modules compiled into it.
        packages: Those of them that are packages.
        read_module: Returns the code of one of them.
    """

    items: tuple[Item, ...]
    modules: frozenset[str]
    packages: frozenset[str]
    read_module: Callable[[str], bytes]


def is_program(path: str) -> bool:
    """Return whether a file ends with an archive of PyInstaller; a signature may follow it."""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - _CHUNK)
            file.seek(start)
            if _MAGIC in file.read(position - start):
                return True
            position = start + len(_MAGIC) - 1 if start else 0
    return False


def read_program(path: str, shown: str) -> Program:
    """Return what is inside a program made by PyInstaller.

    Args:
        path: The program.
        shown: Its path in the bundle, with a slash behind it; may be empty.

    Raises:
        UnreadableBundle: It is damaged, or PyInstaller is not installed.
    """
    try:
        from PyInstaller.archive.readers import CArchiveReader
    except ImportError as error:
        reason = "looking into a program made by PyInstaller needs PyInstaller: install freezekit[pyinstaller]"
        raise UnreadableBundle(path, reason) from error
    try:
        archive = CArchiveReader(path)
        inner = [archive.open_embedded_archive(name) for name, entry in archive.toc.items() if entry[4] == _PYZ]
        owners = {str(name): one for one in inner for name in one.toc}
        packages = {str(name) for one in inner for name, entry in one.toc.items() if entry[0] in _PACKAGES}
        items = tuple(_items(archive, path, shown))
    except UnreadableBundle:
        raise
    except _DAMAGE as error:
        raise UnreadableBundle(path, f"its archive is damaged ({error!r})") from error
    return Program(items, frozenset(owners), frozenset(packages), partial(_read_module, owners, path))


def _items(archive: Any, path: str, shown: str) -> Iterator[Item]:
    for name, entry in archive.toc.items():
        if entry[4] in _FILES:
            inside = name.replace("\\", "/")
            refuse_escape(inside, path)
            read = partial(_read_entry, path, archive._start_offset, name, entry)  # noqa: SLF001 - extract() has no limit
            yield Item(shown + inside, inside, entry[2], None, read)


def _read_entry(path: str, start: int, name: str, entry: tuple[int, int, int, int, str]) -> bytes:
    """Return a file of a program; no more than a limit, whatever its length claims to be."""
    offset, length, _, is_compressed, _ = entry
    try:
        with open(path, "rb") as file:
            file.seek(start + offset)
            data = file.read(min(length, READ_LIMIT + 1))
        content = zlib.decompressobj().decompress(data, READ_LIMIT + 1) if is_compressed else data
    except (OSError, ValueError, zlib.error) as error:
        raise UnreadableBundle(f"{path}/{name}", f"it is damaged ({error})") from error
    return limited(content, f"{path}/{name}")


def _read_module(owners: dict[str, Any], path: str, name: str) -> bytes:
    """Return the code of a module; no more than a limit, whatever it unpacks to."""
    archive = owners[name]
    try:
        _, offset, length = archive.toc[name]
        with open(path, "rb") as file:
            file.seek(archive._start_offset + offset)  # noqa: SLF001 - extract() has no limit
            content = zlib.decompressobj().decompress(file.read(min(length, READ_LIMIT + 1)), READ_LIMIT + 1)
    except _DAMAGE as error:
        raise UnreadableBundle(f"{path}/{name}", f"it is damaged ({error!r})") from error
    return limited(content, f"{path}/{name}")
