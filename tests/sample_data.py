"""What the tests know about the documents of sample_app, by sqlite3 and plain Alembic alone."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config

ROOT = Path(__file__).resolve().parent.parent
MIGRATIONS = ROOT / "sample_app" / "migrations"
RELEASES = [ROOT / "sample_app" / "releases" / f"{release}.notes" for release in ("1.0", "1.1", "2.0")]
"""A document written by each past release, oldest first; never open one in place: copy it."""

release_heads = {"1.0": "0002", "1.1": "e3a95f1786bc", "2.0": "v2.0.1"}
"""The last revision each past release knew, by the stem of its document."""

revisions = (
    "0001",
    "0002",
    "5d1c0e8f27aa",
    "b82f64d01c7a",
    "e3a95f1786bc",
    "v2.0.0.a",
    "v2.0.0.b",
    "v2.0.1",
    "c40d7be91f35",
    "9f6b2a7d418e",
)
"""Every revision, parents first."""

expected_head = revisions[-1]


def pending(release: str) -> tuple[str, ...]:
    """Return the revisions that a document of a past release lacks, parents first."""
    return revisions[revisions.index(release_heads[release]) + 1 :]


def damaged(path: Path) -> None:
    """Destroy all of a database but its first page."""
    pages = bytearray(path.read_bytes())
    pages[4096:] = b"\xaa" * (len(pages) - 4096)
    path.write_bytes(pages)


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables of a database, sorted, the version table included; the file is only read."""
    with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        tables = [name for (name,) in connection.execute(query) if not name.startswith("sqlite_")]
        return {table: sorted(connection.execute(f'SELECT * FROM "{table}"'), key=repr) for table in tables}


def columns(path: Path) -> dict[str, list[str]]:
    """Return the column names of each table, in the order in which ``content`` has their values."""
    with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return {
            table: [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
            for table in content(path)
        }


def plain_upgrade(path: Path | None, copy_to: Path, revision: str = "head") -> Path:
    """Copy a document and upgrade the copy with plain Alembic; without a document, begin with no file."""
    if path is not None:
        shutil.copyfile(path, copy_to)
    command.upgrade(plain_config(copy_to), revision)
    return copy_to


def plain_config(path: Path) -> Config:
    """Return a configuration for plain Alembic, without an ini; the stock env.py opens the file without a pool."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}".replace("%", "%%"))
    return config
