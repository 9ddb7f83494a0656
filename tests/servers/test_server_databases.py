"""A server's database is upgraded as plain Alembic would, however it is given, and an error says what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from histories import ENV, Project
from private import connected, content, versions
from sqlalchemy import Inspector, create_engine, make_url, text
from sqlalchemy.pool import NullPool
from workers import upgrade

from freezekit import DatabaseInUse, MigrationFailed, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from private import Server
    from sqlalchemy import Engine

ALL = ("r1", "r2", "r3", "r4", "r5", "r6")

ASYNC_ENV = """
import asyncio
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import async_engine_from_config

config = context.config

def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    section = config.get_section(config.config_ini_section, {})
    engine = async_engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()

asyncio.run(main())
"""

LENT_ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""


def plain(project: Project, server: Server) -> dict[str, Any]:
    """Return what plain Alembic makes of a new database."""
    url, kept = server.database(), (project.migrations / "env.py").read_text()
    project.env(ENV)
    upgrade(str(project.migrations), url, plain=True)
    project.env(kept)
    return content(url)


@pytest.mark.parametrize("given", ["text", "URL", "Engine", "pool of one"])
def test_a_server_is_upgraded_as_plain_alembic_would(
    given: str, server: Server, project: Project, engines: Callable[..., Engine]
) -> None:
    """status, plan, sql and upgrade agree, and the content is plain Alembic's."""
    migrations, url = project.located(), server.database()
    db = {
        "text": lambda: url,
        "URL": lambda: make_url(url),
        "Engine": lambda: engines(url),
        "pool of one": lambda: engines(url, pool_size=1, max_overflow=0, pool_timeout=5),
    }[given]()
    assert migrations.status(db).state is State.NEW
    assert migrations.upgrade(db, "r2").applied == ("r1", "r2")
    assert [one.revision for one in migrations.plan(db)] == ["r3", "r4", "r5", "r6"]
    assert content(url)["book"][1]
    report = migrations.upgrade(db)
    assert (report.applied, report.heads, report.state_before) == (ALL[2:], ("r6",), State.BEHIND)
    assert migrations.status(db).state is State.CURRENT
    assert migrations.upgrade(db).applied == ()
    assert content(url) == plain(project, server)


def test_sql_of_a_server_is_what_alembic_prints(server: Server, project: Project) -> None:
    url = server.database()
    project.table("z9", None)
    for revision in ALL:
        (project.migrations / "versions" / f"{revision}_.py").unlink()
    text = project.located().sql(url)
    assert "CREATE TABLE t_z9" in text
    assert content(url) == {}


@pytest.mark.parametrize("env", [ENV, LENT_ENV], ids=["its own connection", "the lent connection"])
def test_a_connection_can_be_lent(env: str, server: Server, project: Project) -> None:
    """A connection without an open transaction is left without one, and without a lock."""
    project.env(env)
    url = server.database()
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        assert project.located().upgrade(connection).applied == ALL
        assert not connection.in_transaction()
        assert content(url) == plain(project, server)
        project.env(ENV)
        project.revision("r7", "r6")
        assert project.located().upgrade(url, timeout=0).applied == ("r7",)
    engine.dispose()


def test_a_transaction_of_postgresql_is_its_hosts_to_end(postgresql: Server, project: Project) -> None:
    """What is done in a lent transaction goes with it."""
    project.env(LENT_ENV)
    url = postgresql.database()
    with connected(url) as connection:
        with connection.begin() as transaction:
            assert project.located().upgrade(connection).applied == ALL
            transaction.rollback()
        assert content(url) == {}
        with connection.begin():
            assert project.located().upgrade(connection, "r2").applied == ALL[:2]
            assert project.located().upgrade(connection, timeout=0).applied == ALL[2:]
            with pytest.raises(DatabaseInUse):
                project.located().upgrade(url, timeout=0)
    assert content(url) == plain(project, postgresql)


def test_a_failed_upgrade_leaves_its_hosts_transaction_usable(postgresql: Server, project: Project) -> None:
    """In a lent transaction a failed upgrade is undone to where it began."""
    project.env(LENT_ENV)
    project.revision("r7", "r6", "op.execute('SELECT 1 / 0')")
    url = postgresql.database()
    with connected(url) as connection:
        project.located().upgrade(connection, "r1")
        connection.execute(text("CREATE TABLE mine (id int)"))
        with pytest.raises(MigrationFailed) as caught:
            project.located().upgrade(connection, timeout=5)
        assert (caught.value.applied, caught.value.failed, caught.value.restored) == ((), "r7", True)
        connection.execute(text("INSERT INTO mine VALUES (1)"))
        connection.commit()
    assert versions(url) == ["r1"]
    assert content(url)["mine"][1] == ["(1,)"]


def asynchronous_url(url: str) -> str:
    """Return the same URL with a driver for event loops."""
    return url.replace("+psycopg", "+asyncpg").replace("+pymysql", "+aiomysql")


def test_an_async_url_is_upgraded(server: Server, project: Project) -> None:
    """The lock of an async URL has an event loop of its own."""
    url = server.database()
    expected = plain(project, server)
    project.env(ASYNC_ENV)
    asynchronous = asynchronous_url(url)
    migrations = project.located()
    assert migrations.status(asynchronous).state is State.NEW
    assert migrations.upgrade(asynchronous).applied == ALL
    assert migrations.upgrade(asynchronous).applied == ()
    assert content(url) == expected


@pytest.mark.parametrize("each", [False, True], ids=["one transaction", "transaction_per_migration"])
def test_a_failed_upgrade_of_postgresql_changes_nothing(each: bool, postgresql: Server, project: Project) -> None:
    """All revisions are one transaction, also where env.py asks for one each."""
    project.env(ENV.replace("connection=connection", f"connection=connection, transaction_per_migration={each}"))
    project.revision("r7", "r6", "op.execute('SELECT 1 / 0')")
    project.revision("r8", "r7")
    url = postgresql.database()
    migrations = project.located()
    migrations.upgrade(url, "r2")
    before = content(url)
    with pytest.raises(MigrationFailed, match="division by zero") as caught:
        migrations.upgrade(url)
    error = caught.value
    assert (error.applied, error.failed, error.restored) == ((), "r7", True)
    assert error.pending == ("r3", "r4", "r5", "r6", "r8")
    assert content(url) == before


@pytest.mark.parametrize("from_revision", ["r5", "r6"], ids=["a version is committed too", "the version is as before"])
def test_a_revision_of_postgresql_that_commits_is_not_called_undone(
    from_revision: str, postgresql: Server, project: Project
) -> None:
    """An error does not promise what a COMMIT inside a revision has broken."""
    project.revision("r7", "r6", "op.execute('CREATE TABLE stays (id int)'); op.execute('COMMIT'); 1 / 0")
    url = postgresql.database()
    project.located().upgrade(url, from_revision)
    with pytest.raises(MigrationFailed) as caught:
        project.located().upgrade(url)
    assert (caught.value.restored, caught.value.failed) == (False, "r7")
    assert caught.value.applied == ALL[ALL.index(from_revision) + 1 :]
    assert versions(url) == ["r6"]
    assert "stays" in content(url)


def test_a_revision_outside_of_a_transaction_takes_no_other_with_it(postgresql: Server, project: Project) -> None:
    """With an autocommit_block each revision is a transaction, so what is applied is complete."""
    project.revision(
        "r7",
        "r6",
        """
        with op.get_context().autocommit_block():
            op.execute("CREATE INDEX CONCURRENTLY quick ON note (title)")
        """,
    )
    project.revision("r8", "r7", "op.execute('CREATE TABLE half (id int)'); op.execute('SELECT 1 / 0')")
    url = postgresql.database()
    with pytest.raises(MigrationFailed) as caught:
        project.located().upgrade(url)
    assert (caught.value.applied, caught.value.failed, caught.value.restored) == ((*ALL, "r7"), "r8", False)
    assert versions(url) == ["r7"]
    assert "half" not in content(url)


def test_a_failed_upgrade_of_mariadb_says_what_is_applied_and_continues(mariadb: Server, project: Project) -> None:
    """What a revision had done before it failed is not done again once the script is mended."""
    broken = """
        op.create_table("extra", sa.Column("id", sa.Integer, primary_key=True))
        op.execute("INSERT INTO extra (id) VALUES (1)")
        op.add_column("extra", sa.Column("more", sa.Integer))
        op.execute({!r})
    """
    project.revision("r7", "r6", broken.format("INSERT INTO nowhere VALUES (1)"))
    project.revision("r8", "r7")
    url = mariadb.database()
    with pytest.raises(MigrationFailed, match="the next upgrade continues") as caught:
        project.located().upgrade(url)
    error = caught.value
    assert (error.applied, error.failed, error.pending, error.restored) == (ALL, "r7", ("r8",), False)
    project.revision("r7", "r6", broken.format("INSERT INTO extra VALUES (2, 2)"))
    assert project.located().upgrade(url).applied == ("r7", "r8")
    assert content(url)["extra"][1] == ["(1, None)", "(2, 2)"]
    assert not [name for (name,) in mariadb.run(f"SHOW TABLES FROM {make_url(url).database}") if "journal" in name]


def test_a_revision_of_mariadb_that_fails_at_once_changes_nothing(mariadb: Server, project: Project) -> None:
    """Rows are rolled back, and where no statement committed the error says that nothing changed."""
    project.revision("r7", "r6", "op.execute('DELETE FROM note'); op.execute('ALTER TABLE nowhere ADD x INT')")
    url = mariadb.database()
    project.located().upgrade(url, "r6")
    before = content(url)
    project.revision("r7", "r6", "op.execute('DELETE FROM note'); 1 / 0")
    with pytest.raises(MigrationFailed, match="ZeroDivisionError") as caught:
        project.located().upgrade(url)
    assert (caught.value.applied, caught.value.restored) == ((), True)
    assert content(url) == before


def test_a_pool_keeps_no_lock_after_a_failure(mariadb: Server, project: Project) -> None:
    """A connection that env.py's pool keeps open does not keep others out."""
    project.env(ENV.replace("pool.NullPool", "pool.QueuePool").replace("engine = ", "import sys\nengine = sys.kept = "))
    project.revision("r7", "r6", "1 / 0")
    url = mariadb.database()
    import sys

    for _ in range(2):
        with pytest.raises(MigrationFailed, match="ZeroDivisionError"):
            project.located().upgrade(url, timeout=2)
        kept: Any = sys.kept  # type: ignore[attr-defined]
        assert kept.pool.checkedin() == 1
    kept.dispose()
    del sys.kept  # type: ignore[attr-defined]


def test_an_upgrade_that_begins_meanwhile_is_not_taken_for_tables_without_a_version(
    mariadb: Server, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two questions of status, another program makes the first tables; the version table is the first."""
    url, migrations = mariadb.database(), project.located()
    ask = Inspector.get_table_names

    def upgrade_and_ask(self: Inspector, *arguments: Any, **options: Any) -> list[str]:
        monkeypatch.setattr(Inspector, "get_table_names", ask)
        upgrade(str(project.migrations), url)
        return ask(self, *arguments, **options)

    monkeypatch.setattr(Inspector, "get_table_names", upgrade_and_ask)
    assert migrations.status(url).state is State.CURRENT
