"""Many small documents: beside one process of Alembic each, beside a loop over it, and beside bare sqlite3.

Started as a program it upgrades or sifts a folder once and prints what that took: ``fleets.py WHO SCRIPTS FOLDER
[--no-backup]``, where WHO is a number of workers, or ``alembic``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from measure import seconds

_PROCESSES = 50
_LOOPED = 3_000


def copies(original: Path, folder: Path, count: int) -> list[Path]:
    """Write so many copies of a database into a new folder; return them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    content = original.read_bytes()
    paths = [folder / f"{number}.db" for number in range(count)]
    for path in paths:
        path.write_bytes(content)
    os.sync()  # what is measured afterwards is not to wait for this
    return paths


def taken(who: str, scripts: Path, folder: Path, *, backup: bool = True) -> dict[str, float]:
    """Have a new process upgrade every document of a folder; return seconds, peak of memory, and how many it was.

    Args:
        who: How many workers; or ``"alembic"``, whose seconds for all are reckoned from some.
        scripts: The history.
        folder: The documents.
        backup: Whether each is backed up.
    """
    command = [sys.executable, __file__, who, str(scripts), str(folder), *["--no-backup"] * (not backup)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def sqlite_seconds(paths: list[Path]) -> float:
    """Return how long it takes to open each database with sqlite3 and to read its version."""

    def ask() -> None:
        for path in paths:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("SELECT version_num FROM alembic_version").fetchall()

    return seconds(ask)


def _looped_seconds(scripts: str, paths: list[str]) -> float:
    """Return how long plain Alembic takes for all databases, by some, in a loop, its imports not counted."""
    from alembic import command
    from alembic.config import Config

    def upgrade(path: str) -> None:
        config = Config()
        config.set_main_option("script_location", scripts)
        config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
        command.upgrade(config, "head")

    upgrade(paths[0])
    some = paths[1:_LOOPED]
    return seconds(lambda: [upgrade(path) for path in some]) / len(some) * len(paths)


def process_seconds(scripts: Path, paths: list[Path]) -> float:
    """Return how long one process of plain Alembic takes, from so many in a row."""
    script = (
        "import sys; from alembic import command; from alembic.config import Config; config = Config();"
        "config.set_main_option('script_location', sys.argv[1]);"
        "config.set_main_option('sqlalchemy.url', 'sqlite:///' + sys.argv[2]); command.upgrade(config, 'head')"
    )
    some = paths[:_PROCESSES]

    def run() -> None:
        for path in some:
            subprocess.run([sys.executable, "-c", script, str(scripts), str(path)], check=True, capture_output=True)

    return seconds(run) / len(some)


def _upgraded_seconds(workers: int, scripts: str, folder: str, *, backup: bool) -> tuple[float, int]:
    """Return how long freezekit takes for a folder, and how many documents that is."""
    import freezekit

    migrations = freezekit.locate(scripts)
    started = time.perf_counter()
    backups = freezekit.Backup() if backup else None
    report = freezekit.upgrade_many(f"{folder}/*.db", migrations, workers=workers, backup=backups)
    ended = time.perf_counter()
    if not report.ok:
        raise SystemExit(f"{report}: {next(report.failures)}")
    return ended - started, len(report)


def _main() -> None:
    who, scripts, folder, *flags = sys.argv[1:]
    if who == "alembic":
        paths = [str(path) for path in Path(folder).glob("*.db")]
        taken, count = _looped_seconds(scripts, paths), len(paths)
    else:
        taken, count = _upgraded_seconds(int(who), scripts, folder, backup=not flags)
    # Not getrusage, which also counts the process that this one was started by.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"seconds": taken, "memory": int(peak) * 1024, "count": count}))


if __name__ == "__main__":
    _main()
