"""For the test suites of applications: is the history sound, and does what users have survive it."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezekit.config import chain_of, project_chains
from freezekit.errors import InvalidMigrations, UsageError
from freezekit.manifest import DEFAULT_SECTION
from freezekit.runtime.locate import locate
from freezekit.runtime.sqlite_file import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from freezekit.config import Chain
    from freezekit.manifest import Manifest
    from freezekit.runtime.migrations import Migrations
    from freezekit.runtime.reports import Report

    Rows = Mapping[str, tuple[Mapping[str, Any], ...]]


def validate(
    script_location: str, *, section: str = DEFAULT_SECTION, heads: int | None = 1, repeatable: bool = True
) -> Manifest:
    """Prove a history sound, on SQLite: every script can be read, it has one head, and two runs of it are alike.

    The runs happen in processes that differ in hash seed and local time, on databases in a temporary folder.

    Args:
        script_location: ``"package:folder"`` or a folder.
        section: Section of alembic.ini, for one of several chains.
        heads: How many heads there must be; None for any number.
        repeatable: Whether both runs must give the same schema and rows.

    Returns:
        The manifest, with the digest of the schema after each revision.

    Raises:
        InvalidMigrations: Something of that is not so; ``issues`` says what.
        MigrationsNotFound: There are no scripts.

    Example:
        >>> def test_migrations():
        ...     freezekit.check.validate("myapp:migrations")
    """
    migrations = locate(script_location, section=section)
    chain = chain_of(migrations.scripts.tree.root, section, script_location)
    return _validate(migrations, chain, sys.path, heads=heads, repeatable=repeatable)


def _validate(
    migrations: Migrations, chain: Chain, roots: Iterable[str], *, heads: int | None, repeatable: bool
) -> Manifest:
    from freezekit.build.snapshot import make_snapshot

    migrations.verify()
    manifest = migrations.manifest
    if heads is not None and len(manifest.heads) != heads:
        found = ", ".join(manifest.heads)
        raise InvalidMigrations(chain.script_location, [f"there are {len(manifest.heads)} heads, not {heads}: {found}"])
    with _warnings() as said:
        snapshot = make_snapshot(chain, [os.path.abspath(entry) for entry in roots])
    if snapshot is None or (repeatable and snapshot.content is None):
        raise InvalidMigrations(chain.script_location, said or ["the revisions cannot be run on SQLite"])
    return replace(manifest, fingerprints=snapshot.fingerprints)


@dataclass(frozen=True)
class ProjectMigrations:
    """All migrations that a project configures: what the fixture ``migrations`` is.

    Attributes:
        project: Folder of pyproject.toml or alembic.ini.
    """

    project: str

    def validate(self, *, heads: int | None = 1, repeatable: bool = True) -> tuple[Manifest, ...]:
        """Prove the history of each configured chain sound, as :func:`validate` does; changes nothing.

        Args:
            heads: How many heads each must have; None for any number.
            repeatable: Whether two runs of each must give the same schema and rows.

        Returns:
            The manifests, in the order of the configuration.

        Raises:
            InvalidMigrations: Something of that is not so; ``issues`` says what.
            UsageError: The project configures no migrations, or its configuration is wrong.

        Example:
            >>> def test_migrations(migrations):
            ...     migrations.validate()
        """
        chains = project_chains(self.project)
        if not chains:
            raise UsageError(
                f"Nothing in {self.project} configures migrations: set script_location in [tool.freezekit] or "
                "[tool.alembic] of pyproject.toml, or in alembic.ini."
            )
        roots = [self.project, os.path.join(self.project, "src"), *sys.path]
        return tuple(
            _validate(locate(one.folder, section=one.section), one, roots, heads=heads, repeatable=repeatable)
            for one in chains
        )


class _Collector(logging.Handler):
    """Keeps what it is given."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self._messages.append(record.getMessage())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the build would say."""
    messages: list[str] = []
    collector, logger = _Collector(messages), logging.getLogger("freezekit.build.snapshot")
    logger.addHandler(collector)
    try:
        yield messages
    finally:
        logger.removeHandler(collector)


@dataclass(frozen=True)
class Upgraded:
    """A database before and after an upgrade.

    Attributes:
        path: The upgraded file.
        before: Every row of every table before, as mappings, by table.
        after: The same after.
        report: What the upgrade did.
    """

    path: Path
    before: Rows
    after: Rows
    report: Report

    @property
    def lost(self) -> Mapping[str, int]:
        """How many rows fewer each table has than before; a table that is gone has none."""
        counts = {name: len(rows) - len(self.after.get(name, ())) for name, rows in self.before.items()}
        return {name: count for name, count in counts.items() if count > 0}


def upgrade_from(  # noqa: PLR0913 - each is a fact of the test
    script_location: str,
    revision: str,
    insert: str | Callable[[sqlite3.Connection], object],
    path: str | os.PathLike[str],
    *,
    to: str = "heads",
    section: str = DEFAULT_SECTION,
) -> Upgraded:
    """Create a database at a revision, insert rows, upgrade it, and return what was there before and after.

    Args:
        script_location: ``"package:folder"`` or a folder.
        revision: Where to begin.
        insert: SQL statements, or a function that gets a connection of :mod:`sqlite3`; what it did is committed.
        path: The new file.
        to: The target of the upgrade.
        section: Section of alembic.ini, for one of several chains.

    Raises:
        MigrationFailed: A revision failed.
        UsageError: A revision is unknown.

    Example:
        >>> upgraded = upgrade_from("myapp:migrations", "0001", "INSERT INTO note VALUES (1, 'x')", tmp_path / "db")
        >>> upgraded.after["note"][0]["title"]
        'x'
        >>> assert not upgraded.lost
    """
    migrations = locate(script_location, section=section)
    migrations.upgrade(path, revision, backup=None)
    with closing(sqlite3.connect(path)) as connection:
        if callable(insert):
            insert(connection)
        else:
            connection.executescript(insert)
        connection.commit()
    before = _rows(path)
    report = migrations.upgrade(path, to, backup=None)
    return Upgraded(Path(path), before, _rows(path), report)


def _rows(path: str | os.PathLike[str]) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
        tables = [row[0] for row in connection.execute(names)]
        select = "SELECT * FROM {}"
        return {name: tuple(map(dict, connection.execute(select.format(quoted(name))))) for name in tables}
