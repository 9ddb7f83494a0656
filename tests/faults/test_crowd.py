"""Many at once: fifty programs that start together, and an application that goes on working meanwhile."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from harness import OLD, state

import freezekit
from freezekit.runtime import sqlite_upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import Subject

    from freezekit import Progress

CROWD = 50
# Children are forked from a process that has imported everything, and let go together.
START = """
import json, os, sys
import sqlalchemy.dialects.sqlite
import freezekit, freezekit.runtime.upgrade
from freezekit.runtime import sqlite_upgrade
document, scripts, count, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
if limit is not None:
    sqlite_upgrade.IN_PLACE_BYTES = limit
ready, go = os.pipe()
children = []
for number in range(count):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(go)
        os.read(ready, 1)  # returns for all of them when the parent closes its end
        try:
            told = list(freezekit.locate(scripts).upgrade(document, timeout=120).applied)
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    children.append((child, reader))
os.close(go)
told = []
for child, reader in children:
    told.append(json.loads(os.read(reader, 65536) or b'"it died"'))
    os.waitpid(child, 0)
print(json.dumps(told))
"""
# Adds rows until its input ends, and says what became of each try, and when.
WRITER = """
import itertools, select, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
for number in itertools.count(10000):
    said = ""
    while said != "done":
        try:
            connection.execute("INSERT INTO book VALUES (?, 'from elsewhere')", (number,))
            said = "done"
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            said = "locked"
        print(said, number, time.monotonic(), flush=True)
        ended = select.select([sys.stdin], [], [], 0.005)[0]
    if ended:
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fifty_that_start_at_once_all_succeed(subject: Subject, tmp_path: Path, factor: int) -> None:
    """One upgrades, the others wait and then find nothing to do."""
    for _ in range(factor):
        document = subject.copy_to(tmp_path / "folder")
        words = [str(document), str(subject.scripts), str(CROWD), json.dumps(subject.in_place_bytes)]
        started = subprocess.run([sys.executable, "-c", START, *words], capture_output=True, text=True, check=False)
        assert started.returncode == 0, started.stderr
        told = json.loads(started.stdout)
        assert [one for one in told if isinstance(one, str)] == []
        assert sorted(map(bool, told)) == [False] * (CROWD - 1) + [True]
        assert subject.name_of(state(document)) == "new"
        assert subject.strays(document) == []
        assert subject.name_of(state(document.parent / f"document.{OLD}.bak")) == "old"


def test_what_an_application_writes_meanwhile_is_kept(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after the upgrade, which goes on only once the writer has found the document locked by it."""
    if subject.in_place_bytes is not None:
        monkeypatch.setattr(sqlite_upgrade, "IN_PLACE_BYTES", subject.in_place_bytes)
    document = subject.copy_to(tmp_path / "folder")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(document)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        log = Log(writer)
        log.read_until("done", time.monotonic())
        locked: list[int] = []

        def on_progress(now: Progress) -> None:
            # While the upgrade waits for the lock itself, it tells of no phase of its own.
            if now.phase == "backup" and not locked:
                locked.append(log.read_until("locked", time.monotonic()))

        applied = freezekit.locate(subject.scripts).upgrade(document, on_progress=on_progress, timeout=60).applied
        log.read_until("done", time.monotonic())
        log.read_to_the_end()
    assert applied, "the upgrade"
    assert writer.returncode == 0
    assert min(log.done) < locked[0] <= max(log.done)
    with closing(sqlite3.connect(document)) as connection:
        kept = {number for (number,) in connection.execute("SELECT id FROM book WHERE id >= 10000")}
    assert kept == log.done
    assert (document.parent / f"document.{OLD}.bak").exists()


class Log:
    """What the writer says, as far as it was read."""

    def __init__(self, writer: subprocess.Popen[str]) -> None:
        self._writer = writer
        self.done: set[int] = set()

    def read_until(self, word: str, moment: float) -> int:
        """Return the row of which the writer says something after a moment."""
        for said, number, when in self._lines():
            if said == word and when > moment:
                return number
        pytest.fail("the writer has ended")

    def read_to_the_end(self) -> None:
        """Let the writer end with the row it has begun."""
        assert self._writer.stdin is not None
        self._writer.stdin.close()
        for _ in self._lines():
            pass

    def _lines(self) -> Iterator[tuple[str, int, float]]:
        assert self._writer.stdout is not None
        for line in self._writer.stdout:
            said, number, when = line.split()
            if said == "done":
                self.done.add(int(number))
            yield said, int(number), float(when)
