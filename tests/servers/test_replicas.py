"""A bundle of the server: replicas that start at once on one database, their probes, and what systemd is told."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from configparser import ConfigParser
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from bundles import clean_environment
from documents import shown
from private import content, versions
from sample_data import expected_head, revisions
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import freezekit
from sample_app.server.readiness import notify
from sample_app.server.serve import _MARGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bundles import Bundle
    from private import Server

REPLICAS = 4
SECONDS = 60
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="listens at a socket of systemd's kind")


@dataclass
class Replica:
    """A running replica, and what it has told its service manager so far."""

    process: subprocess.Popen[str]
    listener: socket.socket
    ready_file: Path
    url: str = ""
    told: list[str] = field(default_factory=list)

    def hear(self) -> None:
        self.told += self.listener.recv(4096).decode().splitlines()

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def next_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()


def hear_until(replicas: list[Replica], heard: Callable[[], bool]) -> None:
    """Listen to all replicas until what is waited for was said."""
    while not heard():
        ready, _, _ = select.select([one.listener for one in replicas], [], [], SECONDS)
        assert ready, [one.told for one in replicas]
        for one in replicas:
            if one.listener in ready:
                one.hear()


@pytest.fixture
def started(build_bundle: Callable[[str], Bundle], tmp_path: Path) -> Iterator[Any]:
    """Start replicas of the frozen server; they are ended after the test."""
    bundle = build_bundle("cx-server")
    with contextlib.ExitStack() as stack:

        def start(url: str, count: int) -> list[Replica]:
            replicas = [_start(bundle, url, tmp_path, index, stack) for index in range(count)]
            for one in replicas:
                one.url = one.next_line().removeprefix("listening at ")
            return replicas

        yield start


def _start(bundle: Bundle, url: str, folder: Path, index: int, stack: contextlib.ExitStack) -> Replica:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    listener.bind(f"\0{folder.name}-{id(stack)}-{index}")
    name = "@" + listener.getsockname()[1:].decode()
    file = folder / f"ready-{index}"
    command = [bundle.executable, "serve", "--url", url, "--port", "0", "--ready-file", file, "--timeout", "60"]
    environment = {**clean_environment(bundle.home), "NOTIFY_SOCKET": name}
    process = stack.enter_context(
        subprocess.Popen(
            [*bundle.source.prefix, *command], cwd=bundle.home, env=environment, stdout=subprocess.PIPE, text=True
        )
    )
    stack.callback(process.kill)
    return Replica(process, listener, file)


@pytest.fixture
def old_database(postgresql: Server) -> Iterator[str]:
    """A database at the first revision."""
    url = postgresql.database()
    freezekit.locate("sample_app:migrations").upgrade(url, revisions[0])
    yield url
    postgresql.emptied(url)


def test_the_examples_of_the_page_work(
    old_database: str,
    postgresql: Server,
    build_bundle: Callable[[str], Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of docs/howto/replicas.md: an upgrade that tells what it does, what systemd hears, and an administrator."""
    page = "docs/howto/replicas.md"
    told: list[freezekit.Progress] = []
    migrations = freezekit.locate("sample_app:migrations")
    names: dict[str, Any] = {"migrations": migrations, "url": old_database}
    exec(shown(page, "report = migrations.upgrade"), {**names, "stop": threading.Event(), "tell": told.append})
    assert told[-1].phase == "done"
    assert versions(old_database) == [expected_head]
    administered = postgresql.database()
    bundle = build_bundle("cx-server")
    path = f"{bundle.executable.parent}{os.pathsep}{os.defpath}"
    done = subprocess.run(
        ["bash", "-eu", "-c", shown(page, "sample_app db upgrade")],
        cwd=tmp_path,
        env={**clean_environment(tmp_path), "PATH": path, "URL": administered},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert versions(administered) == [expected_head]
    assert json.loads((tmp_path / "upgrade.json").read_text())["version"] == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{tmp_path}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
        exec(shown(page, "notify("), {"notify": notify})
        heard = [listener.recv(4096).decode().splitlines() for _ in range(2)]
    assert heard == [["STATUS=migrating 3/9: 0004", "EXTEND_TIMEOUT_USEC=30000000"], ["READY=1", "STATUS=serving"]]


def test_the_unit_of_the_page_is_started_and_becomes_ready(
    build_bundle: Callable[[str], Bundle], old_database: str, tmp_path: Path
) -> None:
    """As systemd does it: what ExecStart says is run, and READY=1 counts only where the main process says it."""
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(shown("docs/howto/replicas.md", "[Service]"))
    assert dict(unit["Service"], ExecStart="") == {
        "Type": "notify",
        "NotifyAccess": "main",
        "ExecStart": "",
        "Restart": "on-failure",
    }
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert program == "/opt/notes/sample_app"
    command = [build_bundle("cx-server").executable, *arguments, "--port", "0"]
    command[command.index("postgresql+psycopg:///notes")] = old_database
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(f"\0{tmp_path}")
        listener.settimeout(SECONDS)
        environment = {**clean_environment(tmp_path), "NOTIFY_SOCKET": f"@{tmp_path}"}
        with subprocess.Popen(command, cwd="/", env=environment, stdout=subprocess.DEVNULL) as process:
            said, senders = [], set()
            while "READY=1" not in said:
                message, [(_level, _kind, credentials)], *_ = listener.recvmsg(4096, socket.CMSG_SPACE(12))
                said += message.decode().splitlines()
                senders.add(struct.unpack("3i", credentials)[0])
            assert senders == {process.pid}
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
    assert versions(old_database) == [expected_head]


def test_replicas_that_start_at_once_answer_while_one_upgrades_and_all_get_ready(
    started: Any, old_database: str, postgresql: Server
) -> None:
    """The upgrade is held by a lock on a table; then every replica is alive and none is ready."""
    engine = create_engine(old_database, poolclass=NullPool)
    with engine.connect() as holder:
        holder.execute(text("LOCK TABLE notebook IN ACCESS EXCLUSIVE MODE"))
        replicas = started(old_database, REPLICAS)
        hear_until(replicas, lambda: any(f"STATUS=migrating 0/9: {revisions[1]}" in one.told for one in replicas))
        hear_until(replicas, lambda: all(one.told for one in replicas))
        assert [one.ask("/healthz")[0] for one in replicas] == [200] * REPLICAS
        answers = [one.ask("/readyz") for one in replicas]
        assert [status for status, _ in answers] == [503] * REPLICAS
        assert sorted(answer["state"] for _, answer in answers) == ["migrating"] + ["waiting"] * (REPLICAS - 1)
        assert {one.ask("/notes")[0] for one in replicas} == {503}
        assert not any(one.ready_file.exists() for one in replicas)
    hear_until(replicas, lambda: all("READY=1" in one.told for one in replicas))
    assert [one.told.count("READY=1") for one in replicas] == [1] * REPLICAS
    assert all(line.startswith("EXTEND_TIMEOUT_USEC=") for one in replicas for line in one.told[1:2])
    assert [one.ask("/readyz")[0] for one in replicas] == [200] * REPLICAS
    assert [one.ask("/notes") for one in replicas] == [(200, {"notes": []})] * REPLICAS
    assert all(one.ready_file.exists() for one in replicas)
    applied = sorted(one.next_line() for one in replicas)
    assert applied == [f"applied: {', '.join(revisions[1:])}"] + ["applied: nothing"] * (REPLICAS - 1)
    assert versions(old_database) == [expected_head]
    plain = postgresql.database()
    freezekit.locate("sample_app:migrations").upgrade(plain)
    assert content(old_database) == content(plain)
    for one in replicas:
        one.process.send_signal(signal.SIGTERM)
    assert [one.process.wait(SECONDS) for one in replicas] == [0] * REPLICAS
    assert not any(one.ready_file.exists() for one in replicas)


def test_a_manager_is_asked_for_more_time_while_one_statement_runs(started: Any, old_database: str) -> None:
    """Every second anew, so that no statement takes longer than systemd waits."""
    more_time, total = f"EXTEND_TIMEOUT_USEC={_MARGIN * 1_000_000}", len(revisions) - 1
    engine = create_engine(old_database, poolclass=NullPool)
    with engine.connect() as holder:
        holder.execute(text("LOCK TABLE notebook IN ACCESS EXCLUSIVE MODE"))
        (replica,) = started(old_database, 1)
        hear_until([replica], lambda: replica.told.count(more_time) >= 4)
        assert replica.told.count(f"STATUS=migrating 0/{total}: {revisions[1]}") >= 3
        assert replica.ask("/readyz") == (
            503,
            {"state": "migrating", "revision": revisions[1], "done": 0, "total": total},
        )
    hear_until([replica], lambda: "READY=1" in replica.told)


def test_a_replica_that_is_stopped_while_it_upgrades_changes_nothing(started: Any, old_database: str) -> None:
    """What a rolling update does to it: SIGTERM cancels the statement, and PostgreSQL is as it was."""
    engine = create_engine(old_database, poolclass=NullPool)
    with engine.connect() as holder:
        holder.execute(text("LOCK TABLE notebook IN ACCESS EXCLUSIVE MODE"))
        (replica,) = started(old_database, 1)
        hear_until([replica], lambda: any(revisions[1] in line for line in replica.told))
        replica.process.send_signal(signal.SIGTERM)
        assert replica.process.wait(SECONDS) == 1
    assert versions(old_database) == [revisions[0]]
    assert "READY=1" not in replica.told
