"""Files that a command writes where its user says: they change as a whole, and are never a database or a device."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import TYPE_CHECKING, TextIO

from freezekit.errors import UsageError
from freezekit.runtime.sqlite_file import open_handle, turn

if TYPE_CHECKING:
    from collections.abc import Iterator

# How a database of SQLite begins, its rollback journal, and its write-ahead log, which may hold the newest rows.
_DATABASES = (b"SQLite format 3\0", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")


def check_target(path: str, option: str) -> None:
    """Refuse a file that a command cannot or must not write, before anything is done.

    Args:
        path: The file.
        option: The option that names it, for the message.

    Raises:
        UsageError: It is a folder, a device, a database or not to be written, or its folder does not exist.
    """
    if "\0" in path or os.path.isdir(path) or not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        shown = path.replace("\0", "\\0")
        raise UsageError(f"{option} {shown} names no file in a folder that exists.")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{option} {path} is no ordinary file, which is not written over: name another one.")
        with turn:
            handle = open_handle(path)
            if handle is not None:
                start = os.pread(handle, 16, 0)
            else:
                with open(path, "r+b") as file:
                    start = file.read(16)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be written: {error.strerror}.") from error
    if start.startswith(_DATABASES):
        raise UsageError(f"{option} {path} is a database, which is not written over: name another file.")


def replace_file(path: str, text: str, option: str) -> None:
    """Write a text to a file; see :func:`replaced_file`."""
    with replaced_file(path, option) as file:
        file.write(text)


@contextlib.contextmanager
def replaced_file(path: str, option: str) -> Iterator[TextIO]:
    """Yield what to write to, as UTF-8; the file has its old content or all of the new one, whatever happens.

    Args:
        path: The file; a link is followed, and the rights of a file that exists stay.
        option: The option that names it, for the message.

    Yields:
        A file of text; what UTF-8 cannot hold is escaped.

    Raises:
        UsageError: As for :func:`check_target`; nothing was changed.
        OSError: It cannot be written; nothing was changed.
    """
    check_target(path, option)
    target = os.path.realpath(path)
    part = os.path.join(os.path.dirname(target), f".freezekit-{os.urandom(4).hex()}.part")
    try:
        with open(part, "x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, part)
        os.replace(part, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)
