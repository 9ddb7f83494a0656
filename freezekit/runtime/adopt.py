"""Recognise a database without a version by its schema."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from freezekit.errors import DatabaseUnversioned
from freezekit.runtime.files import read_only
from freezekit.runtime.fingerprint import Fingerprints, fingerprint
from freezekit.runtime.replay import replay
from freezekit.runtime.reports import State
from freezekit.runtime.sqlite_file import read_contents
from freezekit.runtime.sqlite_upgrade import commit, write_locked
from freezekit.runtime.status import status_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from freezekit.runtime.database import Database
    from freezekit.runtime.guard import GuardedConnection
    from freezekit.runtime.job import Scripts


def adopt(scripts: Scripts, database: Database, timeout: float) -> None:
    """Stamp a database with the revision its schema is at, unless another program has given it a version meanwhile.

    Args:
        scripts: The scripts.
        database: An SQLite file that had no version.
        timeout: How long to wait for another program, in seconds.

    Raises:
        DatabaseUnversioned: Its schema is that of no revision, or of several; nothing was changed.
        DatabaseInUse: It stayed locked; nothing was changed.
        MigrationFailed: It is read-only, or the volume is full; nothing was changed.
    """
    path, manifest = database.path or "", scripts.manifest
    if (refused := read_only(path, database.name, "adoption")) is not None:
        raise refused
    known = manifest.fingerprints
    if not known:
        with tempfile.TemporaryDirectory(prefix="freezekit-") as folder:
            known = recorded_fingerprints(scripts, os.path.join(folder, "database"))
    with write_locked(path, timeout) as connection:
        status = status_of(read_contents(connection, manifest), manifest)
        if status.state is not State.UNVERSIONED:
            return
        found = fingerprint(connection, manifest.version_table or "")
        matches = [revisions for revisions, one in known.items() if one == found]
        if len(matches) != 1:
            raise DatabaseUnversioned(database.name, status.tables, matches)
        _stamp(scripts, database, connection, matches[0].split("+"))
        commit(connection, path, timeout)


def _stamp(scripts: Scripts, database: Database, connection: GuardedConnection, revisions: Sequence[str]) -> None:
    """Write into the version table that a database is at these revisions, as ``alembic stamp`` would."""
    engine = create_engine(database.file_url(None), creator=lambda: connection, poolclass=NullPool)
    with engine.connect() as offered:
        scripts.for_alembic().stamp(offered, revisions, scripts.manifest.version_table or "")


def recorded_fingerprints(scripts: Scripts, path: str) -> Mapping[str, str]:
    """Return the schema's digest after each revision, found by running them all on a new database.

    Args:
        scripts: The scripts.
        path: The new file; it stays.

    Raises:
        MigrationFailed: A revision failed; there is no file.
    """
    found: dict[str, str] = {}
    fingerprints = Fingerprints(scripts.manifest.version_table or "")

    def record(connection: sqlite3.Connection, revisions: Sequence[str]) -> None:
        found["+".join(revisions)] = fingerprints.of(connection)

    replay(scripts, path, record)
    return found
