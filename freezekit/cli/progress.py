"""What goes on between a running upgrade and the person who waits for it: a bar, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING

from freezekit.cli.answers import is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from freezekit.runtime.reports import Progress


_PHASES = {"backup": "copying", "check": "checking", "commit": "writing"}


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[Progress], object] | None]:
    """Show how far an upgrade is, on stderr if it is a terminal; gone when the block ends."""
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
        task = bar.add_task("", total=1.0, done="")

        def step(now: Progress) -> None:
            what = f"{now.revision} {now.doc}" if now.revision else _PHASES.get(now.phase, "")
            bar.update(task, completed=now.fraction, description=what, done=f"{now.index}/{now.total}")

        yield step


@contextlib.contextmanager
def cancelled_by_interrupt() -> Iterator[threading.Event]:
    """Let Ctrl-C set an event for the duration of a block; a second one interrupts as ever.

    A host that handles the signal by itself, or calls from another thread, keeps what it has.
    """
    event = threading.Event()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield event
        return

    def cancel(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            signal.default_int_handler(number, frame)
        event.set()

    signal.signal(signal.SIGINT, cancel)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
