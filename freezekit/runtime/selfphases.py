"""The phases of a bundle's test of itself: each tries one thing on scratch files, and raises what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

from freezekit.errors import (
    DatabaseAhead,
    DatabaseUnversioned,
    ForeignDatabase,
    FreezekitError,
    InvalidMigrations,
    NotADatabase,
)
from freezekit.runtime.fingerprint import fingerprint
from freezekit.runtime.reports import State
from freezekit.runtime.selfcheck import Skipped
from freezekit.runtime.sqlite_file import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.manifest import Manifest
    from freezekit.runtime.job import Scripts
    from freezekit.runtime.migrations import Migrations

_OTHERS_MARK = 0x7A7A7A7A
# https://www.sqlite.org/fileformat.html, section 1.6: the header of the first page follows that of the file.
_FIRST_PAGE = 100


class Unexpected(Exception):
    """Something else happened than what must; the message says what."""


class Subject:
    """One chain of the bundle, and its scratch files."""

    def __init__(self, number: int, migrations: Migrations, folder: str) -> None:
        self.number = number
        self.migrations = migrations
        self._folder = folder

    @property
    def manifest(self) -> Manifest:
        """What was shipped."""
        return self.migrations.manifest

    @property
    def facts(self) -> dict[str, Any]:
        """What the runner should know of the chain, as far as no script must be read for it."""
        return {"script_location": str(self.migrations.script_location), "section": self.migrations.section}

    def file(self, name: str) -> str:
        """Return the path of a scratch file."""
        return os.path.join(self._folder, f"{self.number}-{name}.db")

    def copied(self, source: str, name: str) -> str:
        """Copy one scratch file to another."""
        return shutil.copyfile(self.file(source), self.file(name))

    def upgrade(self, path: str, revision: str = "heads") -> None:
        """Upgrade a scratch file, and look again whether it is at head."""
        self.migrations.upgrade(path, revision, backup=None)
        status = self.migrations.status(path)
        if revision == "heads" and status.state is not State.CURRENT:
            raise Unexpected(f"{os.path.basename(path)} is {status.state.value} after an upgrade, at {status.current}")


def files(subjects: Sequence[Subject], _databases: Sequence[str]) -> list[dict[str, Any]]:
    """Compare every file with the manifest."""
    for subject in subjects:
        subject.migrations.verify()
    return [
        {
            "heads": one.manifest.heads,
            "revisions": len(one.manifest.revisions),
            "version_table": one.manifest.version_table,
            "is_repeatable": one.manifest.snapshot is not None,
            "built_with": dict(one.manifest.built_with),
        }
        for one in subjects
    ]


def scripts(subjects: Sequence[Subject], _databases: Sequence[str]) -> None:
    """Execute every revision and compile every other script: what they import is in the bundle."""
    for subject in subjects:
        located = subject.migrations.scripts
        names = sorted(name for name in located.manifest.files if name.endswith(".py"))
        if issues := [issue for name in names if (issue := _issue_of(located, name))]:
            raise InvalidMigrations(located.tree.root, issues)


def _issue_of(located: Scripts, name: str) -> str | None:
    """Return what is wrong with one script, or None."""
    from freezekit.runtime.environment import turn
    from freezekit.runtime.host import undisturbed

    revision = next((one.revision for one in located.manifest.revisions if one.file == name), None)
    try:
        with turn.taken(name), undisturbed(located.prepend_sys_path):
            if revision is None:
                compile(located.tree.read(name), name, "exec", dont_inherit=True)
            else:
                _ = located.for_alembic().get_revision(revision).module
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a script may raise anything
        return f"{name}: {type(error).__name__}: {error}"
    return None


def empty(subjects: Sequence[Subject], _databases: Sequence[str]) -> None:
    """Upgrade an empty database."""
    for subject in subjects:
        subject.upgrade(subject.file("empty"))


def revisions(subjects: Sequence[Subject], _databases: Sequence[str]) -> None:
    """Compare the schema after each revision with the one that the build recorded."""
    from freezekit.runtime.adopt import recorded_fingerprints

    if not any(one.manifest.fingerprints for one in subjects):
        raise Skipped("the build recorded no schemas")
    for subject in subjects:
        expected = subject.manifest.fingerprints
        found = recorded_fingerprints(subject.migrations.scripts, subject.file("replay")) if expected else {}
        wrong = [one for one in {**expected, **found} if expected.get(one) != found.get(one)]
        if wrong:
            raise Unexpected(f"the schema is another than where it was built, after {', '.join(wrong)}")


def snapshot(subjects: Sequence[Subject], _databases: Sequence[str]) -> None:
    """Compare a new database that is a copy of the shipped one with one that all revisions made."""
    if not any(one.manifest.snapshot for one in subjects):
        raise Skipped("no empty database was shipped")
    for subject in (one for one in subjects if one.manifest.snapshot):
        subject.migrations.create(subject.file("created"))
        created, table = subject.file("created"), subject.manifest.version_table or ""
        if _schema(created, table) != _schema(subject.file("empty"), table):
            raise Unexpected("the shipped empty database has another schema than the revisions make")
        made, run = _rows(created), _rows(subject.file("empty"))
        if different := sorted(name for name in {*made, *run} if made.get(name) != run.get(name)):
            raise Unexpected(f"the shipped empty database has other rows than the revisions make: {different}")


def old(subjects: Sequence[Subject], _databases: Sequence[str]) -> list[int]:
    """Make a database at the first revision, and upgrade a copy of it; the numbers of the chains that have more."""
    meant = [one for one in subjects if len(one.manifest.revisions) > 1]
    if not meant:
        raise Skipped("there is only one revision")
    for subject in meant:
        subject.upgrade(subject.file("old"), subject.manifest.revisions[0].revision)
        subject.upgrade(subject.copied("old", "old-upgraded"))
    return [one.number for one in meant]


def releases(subjects: Sequence[Subject], databases: Sequence[str]) -> dict[str, int]:
    """Upgrade each database of a past release; by its name, the chain it belongs to."""
    if not databases:
        raise Skipped("no databases of past releases were given")
    belongs: dict[str, int] = {}
    failures = []
    for path in databases:
        name = os.path.basename(path)
        try:
            for subject in (one for one in subjects if one.migrations.status(path).current or len(subjects) == 1):
                subject.upgrade(path)
                belongs.setdefault(name, subject.number)
            if name not in belongs:
                failures.append(f"{name}: it belongs to no chain of this bundle")
        except (FreezekitError, Unexpected) as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    if failures:
        raise Unexpected("\n".join(failures))
    return belongs


def newer(subjects: Sequence[Subject], _databases: Sequence[str]) -> None:
    """Refuse a database of a newer release."""
    for subject in subjects:
        path, table = subject.copied("empty", "newer"), quoted(subject.manifest.version_table or "")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - quoted
            connection.execute(f"INSERT INTO {table} VALUES ('of_a_newer_release')")  # noqa: S608 - quoted
        _refused(subject, path, DatabaseAhead)


def unversioned(subjects: Sequence[Subject], _databases: Sequence[str]) -> None:
    """Refuse a database that has tables and no version."""
    for subject in subjects:
        with contextlib.closing(sqlite3.connect(subject.file("unversioned"))) as connection:
            connection.execute("CREATE TABLE freezekit_selftest (id INTEGER PRIMARY KEY)")
        _refused(subject, subject.file("unversioned"), DatabaseUnversioned)


def foreign(subjects: Sequence[Subject], _databases: Sequence[str]) -> None:
    """Refuse what is no database and, where the application marks its own, the database of another one."""
    for subject in subjects:
        with open(subject.file("text"), "w", encoding="utf-8") as file:
            file.write("Not a database. " * 64)
        _refused(subject, subject.file("text"), NotADatabase)
        if subject.manifest.application_id:
            path = subject.copied("empty", "foreign")
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute(f"PRAGMA application_id = {_OTHERS_MARK}")
            _refused(subject, path, ForeignDatabase)


def damaged(subjects: Sequence[Subject], _databases: Sequence[str]) -> None:
    """Refuse a database whose first page is damaged."""
    for subject in subjects:
        path = subject.copied("empty", "damaged")
        with open(path, "rb+") as file:
            file.seek(_FIRST_PAGE)
            file.write(b"\xff" * 12)
        _refused(subject, path, NotADatabase)


def _refused(subject: Subject, path: str, expected: type[FreezekitError]) -> None:
    """Raise unless an upgrade is refused by exactly this error, and leaves the file and its folder as they were."""
    before, beside = _digest(path), sorted(os.listdir(os.path.dirname(path)))
    try:
        subject.migrations.upgrade(path, backup=None)
    except expected:
        if _digest(path) != before or sorted(os.listdir(os.path.dirname(path))) != beside:
            raise Unexpected(f"{os.path.basename(path)} was refused, and changed all the same") from None
        return
    raise Unexpected(f"{os.path.basename(path)} was not refused")


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _schema(path: str, version_table: str) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return fingerprint(connection, version_table)


def _rows(path: str) -> dict[str, list[str]]:
    """Return all rows of a database by table, columns by name: two ways to a schema may order them differently."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f"SELECT * FROM {quoted(name)}") for name in names}  # noqa: S608 - quoted
        return {name: sorted(repr(sorted(dict(row).items())) for row in found) for name, found in rows.items()}


# By its name: the phases without which it cannot be tried, and the work.
PHASES: dict[str, tuple[tuple[str, ...], Callable[[Sequence[Subject], Sequence[str]], Any]]] = {
    "files": ((), files),
    "scripts": (("files",), scripts),
    "empty": (("files", "scripts"), empty),
    "revisions": (("empty",), revisions),
    "snapshot": (("empty",), snapshot),
    "old": (("empty",), old),
    "releases": (("files", "scripts"), releases),
    "newer": (("empty",), newer),
    "unversioned": (("files",), unversioned),
    "foreign": (("empty",), foreign),
    "damaged": (("empty",), damaged),
}
