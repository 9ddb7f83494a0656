"""Worker processes: each an ordinary process of this program, so that the death of one touches no other.

They are not those of :mod:`multiprocessing`: these start in a frozen program whose author never heard of
``freeze_support``, do not run the main module again, and a killed one takes only the task with it that it had.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

from freezekit.runtime.fleet.serve import VARIABLE, pipe_name

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")

_END_SECONDS = 5.0
_SERVE = "import sys; sys.path[:] = {path!r}; from freezekit.runtime.fleet.serve import serve; serve()"


def can_start_workers() -> bool:
    """Return whether this program can start itself as a worker: a frozen one says so if freezekit's hook built it."""
    if getattr(sys, "frozen", False) or "__compiled__" in vars(sys.modules["__main__"]):
        return bool(getattr(sys, "freezekit_workers", False))
    return bool(sys.executable)


def processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class WorkerDied(BrokenExecutor):
    """A worker process ended in the middle of a task."""


class WorkerPool(Executor):
    """Processes that take one task after the other; started when there is something to do, replaced when they die.

    Args:
        count: How many processes.
    """

    def __init__(self, count: int) -> None:
        self._tasks: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._workers = [_Worker(self._tasks) for _ in range(count)]

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Hand a task to the next free process; its future fails with WorkerDied if that ends without an answer."""
        if kwargs:
            raise TypeError("a task of a worker has no named arguments")
        future: Future[T] = Future()
        self._tasks.put((future, pickle.dumps((fn, args))))
        return future

    def stop(self) -> None:
        """Tell every process to cancel what it does; what is not finished answers that it was cancelled."""
        for worker in self._workers:
            worker.tell("terminate")

    def kill(self) -> None:
        """End every process at once; what SQLite was writing is undone by whoever opens the file next."""
        for worker in self._workers:
            worker.tell("kill")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as Executor has it
        """End the processes once they have done what was submitted, or only what they have begun."""
        while cancel_futures:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task[0].cancel()
        for _ in self._workers:
            self._tasks.put(None)
        for worker in self._workers if wait else ():
            worker.thread.join()


class _Worker:
    """One process at a time, and the thread that talks to it."""

    def __init__(self, tasks: queue.SimpleQueue[tuple[Future[Any], bytes] | None]) -> None:
        self._tasks = tasks
        self._process: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self._work, name="freezekit-worker", daemon=True)
        self.thread.start()

    def tell(self, what: str) -> None:
        """Send the process a signal, if there is one."""
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(OSError):
                getattr(process, what)()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, request = task
            if future.set_running_or_notify_cancel():
                self._do(future, request)
        self._end()

    def _do(self, future: Future[Any], request: bytes) -> None:
        try:
            self._process = self._process or _started()
            answered, answer = _ask(self._process, request)
        except Exception as error:  # noqa: BLE001 - a pipe that ends anywhere breaks in many ways
            died = WorkerDied(f"the process that did it ended without an answer ({self._end()})")
            died.__cause__ = error
            future.set_exception(died)
            return
        if answered:
            future.set_result(answer)
        else:
            future.set_exception(answer)

    def _end(self) -> str:
        """End the process, and return how it ended."""
        process, self._process = self._process, None
        if process is None:
            return "it did not start"
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            code = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _started() -> subprocess.Popen[bytes]:
    command = [sys.executable]
    if not getattr(sys, "frozen", False):
        command += ["-c", _SERVE.format(path=[os.path.abspath(entry) for entry in sys.path])]
    tasks, ours = os.pipe()
    environment = {**os.environ, VARIABLE: pipe_name(tasks)}
    apart: dict[str, Any] = (
        {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    try:
        process = subprocess.Popen(command, stdin=tasks, stdout=subprocess.PIPE, env=environment, **apart)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(tasks)
    process.stdin = os.fdopen(ours, "wb")
    return process


def _ask(process: subprocess.Popen[bytes], request: bytes) -> tuple[bool, Any]:
    if process.stdin is None or process.stdout is None:
        raise EOFError
    process.stdin.write(request)
    process.stdin.flush()
    answer: tuple[bool, Any] = pickle.load(process.stdout)  # noqa: S301 - our own process wrote it
    return answer
