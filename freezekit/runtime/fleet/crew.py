"""Who does the work of a fleet: workers of this program, an executor of the caller, or this thread."""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from freezekit.runtime.fleet import tasks
from freezekit.runtime.fleet.process import can_start_workers
from freezekit.runtime.fleet.workers import WorkerPool, processors

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

_IN_FLIGHT = 64
_UPGRADES = 16
# So many files are looked at before it is worth to start processes for looking.
_LOOKED_AT_HERE = 512


class Crew:
    """This thread, for a frozen program that cannot start itself as a worker; and what other crews have in common.

    Attributes:
        in_flight: How many tasks may wait or run at once.
        upgrades: The same of upgrades, of which quick ones can be handed over some at once.
        looks_here: How many files are looked at in this process before others are handed out.
        tells_what_runs: Whether a future that was cancelled had not begun, as ``concurrent.futures`` has it.
    """

    in_flight = upgrades = 1
    tells_what_runs = True
    looks_here = sys.maxsize

    def __init__(self, cancel: Callable[[], object] | threading.Event | None = None) -> None:
        self._cancel = cancel

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have something done; here, now."""
        future: Future[Any] = Future()
        if function is tasks.upgrade and self._cancel is not None:
            function = partial(function, cancel=self._cancel)
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - whoever takes the result decides
            future.set_exception(error)
        return future

    def stop(self) -> None:
        """Have what is running cancelled, where that is possible."""

    def end(self) -> None:
        """Let go of what was started."""


class OwnWorkers(Crew):
    """Processes of this program.

    Args:
        count: How many.
    """

    looks_here = _LOOKED_AT_HERE

    def __init__(self, count: int) -> None:
        super().__init__()
        self._pool = WorkerPool(count)
        self.in_flight, self.upgrades = 2 * count, _UPGRADES * count

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have something done by the next free process."""
        return self._pool.submit(function, *arguments)

    def stop(self) -> None:
        """Have what is running rolled back."""
        self._pool.stop()

    def end(self) -> None:
        """End the processes; at once if this is interrupted."""
        try:
            self._pool.shutdown(cancel_futures=True)
        except BaseException:
            self._pool.kill()
            raise


class Lent(Crew):
    """An executor that the caller gave, and keeps."""

    looks_here = 0  # the files may be where only its workers see them

    def __init__(self, executor: Executor) -> None:
        super().__init__()
        self._executor = executor
        # The futures of dask are cancelled whatever becomes of their tasks.
        self.tells_what_runs = type(executor).__module__.partition(".")[0] != "distributed"
        self.in_flight = self.upgrades = 2 * getattr(executor, "_max_workers", _IN_FLIGHT)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have something done; an executor that takes nothing any more answers with the reason."""
        try:
            return self._executor.submit(function, *arguments)
        except RuntimeError as error:
            refused: Future[Any] = Future()
            refused.set_exception(error if isinstance(error, BrokenExecutor) else BrokenExecutor(str(error)))
            return refused


def crew_of(
    executor: Executor | None, workers: int | None, cancel: Callable[[], object] | threading.Event | None
) -> Crew:
    """Return who does the work.

    Args:
        executor: What the caller gave, if anything.
        workers: How many processes; None for as many as there are processors.
        cancel: Asked by upgrades in this process.
    """
    if executor is not None:
        return Lent(executor)
    return OwnWorkers(workers or processors()) if can_start_workers() else Crew(cancel)
