"""The worker process: takes tasks from a pipe until the pipe ends. Imports nothing of freezekit before it is asked.

A program is a worker if its variable names the very pipe that its input is; whatever else sets it, it starts as ever.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

VARIABLE = "FREEZEKIT_WORKER"
# One upgrade of a small document makes thousands; at Python's own 700 to 2,000 it would collect all the time.
_OBJECTS_BETWEEN_COLLECTIONS = 20_000
_LENGTH_BYTES = 8


def pipe_name(descriptor: int) -> str:
    """Return what tells a pipe from every other, as far as the system does."""
    found = os.fstat(descriptor)
    return f"{found.st_dev}:{found.st_ino}"


def framed(answer: object) -> bytes:
    """Return something as bytes that say how many they are."""
    content = pickle.dumps(answer)
    return len(content).to_bytes(_LENGTH_BYTES, "little") + content


def whole_frames(received: bytearray) -> Iterator[bytes]:
    """Remove what is there in whole from the bytes that were received, and yield it, one content after the other."""
    while len(received) >= (start := _LENGTH_BYTES):
        end = start + int.from_bytes(received[:start], "little")
        if len(received) < end:
            return
        content = bytes(received[start:end])
        del received[:end]
        yield content


def serve() -> None:
    """Work until there are no more tasks, and end the process; return at once if this process is no worker.

    Raises:
        SystemExit: There are no more tasks.
    """
    wanted = os.environ.pop(VARIABLE, "")
    try:
        if not wanted or wanted != pipe_name(0):
            return
    except OSError:
        return
    # The parent decides about Ctrl-C; a worker is told by another signal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    from freezekit.runtime.fleet import tasks

    tasks.is_worker = True
    is_settled = False
    with contextlib.suppress(BrokenPipeError), _pipes() as (asked_for, answers):
        _stop_with_parent(asked_for.fileno())
        while (task := _next(asked_for)) is not None:
            answers.write(framed(_answer(*task)))
            answers.flush()
            if task[0] is tasks.upgrade and not is_settled:
                # Alembic is loaded, for good: looking through it for garbage again and again would only cost time.
                gc.collect()
                gc.freeze()
                gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
                is_settled = True
    raise SystemExit(0)


def _stop(_number: int, _frame: FrameType | None) -> None:
    from freezekit.runtime.fleet.tasks import stopping

    stopping.set()


def _stop_with_parent(tasks: int) -> None:
    """Stop what is done if the program that asked for it is gone: nobody would hear what became of it."""
    import select
    import threading

    if not hasattr(select, "poll"):  # Windows
        return

    def wait() -> None:
        hung_up = select.poll()
        hung_up.register(tasks, 0)
        hung_up.poll()
        _stop(0, None)

    threading.Thread(target=wait, name="freezekit-parent", daemon=True).start()


@contextlib.contextmanager
def _pipes() -> Any:
    """Keep both pipes for tasks and answers alone: what env.py prints goes where errors go."""
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:
        os.dup2(nothing, 1)
    os.close(nothing)
    sys.stdin = None
    sys.stdout = sys.stderr
    with tasks, answers:
        yield tasks, answers


def _next(tasks: Any) -> Any:
    try:
        return pickle.load(tasks)  # noqa: S301 - the parent wrote it
    except EOFError:
        return None


def _answer(function: Any, arguments: Any) -> tuple[bool, Any]:
    try:
        return True, function(*arguments)
    except Exception as error:  # noqa: BLE001 - it belongs to who asked
        return False, error
