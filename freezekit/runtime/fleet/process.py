"""One worker process, seen from the program that started it: itself once more, and a pipe in each direction."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any, cast

from freezekit.runtime.fleet.serve import VARIABLE, pipe_name, whole_frames

if TYPE_CHECKING:
    from collections.abc import Iterable

_END_SECONDS = 5.0
_READ_BYTES = 64 * 1024
_SERVE = "import sys; sys.path[:] = {path!r}; from freezekit.runtime.fleet.serve import serve; serve()"


def can_start_workers() -> bool:
    """Return whether this program can start itself as a worker: a frozen one says so if freezekit's hook built it."""
    if getattr(sys, "frozen", False) or "__compiled__" in vars(sys.modules["__main__"]):
        return bool(getattr(sys, "freezekit_workers", False))
    return bool(sys.executable)


class WorkerProcess:
    """A process that does tasks in the order in which they come.

    Raises:
        OSError: It could not be started.
    """

    def __init__(self) -> None:
        self._received = bytearray()
        self._process, self._tasks, self._answers = _started()

    def send(self, requests: Iterable[bytes]) -> None:
        """Hand it pickled tasks.

        Raises:
            OSError: It has ended.
        """
        self._tasks.writelines(requests)
        self._tasks.flush()

    def receive(self) -> list[tuple[bool, Any]]:
        """Wait for an answer, and return all that are there: whether a task ended well, and its result or error.

        Raises:
            EOFError: It has ended.
        """
        while not (frames := list(whole_frames(self._received))):
            received = self._answers.read(_READ_BYTES)
            if not received:
                raise EOFError
            self._received += received
        return [pickle.loads(frame) for frame in frames]  # noqa: S301 - our own process wrote it

    def signal(self, how: str) -> None:
        """Send it a signal: ``"terminate"`` or ``"kill"``."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                getattr(self._process, how)()

    def end(self) -> str:
        """End it once it has done what it does, and return how it ended."""
        for pipe in (self._tasks, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _started() -> tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]:
    """Start this program as a worker; return it, where its tasks go, and where its answers come from, unbuffered."""
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
        process = subprocess.Popen(command, bufsize=0, stdin=tasks, stdout=subprocess.PIPE, env=environment, **apart)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(tasks)
    return process, os.fdopen(ours, "wb"), cast("IO[bytes]", process.stdout)
