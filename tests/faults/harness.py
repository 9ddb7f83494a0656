"""A document with a long history, ways to break its upgrade, and what must be true afterwards."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histories import Project, plain_upgrade

import freezekit
from freezekit import State

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
OLD = "r03"
# A third of the way up: what a past release left, with rows that later revisions move, rewrite and copy.
STEPS = (
    'op.create_table("book", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))',
    """
    book = sa.ForeignKey("book.id", ondelete="CASCADE")
    op.create_table(
        "note", sa.Column("id", sa.Integer, primary_key=True), sa.Column("book", sa.Integer, book),
        sa.Column("body", sa.Text),
    )
    """,
    """
    rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {})"
    op.execute(f"INSERT INTO book {rows.format(40)} SELECT x, 'book ' || x FROM n")
    op.execute(f"INSERT INTO note {rows.format(1200)} SELECT x, 1 + x % 40, 'some words of note ' || x FROM n")
    """,
    'op.create_index("ix_note_book", "note", ["book"])',
    """
    with op.batch_alter_table("book", recreate="always") as batch:
        batch.alter_column("name", new_column_name="title", nullable=False)
    """,
    """
    op.add_column("note", sa.Column("words", sa.Integer))
    op.execute("UPDATE note SET words = length(body) / 5")
    """,
    'op.rename_table("note", "entry")',
    'op.execute("CREATE VIEW long_entry AS SELECT id FROM entry WHERE words > 4")',
    'op.execute("CREATE TRIGGER counted AFTER INSERT ON entry BEGIN UPDATE book SET title = title; END")',
    """
    op.create_table("tag", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
    op.execute("INSERT INTO tag (name) SELECT DISTINCT title FROM book")
    """,
    """
    op.execute("DROP VIEW long_entry")
    with op.batch_alter_table("entry", recreate="always") as batch:
        batch.add_column(sa.Column("tag", sa.Integer))
    """,
    'op.execute("UPDATE entry SET tag = 1 WHERE id % 2")',
    'op.execute("DELETE FROM entry WHERE id > 1100")',
)


def write_history(project: Any) -> Any:
    """Write the revisions into a project of ``histories``; return it."""
    for number, body in enumerate(STEPS, 1):
        project.revision(f"r{number:02}", f"r{number - 1:02}" if number > 1 else None, body)
    return project


def state(path: Path) -> list[tuple[Any, ...]]:
    """Return all that a database says: its schema, and every row of every table."""
    with closing(sqlite3.connect(path)) as connection:
        schema = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        tables = [name for kind, name, _ in schema if kind == "table"]
        rows = [(one, sorted(connection.execute(f'SELECT * FROM "{one}"'), key=repr)) for one in tables]
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        return [*schema, *rows]


class Server:
    """The process that upgrades in forked children; see ``server.py``."""

    def __init__(self, shim: Path) -> None:
        environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=HERE.parent.parent,
        )

    def upgrade(self, document: Path, scripts: Path, **faults: Any) -> dict[str, Any]:
        """Upgrade a document in a child; return how that ended."""
        request = {"folder": str(document.parent), "document": str(document), "scripts": str(scripts), **faults}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()


@dataclass(frozen=True)
class Subject:
    """One document and what its upgrade must come to.

    Attributes:
        scripts: Folder of env.py.
        original: The old document; it stays.
        old: What is in it.
        new: What plain Alembic makes of it.
        in_place_bytes: The largest size that is upgraded in place; None for the usual one.
    """

    scripts: Path
    original: Path
    old: list[tuple[Any, ...]]
    new: list[tuple[Any, ...]]
    in_place_bytes: int | None = None

    def copy_to(self, folder: Path) -> Path:
        """Put a fresh copy of the document into an emptied folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return Path(shutil.copyfile(self.original, folder / "document"))

    def name_of(self, found: list[tuple[Any, ...]]) -> str:
        """Return whether a state is the old or the new one."""
        return "old" if found == self.old else "new" if found == self.new else "torn"

    def check(self, document: Path) -> str:
        """Check what a fault has left: the document, alone and with its journal, its backup, and the next start.

        Returns:
            ``"old"`` or ``"new"``, which the document was after the fault.
        """
        if not self.is_whole_alone(document):
            journals = {"document-journal", "document-wal"} & set(self.strays(document))
            assert journals, "in pieces, and no journal to put them together"
        for backup in document.parent.glob("*.bak"):
            assert self.name_of(state(backup)) == "old", f"the backup {backup.name}"
        found = self.name_of(state(document))
        assert found in ("old", "new"), "the document with its journal"
        migrations = freezekit.locate(self.scripts)
        assert bool(migrations.upgrade(document, timeout=0).applied) == (found == "old")
        assert self.name_of(state(document)) == "new"
        assert migrations.status(document).state is State.CURRENT
        # With nothing left to do nobody removes a journal that SQLite has used up; the next change will.
        left = [one for one in self.strays(document) if not (found == "new" and one == "document-journal")]
        assert not left, f"left behind after {found}"
        return found

    def is_whole_alone(self, document: Path) -> bool:
        """Return whether the document alone, moved away from its journal, is whole: until the commit writes to it."""
        alone = Path(shutil.copyfile(document, document.parent.parent / "alone"))
        try:
            return self.name_of(state(alone)) in ("old", "new")
        except (sqlite3.DatabaseError, AssertionError):
            return False

    @staticmethod
    def strays(document: Path) -> list[str]:
        """Return the names of what is neither the document nor its backup."""
        allowed = {"document", f"document.{OLD}.bak"}
        return sorted({path.name for path in document.parent.iterdir()} - allowed)


def sampled(count: int, factor: int, most: int) -> Iterator[int]:
    """Yield numbers from 1 to a count: all of them, or so many spread over them."""
    wanted = min(count, most * factor)
    yield from sorted({1 + round(one * (count - 1) / max(wanted - 1, 1)) for one in range(wanted)})


def made_subject(way: str, folder: Path) -> Subject:
    """Make the document, and what plain Alembic makes of it."""
    project = write_history(Project(folder / "project"))
    original, plain = folder / "original", folder / "plain.db"
    plain_upgrade(project.root, original, OLD)
    shutil.copyfile(original, plain)
    plain_upgrade(project.root, plain)
    with closing(sqlite3.connect(original)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'wal' if way == 'write-ahead log' else 'delete'}")
    limit = 0 if way == "copy back" else None
    return Subject(project.migrations, original, state(original), state(plain), limit)
