"""AppImages: the file system behind their program, unpacked with the tool that people unpack them with."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
from typing import TYPE_CHECKING

from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Callable

_TOOL_SECONDS = 300
_SQUASHFS = b"hsqs"
_HEADER_SIZE = 64
# Of the header of an ELF program, by its word size: where its last table begins, its entries' size and number.
_TABLE = {1: ("<I", 0x20, 0x2E), 2: ("<Q", 0x28, 0x3A)}


def unpack_appimage(path: str, folder: str, limit: Callable[[int, int], None]) -> None:
    """Unpack the file system of an AppImage; its program is not run.

    Args:
        path: The AppImage.
        folder: An existing folder, in which a new one gets the files.
        limit: Is told how many files of how many bytes there will be; raises if that is too much.

    Raises:
        UnreadableBundle: The tool is not here or fails, or there is no file system of its kind.
    """
    tool = shutil.which("unsquashfs")
    if tool is None:
        raise UnreadableBundle(path, "looking into an AppImage needs unsquashfs on PATH: install squashfs-tools")
    offset = ["-offset", str(_offset(path))]
    _measure([tool, *offset, "-lln", path], limit)
    _run(path, [tool, *offset, "-no-progress", "-no-xattrs", "-dest", os.path.join(folder, "image"), path])


def _offset(path: str) -> int:
    """Return where the program ends, which is with its table of sections, and the file system begins."""
    with open(path, "rb") as file:
        header = file.read(_HEADER_SIZE).ljust(_HEADER_SIZE, b"\0")
        form, start, entries = _TABLE.get(header[4], _TABLE[2])
        (table,) = struct.unpack_from(form, header, start)
        size, count = struct.unpack_from("<HH", header, entries)
        offset: int = table + size * count
        file.seek(min(offset, os.fstat(file.fileno()).st_size))
        if file.read(len(_SQUASHFS)) != _SQUASHFS:
            raise UnreadableBundle(path, "no squashfs follows its program, as in an AppImage of type 2")
    return offset


def _measure(command: list[str], limit: Callable[[int, int], None]) -> None:
    """Add up what the tool lists, before anything is written: a small image may become very many bytes."""
    count, size = 0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as listing:
        stopper = threading.Timer(_TOOL_SECONDS, listing.kill)
        stopper.start()
        try:
            for line in listing.stdout or ():
                count += 1
                fields = line.split(None, 3)
                is_file = line.startswith(b"-") and len(fields) > 2 and fields[2].isdigit()  # noqa: PLR2004 - mode, owner, size
                size += int(fields[2]) if is_file else 0
                limit(count, size)
        finally:
            stopper.cancel()
            listing.kill()


def _run(path: str, command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, timeout=_TOOL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnreadableBundle(path, f"unsquashfs took longer than {_TOOL_SECONDS} s") from error
    if result.returncode:
        said = (result.stderr or result.stdout).decode(errors="replace").strip()
        raise UnreadableBundle(path, f"unsquashfs failed: {said}")
