"""The empty database that ships, so that a new document is a copy and not a replay of the whole history.

It is made by running all revisions, twice, in clean processes that differ in what a history must not depend on: hash
seed, local time, second of the day. Only if both give the same schema and the same rows does it ship.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freezekit.runtime.fingerprint import fingerprint
from freezekit.runtime.sqlite_file import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from freezekit.config import Chain

_log = logging.getLogger(__name__)
_REPLAY_SECONDS = 600
# Far enough apart that the local date differs, too.
_SURROUNDINGS = (
    {"PYTHONHASHSEED": "1", "TZ": "Etc/GMT+12"},
    {"PYTHONHASHSEED": "2", "TZ": "Etc/GMT-14"},
)


@dataclass(frozen=True)
class Snapshot:
    """What a replay of a chain gave.

    Attributes:
        fingerprints: Digest of the schema after each revision, by the ids the version table then holds.
        content: The empty database at head, compact and in gzip's format; None if two replays differ.
    """

    fingerprints: Mapping[str, str]
    content: bytes | None

    @property
    def sha256(self) -> str | None:
        """Digest of the content."""
        return None if self.content is None else hashlib.sha256(self.content).hexdigest()


def make_snapshot(chain: Chain, roots: Iterable[str]) -> Snapshot | None:
    """Replay a chain twice and compare; says why when there is no snapshot, and never fails the build.

    Args:
        chain: The chain.
        roots: Folders that its scripts import from.

    Returns:
        None if the chain cannot be replayed on SQLite.
    """
    job = {"folder": chain.folder, "section": chain.section, "path": [*chain.prepend_sys_path, *roots]}
    with tempfile.TemporaryDirectory(prefix="freezekit-") as folder:
        first, second = (os.path.join(folder, name, "database") for name in ("first", "second"))
        found = _replayed(job, first, _SURROUNDINGS[0])
        ended = time.time()
        time.sleep(int(ended) + 1 - ended)  # so that no second belongs to both runs
        again = found and _replayed(job, second, _SURROUNDINGS[1])
        if not found or not again:
            return None
        different = _differences(first, second, found["version_table"])
        if different:
            _log.warning(
                "freezekit: no empty database ships for %s, because two runs of its revisions differ in %s: "
                "they may draw random numbers or use the time of day. New databases will run all revisions.",
                chain.folder,
                ", ".join(different),
            )
            return Snapshot(found["fingerprints"] if found == again else {}, None)
        return Snapshot(found["fingerprints"], _packed(first))


def _replayed(job: Mapping[str, Any], database: str, surroundings: Mapping[str, str]) -> dict[str, Any] | None:
    os.makedirs(os.path.dirname(database))
    try:
        result = subprocess.run(
            [sys.executable, "-m", "freezekit.build.replay"],
            input=json.dumps({**job, "database": database}),
            env={**os.environ, **surroundings, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=os.path.dirname(database),
            capture_output=True,
            encoding="utf-8",
            timeout=_REPLAY_SECONDS,
            check=False,
        )
        found: dict[str, Any] = json.loads(result.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = result.stderr.strip().splitlines()[-1:] if isinstance(error, ValueError) else [str(error)]
        _log.warning("freezekit: no empty database ships for %s: %s", job["folder"], "".join(reason))
        return None
    return found


def _differences(first: str, second: str, version_table: str) -> list[str]:
    """Return the names of the tables in which two databases differ; "the schema" if that differs."""
    with closing(sqlite3.connect(first)) as one, closing(sqlite3.connect(second)) as other:
        if fingerprint(one, version_table) != fingerprint(other, version_table):
            return ["the schema"]
        names = [name for (name,) in one.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return [name for name in names if _rows(one, name) != _rows(other, name)]


def _rows(connection: sqlite3.Connection, table: str) -> list[str]:
    # By name, because two runs may have put the columns in different order.
    connection.row_factory = sqlite3.Row
    rows = connection.execute(f"SELECT * FROM {quoted(table)}")  # noqa: S608 - quoted
    return sorted(repr(sorted(dict(row).items())) for row in rows)


def _packed(database: str) -> bytes:
    """Return a database without free pages; most of one without rows is zeros, which gzip makes a tenth of."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM INTO ?", (f"{database}.compact",))
    with open(f"{database}.compact", "rb") as file:
        return gzip.compress(file.read(), mtime=0)
