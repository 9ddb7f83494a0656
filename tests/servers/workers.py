"""What a test runs in processes of their own: they start at once, wait for each other, and may be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from alembic import command
from histories import compiling
from sqlalchemy import Engine, event

import freezekit

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from multiprocessing.synchronize import Barrier

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["workers", "freezekit.runtime.server_upgrade", "psycopg", "pymysql", "sqlalchemy.dialects.mysql.pymysql"]
)

# Instead of a moment: at the second statement that commits, before it takes effect.
UNDECIDED = -1.0


def upgrade(folder: str, url: str, *, plain: bool = False, timeout: float = 30.0) -> tuple[str, ...]:
    """Upgrade with freezekit, or with plain Alembic."""
    migrations = freezekit.locate(folder)
    if plain:
        with compiling(False):
            command.upgrade(migrations.alembic_config(url), "heads")
        return ()
    return migrations.upgrade(url, timeout=timeout).applied


def start_together(folder: str, url: str, barrier: Barrier, answers: Any, plain: bool) -> None:
    """Upgrade at the same moment as all others, and say how it went."""
    barrier.wait(60)
    try:
        answers.put(("", upgrade(folder, url, plain=plain, timeout=90.0)))
    except Exception as error:  # noqa: BLE001 - whatever went wrong is what the test asks
        answers.put((repr(error), ()))


def upgrade_when_told(folder: str, url: str, pipe: Connection, plain: bool, kill_at: float | None) -> None:
    """Upgrade once the test says so; ``kill_at`` counts statements, and halves are those after the statement."""
    if kill_at == UNDECIDED:
        _kill_undecided()
    elif kill_at is not None:
        _kill_at(kill_at)
    pipe.send("ready")
    pipe.recv()
    upgrade(folder, url, plain=plain)


def _kill_undecided() -> None:
    """End as a server that crashes ends a statement: its entry is permanent, and it has not taken effect."""
    from freezekit.runtime import journal

    write = journal.Journal._write

    def write_and_stop(self: journal.Journal) -> None:
        write(self)
        if self.kept == 2:
            with self._unseen():
                self._connection.exec_driver_sql("COMMIT")  # type: ignore[union-attr]
            os.kill(os.getpid(), signal.SIGKILL)

    journal.Journal._write = write_and_stop  # type: ignore[method-assign]


def _kill_at(moment: float) -> None:
    count = 0

    def before(*_call: object) -> None:
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def after(*_call: object) -> None:
        if count + 0.5 == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)


def started(folder: str, url: str, *, plain: bool = False, kill_at: float | None = None) -> tuple[BaseProcess, Any]:
    """Start a worker; return its process, and the pipe to tell it to begin."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=upgrade_when_told, args=(folder, url, theirs, plain, kill_at), daemon=True)
    process.start()
    assert ours.recv() == "ready"
    return process, ours


def together(folder: str, url: str, count: int, *, plain: bool = False) -> list[tuple[str, tuple[str, ...]]]:
    """Upgrade in many processes at once; return what each says: its error or "", and what it applied."""
    barrier, answers = PROCESSES.Barrier(count), PROCESSES.Queue()
    arguments = (folder, url, barrier, answers, plain)
    processes = [PROCESSES.Process(target=start_together, args=arguments, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    said = [answers.get(timeout=150) for _ in processes]
    for process in processes:
        process.join()
    return said
