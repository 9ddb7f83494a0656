"""Files that appear complete or not at all, are on disk when that is said, and are as private as their original."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING

from freezekit.errors import MigrationFailed, NotADatabase, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRIVATE = 0o600
_SIDECARS = ("-journal", "-wal", "-shm")


def led_to(path: str) -> str:
    """Return the file a path leads to, where it is a link; the folders above it may be links as well."""
    return os.path.realpath(path) if os.path.islink(path) else path


def refuse_missing_folder(path: str) -> None:
    """Raise if there is no folder for a file.

    Raises:
        NotADatabase: It says so.
    """
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise NotADatabase(path, "its folder does not exist", advice="make the folder, or choose another")


def read_only(path: str, name: str, action: str = "upgrade") -> MigrationFailed | None:
    """Return why a database can be neither changed nor made: its file or its folder is read-only; else None.

    Args:
        path: The file; a link is followed, for SQLite puts the journal beside what it leads to.
        name: What the message calls it.
        action: What was to be done with it.
    """
    path = os.path.abspath(led_to(path))
    if not os.path.exists(path):
        if os.access(os.path.dirname(path), os.W_OK):
            return None
        advice = "choose another folder, or make this one writable"
        return MigrationFailed(name, "its folder is read-only", action="creation", advice=advice)
    is_writable = os.access(path, os.W_OK), os.access(os.path.dirname(path), os.W_OK)
    if all(is_writable):
        return None
    which = {
        (False, True): "the file is",
        (True, False): "its folder is",
        (False, False): "the file and its folder are",
    }
    advice = "make that writable, or copy the database to a folder that can be written"
    return MigrationFailed(name, f"{which[is_writable]} read-only", action=action, advice=advice)


@contextlib.contextmanager
def private_part(path: str, action: str = "creation") -> Iterator[str]:
    """Yield an unused name in a private folder beside a file; what is left there is removed in the end.

    Args:
        path: The file.
        action: What errors call that for which it is made.

    Raises:
        NotADatabase: The folder does not exist.
        MigrationFailed: The folder is read-only, or the volume is full or failing.
    """
    folder, name = os.path.split(os.path.abspath(path))
    prefix = f".{name}."
    with (
        _writing_errors_named(path, action),
        tempfile.TemporaryDirectory(prefix=prefix, suffix=".part", dir=folder) as private,
    ):
        yield os.path.join(private, name)


def write_new(path: str, content: bytes) -> None:
    """Write a file that appears under its name complete and on disk, or not at all; one that exists is never replaced.

    Raises:
        UsageError: There is something of that name.
        NotADatabase: The folder does not exist.
        MigrationFailed: The folder is read-only, or the volume is full or failing.
    """
    folder, name = os.path.split(os.path.abspath(path))
    part = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.part")
    with _writing_errors_named(path):
        try:
            with open(part, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            publish(part, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)


@contextlib.contextmanager
def _writing_errors_named(path: str, action: str = "creation") -> Iterator[None]:
    refuse_missing_folder(path)
    try:
        yield
    except OSError as error:
        reason = f"it could not be written ({error.strerror or error})"
        raise read_only(path, path, action) or MigrationFailed(path, reason, action=action) from error


@contextlib.contextmanager
def named_part(path: str) -> Iterator[str]:
    """Yield the name of a new, empty file that only its owner can read; it is removed unless it was renamed.

    The name is always the same, so that what a killed program leaves is found and removed the next time.
    """
    part = f"{path}.part"
    remove(part)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, _PRIVATE))
    try:
        yield part
    finally:
        with contextlib.suppress(OSError):
            remove(part)


def remove(path: str) -> None:
    """Remove a file and what SQLite may have left beside it."""
    remove_sidecars(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_sidecars(path: str) -> None:
    """Remove what SQLite may have left beside a file."""
    for suffix in _SIDECARS:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)


def sync(path: str) -> None:
    """Have the content of a file on disk when this returns."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder_of(path: str) -> None:
    """Have the names of a file's folder on disk when this returns, where a system can do that."""
    if os.name == "nt":
        return
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def take_rights(original: str, copy: str) -> None:
    """Let those read a copy who can read the original, and nobody else; neither file is opened."""
    wanted = os.stat(original)
    made = os.stat(copy)
    if os.name != "nt":
        with contextlib.suppress(OSError):
            os.chown(copy, wanted.st_uid if os.geteuid() == 0 else -1, wanted.st_gid)
        made = os.stat(copy)
    with contextlib.suppress(OSError):
        shutil.copystat(original, copy)
    if made.st_gid != wanted.st_gid:
        # Another group than the original's would otherwise be given what was meant for that one.
        os.chmod(copy, stat.S_IMODE(wanted.st_mode) & ~stat.S_IRWXG)
    os.utime(copy)


def publish(part: str, path: str) -> None:
    """Give a finished file its name, unless somebody else took the name meanwhile, and make that permanent.

    Raises:
        UsageError: The name is taken.
    """
    try:
        _rename_new(part, path)
    except FileExistsError as error:
        raise UsageError(f"{path} was made by somebody else meanwhile. Nothing was changed.") from error
    sync_folder_of(path)


def _rename_new(part: str, path: str) -> None:
    try:
        os.link(part, path)
    except (AttributeError, NotImplementedError, PermissionError):  # a volume without hard links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.replace(part, path)
    else:
        os.unlink(part)
