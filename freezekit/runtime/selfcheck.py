"""What a bundle finds out about itself when the runner of ``freezekit smoke`` asks: see freezekit.runtime.selftest.

Each answer is one line of JSON, written when it is known, so that the runner can tell what a program was at when it
hung or crashed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from freezekit.runtime.selftest import scratch_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezekit.runtime.migrations import Migrations
    from freezekit.runtime.reports import Progress

_GO_SECONDS = 60.0
_HOLD_SECONDS = 600.0
_POLL_SECONDS = 0.005
_MANIFEST = "freezekit."


class Skipped(Exception):
    """A phase does not apply; the message says why."""


class Answer:
    """The file that the runner reads."""

    def __init__(self, folder: str, number: int) -> None:
        # Never a file that is there already, nor through a link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(os.path.join(folder, f"answer-{number}.jsonl"), flags, 0o600)
        self._file = os.fdopen(handle, "w", encoding="utf-8")

    def say(self, **facts: Any) -> None:
        """Write one line."""
        self._file.write(json.dumps(facts) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def phase(self, name: str, work: Callable[[], Any]) -> bool:
        """Do the work of a phase, and say how it ended; whatever it raises is the answer, not an error of ours."""
        self.say(begins=name)
        started, outcome, detail, data = time.monotonic(), "passed", "", None
        try:
            data = work()
        except Skipped as reason:
            outcome, detail = "skipped", str(reason)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a script may raise anything
            outcome, detail = "failed", _told(error)
        self.say(phase=name, outcome=outcome, seconds=time.monotonic() - started, detail=detail, data=data)
        return outcome != "failed"


def run(folder: str, number: int, request: dict[str, Any]) -> int:
    """Answer one request.

    Args:
        folder: The private folder of the request; nothing else is read or written, but for the bundle.
        number: Number of the request; its answer gets the same.
        request: What it says.

    Returns:
        The exit code: 0 once everything was tried, whatever came of it.
    """
    with contextlib.closing(Answer(folder, number)) as answer:
        if request.get("test") == "upgrade":
            answer.phase("upgrade", lambda: _upgrade(folder, request, answer))
        else:
            _survey(folder, request, answer)
        answer.say(done=True)
    return 0


def _survey(folder: str, request: dict[str, Any], answer: Answer) -> None:
    """Try everything that one process can."""
    from freezekit.runtime.selfphases import PHASES, Subject

    subjects: list[Subject] = []

    def start() -> dict[str, Any]:
        subjects.extend(Subject(number, one, folder) for number, one in enumerate(bundled_chains()))
        if not subjects:
            raise LookupError("no migrations are in this bundle")
        return {"versions": versions(), "chains": [one.facts for one in subjects]}

    names = [scratch_file(folder, name) for name in request.get("databases", ())]
    failed = set() if answer.phase("start", start) else {"start"}
    skipped = set(request.get("skip", ()))
    for name, (needs, work) in PHASES.items():
        missing = [one for one in (*needs, "start") if one in failed]
        if missing or name in skipped:
            reason = f"not tried, because {missing[0]} did not pass" if missing else "as asked"
            answer.say(phase=name, outcome="skipped", seconds=0.0, detail=reason, data=None)
            failed.add(name)
        elif not answer.phase(name, lambda work=work: work(subjects, names)):  # type: ignore[misc]
            failed.add(name)


def _upgrade(folder: str, request: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """Upgrade one database; begin when told to, and stand still in the middle when asked to."""
    path = scratch_file(folder, request["database"])
    migrations = bundled_chains()[request.get("chain", 0)]

    def on_progress(now: Progress) -> None:
        in_middle = now.phase == "migrate" and now.revision is not None and now.index >= now.total // 2
        if request.get("hold") == ("middle" if in_middle else now.phase):
            answer.say(holds=now.phase, revision=now.revision)
            time.sleep(_HOLD_SECONDS)

    if go := request.get("go"):
        answer.say(ready=True)
        _wait_for(scratch_file(folder, go))
    report = migrations.upgrade(path, backup=None, on_progress=on_progress)
    return {"applied": report.applied, "heads": report.heads, "state": migrations.status(path).state.value}


def _wait_for(path: str) -> None:
    ends = time.monotonic() + _GO_SECONDS
    while not os.path.exists(path) and time.monotonic() < ends:
        time.sleep(_POLL_SECONDS)


def bundled_chains() -> list[Migrations]:
    """Return every chain in this bundle, found by its manifest, in a stable order."""
    import freezekit

    found = sorted(set(_manifests()))
    return [freezekit.locate(folder, section=section) for folder, section in found]


def _manifests() -> Iterator[tuple[str, str]]:
    """Yield folder and section of every manifest where the freezers' hooks put them."""
    import zipfile

    roots = [sys._MEIPASS] if hasattr(sys, "_MEIPASS") else [os.path.join(sys.prefix, "lib")]  # noqa: SLF001 - documented
    for root in roots:
        for folder, _, names in os.walk(root):
            yield from ((folder, section) for section in _sections(names))
    for archive in (entry for entry in sys.path if entry.endswith(".zip") and os.path.isfile(entry)):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.namelist():
                folder, _, name = member.rpartition("/")
                yield from ((os.path.join(archive, *folder.split("/")), section) for section in _sections([name]))


def _sections(names: list[str]) -> Iterator[str]:
    """Yield the section of each file that is named as a manifest is."""
    from freezekit.manifest import DEFAULT_SECTION

    for name in names:
        if name.startswith(_MANIFEST) and name.endswith(".json"):
            yield (
                name[len(_MANIFEST) : -len(".json")] or DEFAULT_SECTION if name != "freezekit.json" else DEFAULT_SECTION
            )


def versions() -> dict[str, str]:
    """Return the versions of what runs here."""
    import platform
    import sqlite3

    import alembic
    import sqlalchemy

    import freezekit

    return {
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "Alembic": alembic.__version__,
        "SQLAlchemy": sqlalchemy.__version__,
        "freezekit": freezekit.__version__,
    }


def _told(error: BaseException) -> str:
    cause = f" (caused by {type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    return f"{type(error).__name__}: {error}{cause}"
