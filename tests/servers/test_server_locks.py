"""Upgrades of one database take turns, wait no longer than they may, and stop when they are told to."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from histories import ENV
from private import connected, content, versions
from sqlalchemy import Engine, event, make_url
from test_server_databases import ALL, ASYNC_ENV, LENT_ENV, asynchronous_url, plain
from workers import started, together

from freezekit import DatabaseInUse, MigrationFailed, UpgradeCancelled
from freezekit.runtime.advisory import advisory_of
from freezekit.runtime.database import database_of
from freezekit.runtime.server_lock import ServerLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histories import Project
    from private import Server

    from freezekit import Progress

CROWD = 50
WAIT = "import threading\nwait = threading.Event().wait"
SLEEP = {"postgresql": "SELECT pg_sleep({})", "mysql": "SELECT SLEEP({})"}


@contextlib.contextmanager
def locked(url: str, version_table: str = "alembic_version") -> Iterator[ServerLock]:
    """Hold the upgrade lock as another program would."""
    with connected(url) as connection:
        advisory = advisory_of(connection, version_table)
    assert advisory is not None
    with ServerLock(database_of(url), advisory, 5.0) as lock:
        yield lock


def test_many_processes_that_start_at_once_all_succeed(server: Server, project: Project) -> None:
    """One upgrades, the others find the work done; the result is plain Alembic's."""
    url = server.database()
    said = together(str(project.migrations), url, CROWD)
    assert [error for error, _ in said if error] == []
    assert sorted(applied for _, applied in said) == [()] * (CROWD - 1) + [ALL]
    assert content(url) == plain(project, server)


def test_another_upgrade_is_waited_for_until_the_time_limit(server: Server, project: Project) -> None:
    url = server.database()
    with locked(url):
        started_at = time.monotonic()
        with pytest.raises(DatabaseInUse) as caught:
            project.located().upgrade(url, timeout=0.6)
        assert 0.6 <= caught.value.waited_s <= time.monotonic() - started_at < 3
        assert "***" not in str(caught.value)
        assert content(url) == {}
    assert project.located().upgrade(url, timeout=0).applied == ALL


def test_nothing_pending_takes_no_lock(server: Server, project: Project) -> None:
    """A program that has nothing to do starts while another upgrades."""
    url = server.database()
    project.located().upgrade(url)
    with locked(url):
        assert project.located().upgrade(url, timeout=0).applied == ()
        assert project.located().status(url).pending == ()


def test_other_databases_and_other_chains_are_not_kept_out(server: Server, project: Project) -> None:
    """The lock is that of one database and one version table."""
    url = server.database()
    with locked(server.database()), locked(url, "other_version"):
        assert project.located().upgrade(url, timeout=0).applied == ALL


def test_a_killed_program_frees_the_lock_and_leaves_nothing(server: Server, project: Project) -> None:
    """It was between two statements when it was killed."""
    project.revision("r7", "r6", "import time\nop.execute('SELECT 1')\ntime.sleep(60)")
    url = server.database()
    process, pipe = started(str(project.migrations), url)
    pipe.send("go")
    _wait_until_locked(url)
    with pytest.raises(DatabaseInUse):
        project.located().upgrade(url, timeout=0.2)
    process.kill()
    process.join()
    project.revision("r7", "r6", "op.execute('SELECT 1')")
    assert project.located().upgrade(url, timeout=5).applied[-1] == "r7"
    assert "freezekit" not in " ".join(content(url))


def test_what_a_killed_program_left_running_on_the_server_is_waited_for(server: Server, project: Project) -> None:
    """The server goes on with the last statement of a program that is gone."""
    seconds = 3
    project.revision("r7", "r6", f"op.execute({SLEEP[server.name].format(seconds)!r})")
    url = server.database()
    process, pipe = started(str(project.migrations), url)
    pipe.send("go")
    _wait_until_sleeping(server, url)
    process.kill()
    process.join()
    with pytest.raises(DatabaseInUse):
        project.located().upgrade(url, timeout=0.3)
    project.revision("r7", "r6", "op.execute('SELECT 1')")
    assert project.located().upgrade(url, timeout=20).applied[-1] == "r7"


def _wait_until_locked(url: str) -> None:
    deadline = time.monotonic() + 20
    with connected(url, isolation_level="AUTOCOMMIT") as connection:
        advisory = advisory_of(connection, "alembic_version")
        assert advisory is not None
        while advisory.worker(connection) is None:
            assert time.monotonic() < deadline
    while make_url(url).get_backend_name() == "mysql" and versions(url) != ["r6"]:
        assert time.monotonic() < deadline


def _wait_until_sleeping(server: Server, url: str) -> None:
    """In this database: other tests have theirs on the same server."""
    question = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND datname = '{}'",
        "mysql": "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%' AND DB = '{}'",
    }[server.name].format(make_url(url).database)
    deadline = time.monotonic() + 20
    while not server.run(question)[0][0]:
        assert time.monotonic() < deadline


def test_an_upgrade_that_loses_its_lock_stops(server: Server, project: Project) -> None:
    """Without the lock the next revision does not begin; PostgreSQL undoes the others."""
    url = server.database()
    with connected(url) as connection:
        advisory: Any = advisory_of(connection, "alembic_version")
    stop = {
        "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        "mysql": f"BEGIN NOT ATOMIC EXECUTE IMMEDIATE CONCAT('KILL ', IS_USED_LOCK('{advisory.upgrade}')); END",
    }[server.name]
    project.revision("r7", "r6", f"op.get_bind().exec_driver_sql({stop!r})")
    project.revision("r8", "r7")
    with pytest.raises(MigrationFailed, match="lock was lost"):
        project.located().upgrade(url)
    if server.name == "postgresql":
        assert content(url) == {}
    else:
        assert versions(url) == ["r7"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_cancelled_upgrade_stops_inside_a_statement(kind: str, server: Server, project: Project) -> None:
    """It takes a second of the statement's thirty, or two on a busy machine; PostgreSQL is as it was before."""
    if kind == "async":
        project.env(ASYNC_ENV)
    url = server.database()
    given = asynchronous_url(url) if kind == "async" else url
    migrations = project.located()
    migrations.upgrade(given)
    before = content(url)
    project.revision("r7", "r6", "op.execute('CREATE TABLE late (id int)')")
    project.revision("r8", "r7", f"op.execute({SLEEP[server.name].format(30)!r})")
    cancel, asked_at = threading.Event(), []

    def cancel_when_sleeping() -> None:
        _wait_until_sleeping(server, url)
        asked_at.append(time.monotonic())
        cancel.set()

    watch = threading.Thread(target=cancel_when_sleeping)
    watch.start()
    with pytest.raises(UpgradeCancelled) as caught:
        project.located().upgrade(given, cancel=cancel)
    assert time.monotonic() - asked_at[0] < 2.5
    watch.join()
    if server.name == "postgresql":
        assert (caught.value.applied, caught.value.restored) == ((), True)
        assert content(url) == before
    else:
        assert (caught.value.applied, caught.value.restored) == (("r7",), False)
        assert "r7" in str(caught.value)
        assert versions(url) == ["r7"]


@contextlib.contextmanager
def slow_to_roll_back() -> Iterator[None]:
    """Let what is asked less often than statements begin be asked again after a rollback."""

    def wait(_connection: object) -> None:
        threading.Event().wait(0.1)

    event.listen(Engine, "rollback", wait)
    try:
        yield
    finally:
        event.remove(Engine, "rollback", wait)


@pytest.mark.parametrize("env", [ENV, LENT_ENV], ids=["its own connection", "the lent connection"])
def test_a_cancelled_upgrade_stops_between_short_statements(env: str, server: Server, project: Project) -> None:
    """A statement that has ended cannot be stopped, and the next must not begin; the error says what is applied."""
    project.env(env)
    project.revision("r7", "r6", "for _ in range(1500): op.execute('SELECT 1'); wait(0.01)", head=WAIT)
    url, cancel = server.database(), threading.Event()
    told, asked_at = [], []

    def cancel_when_it_runs(now: Progress) -> None:
        told.append(now.revision)
        if told.count("r7") == 2 and not cancel.is_set():
            asked_at.append(time.monotonic())
            cancel.set()

    with slow_to_roll_back(), pytest.raises(UpgradeCancelled) as caught:
        project.located().upgrade(url, cancel=cancel, on_progress=cancel_when_it_runs)
    assert time.monotonic() - asked_at[0] < 2.5
    applied, restored = ((), True) if server.name == "postgresql" else (ALL, False)
    assert (caught.value.applied, caught.value.restored) == (applied, restored)


def test_a_cancelled_upgrade_whose_end_cannot_be_seen_is_not_called_undone(
    postgresql: Server, project: Project
) -> None:
    """An error promises nothing about a database that cannot be asked any more."""
    url, told, dropping = postgresql.database(), [], threading.Lock()
    project.revision("r7", "r6", f"op.execute({SLEEP['postgresql'].format(30)!r})")

    def drop_and_cancel() -> bool:
        if [one.revision for one in told].count("r7") < 2:
            return False
        if dropping.acquire(blocking=False):
            postgresql.run(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")
        return True

    with pytest.raises(UpgradeCancelled) as caught:
        project.located().upgrade(url, cancel=drop_and_cancel, on_progress=told.append)
    assert not caught.value.restored


def test_who_waits_for_the_lock_can_be_cancelled(server: Server, project: Project) -> None:
    url, cancel = server.database(), threading.Event()
    with locked(url):
        threading.Timer(0.3, cancel.set).start()
        started_at = time.monotonic()
        with pytest.raises(UpgradeCancelled, match="Nothing was changed"):
            project.located().upgrade(url, cancel=cancel)
        assert time.monotonic() - started_at < 3


# PgBouncer, which gives each transaction any connection it has.


@pytest.fixture
def tables(project: Project) -> Project:
    """A short history: drivers prepare what they run often, which this PgBouncer does not allow."""
    for path in (project.migrations / "versions").iterdir():
        path.unlink()
    project.table("a1")
    project.table("b2", "a1")
    return project


def test_the_lock_holds_through_pgbouncer(pgbouncer: Server, tables: Project, postgresql: Server) -> None:
    """Programs behind PgBouncer and beside it keep each other out, and leave no lock in a shared connection."""
    behind = pgbouncer.database()
    direct = make_url(behind).set(query=postgresql.url.query, port=5432).render_as_string(hide_password=False)
    for holder, other in ((behind, direct), (direct, behind)):
        with locked(holder) as lock:
            lock.confirm()
            with pytest.raises(DatabaseInUse):
                tables.located().upgrade(other, timeout=0.3)
    assert tables.located().upgrade(behind, timeout=0).applied == ("a1", "b2")
    mine = f"SELECT oid FROM pg_database WHERE datname = '{make_url(behind).database}'"
    held = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = ({mine})"
    assert postgresql.run(held) == [(0,)]


def test_a_crowd_behind_pgbouncer_succeeds(pgbouncer: Server, tables: Project) -> None:
    url = pgbouncer.database()
    said = together(str(tables.migrations), url, 12)
    assert [error for error, _ in said if error] == []
    assert sorted(applied for _, applied in said) == [()] * 11 + [("a1", "b2")]
