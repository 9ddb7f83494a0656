"""Several threads of one program: upgrades beside each other, and beside whatever else the program does."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest
from histories import Project
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

import freezekit
from freezekit.runtime.sqlite_file import turn
from freezekit.runtime.sqlite_upgrade import commit, exclusively_locked, write_locked

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

# Holds the lock that SQLite takes for writing, of a file it cannot open, until it is asked once more.
HOLD = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    sys.stdin.readline()
    fcntl.lockf(file, fcntl.LOCK_EX, 512, 0x40000000)
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""

# Makes a new document, has written nothing yet when it is asked once more, and then gives up.
MAKE_AND_GIVE_UP = """
import sys
from freezekit.runtime.sqlite_upgrade import write_locked
sys.stdin.readline()
with write_locked(sys.argv[1], 0.0):
    print("held", flush=True)
    sys.stdin.readline()
print("given up", flush=True)
sys.stdin.readline()
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


def test_who_waits_for_a_new_document_gets_it_if_its_maker_gives_up(project: Project, tmp_path: Path) -> None:
    """Whoever made the file removes it, which must not be the one that the other has opened and writes into."""
    document, migrations = tmp_path / "new.db", project.located()
    stop, gives_up, waits = Stop(), threading.Event(), threading.Event()
    with beside(lambda: migrations.upgrade(document, on_progress=stop, cancel=gives_up)) as first:
        assert stop.reached.wait(SECONDS)
        with beside(lambda: migrations.upgrade(document, timeout=SECONDS, cancel=waits.set)) as second:
            assert waits.wait(SECONDS)
            gives_up.set()
            stop.may_go_on.set()
    assert [type(one) for one in first] == [freezekit.UpgradeCancelled]
    assert [one.applied for one in second] == [("a1", "b2", "c3")]
    assert migrations.status(document).state is freezekit.State.CURRENT


def test_who_waits_for_the_new_document_of_another_program_gets_it(project: Project, tmp_path: Path) -> None:
    document, migrations, waits = tmp_path / "new.db", project.located(), threading.Event()
    with another_program(document, MAKE_AND_GIVE_UP) as tell:
        assert tell() == "held"
        with beside(lambda: migrations.upgrade(document, timeout=SECONDS, cancel=waits.set)) as results:
            assert waits.wait(SECONDS)
            assert tell() == "given up"
    assert [one.applied for one in results] == [("a1", "b2", "c3")]
    assert migrations.status(document).state is freezekit.State.CURRENT


def test_a_new_document_that_somebody_committed_to_stays(tmp_path: Path) -> None:
    """Many make one and write nothing, and one does; then again with the lock that keeps everybody out."""
    for number in range(40):
        document = str(tmp_path / f"{number}.db")
        with ExitStack() as others:
            work = partial(holds_for_a_moment, document)
            outcomes = [others.enter_context(beside(work)) for _ in range(3)]
            with write_locked(document, SECONDS) as connection:
                connection.execute("CREATE TABLE kept (x)")
                commit(connection, document, SECONDS)
            with closing(sqlite3.connect(f"file:{document}?mode=ro", uri=True)) as reader:
                assert reader.execute("SELECT name FROM sqlite_master").fetchall() == [("kept",)]
        assert outcomes == [[None]] * 3


def holds_for_a_moment(document: str) -> None:
    with write_locked(document, SECONDS):
        pass
    with exclusively_locked(document, SECONDS, cancelled=bool):
        pass


def test_a_file_to_which_nothing_was_written_is_removed(tmp_path: Path) -> None:
    """But not one that was there before."""
    document = tmp_path / "new.db"
    holds_for_a_moment(str(document))
    assert list(tmp_path.iterdir()) == []
    document.touch()
    holds_for_a_moment(str(document))
    assert list(tmp_path.iterdir()) == [document]
    document.unlink()
    link = tmp_path / "link.db"
    link.symlink_to(document)
    holds_for_a_moment(str(link))
    assert list(tmp_path.iterdir()) == [link]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_beside_a_look_can_look_itself(project: Project, tmp_path: Path) -> None:
    """As the processes of an executor that forks; the thread that just looked is not there in the child."""
    document, migrations = tmp_path / "document.db", project.located()
    project.plain(document, "b2")
    looks, may_go_on = threading.Event(), threading.Event()

    def look() -> None:
        with turn:
            looks.set()
            assert may_go_on.wait(SECONDS)

    with beside(look):
        assert looks.wait(SECONDS)
        child = get_context("fork").Process(target=migrations.status, args=(document,))
        child.start()
        child.join(SECONDS)
        may_go_on.set()
    exit_code = child.exitcode
    child.kill()
    assert exit_code == 0


def test_a_restore_that_waits_keeps_nobody_waiting(project: Project, tmp_path: Path) -> None:
    migrations, damaged, other = project.located(), tmp_path / "damaged.db", tmp_path / "other.db"
    backup = tmp_path / "backup.db"
    migrations.upgrade(backup)
    project.plain(other, "b2")
    damaged.write_bytes(b"no database" * 1000)
    with another_program(damaged, HOLD) as tell:
        assert tell() == "held"
        with beside(lambda: migrations.restore(backup, damaged, timeout=SECONDS)) as results:
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                assert migrations.status(other).state is freezekit.State.BEHIND
                assert results == []
            assert tell() == "free"
    assert [isinstance(one, BaseException) for one in results] == [False], results
    assert migrations.status(damaged).state is freezekit.State.CURRENT


@pytest.mark.parametrize("listing", ["/dev/fd", "none"])
def test_looking_at_a_document_drops_no_lock_of_another_thread(
    listing: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To close a file drops the POSIX locks that the process has on it, whoever took them.

    So its handles must be known; a container may have no /proc that lists them.
    """
    list_folder = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: list_folder(path if listing == path else f"{path} that is not"))
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
def another_program(document: Path, program: str = TRY_TO_LOCK) -> Iterator[Callable[[], str]]:
    """Start a program that tries to lock a document each time it is asked, and says "locked" or "free"."""
    command = [sys.executable, "-c", program, str(document)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def ask() -> str:
            print(file=asked, flush=True)
            return answers.readline().strip()

        yield ask
        asked.close()
