"""What bundles travel in: archives, packages and images, unpacked into a folder that is removed afterwards.

What is unpacked may be made to do harm: nothing is written outside of the folder, and no more than a limit into it.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import posixpath
import shutil
import stat
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from functools import partial
from typing import IO, TYPE_CHECKING, cast

from freezekit.check.appimage import unpack_appimage
from freezekit.check.contents import MEMBER_LIMIT, refuse_escape
from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Iterator

UNPACKED_LIMIT = 4 * 1024**3
"""Most bytes that are unpacked."""
_LONGEST_LINK = 4096
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", struct.Struct("16s12s6s6s8s10s2s")
_APPIMAGE_MAGIC = (b"AI\x01", b"AI\x02")
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError),
)


def kind_of(path: str) -> str | None:
    """Return what a file is a container of: ``"zip"``, ``"tar"``, ``"deb"``, ``"AppImage"``; None for others."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head[8:11] in _APPIMAGE_MAGIC:
        return "AppImage"
    if head.startswith(_AR_MAGIC):
        return "deb"
    if head.startswith(b"PK"):
        return "zip"
    if not head.startswith((b"\x7fELF", b"MZ", b"#!")) and _is_tar(path):
        return "tar"
    return None


def _is_tar(path: str) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (*_DAMAGE, OSError):
        return False


@contextlib.contextmanager
def unpacked(path: str, kind: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Unpack a container for the duration of a block.

    Args:
        path: The container.
        kind: What :func:`kind_of` says it is.

    Returns:
        A context manager: a folder, and the permission bits that the container gives to the files in it, which are
        not theirs on disk.

    Raises:
        UnreadableBundle: It is damaged, too large, leads out of its folder, or needs a tool that is not here.
    """
    with tempfile.TemporaryDirectory(prefix="freezekit-") as folder:
        try:
            modes = _UNPACK[kind](path, folder)
        except (*_DAMAGE, OSError) as error:
            raise UnreadableBundle(path, f"it cannot be unpacked ({error})") from error
        yield folder, modes


def _unpack_zip(path: str, folder: str) -> dict[str, int]:
    modes, links = {}, {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _limit(path, len(members), sum(member.file_size for member in members))
        for member in members:
            refuse_escape(member.filename, path)
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode) and member.file_size <= _LONGEST_LINK:
                links[member.filename] = os.fsdecode(archive.read(member))
                continue
            if stat.S_IMODE(mode) and not member.is_dir():
                modes[member.filename] = stat.S_IMODE(mode)
            archive.extract(member, folder)
    # Last, so that nothing is unpacked through them.
    for name, target in links.items():
        _link(folder, name, target)
    return modes


def _link(folder: str, name: str, target: str) -> None:
    """Make a link as one of the archive, unless it leads out of the folder or this system cannot."""
    place = _place(folder, name)
    root = os.path.realpath(folder)
    above = os.path.realpath(os.path.dirname(place))
    # Links that were made since may lead the folder itself elsewhere.
    meant = [above, os.path.realpath(os.path.join(above, target))]
    if not os.path.isabs(target) and all((one + os.sep).startswith(root + os.sep) for one in meant):
        with contextlib.suppress(OSError, NotImplementedError):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.symlink(target, place)


def _place(folder: str, name: str) -> str:
    return os.path.join(folder, *name.split("/"))


def _free(place: str) -> str:
    """Return a place after its folder was made, and what a former member of that name put there removed."""
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place)
    return place


def _limit(path: str, count: int, size: int) -> None:
    if count > MEMBER_LIMIT or size > UNPACKED_LIMIT:
        raise UnreadableBundle(path, f"it unpacks to more than {MEMBER_LIMIT} files or {UNPACKED_LIMIT} bytes")


def _unpack_tar(path: str, folder: str) -> dict[str, int]:
    with tarfile.open(path) as archive:
        return _extract_tar(archive, path, folder)


def _extract_tar(archive: tarfile.TarFile, path: str, folder: str) -> dict[str, int]:
    """Unpack what a bundle can consist of.

    The filters of tarfile are missing in Python 3.10.11, 3.11.3 and before, and refuse a whole Debian package for one
    link to elsewhere in the system.
    """
    modes, links, count, size = {}, {}, 0, 0
    for member in archive:
        count, size = count + 1, size + max(member.size, 0)
        _limit(path, count, size)
        name = posixpath.normpath(member.name.lstrip("/"))
        refuse_escape(name, path)
        if member.issym():
            links[name] = member.linkname
        elif member.isreg():
            modes[name] = stat.S_IMODE(member.mode)
            with open(_free(_place(folder, name)), "wb") as file:
                shutil.copyfileobj(cast("IO[bytes]", archive.extractfile(member)), file)
        elif member.islnk():
            same = posixpath.normpath(member.linkname.lstrip("/"))
            refuse_escape(same, path)
            if same in links:
                links[name] = links[same]
            elif same != name:
                modes[name] = stat.S_IMODE(member.mode)
                os.link(_place(folder, same), _free(_place(folder, name)))
    # Last, so that nothing is unpacked through them.
    for name, target in links.items():
        # Where a package is installed, its root is the system's.
        absolute = target.startswith("/")
        _link(folder, name, posixpath.relpath(target, f"/{posixpath.dirname(name)}") if absolute else target)
    return modes


def _unpack_deb(path: str, folder: str) -> dict[str, int]:
    with open(path, "rb") as file:
        name, offset, length = _data_member(file, path)
        if name.endswith(".zst"):
            return _unpack_zst_deb(path, folder)
        file.seek(offset)
        with tempfile.TemporaryFile(dir=folder) as data:
            _copy(file, data, length)
            data.seek(0)
            with tarfile.open(fileobj=data) as archive:
                return _extract_tar(archive, path, folder)


def _unpack_zst_deb(path: str, folder: str) -> dict[str, int]:
    """Unpack a package that is compressed with zstd, which Ubuntu's are and Python cannot read before 3.14."""
    tool = shutil.which("dpkg-deb")
    if tool is None:
        raise UnreadableBundle(path, "it is compressed with zstd, so looking into it needs dpkg-deb on PATH")
    with subprocess.Popen(
        [tool, "--fsys-tarfile", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as unpacker:
        try:
            with tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive:
                return _extract_tar(archive, path, folder)
        finally:
            unpacker.kill()


def _data_member(file: IO[bytes], path: str) -> tuple[str, int, int]:
    """Return name, offset and length of the member of a Debian package that holds its files: deb(5), ar(5)."""
    file.seek(len(_AR_MAGIC))
    while len(header := file.read(_AR_HEADER.size)) == _AR_HEADER.size:
        fields = _AR_HEADER.unpack(header)
        name, length = fields[0].decode("ascii", "replace").strip().rstrip("/"), int(fields[5])
        if name.startswith("data.tar"):
            return name, file.tell(), length
        if length < 0:
            break
        file.seek(length + length % 2, os.SEEK_CUR)
    raise UnreadableBundle(path, "it is no Debian package: it has no data.tar")


def _copy(source: IO[bytes], target: IO[bytes], length: int) -> None:
    while length > 0 and (chunk := source.read(min(length, 1 << 20))):
        target.write(chunk)
        length -= len(chunk)


def _unpack_appimage(path: str, folder: str) -> dict[str, int]:
    unpack_appimage(path, folder, partial(_limit, path))
    return {}


_UNPACK = {"zip": _unpack_zip, "tar": _unpack_tar, "deb": _unpack_deb, "AppImage": _unpack_appimage}
