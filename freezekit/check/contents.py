"""What lies inside a bundle, whatever holds it: a folder, a zip archive, a program made in one file.

A bundle may be damaged, or made to do harm: nothing outside of it is ever read, and no more than a limit of it.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

READ_LIMIT = 256 * 1024 * 1024
"""Most bytes of one file that are read: more is no script, but may be a bomb."""
MEMBER_LIMIT = 300_000
"""Most files in one bundle."""

_MODULE = re.compile(r"(?P<name>.+?)(\.py|\.pyw|\.pyc|\.(cpython|cp|pypy|abi3)[^/]*\.(so|pyd)|\.so|\.pyd)$")
_DYNLOAD = re.compile(r"(python3\.\d+/)?lib-dynload/")
_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)


@dataclass(frozen=True)
class Item:
    """One file of a bundle.

    Attributes:
        path: Where it is in the bundle, with forward slashes; members of an archive follow the archive's path.
        inside: Its path below the folder that modules are imported from; None for one that lies elsewhere.
        size: Its length in bytes, as its holder says.
        mode: Permission bits, or None where its holder keeps none.
        read: Returns its content; raises UnreadableBundle if it is damaged.
    """

    path: str
    inside: str | None
    size: int
    mode: int | None
    read: Callable[[], bytes]

    @property
    def name(self) -> str:
        """Its name without folders."""
        return self.path.rpartition("/")[2]

    @property
    def layer(self) -> str:
        """What its path has before the path inside: the folder or archive that modules are imported from."""
        return self.path[: len(self.path) - len(self.inside or "")]


def folder_items(folder: str) -> Iterator[Item]:
    """Yield every file below a folder, sorted, without following links that lead out of it.

    Args:
        folder: The folder.

    Raises:
        UnreadableBundle: A folder cannot be read, or there are too many files.
    """
    root = os.path.realpath(folder)
    count = 0
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            found = _regular(path, root)
            if found is not None:
                count += 1
                if count > MEMBER_LIMIT:
                    raise UnreadableBundle(folder, f"it holds more than {MEMBER_LIMIT} files")
                shown = os.path.relpath(path, folder).replace(os.sep, "/")
                yield Item(shown, None, found.st_size, _mode(path, found), partial(read_file, path))


def _refuse(error: OSError) -> None:
    raise UnreadableBundle(str(error.filename), error.strerror or str(error)) from error


def _regular(path: str, root: str) -> os.stat_result | None:
    """Return what the system says of an ordinary file; None for devices, pipes, and links that lead elsewhere."""
    try:
        if os.path.islink(path) and not os.path.realpath(path).startswith(root + os.sep):
            return None
        found = os.stat(path)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _mode(path: str, found: os.stat_result) -> int | None:
    return None if os.name == "nt" or os.path.islink(path) else stat.S_IMODE(found.st_mode)


def read_file(path: str) -> bytes:
    """Return the content of a file.

    Raises:
        UnreadableBundle: It cannot be read, or is too large to be worth it.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(READ_LIMIT + 1)
    except OSError as error:
        raise UnreadableBundle(path, error.strerror or str(error)) from error
    return limited(content, path)


def limited(content: bytes, path: str) -> bytes:
    """Return content that is no longer than the limit.

    Raises:
        UnreadableBundle: It is longer.
    """
    if len(content) > READ_LIMIT:
        raise UnreadableBundle(path, f"it is longer than {READ_LIMIT} bytes")
    return content


def zip_items(source: str | IO[bytes], archive: str, shown: str) -> Iterator[Item]:
    """Yield every member of a zip archive, as files that modules are imported from.

    Args:
        source: Path of the archive, or the archive itself.
        archive: Its path, for messages.
        shown: Its path in the bundle, with a slash behind it; may be empty.

    Raises:
        UnreadableBundle: It is damaged, or a member's name leads out of it.
    """
    try:
        opened = zipfile.ZipFile(source)
    except _DAMAGE as error:
        raise UnreadableBundle(archive, f"it is no zip archive ({error})") from error
    members = opened.infolist()
    if len(members) > MEMBER_LIMIT:
        raise UnreadableBundle(archive, f"it holds more than {MEMBER_LIMIT} files")
    for member in members:
        refuse_escape(member.filename, archive)
        if member.is_dir():
            continue
        mode = stat.S_IMODE(member.external_attr >> 16) or None if member.create_system == 3 else None  # noqa: PLR2004 - Unix
        read = partial(_read_member, opened, member, archive)
        yield Item(shown + member.filename, member.filename, member.file_size, mode, read)


def refuse_escape(name: str, where: str) -> None:
    """Refuse a name that leads out of its archive.

    Raises:
        UnreadableBundle: It does.
    """
    if not name:
        raise UnreadableBundle(where, "it has a member without a name")
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise UnreadableBundle(where, f"the name of its member {name!r} leads out of it")


def _read_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, archive: str) -> bytes:
    where = f"{archive}/{member.filename}"
    try:
        with opened.open(member) as file:
            return limited(file.read(READ_LIMIT + 1), where)
    except _DAMAGE as error:
        raise UnreadableBundle(where, f"it is damaged ({error})") from error


def module_name(inside: str) -> str | None:
    """Return the name by which a file is imported, or None if it is no module.

    Args:
        inside: Its path below the folder that modules are imported from.

    Example:
        >>> module_name("sqlalchemy/dialects/__init__.pyc")
        'sqlalchemy.dialects'
    """
    found = _MODULE.match(_DYNLOAD.sub("", inside))
    if found is None or "__pycache__" in inside:
        return None
    return found["name"].replace("/", ".").removesuffix(".__init__")


def is_package_file(name: str) -> bool:
    """Return whether a file makes the folder it lies in a package."""
    return name.startswith("__init__.")
