"""Several threads of one program: upgrades beside each other, and beside whatever else the program does."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from histories import Project
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

import freezekit
from freezekit.runtime.sqlite_upgrade import write_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from freezekit import Progress

SECONDS = 20
LOCKS = 3_000
TRY_TO_LOCK = """
import sqlite3, sys
for line in sys.stdin:
    connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        print("free", flush=True)
    except sqlite3.OperationalError:
        print("locked", flush=True)
    connection.close()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project").line()


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Do something in another thread; yield a list that gets its result, or what it raised, and wait for its end."""
    results: list[Any] = []

    def collect() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield results
    finally:
        thread.join(SECONDS)
        assert not thread.is_alive()


class Stop:
    """An ``on_progress`` that waits in the first revision until it may go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, now: Progress) -> None:
        if now.revision is not None and not self.reached.is_set():
            self.reached.set()
            assert self.may_go_on.wait(SECONDS)


def test_who_waits_for_a_locked_document_keeps_nobody_waiting(project: Project, tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    project.plain(old, "b2")
    waits = threading.Event()
    with closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with beside(lambda: project.located().upgrade(old, timeout=SECONDS, cancel=waits.set)) as results:
            assert waits.wait(SECONDS)
            assert project.located().upgrade(new).applied == ("a1", "b2", "c3")
            assert results == []
            other.execute("COMMIT")
    assert results[0].applied == ("c3",)


def test_who_waits_for_another_env_py_can_be_cancelled(project: Project, tmp_path: Path) -> None:
    stop, asked = Stop(), []

    def cancel() -> bool:
        asked.append(threading.get_ident())
        return len(asked) > 10

    with beside(lambda: project.located().upgrade(tmp_path / "first.db", on_progress=stop)) as results:
        assert stop.reached.wait(SECONDS)
        with pytest.raises(freezekit.UpgradeCancelled):
            project.located().upgrade(tmp_path / "second.db", cancel=cancel)
        assert results == []
        stop.may_go_on.set()
    assert results[0].applied == ("a1", "b2", "c3")
    assert not (tmp_path / "second.db").exists()


def test_an_upgrade_inside_another_is_refused_by_name(project: Project, tmp_path: Path) -> None:
    """Alembic has one context, which the outer one could not go on with."""
    migrations, refused = project.located(), []

    def on_progress(now: Progress) -> None:
        if now.revision == "b2":
            with pytest.raises(freezekit.UsageError, match="inside another upgrade") as error:
                migrations.upgrade(tmp_path / "inner.db")
            refused.append(error)

    assert migrations.upgrade(tmp_path / "outer.db", on_progress=on_progress).applied == ("a1", "b2", "c3")
    assert len(refused) == 1
    assert not (tmp_path / "inner.db").exists()


def test_many_upgrades_at_once_all_succeed(project: Project, tmp_path: Path) -> None:
    migrations = project.located()
    paths = [tmp_path / f"{number}.db" for number in range(24)]
    for path in paths:
        project.plain(path, "a1")
    threads = [beside(lambda path=path: migrations.upgrade(path)) for path in paths]
    results = [thread.__enter__() for thread in threads]
    for thread in threads:
        thread.__exit__(None, None, None)
    assert [report.applied for (report,) in results] == [("b2", "c3")] * len(paths)
    assert {migrations.status(path).state for path in paths} == {freezekit.State.CURRENT}


def test_a_thread_that_connects_meanwhile_is_not_disturbed(project: Project, tmp_path: Path) -> None:
    """It goes through the listeners of all engines while an upgrade begins and ends."""
    engine = create_engine("sqlite://", poolclass=NullPool)
    connecting, may_go_on = threading.Event(), threading.Event()
    mine = threading.get_ident()

    def hosts_listener(*_arguments: object) -> None:
        if threading.get_ident() != mine:
            connecting.set()
            assert may_go_on.wait(SECONDS)

    def ask() -> Any:
        with engine.connect() as connection:
            return connection.exec_driver_sql("SELECT 1").scalar()

    event.listen(Engine, "do_connect", hosts_listener)
    try:
        with beside(ask) as results:
            assert connecting.wait(SECONDS)
            project.located().upgrade(tmp_path / "new.db")
            may_go_on.set()
    finally:
        event.remove(Engine, "do_connect", hosts_listener)
    assert results == [1]


def test_looking_at_a_document_drops_no_lock_of_another_thread(project: Project, tmp_path: Path) -> None:
    """To close a file drops the POSIX locks that the process has on it, whoever took them."""
    document, done, migrations = tmp_path / "document.db", threading.Event(), project.located()
    project.plain(document, "b2")

    def look() -> None:
        while not done.is_set():
            assert migrations.status(document).state is freezekit.State.BEHIND

    answers = set()
    with another_program(document) as tries_to_lock, beside(look) as first, beside(look) as second:
        try:
            for _ in range(LOCKS):
                with write_locked(str(document), 1.0):
                    answers.add(tries_to_lock())
        finally:
            done.set()
    assert answers == {"locked"}
    assert first == second == [None]


@pytest.fixture(autouse=True)
def eager_threads() -> Iterator[None]:
    """Let threads take turns much more often than usual, so that they meet everywhere."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@contextmanager
def another_program(document: Path) -> Iterator[Callable[[], str]]:
    """Start a program that tries to lock a document each time it is asked, and says "locked" or "free"."""
    command = [sys.executable, "-c", TRY_TO_LOCK, str(document)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def ask() -> str:
            print(file=asked, flush=True)
            return answers.readline().strip()

        yield ask
        asked.close()
