"""What goes on between a running upgrade and the person who waits for it: a bar, and Ctrl-C."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from freezekit.cli.answers import is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from freezekit.runtime.fleet import FleetProgress
    from freezekit.runtime.reports import Progress


# What ends a program at a terminal, as a service or in a container; and what happens then.
_ENDING: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if hasattr(signal, "SIGHUP"):
    _ENDING[signal.SIGHUP] = signal.SIG_DFL
_PHASES = {"backup": "copying", "check": "checking", "commit": "writing"}


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[Progress], object] | None]:
    """Show how far an upgrade is, on stderr if it is a terminal; gone when the block ends."""
    with _bar() as update:

        def step(now: Progress) -> None:
            what = f"{now.revision} {now.doc}" if now.revision else _PHASES.get(now.phase, "")
            update(completed=now.fraction, description=what, done=f"{now.index}/{now.total}")

        yield step if update is not None else None


@contextlib.contextmanager
def fleet_bar() -> Iterator[Callable[[FleetProgress], object] | None]:
    """Show how many databases are finished, as :func:`progress_bar` does."""
    with _bar() as update:
        failed = itertools.count(1)
        said = [""]

        def step(now: FleetProgress) -> None:
            if now.outcome.result == "failed":
                said[0] = f"{next(failed)} failed"
            total = now.total or now.done
            completed = now.done / total if now.total else None
            update(completed=completed, description=said[0], done=f"{now.done}/{now.total or '?'}")

        yield step if update is not None else None


@contextlib.contextmanager
def _bar() -> Iterator[Any]:
    """Show a bar; yields what updates it, or None where nobody would see it."""
    if not is_terminal(sys.stderr):
        yield None
        return
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        yield None
        return
    columns = (
        progress.BarColumn(),
        progress.TextColumn("{task.fields[done]}"),
        progress.TextColumn("{task.description}", markup=False),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield partial(bar.update, bar.add_task("", total=1.0, done=""))


@contextlib.contextmanager
def cancelled_by_interrupt() -> Iterator[threading.Event]:
    """Let Ctrl-C, or what ends a service, set an event for the duration of a block; a second one ends as ever.

    A host that handles a signal by itself, or calls from another thread, keeps what it has.
    """
    event = threading.Event()
    ours = threading.current_thread() is threading.main_thread()
    usual = {number: one for number, one in _ENDING.items() if ours and signal.getsignal(number) is one}

    def cancel(number: int, _frame: FrameType | None) -> None:
        if event.is_set():
            signal.signal(number, usual[number])
            signal.raise_signal(number)
        event.set()

    for number in usual:
        signal.signal(number, cancel)
    try:
        yield event
    finally:
        for number, one in usual.items():
            signal.signal(number, one)
