"""From what the caller gives to single databases: patterns are expanded, one name at a time."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from typing import TYPE_CHECKING, Any

from freezekit.errors import FreezekitError, NotADatabase, UsageError
from freezekit.records import record
from freezekit.runtime.database import database_of, name_of_file
from freezekit.runtime.fleet.records import Tenant, without_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from sqlalchemy import URL

    from freezekit.runtime.reports import State

    FleetDatabase: TypeAlias = str | os.PathLike[str] | URL | Tenant

_SEPARATORS = os.sep + (os.altsep or "")
_BACKUP = ".bak"
# What lies beside a database while it is in use: SQLite's own files, and the private copy of an upgrade.
_COMPANIONS = ("-wal", "-shm", "-journal", ".freezekit-upgrading")


@record
class Entry:
    """One database of a fleet, as it is sent to a worker.

    Attributes:
        name: What messages and the report call it.
        path: The file, for an SQLite file.
        target: Another database, or a URL of the file that says more than its path; otherwise None.
        state: What it was found to be; None before it was looked at.
    """

    name: str
    path: str | None = None
    target: Tenant | str | None = None
    state: State | None = None


def entries(databases: Any) -> Iterator[Entry | tuple[str, FreezekitError]]:
    """Yield each database, or its name and the reason why it is none; reads the iterable only as far as asked.

    Args:
        databases: A path, a pattern, a URL, a :class:`Tenant`, or an iterable of these.

    Raises:
        UsageError: It is none of these.
    """
    from_one = _is_one(databases)
    if not from_one and not hasattr(databases, "__iter__"):
        raise _no_entry(databases)
    given: Iterable[Any] = (databases,) if from_one else databases
    for one in given:
        yield from _meant_by(one)


def is_collection(databases: Any) -> bool:
    """Return whether several databases are given that are all there: to read on costs nothing, and ends."""
    return hasattr(databases, "__len__") and not _is_one(databases)


def _is_one(databases: Any) -> bool:
    return isinstance(databases, (str, os.PathLike, Tenant)) or type(databases).__name__ == "URL"


def _meant_by(one: Any) -> Iterator[Entry | tuple[str, FreezekitError]]:
    try:
        if _is_pattern(one):
            yield from _matching(os.fspath(one))
        else:
            yield _entry(one)
    except FreezekitError as error:
        yield str(one) if isinstance(one, Tenant) else without_password(str(one)), error


def _is_pattern(one: Any) -> bool:
    """Return whether something is a pattern; a file of that very name is meant rather than the pattern."""
    if not isinstance(one, (str, os.PathLike)):
        return False
    text = os.fspath(one)
    if not isinstance(text, str):
        return False
    name_of_file(text)
    return glob.has_magic(text) and "://" not in text and not os.path.lexists(text)


def _matching(pattern: str) -> Iterator[Entry | tuple[str, FreezekitError]]:
    matched = False
    for path in _paths(pattern):
        if isinstance(path, OSError):
            matched = True
            folder = str(path.filename)
            yield folder, NotADatabase(folder, f"it cannot be looked into ({path.strerror})")
        elif not path.endswith(_COMPANIONS) and (pattern.endswith(_BACKUP) or not path.endswith(_BACKUP)):
            matched = True
            yield Entry(path, os.path.abspath(path))
    if not matched:
        raise UsageError(f"{pattern} matches no file.")


def _paths(pattern: str) -> Iterator[str | OSError]:
    """Yield what ``glob.iglob`` does for a pattern, and why a folder cannot be read, over which that passes.

    It keeps no names of the files of a folder in memory, and does not go round in circles where links lead up again.
    """
    folders, name = os.path.split(pattern)
    drive, rest = os.path.splitdrive(folders)
    root = rest[: len(rest) - len(rest.lstrip(_SEPARATORS))]
    parts = [part for part in re.split(f"[{re.escape(_SEPARATORS)}]", rest) if part]
    if name == "**":  # the folders themselves, and all that is below
        yield from _paths(os.path.join(folders, ""))
        parts, name = [*parts, name], "*"
    for folder in _folders(drive + root, [*parts, name], frozenset()):
        if isinstance(folder, OSError):
            yield folder
        elif not name:
            if folder:
                yield os.path.join(folder, "")
        elif glob.has_magic(name):
            yield from _names(folder, name)
        elif os.path.lexists(path := os.path.join(folder, name)):
            yield path


def _folders(folder: str, parts: Sequence[str], above: frozenset[tuple[int, int]]) -> Iterator[str | OSError]:
    """Yield the folders below one to which these parts of a pattern lead, but for the last, which is of files."""
    part, *rest = parts
    if not rest:
        yield folder
    elif part == "**":
        yield from _folders(folder, rest, above)
        try:
            found = os.stat(folder or os.curdir)
        except OSError:  # it is gone by now
            return
        here = above | {(found.st_dev, found.st_ino)}
        for one in _names(folder, "*", folders_outside=here):
            if not isinstance(one, OSError):
                yield from _folders(one, parts, here)
            elif not glob.has_magic(rest[0]):  # else whoever reads the folder next says so
                yield one
    elif glob.has_magic(part):
        for one in _names(folder, part, folders_outside=frozenset()):
            yield from (one,) if isinstance(one, OSError) else _folders(one, rest, above)
    elif os.path.isdir(path := os.path.join(folder, part)):
        yield from _folders(path, rest, above)


def _names(
    folder: str, pattern: str, *, folders_outside: frozenset[tuple[int, int]] | None = None
) -> Iterator[str | OSError]:
    """Yield what in a folder matches the last part of a pattern, or why it cannot be read.

    Args:
        folder: The folder; empty for the current one.
        pattern: One part of a pattern.
        folders_outside: Yield folders only, and none of these, to which a link may lead back.
    """
    is_meant = re.compile(fnmatch.translate(os.path.normcase(pattern))).match
    takes_hidden = pattern.startswith(".")
    try:
        with os.scandir(folder or os.curdir) as files:
            for file in files:
                if not is_meant(os.path.normcase(file.name)) or (file.name.startswith(".") and not takes_hidden):
                    continue
                if folders_outside is None or _is_folder_outside(file, folders_outside):
                    yield os.path.join(folder, file.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield error


def _is_folder_outside(file: os.DirEntry[str], above: frozenset[tuple[int, int]]) -> bool:
    try:
        if not file.is_dir():
            return False
        found = file.stat() if file.is_symlink() else None
    except OSError:
        return False
    return found is None or (found.st_dev, found.st_ino) not in above


def _entry(one: Any) -> Entry:
    if isinstance(one, Tenant):
        database = database_of(one.url)
        if database.path is None or one.schema is not None:
            return Entry(str(one), None, one)
        says_more = database.driver or one.x_arguments
        tenant = Tenant(database.file_url(None), None, one.x_arguments) if says_more else None
        return Entry(database.name, database.path, tenant)
    if not isinstance(one, (str, os.PathLike)) and type(one).__name__ != "URL":
        raise _no_entry(one)
    database = database_of(one)
    if database.path is None:
        url = database.url
        return Entry(database.name, None, Tenant(url.render_as_string(hide_password=False) if url is not None else ""))
    return Entry(database.name, database.path, database.file_url(None) if database.driver else None)


def _no_entry(one: object) -> UsageError:
    kind = type(one).__name__
    if kind.endswith(("Engine", "Connection")):
        return UsageError(f"{kind} cannot be given to another process, as databases of a fleet are: give its URL.")
    return UsageError(f"{one!r} is no database of a fleet: give a path, a pattern, a URL or a Tenant.")
