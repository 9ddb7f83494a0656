"""Another program that is reading an SQLite file when the upgrade wants to commit."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from histories import Project, dump

import freezekit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from freezekit import Progress

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    rows = connection.execute(statement)
rows.fetchone()
print("reading", flush=True)
sys.stdin.read()
"""
WAYS = {
    "statement that is not read to its end": ["SELECT * FROM note"],
    "transaction": ["BEGIN", "SELECT * FROM note"],
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project").line()


@pytest.fixture
def old(project: Project, tmp_path: Path) -> Path:
    """A document at the second of the three revisions, in a folder of its own."""
    path = tmp_path / "folder" / "old.db"
    path.parent.mkdir()
    project.plain(path, "b2")
    return path


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def leave(request: pytest.FixtureRequest, old: Path) -> Iterator[Callable[[], None]]:
    """Let another program read the document; what this returns makes it close the file."""
    command = [sys.executable, "-c", READER, str(old), *request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"

        def close() -> None:
            reader.stdin.close()
            reader.wait()

        yield close
    assert reader.returncode == 0


class Waiting:
    """An ``on_progress`` that does something while the upgrade waits with its commit, which it then tells of again."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then
        self.told = 0

    def __call__(self, now: Progress) -> None:
        self.told += now.phase == "commit"
        if now.phase == "commit" and self.told == 2:
            self._then()


def is_at_b2(path: Path) -> bool:
    """Ask as another program would: nobody keeps the file locked."""
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("b2",)]


def test_a_reader_that_leaves_is_waited_for(
    project: Project, old: Path, leave: Callable[[], None], tmp_path: Path
) -> None:
    waiting = Waiting(leave)
    assert project.located().upgrade(old, on_progress=waiting, timeout=20).applied == ("c3",)
    assert waiting.told >= 2
    assert dump(old) == project.plain(tmp_path / "plain.db")


def test_a_reader_that_stays_ends_the_upgrade_after_the_time_limit(
    project: Project, old: Path, leave: Callable[[], None]
) -> None:
    """The document is as it was, byte for byte, others can read it, and the upgrade works once the reader has left."""
    before = old.read_bytes()
    with pytest.raises(freezekit.DatabaseInUse) as caught:
        project.located().upgrade(old, timeout=0.5)
    assert 0.5 <= caught.value.waited_s < 5
    assert old.read_bytes() == before
    assert {path.name for path in old.parent.iterdir()} == {"old.db", "old.db.b2.bak"}
    assert is_at_b2(old)
    leave()
    assert project.located().upgrade(old).applied == ("c3",)


@pytest.mark.usefixtures("leave")
def test_an_upgrade_that_waits_for_a_reader_can_be_cancelled(project: Project, old: Path) -> None:
    before, enough = old.read_bytes(), []
    waiting = Waiting(lambda: enough.append(True))
    with pytest.raises(freezekit.UpgradeCancelled):
        project.located().upgrade(old, on_progress=waiting, cancel=lambda: bool(enough), timeout=20)
    assert enough
    assert old.read_bytes() == before
    assert {path.name for path in old.parent.iterdir()} == {"old.db", "old.db.b2.bak"}
    assert is_at_b2(old)


def test_readers_of_a_write_ahead_log_are_not_waited_for(project: Project, old: Path) -> None:
    """They go on with what they began to read."""
    with closing(sqlite3.connect(old, isolation_level=None)) as reader:
        reader.execute("PRAGMA journal_mode = WAL")
        reader.execute("BEGIN")
        assert reader.execute("SELECT version_num FROM alembic_version").fetchall() == [("b2",)]
        assert project.located().upgrade(old, timeout=0).applied == ("c3",)
        assert reader.execute("SELECT version_num FROM alembic_version").fetchall() == [("b2",)]
        reader.execute("COMMIT")
        assert reader.execute("SELECT version_num FROM alembic_version").fetchall() == [("c3",)]
