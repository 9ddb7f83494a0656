"""Ctrl-C while many databases are upgraded: heard between two steps, so that each of them is reported."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    T = TypeVar("T")


class Interrupts:
    """Whether Ctrl-C was pressed; raised in the midst of a step, it would lose what that step had in hand.

    Attributes:
        pressed: It was. A second time it is raised, wherever the program is.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._raises = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if self.pressed or self._raises:
            self.pressed = True
            signal.default_int_handler(number, frame)
        self.pressed = True

    def next_of(self, given: Iterator[T]) -> T | None:
        """Return what comes next, None at the end; this may wait for ever, so here Ctrl-C is raised at once."""
        self._raises = True
        try:
            return next(given, None)
        finally:
            self._raises = False


@contextlib.contextmanager
def interrupts_noted() -> Iterator[Interrupts]:
    """Note Ctrl-C for the duration of a block, and raise it in the end.

    A host that handles the signal by itself, or calls from another thread, keeps what it has.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    interrupts = Interrupts()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts.hear)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupts.pressed:
        raise KeyboardInterrupt
