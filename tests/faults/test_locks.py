"""A lock on a document is kept, whatever other threads of the program open and close meanwhile."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from harness import HERE
from histories import Project

if TYPE_CHECKING:
    from pathlib import Path

LOCKS = 1_000


def test_closing_a_document_drops_no_lock_of_another_thread(shim: Path, tmp_path: Path, factor: int) -> None:
    """SQLite looks for locks, then closes the file; closing it is made slow here, so that locks come in between."""
    project, document = Project(tmp_path / "project").line(), tmp_path / "documents" / "document.db"
    document.parent.mkdir()
    project.plain(document, "b2")
    answers = [tries_to_lock(document)]
    command = [sys.executable, str(HERE / "locks.py"), str(project.migrations), str(document)]
    environment = {**os.environ, "LD_PRELOAD": str(shim)}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        for left in reversed(range(LOCKS * factor)):
            assert holder.stdout.readline() == "held\n"
            answers.append(tries_to_lock(document))
            print("again" if left else "", file=holder.stdin, flush=True)
    assert holder.returncode == 0
    assert (answers[0], set(answers[1:])) == ("free", {"locked"})


def tries_to_lock(document: Path) -> str:
    """Return what another program sees: "locked" or "free"."""
    with closing(sqlite3.connect(document, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return "locked"
        return "free"
