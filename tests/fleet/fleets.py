"""What the tests of fleets share: scripts that die or never end, and files to run them on."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histories import Project

    from freezekit import FleetReport, Outcome

HERE = ["--migrations", "sample_app:migrations"]
# Dies in the worker, as if killed; how often is the content of a file beside the document, which counts down.
DYING = """
import os, pathlib, signal
lives = pathlib.Path(op.get_bind().exec_driver_sql("PRAGMA database_list").first()[2] + ".deaths")
if lives.exists():
    left = int(lives.read_text())
    lives.write_text(str(left - 1))
    if left > 0:
        op.execute("INSERT INTO t_a1 (x) VALUES ('half done')")
        os.kill(os.getpid(), signal.SIGKILL)
"""
ENDLESS = """
import os
path = op.get_bind().exec_driver_sql("PRAGMA database_list").first()[2]
if os.path.exists(path + ".endless"):
    open(path + ".begun", "w").close()
    op.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
"""


def old_files(project: Project, names: str) -> list[Path]:
    """Return files at the first revision of a project."""
    files = [project.root.parent / f"{name}.db" for name in names]
    for file in files:
        project.located().upgrade(file, "a1")
    return files


def copies(original: Path, count: int) -> list[Path]:
    """Return so many files beside one, each with its content."""
    files = [original.with_name(f"{number}.db") for number in range(count)]
    for file in files:
        shutil.copyfile(original, file)
    return files


def by_name(report: FleetReport) -> dict[str, Outcome]:
    return {Path(one.database).name: one for one in report}


def snapshot(*paths: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in paths}


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep a database locked, as a program does that is writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
