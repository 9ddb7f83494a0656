"""What is measured within one process: each case compares the bare floor, freezekit and plain Alembic."""

from __future__ import annotations

import json
import logging.config  # noqa: F401 - the stock env.py imports it
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from measure import Effort, interleaved, seconds

import freezekit

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit import Migrations


@dataclass(frozen=True)
class Subject:
    """One chain of revisions, and its databases.

    Attributes:
        location: Where freezekit finds the scripts.
        folder: Where Alembic does.
        current: A database at head.
        behind: A database that lacks the last revision.
        statement: What the last revision does.
        scratch: An empty folder to work in.
    """

    location: str
    folder: str
    current: str
    behind: str
    statement: str
    scratch: str

    def migrations(self) -> Migrations:
        """Return the scripts as freezekit has them."""
        return freezekit.locate(self.location)

    def config(self, database: str) -> Config:
        """Return what plain Alembic needs."""
        config = Config()
        config.set_main_option("script_location", self.folder)
        config.set_main_option("sqlalchemy.url", f"sqlite:///{database}")
        return config


Candidates = dict[str, "Callable[[], float]"]


def _ask_sqlite(database: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT version_num FROM alembic_version").fetchall()


def status(subject: Subject) -> Candidates:
    """Ask whether a database is current."""
    migrations, database = subject.migrations(), subject.current
    return {
        "floor": lambda: seconds(lambda: _ask_sqlite(database)),
        "freezekit": lambda: seconds(lambda: migrations.status(database)),
        "freezekit, located anew": lambda: seconds(lambda: subject.migrations().status(database)),
        "alembic": lambda: seconds(lambda: command.upgrade(subject.config(database), "head")),
    }


def locate(subject: Subject) -> Candidates:
    """Find the scripts and learn which revisions there are."""
    return {
        "freezekit": lambda: seconds(lambda: subject.migrations().manifest),
        "alembic": lambda: seconds(lambda: ScriptDirectory.from_config(subject.config("")).get_heads()),
    }


def _upgrade_sqlite(database: str, statement: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(statement)
        connection.execute("UPDATE alembic_version SET version_num = 'done'")
        connection.execute("COMMIT")


def upgrade(subject: Subject) -> Candidates:
    """Run one pending revision, on a fresh copy each time."""
    migrations, database = subject.migrations(), os.path.join(subject.scratch, "document")

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def measured() -> float:
            for name in os.listdir(subject.scratch):
                os.unlink(os.path.join(subject.scratch, name))
            shutil.copyfile(subject.behind, database)
            _durable(database)
            return seconds(work)

        return measured

    return {
        "floor": timed(lambda: _upgrade_sqlite(database, subject.statement)),
        "freezekit": timed(lambda: migrations.upgrade(database, backup=None)),
        "freezekit, with backup": timed(lambda: migrations.upgrade(database)),
        "alembic": timed(lambda: command.upgrade(subject.config(database), "head")),
    }


def create(subject: Subject) -> Candidates:
    """Make a new database: copy a finished one durably, by hand and with freezekit, or replay all revisions."""
    migrations, database = subject.migrations(), os.path.join(subject.scratch, "document")
    if migrations.manifest.snapshot is None:
        raise SystemExit("no snapshot was shipped, so there is nothing to compare")
    finished = os.path.join(subject.scratch, "finished")
    Path(finished).unlink(missing_ok=True)
    migrations.create(finished)

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def measured() -> float:
            Path(database).unlink(missing_ok=True)
            _durable(subject.scratch)
            return seconds(work)

        return measured

    return {
        "floor": timed(lambda: _copy_durably(finished, database)),
        "freezekit": timed(lambda: migrations.create(database)),
        "alembic": timed(lambda: command.upgrade(subject.config(database), "head")),
    }


def _copy_durably(source: str, destination: str) -> None:
    folder, name = os.path.split(destination)
    handle, part = tempfile.mkstemp(prefix=name, dir=folder)
    with open(source, "rb") as shipped, open(handle, "wb") as file:
        file.write(shipped.read())
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, destination)
    _durable(folder)


def _durable(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


_CASES = {one.__name__: one for one in (status, locate, upgrade, create)}


def measured(case: str, request: str) -> str:
    """Measure one case as a JSON object asks for it; return the samples of each candidate as one."""
    wanted: dict[str, Any] = json.loads(request)
    effort = Effort(**wanted.pop("effort"))
    skipped = wanted.pop("without", ())
    with tempfile.TemporaryDirectory(dir=wanted.pop("scratch")) as scratch:
        candidates = _CASES[case](Subject(**wanted, scratch=scratch))
        return json.dumps(interleaved({k: v for k, v in candidates.items() if k not in skipped}, effort))
