"""What is still to do and what was done, outside of memory: a private SQLite database that SQLite itself removes.

SQLite keeps the first 2 MB of it in memory, and writes no file for less.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.runtime.fleet.records import Outcome

_TABLES = """
CREATE TABLE seen (key BLOB PRIMARY KEY, name BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE todo (number INTEGER PRIMARY KEY, size INTEGER NOT NULL, entry BLOB NOT NULL);
CREATE TABLE outcome (number INTEGER PRIMARY KEY, result TEXT NOT NULL, entry BLOB NOT NULL);
CREATE INDEX by_result ON outcome (result);
"""


class Ledger:
    """Entries to do, by size, and outcomes, in order; what is in it lives as long as the object.

    Raises:
        OSError: By all that is done with it: the volume of temporary files is full. After that, nothing is noted.
    """

    def __init__(self) -> None:
        # An empty name: https://www.sqlite.org/inmemorydb.html, section 3.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._is_full = False
        self._database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;{_TABLES}BEGIN")

    def __del__(self) -> None:
        self.close()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            if self._is_full:  # without a journal, what failed once is damaged
                return
            self._is_full = True
            # https://www.sqlite.org/tempfiles.html, section 5
            folder = os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - only named
            reason = "no room for temporary files: make some there, or let SQLITE_TMPDIR name another folder"
            raise OSError(errno.ENOSPC, reason, folder) from error

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def first_of(self, key: str, name: str) -> str | None:
        """Return the name under which the same file or database was entered before; enter it if it was not."""
        row = key.encode(errors="surrogatepass"), name.encode(errors="surrogatepass")
        with self._noting():
            if self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", row).rowcount:
                return None
            (first,) = self._database.execute("SELECT name FROM seen WHERE key = ?", row[:1]).fetchone()
            return str(first, errors="surrogatepass")
        return None

    def put(self, size: int, entry: Any) -> None:
        """Add something to do."""
        with self._noting():
            self._database.execute("INSERT INTO todo (size, entry) VALUES (?, ?)", (size, pickle.dumps(entry)))

    def todo(self) -> int:
        """Return how much there is to do."""
        return int(self._database.execute("SELECT count(*) FROM todo").fetchone()[0])

    def taken(self) -> Iterator[Any]:
        """Yield what is to do, the largest first."""
        with self._noting():
            self._database.execute("CREATE INDEX by_size ON todo (size DESC, number)")
        if not self._is_full:
            for (entry,) in self._database.execute("SELECT entry FROM todo ORDER BY size DESC, number"):
                yield pickle.loads(entry)  # noqa: S301 - written above

    def add(self, outcome: Outcome) -> None:
        """Add what became of a database."""
        row = (outcome.result, pickle.dumps(outcome))
        with self._noting():
            self._database.execute("INSERT INTO outcome (result, entry) VALUES (?, ?)", row)

    def counts(self) -> dict[str, int]:
        """Return how many outcomes there are of each result."""
        return dict(self._database.execute("SELECT result, count(*) FROM outcome GROUP BY result"))

    def outcomes(self, results: tuple[str, ...] = ()) -> Iterator[Outcome]:
        """Yield the outcomes with one of these results, or all, in the order in which they came."""
        chosen = f" WHERE result IN ({', '.join('?' * len(results))})" if results else ""
        sql = f"SELECT entry FROM outcome{chosen} ORDER BY number"  # noqa: S608 - question marks
        for (entry,) in self._database.execute(sql, results):
            yield pickle.loads(entry)  # noqa: S301 - written above
