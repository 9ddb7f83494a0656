"""While a statement runs on a server, ``on_progress`` is called, one call at a time, and can end the upgrade."""

from __future__ import annotations

import threading
import time
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from histories import ENV
from private import content, versions
from test_server_databases import ALL, ASYNC_ENV, asynchronous_url
from test_server_locks import SLEEP

from freezekit import MigrationFailed

if TYPE_CHECKING:
    from histories import Project
    from private import Server

    from freezekit import Progress

CALLED = threading.Event()
SLOW_TO_BEGIN = "import threading\nthreading.Event().wait(0.5)\n"


def no_thread_is_left() -> bool:
    """Return whether nobody is there who could call ``on_progress`` after the upgrade."""
    return not [one.name for one in threading.enumerate() if one.name.startswith("freezekit")]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_progress_is_told_while_a_statement_of_a_server_runs(kind: str, server: Server, project: Project) -> None:
    """At least twice a second, with what is true then, in order, and never after the end."""
    project.env(SLOW_TO_BEGIN + (ASYNC_ENV if kind == "async" else ENV))
    project.revision("r7", "r6", f"op.execute({SLEEP[server.name].format(2.5)!r})")
    project.revision("r8", "r7")
    url = server.database()
    seen: list[Progress] = []
    report = project.located().upgrade(asynchronous_url(url) if kind == "async" else url, on_progress=seen.append)
    assert no_thread_is_left()
    assert report.applied == (*ALL, "r7", "r8")
    told = [one for one in seen if one.revision == "r7"]
    assert len(told) >= 5
    assert {(one.index, one.total, one.doc, one.phase) for one in told} == {(6, 8, "r7.", "migrate")}
    running = [one.revision for one in seen if one.revision is not None]
    assert [revision for revision, _ in groupby(running)] == list(report.applied)
    assert [one.fraction for one in seen] == sorted(one.fraction for one in seen)
    assert {one.total for one in seen} == {8}
    assert [one.phase for one in seen].index("done") == len(seen) - 1


def test_calls_of_a_slow_on_progress_take_turns(postgresql: Server, project: Project) -> None:
    """The thread that upgrades and the one that watches both have something to tell all the time."""
    turn, clashes = threading.Lock(), []
    callers = set()

    def slow(_now: Progress) -> None:
        callers.add(threading.get_ident())
        if not turn.acquire(blocking=False):
            clashes.append(threading.current_thread().name)
            return
        threading.Event().wait(0.3)
        turn.release()

    project.revision("r7", "r6", f"op.execute({SLEEP['postgresql'].format(1)!r})")
    project.located().upgrade(postgresql.database(), on_progress=slow)
    assert clashes == []
    assert len(callers) == 2


def test_an_upgrade_that_fails_ends_after_on_progress_has_returned(postgresql: Server, project: Project) -> None:
    """Otherwise its caller would hear of an upgrade that is over."""
    CALLED.clear()
    project.revision("r7", "r6", "from test_server_progress import CALLED\nCALLED.wait(20)\n1 / 0")
    returned, here = [], threading.get_ident()

    def slow(_now: Progress) -> None:
        if threading.get_ident() != here:
            CALLED.set()
            threading.Event().wait(0.5)
            returned.append(time.monotonic())

    with pytest.raises(MigrationFailed, match="division by zero"):
        project.located().upgrade(postgresql.database(), on_progress=slow)
    assert returned


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_error_of_on_progress_ends_a_statement_of_a_server(kind: str, server: Server, project: Project) -> None:
    """It takes about a second of the statement's thirty, and PostgreSQL is as it was before."""
    if kind == "async":
        project.env(ASYNC_ENV)
    url = server.database()
    given = asynchronous_url(url) if kind == "async" else url
    project.located().upgrade(given)
    before, raised_at, told = content(url), [], []
    project.revision("r7", "r6", "op.execute('CREATE TABLE late (id int)')")
    project.revision("r8", "r7", f"op.execute({SLEEP[server.name].format(30)!r})")
    project.revision("r9", "r8")

    def fail(now: Progress) -> None:
        told.append(now.revision)
        if told.count("r8") == 3:
            raised_at.append(time.monotonic())
            raise ZeroDivisionError

    with pytest.raises(MigrationFailed, match=r"on_progress failed: ZeroDivisionError\(\)") as caught:
        project.located().upgrade(given, on_progress=fail)
    assert time.monotonic() - raised_at[0] < 2.5
    assert len(raised_at) == 1
    assert no_thread_is_left()
    error = caught.value
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert (error.failed, error.pending) == ("r8", ("r9",) if server.name == "mysql" else ("r7", "r9"))
    if server.name == "postgresql":
        assert (error.applied, error.restored) == ((), True)
        assert content(url) == before
    else:
        assert (error.applied, error.restored) == (("r7",), False)
        assert versions(url) == ["r7"]


def test_an_error_of_on_progress_after_the_end_is_not_called_undone(server: Server, project: Project) -> None:
    def fail(now: Progress) -> None:
        if now.phase == "done":
            raise ZeroDivisionError

    url = server.database()
    with pytest.raises(MigrationFailed, match="on_progress failed") as caught:
        project.located().upgrade(url, on_progress=fail)
    assert (caught.value.applied, caught.value.restored) == (ALL, False)
    assert versions(url) == ["r6"]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_an_error_of_on_progress_between_statements_is_not_lost(
    error: type[BaseException], postgresql: Server, project: Project
) -> None:
    """The last revision runs no statement that could be stopped; it is undone all the same."""
    url = postgresql.database()
    project.located().upgrade(url)
    before, told = content(url), []
    project.revision("r7", "r6", "op.execute('CREATE TABLE late (id int)')")
    project.revision("r8", "r7", "import threading\nthreading.Event().wait(1)")

    def fail(now: Progress) -> None:
        told.append(now.revision)
        if told.count("r8") == 2:
            raise error

    with pytest.raises((MigrationFailed, SystemExit)) as caught:
        project.located().upgrade(url, on_progress=fail)
    assert error in {type(caught.value), type(caught.value.__cause__)}
    assert content(url) == before
