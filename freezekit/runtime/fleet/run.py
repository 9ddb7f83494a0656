"""Upgrade many databases: sift them, hand what is pending to workers, the largest first, and report each."""

from __future__ import annotations

import queue
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from freezekit.errors import UpgradeCancelled, UsageError
from freezekit.runtime.fleet import tasks
from freezekit.runtime.fleet.crew import crew_of
from freezekit.runtime.fleet.entries import Entry, entries, is_collection
from freezekit.runtime.fleet.interrupts import interrupts_noted
from freezekit.runtime.fleet.ledger import Ledger
from freezekit.runtime.fleet.records import DUPLICATE, FAILED, LEFT, FleetProgress, Outcome
from freezekit.runtime.fleet.report import FleetReport
from freezekit.runtime.reports import Backup

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor, Future

    from freezekit.runtime.fleet.crew import Crew
    from freezekit.runtime.fleet.entries import FleetDatabase
    from freezekit.runtime.fleet.interrupts import Interrupts
    from freezekit.runtime.fleet.tasks import Order, Sifted
    from freezekit.runtime.migrations import Migrations

_ONE_BACKUP = Backup()
_CHUNK = 256
_ATTEMPTS = 2
_SIZE_OF_A_SERVER = -1
# An upgrade of a server has at most so many connections at once: the lock's, env.py's, and one that looks.
_CONNECTIONS = 3
_POLL_SECONDS = 0.2
_ASK_SECONDS = 0.05
_REST = "the rest of what was given"


def upgrade_many(  # noqa: PLR0913 - each is a choice of its own
    databases: FleetDatabase | Iterable[FleetDatabase],
    migrations: Migrations,
    *,
    executor: Executor | None = None,
    on_progress: Callable[[FleetProgress], object] | None = None,
    backup: Backup | None = _ONE_BACKUP,
    timeout: float = 30.0,
    x_arguments: Mapping[str, str | Sequence[str]] | None = None,
    cancel: Callable[[], object] | threading.Event | None = None,
    workers: int | None = None,
    max_connections: int | None = None,
    stop_after_failures: int | None = None,
) -> FleetReport:
    """Upgrade many databases, each with the promises of :meth:`freezekit.Migrations.upgrade`.

    Every file is looked at first, without Alembic; only those with something pending are upgraded, the largest first,
    databases of servers after them. Each succeeds or fails by itself. A file that does not exist is a failure: nothing
    is created. A second call does only what is left.

    The work is done by processes of this program, as many as there are processors. In a frozen program these need
    freezekit's hook, which a bundle that names ``upgrade_many`` has; without it the work is done in this process. A
    worker that is killed loses only its current database's attempt; that is repeated once, and then reported.

    Args:
        databases: Paths, patterns, URLs, :class:`Tenant`; one, or any iterable, which is read as far as needed.
            Patterns are those of :func:`glob.glob` with ``**``; backups (``*.bak``) match only one that ends so.
        migrations: The scripts.
        executor: Does the work instead: any ``concurrent.futures.Executor``, such as that of a cluster. Its workers
            need the same scripts, at the same path or in the same package, and see the same files. It is not shut
            down.
        on_progress: Called from this thread after each database. What it raises ends the run as ``cancel`` does, and
            leaves this function.
        backup: As for ``upgrade``.
        timeout: How long to wait for another program that uses a database, in seconds.
        x_arguments: As for ``upgrade``, the same for all.
        cancel: A function or an ``Event``. Workers of this program roll back what they do; an ``executor`` finishes
            what it has begun, that of dask all that it was handed. The rest is reported as left; as one, what was not
            read yet of anything but a collection.
        workers: How many processes; by default one for each processor this process may use.
        max_connections: How many connections to servers there may be at once, at least 3.
        stop_after_failures: After how many failures the rest is left.

    Returns:
        A report that lists each database.

    Raises:
        InvalidMigrations, UnreadableBundle: The scripts cannot be used; nothing was looked at.
        UsageError: ``databases`` is neither a database that can go to another process nor an iterable; a number is too
            small; or there is both an executor and a number of workers. Nothing was changed.
        KeyboardInterrupt: Ctrl-C was pressed; what ran was rolled back or finished, and everything that was read was
            reported to ``on_progress``. Pressed once more it ends the run at once.

    Example:
        >>> report = freezekit.upgrade_many("notes/**/*.notes", migrations)
        >>> report.counts["upgraded"], [one.database for one in report.failures]
        (1204, ['notes/locked.notes'])
    """
    _refuse_numbers(executor, workers, max_connections, stop_after_failures)
    order = tasks.order_of(migrations, backup, timeout, x_arguments)
    started = time.monotonic()
    with interrupts_noted() as interrupts:
        servers = max_connections // _CONNECTIONS if max_connections else None
        limits = _Limits(cancel, stop_after_failures, servers, interrupts)
        crew = crew_of(executor, workers, limits.is_cancelled)
        fleet = _Fleet(order, crew, limits, on_progress)
        try:
            fleet.run(entries(databases), is_list=is_collection(databases))
        except BaseException:
            fleet.ledger.close()
            raise
        finally:
            crew.end()
    return FleetReport(fleet.ledger, time.monotonic() - started)


def _refuse_numbers(executor: Executor | None, workers: int | None, *others: int | None) -> None:
    if executor is not None and workers is not None:
        raise UsageError("An executor has workers of its own: give one of both.")
    connections, failures = others
    least = (
        ("workers", workers, 1),
        ("max_connections", connections, _CONNECTIONS),
        ("stop_after_failures", failures, 1),
    )
    for name, given, fewest in least:
        if given is not None and given < fewest:
            raise UsageError(f"{name} is {given}; it must be at least {fewest}.")


@dataclass
class _Limits:
    """When a fleet stops, and how much it does at once.

    Attributes:
        cancel: Asked between databases.
        failures: How many more may fail; None for any number.
        servers: How many servers may be upgraded at once; None for any number.
        interrupts: Whether Ctrl-C was pressed.
    """

    cancel: Callable[[], object] | threading.Event | None
    failures: int | None
    servers: int | None
    interrupts: Interrupts

    def is_cancelled(self) -> bool:
        """Return whether the caller, or whoever sits there, wants the fleet to stop."""
        if self.interrupts.pressed:
            return True
        if self.cancel is None:
            return False
        return bool(self.cancel() if callable(self.cancel) else self.cancel.is_set())


class _Fleet:
    """One run over many databases."""

    def __init__(
        self, order: Order, crew: Crew, limits: _Limits, on_progress: Callable[[FleetProgress], object] | None
    ) -> None:
        self.ledger = Ledger()
        self._order = order
        # One of each attempt: a cluster may take equal tasks for one.
        self._orders = [replace(order, run=f"{order.run}.{attempt}") for attempt in range(_ATTEMPTS + 1)]
        self._crew = crew
        self._limits = limits
        self._on_progress = on_progress
        self._stopped = False
        self._ask_at = 0.0
        self._is_read = False
        self._done = 0
        self._total: int | None = None
        # What is in flight, and how often it was tried: one database to upgrade, or some files to look at.
        self._running: dict[Future[Any], tuple[Entry | list[Entry], int]] = {}
        self._finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        # Read and not looked at, looked at and not noted; and an entry that waits for connections to become free.
        self._unnoted: deque[Entry] = deque()
        self._held: list[Entry] = []

    def run(self, found: Iterator[Entry | tuple[str, Exception]], *, is_list: bool) -> None:
        """Sift, upgrade, and report every entry, whatever happens meanwhile.

        Args:
            found: The entries.
            is_list: Whether all of them are there already, so that those left can be named, too.
        """
        todo: Iterator[Entry] | None = None
        try:
            self._sift(found)
            todo = self.ledger.taken()
            self._upgrade(todo)
            self._wait(0)
        except BaseException:
            self._stop()
            raise
        finally:
            self._wait(0)
            rest = self.ledger.taken() if todo is None else todo
            for one in chain(self._unnoted, self._held, rest, found if is_list else ()):
                self._leave(one)
        if not (self._is_read or is_list):
            self._leave((_REST, UpgradeCancelled(_REST)))

    def _sift(self, found: Iterator[Entry | tuple[str, Exception]]) -> None:
        """Look at every file, and enter what is to do."""
        looked_at = 0
        while not self._is_stopped() and self._read(found) and not self._stopped:
            files = list(self._unnoted)
            if looked_at < self._crew.looks_here:
                self._note(tasks.sift(self._order, files))
            elif files:
                self._unnoted.clear()
                self._start(files)
                self._wait(self._crew.in_flight)
            looked_at += len(files)
        self._wait(0)
        if self._is_read:
            self._total = self._done + self.ledger.todo()

    def _read(self, found: Iterator[Entry | tuple[str, Exception]]) -> bool:
        """Read some entries: report what is no database, enter what is a server; return whether there were any."""
        any_read = False
        for _ in range(_CHUNK):
            one = self._limits.interrupts.next_of(found)
            if one is None:
                self._is_read = not self._is_stopped()
                break
            any_read = True
            if not isinstance(one, Entry):
                self._report(Outcome(one[0], FAILED, error=one[1]))
            elif one.path is None:
                self._enter(one, _SIZE_OF_A_SERVER, repr(one.target))
            else:
                self._unnoted.append(one)
            if time.monotonic() >= self._ask_at and self._is_stopped():
                break
        return any_read

    def _note(self, found: list[Sifted]) -> None:
        """Report what needs nothing, and enter what does."""
        for one in found:
            entry = self._unnoted.popleft()
            if one.outcome is None:
                self._enter(Entry(entry.name, entry.path, entry.target, one.state), one.size, one.key)
            elif not self._is_known(entry, one.key):
                self._report(one.outcome)

    def _enter(self, entry: Entry, size: int, key: str) -> None:
        if not self._is_known(entry, key):
            self.ledger.put(size, entry)

    def _is_known(self, entry: Entry, key: str) -> bool:
        """Return whether the same file or database was entered before; report it if it was."""
        first = self.ledger.first_of(key, entry.name) if key else None
        if first is not None:
            self._report(Outcome(entry.name, DUPLICATE, same_as=first))
        return first is not None

    def _upgrade(self, todo: Iterator[Entry]) -> None:
        """Hand out what is to do."""
        # What is in flight when enough have failed is finished, so then it should be little.
        most = self._crew.upgrades if self._limits.failures is None else self._crew.in_flight
        while not self._is_stopped():
            entry = self._held.pop() if self._held else next(todo, None)
            if entry is None:
                return
            if entry.path is None and self._has_enough_servers():
                self._held.append(entry)
                self._wait(len(self._running) - 1)
                continue
            self._start(entry)
            self._wait(most - 1)

    def _has_enough_servers(self) -> bool:
        most = self._limits.servers
        # Files come first, so at the end all that runs are servers.
        return most is not None and len(self._running) >= most

    def _start(self, what: Entry | list[Entry], attempt: int = 1) -> None:
        function = tasks.upgrade if isinstance(what, Entry) else tasks.sift
        future = self._crew.submit(function, self._orders[attempt], what)
        self._running[future] = what, attempt
        future.add_done_callback(self._finished.put)

    def _wait(self, most: int) -> None:
        """Take what is finished, until at most so many are in flight."""
        while len(self._running) > max(most, 0) or not self._finished.empty():
            try:
                future = self._finished.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self._is_stopped()
                # What an interrupt came for in the moment in which it was fetched.
                for future in [one for one in self._running if one.done()]:
                    self._finished.put(future)
                continue
            if future in self._running:
                self._take(future, *self._running.pop(future))
            self._is_stopped()

    def _take(self, future: Future[Any], what: Entry | list[Entry], attempt: int) -> None:
        """Use the result of a task; have a task repeated whose worker ended without an answer."""
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or (error is not None and (self._stopped or not isinstance(error, Exception))):
            for entry in (what,) if isinstance(what, Entry) else what:
                self._leave(entry)
        elif error is not None and attempt < _ATTEMPTS:
            self._start(what, attempt + 1)
        elif error is not None:
            self._give_up(what, attempt, error)
        elif isinstance(what, Entry):
            outcome = future.result()
            self._report(outcome if outcome.attempts == attempt else replace(outcome, attempts=attempt))
        else:
            self._unnoted.extendleft(reversed(what))
            self._note(future.result())
        if error is not None and not isinstance(error, Exception):
            raise error

    def _give_up(self, what: Entry | list[Entry], attempts: int, error: BaseException) -> None:
        if isinstance(what, Entry):
            self._report(tasks.lost(what, attempts, str(error) or type(error).__name__))
            return
        for entry in what:  # whichever of them it was, the others are to be upgraded
            self._enter(entry, 0, "")

    def _leave(self, one: Entry | tuple[str, Exception]) -> None:
        name = one.name if isinstance(one, Entry) else one[0]
        self._report(Outcome(name, LEFT, one.state if isinstance(one, Entry) else None, error=UpgradeCancelled(name)))

    def _report(self, outcome: Outcome) -> None:
        self.ledger.add(outcome)
        self._done += 1
        if outcome.result == FAILED and self._limits.failures is not None:
            self._limits.failures -= 1
        if self._on_progress is not None:
            try:
                self._on_progress(FleetProgress(outcome, self._done, self._total))
            except Exception:
                self._on_progress = None
                raise

    def _is_stopped(self) -> bool:
        """Return whether nothing more is to be begun."""
        self._ask_at = time.monotonic() + _ASK_SECONDS
        if not self._stopped and self._limits.is_cancelled():
            self._stop()
        if not self._stopped and self._limits.failures is not None and self._limits.failures <= 0:
            self._begin_nothing_more()
        return self._stopped

    def _stop(self) -> None:
        """Begin nothing more, and have what is running rolled back where that is possible."""
        self._begin_nothing_more()
        self._crew.stop()

    def _begin_nothing_more(self) -> None:
        self._stopped = True
        for future in list(self._running) if self._crew.tells_what_runs else ():
            future.cancel()
