"""Worker processes: each an ordinary process of this program, so that the death of one touches no other.

They are not those of :mod:`multiprocessing`: these start in a frozen program whose author never heard of
``freeze_support``, do not run the main module again, and a killed one takes only the task with it that it had.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import threading
import time
from collections import deque
from concurrent.futures import BrokenExecutor, Executor, Future
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from freezekit.runtime.fleet.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    T = TypeVar("T")

_ROUND_SECONDS = 0.05
"""A process is given so much to do at once: with less it is waited for too often, with more the others lack work."""
_PIPE_BYTES = 4096
"""So much a pipe takes on every system before writing to it waits for its reader."""


def processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class WorkerDied(BrokenExecutor):
    """A worker process ended in the middle of a task."""


class _Task(NamedTuple):
    future: Future[Any]
    request: bytes


class WorkerPool(Executor):
    """Processes that do one task after the other; started when there is something to do, replaced when they die.

    Args:
        count: How many processes.
    """

    def __init__(self, count: int) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        able = _Able(count)
        for _ in range(count):
            try:
                self._workers.append(_Worker(self._tasks, count, able))
            except RuntimeError:  # noqa: PERF203 - the system has no more threads
                if not self._workers:
                    raise
                able.retire()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Hand a task to the next free process; its future fails with WorkerDied if that ends without an answer."""
        if kwargs:
            raise TypeError("a task of a worker has no named arguments")
        future: Future[T] = Future()
        self._tasks.put(_Task(future, pickle.dumps((fn, args))))
        return future

    def stop(self) -> None:
        """Tell every process to cancel what it does; what is not finished answers that it was cancelled."""
        for worker in self._workers:
            worker.stop("terminate")

    def kill(self) -> None:
        """End every process at once; what SQLite was writing is undone by whoever opens the file next."""
        for worker in self._workers:
            worker.stop("kill")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as Executor has it
        """End the processes once they have done what was submitted, or only what they have begun."""
        while cancel_futures:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task.future.cancel()
        self._tasks.put(None)
        for worker in self._workers if wait else ():
            worker.thread.join()


class _Able:
    """How many workers can start their processes; one that cannot leaves the work to the others, but for the last."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()

    def retire(self) -> bool:
        """Count one less; return False if it is the last."""
        with self._lock:
            if self._count == 1:
                return False
            self._count -= 1
            return True


class _Worker:
    """One process at a time, and the thread that talks to it.

    Quick tasks are sent some at once, and some answers are fetched at once: to wake up for each would take this program
    a good part of the time in which the process upgrades a small document. A process that dies loses the task it was
    doing; the next one gets what it had not begun.

    Args:
        tasks: Where all workers take theirs from; None is the last.
        others: So many tasks are left there by a worker that has one already.
        able: How many workers can start processes.
    """

    def __init__(self, tasks: queue.SimpleQueue[_Task | None], others: int, able: _Able) -> None:
        self._able = able
        self._tasks = tasks
        self._others = others
        # In the order in which they are done; the first of them have been sent.
        self._taken: deque[_Task] = deque()
        self._sent = 0
        self._sent_at = 0.0
        self._seconds_each = _ROUND_SECONDS
        self._process: WorkerProcess | None = None
        self._stopped = ""
        self.thread = threading.Thread(target=self._work, name="freezekit-worker", daemon=True)
        self.thread.start()

    def stop(self, how: str) -> None:
        """Send the process a signal, if there is one, and start no other."""
        self._stopped = how
        process = self._process
        if process is not None:
            process.signal(how)

    def _work(self) -> None:
        while self._take():
            try:
                process = self._started()
                with contextlib.suppress(OSError):  # it has ended, and may have answered something before
                    process.send(self._requests())
                self._let_answers_gather()
                self._pass_on(process.receive())
            except Exception as error:  # noqa: BLE001, PERF203 - a pipe that ends anywhere breaks in many ways
                self._lose(error)
        self._end()

    def _take(self) -> bool:
        """Take more to do, waiting for it if there is nothing left; return whether there is something to do."""
        while not self._taken or self._lacks_work():
            try:
                task = self._tasks.get(block=not self._taken)
            except queue.Empty:
                break
            if task is None:
                self._tasks.put(None)  # it ends the others, too, and this one once nothing is left
                return bool(self._taken)
            if not self._taken and not self._can_start(task):
                return False
            if task.future.set_running_or_notify_cancel():
                self._taken.append(task)
        return True

    def _lacks_work(self) -> bool:
        """Return whether there is time for one more in a round, and one that the other workers can spare."""
        return (len(self._taken) + 1) * self._seconds_each <= _ROUND_SECONDS and self._tasks.qsize() > self._others

    def _can_start(self, task: _Task) -> bool:
        """Return whether this worker has a process for a task; if it cannot start one, another worker gets the task."""
        try:
            self._started()
        except OSError:
            if self._able.retire():
                self._tasks.put(task)
                return False
        except EOFError:
            pass
        return True

    def _started(self) -> WorkerProcess:
        if self._process is None:
            if self._stopped:
                raise EOFError
            self._process = WorkerProcess()
            if self._stopped:  # meanwhile
                self._process.signal(self._stopped)
        return self._process

    def _requests(self) -> Iterator[bytes]:
        """Yield what is to be sent: as much as surely fits, as a process that is just answering reads nothing."""
        on_the_way = sum(len(task.request) for task in islice(self._taken, self._sent))
        if not self._sent:
            self._sent_at = time.monotonic()
        for task in islice(self._taken, self._sent, None):
            on_the_way += len(task.request)
            if self._sent and on_the_way > _PIPE_BYTES:
                return
            self._sent += 1
            yield task.request

    def _let_answers_gather(self) -> None:
        if self._sent > 1:
            time.sleep(min(self._sent * self._seconds_each, _ROUND_SECONDS) / 2)

    def _pass_on(self, answers: list[tuple[bool, Any]]) -> None:
        now = time.monotonic()
        self._seconds_each, self._sent_at = (now - self._sent_at) / len(answers), now
        for is_result, answer in answers:
            self._sent -= 1
            future = self._taken.popleft().future
            (future.set_result if is_result else future.set_exception)(answer)

    def _lose(self, error: Exception) -> None:
        """Fail what the process was doing; the rest is sent again, to the next one."""
        if self._process is None and isinstance(error, OSError):
            died = WorkerDied(f"no process could be started for it ({error.strerror or error})")
        else:
            died = WorkerDied(f"the process that did it ended without an answer ({self._end()})")
        died.__cause__ = error
        self._sent, self._seconds_each = 0, _ROUND_SECONDS
        self._taken.popleft().future.set_exception(died)

    def _end(self) -> str:
        process, self._process = self._process, None
        return "it did not start" if process is None else process.end()
