"""Many at once: fifty programs that start together, and an application that goes on working meanwhile."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from harness import OLD, state

import freezekit
from freezekit.runtime import sqlite_upgrade

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Subject

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
# Adds rows until it is told to stop, and says which of them it was told are safe.
WRITER = """
import json, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
done = []
print("ready", flush=True)
while not sys.stdin.closed:
    number = 10000 + len(done)
    connection.execute("INSERT INTO book VALUES (?, 'from elsewhere')", (number,))
    done.append(number)
    if len(done) == 200:
        break
    connection.execute("SELECT count(*) FROM book").fetchone()
    time.sleep(0.005)
print(json.dumps(done))
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
    """Before and after the upgrade; while it lasts the writer waits, as for any other."""
    if subject.in_place_bytes is not None:
        monkeypatch.setattr(sqlite_upgrade, "IN_PLACE_BYTES", subject.in_place_bytes)
    document = subject.copy_to(tmp_path / "folder")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(document)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        applied = freezekit.locate(subject.scripts).upgrade(document, timeout=60).applied
        out, error = writer.communicate()
    assert applied, "the upgrade"
    # Its statement was written for the old schema; the book it names has another column after the upgrade.
    assert writer.returncode == 0, error
    with closing(sqlite3.connect(document)) as connection:
        kept = {number for (number,) in connection.execute("SELECT id FROM book WHERE id >= 10000")}
    assert kept == set(json.loads(out))
    assert (document.parent / f"document.{OLD}.bak").exists()
