"""From what the caller gives to single databases: patterns are expanded, one name at a time."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import re
from typing import TYPE_CHECKING, Any

from freezekit.errors import FreezekitError, UsageError
from freezekit.records import record
from freezekit.runtime.database import database_of, name_of_file
from freezekit.runtime.fleet.records import Tenant, without_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from sqlalchemy import URL

    from freezekit.runtime.reports import State

    FleetDatabase: TypeAlias = str | os.PathLike[str] | URL | Tenant

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


def _matching(pattern: str) -> Iterator[Entry]:
    matched = False
    for path in _paths(pattern):
        if not path.endswith(_COMPANIONS) and (pattern.endswith(_BACKUP) or not path.endswith(_BACKUP)):
            matched = True
            yield Entry(path, os.path.abspath(path))
    if not matched:
        raise UsageError(f"{pattern} matches no file.")


def _paths(pattern: str) -> Iterator[str]:
    """Yield what ``glob.iglob`` does for a pattern; that keeps all names of the folder of the files in memory."""
    folders, name = os.path.split(pattern)
    if name == "**" or (folders.startswith("**") and folders != "**") or not glob.has_magic(name):
        yield from glob.iglob(pattern, recursive=True)
        return
    is_meant = re.compile(fnmatch.translate(os.path.normcase(name))).match
    takes_hidden = name.startswith(".")
    for folder in _folders(folders):
        with contextlib.suppress(OSError), os.scandir(folder or os.curdir) as files:
            for file in files:
                if is_meant(os.path.normcase(file.name)) and (takes_hidden or not file.name.startswith(".")):
                    yield os.path.join(folder, file.name)


def _folders(pattern: str) -> Iterator[str]:
    if pattern == "**":
        yield ""  # which "**/" does not match, and in which "**/*" finds files all the same
    if glob.has_magic(pattern):
        yield from glob.iglob(os.path.join(pattern, ""), recursive=True)
    else:
        yield pattern


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
