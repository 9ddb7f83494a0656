"""Ask a bundle to test itself, and read its answer: the other side of freezekit.runtime.selftest."""

from __future__ import annotations

import json
import secrets
import time
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freezekit.runtime.selftest import FORMAT, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from freezekit.check.room import Ended, Room, Running

_MODULE = "freezekit/runtime/selftest."
_HOOK = b"pyi_rth_freezekit"
_POLL_SECONDS = 0.01
_MOST_ANSWERED = 16 << 20


def can_answer(room: Room) -> bool:
    """Return whether the bundle holds what answers; a program that does not would simply start."""
    for path in room.bundle.rglob("*"):
        if _MODULE in path.as_posix() or (path.suffix == ".zip" and _is_in_zip(path)):
            return True
    return _HOOK in room.executable.read_bytes()


def _is_in_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.startswith(_MODULE) for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


@dataclass
class Asked:
    """A program that was started to answer one request."""

    running: Running
    answer: Path

    def lines(self) -> list[Mapping[str, Any]]:
        """Return what it has said so far; a line that is not finished does not count."""
        try:
            with self.answer.open("rb") as file:
                text = file.read(_MOST_ANSWERED)
            found = [json.loads(line) for line in text.split(b"\n")[:-1]]
        except (OSError, ValueError, RecursionError):
            return []
        return [line for line in found if isinstance(line, dict)]

    def phases(self) -> dict[str, Mapping[str, Any]]:
        """Return the phases that ended, by name."""
        return {line["phase"]: line for line in self.lines() if _is_phase(line)}

    def begun(self) -> str | None:
        """Return the phase that was begun and did not end, or None."""
        ended = self.phases()
        begun = (str(line["begins"]) for line in self.lines() if "begins" in line)
        return next((name for name in begun if name not in ended), None)

    def wait_until(self, key: str, timeout: float) -> bool:
        """Wait for a line with a key; False if the program ended, or the time did."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            has_ended = self.running.process.poll() is not None
            if any(key in line for line in self.lines()):
                return True
            if has_ended:
                return False
            time.sleep(_POLL_SECONDS)
        return False

    def wait(self, timeout: float) -> Ended:
        """Wait for its end, or stop it at the time limit."""
        return self.running.wait(timeout)


def _is_phase(line: Mapping[str, Any]) -> bool:
    """Return whether a line tells of a phase; what is no program of ours may say anything."""
    if not all(isinstance(line.get(name), str) for name in ("phase", "outcome", "detail")):
        return False
    is_known = line["outcome"] in {"passed", "failed", "skipped"} and "data" in line
    return is_known and isinstance(line.get("seconds"), (int, float))


class Asker:
    """Asks the bundle of one room, as often as needed."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._number = 0

    def ask(self, *, writable: bool = False, **request: Any) -> Asked:
        """Start the program with a request."""
        self._number += 1
        token = secrets.token_hex(16)
        path = self._room.scratch / f"request-{self._number}.json"
        path.write_text(json.dumps({"format": FORMAT, "token": token, **request}), encoding="utf-8")
        running = self._room.start([], {VARIABLE: f"{token}:{path}"}, writable=writable)
        return Asked(running, path.with_name(f"answer-{self._number}.jsonl"))
