"""The processes that do the work of a fleet: what is handed over, what comes back, and what the death of one costs."""

from __future__ import annotations

import errno
import itertools
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from freezekit.runtime.fleet import workers
from freezekit.runtime.fleet.process import WorkerProcess
from freezekit.runtime.fleet.tasks import stopping
from freezekit.runtime.fleet.workers import WorkerDied, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 400


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1) as one:
        yield one


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each waiting for answers brought."""
    found: list[int] = []
    receive = WorkerProcess.receive

    def counting(process: WorkerProcess) -> list[Any]:
        answers = receive(process)
        found.append(len(answers))
        return answers

    monkeypatch.setattr(WorkerProcess, "receive", counting)
    return found


def test_answers_to_quick_tasks_are_fetched_some_at_once(pool: WorkerPool, rounds: list[int]) -> None:
    futures = [pool.submit(time.sleep, 0.001) for _ in range(MANY)]
    assert {one.result() for one in futures} == {None}
    assert sum(rounds) == MANY
    assert len(rounds) < MANY / 4


def test_slow_tasks_are_handed_over_one_by_one(rounds: list[int]) -> None:
    """So that none waits for another although a process is free, and what has not begun can be cancelled."""
    with WorkerPool(2) as pool:
        futures = [pool.submit(time.sleep, 2 * workers._ROUND_SECONDS) for _ in range(24)]
        for one in futures[:2]:
            one.result()
        assert [one.cancel() for one in futures[-6:]] == [True] * 6
    assert set(rounds) == {1}


def test_one_that_dies_loses_only_what_it_was_doing(pool: WorkerPool, rounds: list[int]) -> None:
    """What it was handed beside that is done by the next one."""
    dying = set(range(100, MANY, 50))
    functions: dict[bool, Any] = {False: abs, True: os._exit}
    futures = [pool.submit(functions[number in dying], number) for number in range(MANY)]
    for number, one in enumerate(futures):
        if number in dying:
            with pytest.raises(WorkerDied, match=f"exit code {number % 256}"):
                one.result()
        else:
            assert one.result() == number
    assert max(rounds) > 1


def test_what_one_had_answered_before_it_died_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program may be about to hand it more, with answers still to read; nothing is done twice."""
    receive = WorkerProcess.receive

    def slowly(process: WorkerProcess) -> list[Any]:
        answers = receive(process)
        time.sleep(0.01)  # meanwhile it goes on, as far as to its end
        return answers

    monkeypatch.setattr(WorkerProcess, "receive", slowly)
    folders = [str(tmp_path / str(number)) for number in range(MANY)]
    with WorkerPool(1) as pool:
        futures, dying = [], []
        for number, folder in enumerate(folders):
            pool.submit(time.sleep, 0.0005)
            futures.append(pool.submit(os.mkdir, folder))
            if number % 100 == 50:
                dying.append(pool.submit(os._exit, 7))
        assert [one.exception(timeout=60) for one in futures] == [None] * MANY
        assert [type(one.exception(timeout=60)) for one in dying] == [WorkerDied] * 4


def test_an_error_is_the_answer_to_its_own_task(pool: WorkerPool) -> None:
    futures = [pool.submit(operator.truediv, 1, number) for number in (1, 0, 2)]
    assert futures[0].result() == 1
    with pytest.raises(ZeroDivisionError):
        futures[1].result()
    assert futures[2].result() == 0.5


def test_neither_side_waits_for_ever_for_the_other_to_read(pool: WorkerPool) -> None:
    """Tasks and answers larger than a pipe, among small ones, which are handed over ahead."""
    sizes = [(1, 300_000)[number % 7 == 0] for number in range(70)]
    futures = [pool.submit(bytes.upper, b"x" * size) for size in sizes]
    assert [len(one.result(timeout=60)) for one in futures] == sizes


def test_one_that_cannot_start_leaves_the_work_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of processes or handles; the last one says what the system says."""
    starts = itertools.count()

    def limited() -> WorkerProcess:
        if next(starts):
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return WorkerProcess()

    monkeypatch.setattr(workers, "WorkerProcess", limited)
    with WorkerPool(3) as pool:
        futures = [pool.submit(abs, -number) for number in range(100)]
        assert [one.result(timeout=60) for one in futures] == list(range(100))
        pool.submit(os._exit, 1)
        with pytest.raises(WorkerDied, match=r"no process could be started for it \(Resource temporarily unavailable"):
            pool.submit(abs, -1).result(timeout=60)


def test_as_many_work_as_the_system_has_threads_for(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, itertools.count()

    def limited(thread: threading.Thread) -> None:
        if thread.name == "freezekit-worker" and next(started) >= 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with WorkerPool(3000) as pool:
        assert [one.result(timeout=60) for one in [pool.submit(abs, -number) for number in range(9)]] == list(range(9))


def test_one_whose_program_is_gone_stops_what_it_does(tmp_path: Path) -> None:
    """It is told as if it were cancelled, and says nothing to a terminal that may be somebody else's by then."""
    marks = tmp_path / "begun", tmp_path / "stopped"
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_fleet_workers import wait_for_stop
from freezekit.runtime.fleet.workers import WorkerPool
WorkerPool(1).submit(wait_for_stop, *{[str(one) for one in marks]!r})
while not os.path.exists({str(marks[0])!r}):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (-signal.SIGKILL, "")
    assert marks[1].exists()


def wait_for_stop(begun: str, stopped: str) -> None:
    """Be a task that hears of a stop."""
    Path(begun).touch()
    if stopping.wait(30):
        Path(stopped).touch()


def test_one_that_was_stopped_is_not_replaced(pool: WorkerPool) -> None:
    assert pool.submit(abs, -1).result() == 1
    futures = [pool.submit(time.sleep, 60), *(pool.submit(abs, -1) for _ in range(3))]
    pool.kill()
    for one in futures:
        with pytest.raises(WorkerDied):
            one.result(timeout=10)
    with pytest.raises(WorkerDied, match="did not start"):
        pool.submit(abs, -1).result(timeout=10)


def test_one_that_is_just_starting_is_stopped_too(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Starting(WorkerProcess):
        def __init__(self) -> None:
            super().__init__()
            pool.kill()

    monkeypatch.setattr(workers, "WorkerProcess", Starting)
    with pytest.raises(WorkerDied, match="signal 9"):
        pool.submit(time.sleep, 60).result(timeout=10)


def test_what_was_submitted_is_done_before_the_end() -> None:
    pool = WorkerPool(2)
    futures = [pool.submit(abs, -number) for number in range(50)]
    pool.shutdown()
    assert [one.result(timeout=0) for one in futures] == list(range(50))
    assert not [one for one in threading.enumerate() if one.name == "freezekit-worker"]
