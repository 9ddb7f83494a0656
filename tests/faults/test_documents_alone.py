"""A document that is mailed, moved or synced without its journal after a crash is still the old document."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from harness import state
from histories import Project, plain_upgrade

import freezekit

if TYPE_CHECKING:
    from pathlib import Path

UPGRADE = """
import json, sys
import freezekit
from freezekit.runtime import sqlite_upgrade
document, scripts, limit = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if limit is not None:
    sqlite_upgrade.IN_PLACE_BYTES = limit
freezekit.locate(scripts).upgrade(document)
"""
# Twice what SQLite's page cache holds before it would write changed pages to the file.
ROWS, ROW_BYTES = 2000, 2000


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("way", ["rollback journal", "write-ahead log", "copy back"])
def test_a_document_is_not_touched_before_the_commit(way: str, tmp_path: Path) -> None:
    """Killed in its last revision, an upgrade that changed more than the page cache holds has not written to it."""
    project = Project(tmp_path / "project")
    rows = f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {ROWS})"
    project.revision(
        "r1",
        None,
        f"""
        op.create_table("page", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.LargeBinary))
        op.execute("INSERT INTO page {rows} SELECT x, randomblob({ROW_BYTES}) FROM n")
        """,
    )
    project.revision("r2", "r1", f'op.execute("UPDATE page SET body = zeroblob({ROW_BYTES})")')
    last = project.revision("r3", "r2", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    document = tmp_path / "folder" / "document"
    document.parent.mkdir()
    plain_upgrade(project.root, document, "r1")
    if way == "write-ahead log":
        with closing(sqlite3.connect(document)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
    before, old = document.read_bytes(), state(document)
    words = [str(document), str(project.migrations), "0" if way == "copy back" else "null"]
    ended = subprocess.run([sys.executable, "-c", UPGRADE, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert document.read_bytes() == before
    assert state(shutil.copyfile(document, tmp_path / "alone")) == old
    last.write_text(last.read_text().replace("os.kill(os.getpid(), signal.SIGKILL)", "pass"))
    assert freezekit.locate(project.migrations).upgrade(document).applied == ("r2", "r3")
