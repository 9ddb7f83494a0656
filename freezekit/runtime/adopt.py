"""Recognise a database without a version by its schema."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from freezekit.errors import DatabaseUnversioned
from freezekit.runtime.fingerprint import Fingerprints, fingerprint
from freezekit.runtime.job import Request
from freezekit.runtime.replay import replay, stamp
from freezekit.runtime.sqlite_file import opened

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from freezekit.runtime.database import Database
    from freezekit.runtime.job import Scripts
    from freezekit.runtime.reports import Status

_LOOK_SECONDS = 5.0


def adopt(scripts: Scripts, database: Database, status: Status, timeout: float) -> None:
    """Stamp a database with the revision its schema is at.

    Args:
        scripts: The scripts.
        database: An SQLite file without a version.
        status: What was found in it.
        timeout: How long to wait for another program, in seconds.

    Raises:
        DatabaseUnversioned: Its schema is that of no revision, or of several; nothing was changed.
    """
    known = scripts.manifest.fingerprints
    if not known:
        with tempfile.TemporaryDirectory(prefix="freezekit-") as folder:
            known = recorded_fingerprints(scripts, os.path.join(folder, "database"))
    with opened(database.path or "", _LOOK_SECONDS) as connection:
        found = fingerprint(connection, scripts.manifest.version_table or "")
    matches = [revisions for revisions, one in known.items() if one == found]
    if len(matches) != 1:
        raise DatabaseUnversioned(database.name, status.tables, matches)
    stamp(scripts, database, matches[0].split("+"), Request("heads", timeout=timeout))


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
