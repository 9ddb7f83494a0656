"""A whole document upgraded over several revisions, small and large: time, memory and room on disk.

Started as a program it upgrades one document once and prints what that took: ``documents.py WHO SCRIPTS FILE``.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alembic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HERE = Path(__file__).resolve().parent
MEGABYTE = 1_000_000
SIZES = {"small": 0.2 * MEGABYTE, "middling": 20 * MEGABYTE, "large": 100 * MEGABYTE}
SLOW_SYNC, NO_SYNC = 4_000, -1
"""Microseconds that a sync takes longer; less than none leaves it out."""
_ROW_BYTES = 1_024
_PLAIN = ("alembic", "floor")
_POLL_SECONDS = 0.002

_REVISION = """
from alembic import op
import sqlalchemy as sa

revision = "{revision}"
down_revision = {down!r}


def upgrade() -> None:
{body}
"""
# What ten years of an application come to: columns with values, rebuilt tables, an index, a table filled from another.
_STEPS = (
    """
    op.create_table("author", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(80)))
    op.create_table(
        "note",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("author_id", sa.Integer, sa.ForeignKey("author.id", ondelete="CASCADE")),
        sa.Column("title", sa.String(80)),
        sa.Column("body", sa.Text),
    )
""",
    """
    op.add_column("note", sa.Column("words", sa.Integer))
    op.execute("UPDATE note SET words = length(body) / 5")
""",
    """
    with op.batch_alter_table("author") as batch:
        batch.alter_column("name", existing_type=sa.String(80), nullable=False)
""",
    '    op.create_index("ix_note_title", "note", ["title"])\n',
    """
    op.create_table("shelf", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(80)))
    op.execute("INSERT INTO shelf (name) SELECT DISTINCT title FROM note")
""",
    '    op.add_column("author", sa.Column("born", sa.Integer))\n',
    """
    with op.batch_alter_table("note") as batch:
        batch.alter_column("title", existing_type=sa.String(80), type_=sa.String(200))
        batch.create_check_constraint("ck_note_words", "words >= 0")
""",
    '    op.create_table("tag", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(40)))\n',
    """
    op.create_table(
        "note_tag",
        sa.Column("note_id", sa.Integer, sa.ForeignKey("note.id"), primary_key=True),
        sa.Column("tag_id", sa.Integer, sa.ForeignKey("tag.id"), primary_key=True),
    )
    op.execute("INSERT INTO tag (name) VALUES ('long'), ('short')")
    op.execute("INSERT INTO note_tag SELECT id, 1 + (words < 190) FROM note")
""",
    '    op.execute("CREATE VIEW long_note AS SELECT note_id FROM note_tag WHERE tag_id = 1")\n',
    '    op.execute("ALTER TABLE shelf RENAME COLUMN name TO label")\n',
    """
    with op.batch_alter_table("note") as batch:
        batch.add_column(sa.Column("shelf_id", sa.Integer))
        batch.create_foreign_key("fk_note_shelf", "shelf", ["shelf_id"], ["id"])
""",
    '    op.execute("UPDATE note SET shelf_id = (SELECT id FROM shelf WHERE label = title)")\n',
    """
    op.execute(
        "CREATE TRIGGER counted AFTER UPDATE OF body ON note"
        " BEGIN UPDATE note SET words = length(new.body) / 5 WHERE id = new.id; END"
    )
""",
    '    op.rename_table("tag", "label")\n',
    """
    with op.batch_alter_table("author") as batch:
        batch.drop_column("born")
""",
)


def write_scripts(folder: Path) -> Path:
    """Write the history, with Alembic's stock env.py; return its folder."""
    (folder / "versions").mkdir(parents=True)
    shutil.copyfile(Path(alembic.__file__).parent / "templates" / "generic" / "env.py", folder / "env.py")
    for number, body in enumerate(_STEPS):
        down = f"r{number - 1}" if number else None
        text = _REVISION.format(revision=f"r{number}", down=down, body=body)
        (folder / "versions" / f"r{number}.py").write_text(text, encoding="utf-8")
    return folder


def write_document(scripts: Path, path: Path, size: float) -> None:
    """Write a document of about so many bytes, as the first release left it."""
    import freezekit

    freezekit.locate(scripts).upgrade(path, "r0")
    text = "word " * 190  # four rows to a page
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO author (name) VALUES (?)", ((f"author {one}",) for one in range(100)))
        rows = ((one % 100 + 1, f"title {one % 1000}", f"{one} {text}") for one in range(int(size / _ROW_BYTES)))
        connection.executemany("INSERT INTO note (author_id, title, body) VALUES (?, ?, ?)", rows)


def upgrade(who: str, scripts: str, path: str) -> None:
    """Upgrade a document once.

    Args:
        who: ``"alembic"``, or ``"floor"``, which is the same where nothing is synced; or freezekit, with a backup where
            that is in the name, and ``telling`` how far it is.
        scripts: The history.
        path: The document.
    """
    if who in _PLAIN:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", scripts)
        config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
        command.upgrade(config, "head")
        return
    import freezekit

    backup = freezekit.Backup() if "backup" in who else None
    told: list[freezekit.Progress] = []
    heard: dict[str, Any] = {"on_progress": told.append, "cancel": threading.Event()} if "telling" in who else {}
    freezekit.locate(scripts).upgrade(path, backup=backup, **heard)


def sync_costs(folder: Path) -> Callable[[int], dict[str, str]] | None:
    """Return what gives the environment of a process whose syncs take so much longer; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    shim = folder / "sync_cost.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", shim, _HERE / "sync_cost.c", "-ldl"], check=True)
    return lambda microseconds: {"LD_PRELOAD": str(shim), "SYNC_MICROSECONDS": str(microseconds)}


def taken(
    who: str, scripts: Path, original: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Upgrade a copy of a document in a process of its own; return the seconds and bytes that took."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    document = folder / "document"
    shutil.copyfile(original, document)
    os.sync()
    words = [sys.executable, __file__, who, str(scripts), str(document)]
    result = subprocess.run(
        words, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(result.stdout)
    return found


def _size(folder: str) -> int:
    total = 0
    for name in os.listdir(folder):
        try:
            total += os.stat(os.path.join(folder, name)).st_blocks * 512
        except FileNotFoundError:  # noqa: PERF203 - a journal comes and goes
            continue
    return total


def main() -> None:
    """Upgrade one document once; print seconds, peak memory and the most room its folder took, in bytes."""
    who, scripts, path = sys.argv[1:]
    folder, done, room = os.path.dirname(path), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            room.append(_size(folder))

    # Imports are paid once per program, not per document.
    import sqlalchemy.dialects.sqlite  # noqa: F401

    if who in _PLAIN:
        import alembic.command  # noqa: F401
    else:
        import freezekit.runtime.upgrade  # noqa: F401
    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    upgrade(who, scripts, path)
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    with open("/proc/self/status", encoding="ascii") as status:
        kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    sys.stdout.write(json.dumps({"seconds": seconds, "memory": int(kilobytes) * 1024, "room": max(room)}))


if __name__ == "__main__":
    main()
