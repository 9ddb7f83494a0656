"""Tenants of a service: a database each, or a schema each, upgraded with a bounded number of connections."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from documents import shown
from private import connected, content
from sqlalchemy import make_url, text
from test_server_databases import ALL, plain

import freezekit
from freezekit import MigrationFailed, Tenant, upgrade_many
from freezekit.cli import main

if TYPE_CHECKING:
    from histories import Project
    from private import Server

_NUMBERS = count()
LIMIT = 6

TENANT_ENV = """
from alembic import context
from sqlalchemy import engine_from_config, pool

tenant = context.get_x_argument(as_dictionary=True)["tenant"]
engine = engine_from_config(context.config.get_section("alembic"), prefix="sqlalchemy.", poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, version_table_schema=tenant)
    with context.begin_transaction():
        context.run_migrations()
"""


def limited(url: str, server: Server, connections: int) -> str:
    """Return a URL of a new user who may have so many connections to a database at once."""
    name = f"limited_{os.getpid()}_{next(_NUMBERS)}"
    if server.name == "postgresql":
        server.run(f"CREATE ROLE {name} LOGIN PASSWORD 'p' CONNECTION LIMIT {connections}")
        server.run(f"ALTER DATABASE {make_url(url).database} OWNER TO {name}")
    else:
        server.run(f"CREATE USER {name}@'%' IDENTIFIED BY 'p' WITH MAX_USER_CONNECTIONS {connections}")
        server.run(f"GRANT ALL ON *.* TO {name}@'%'")
    return make_url(url).set(username=name, password="p").render_as_string(hide_password=False)


def test_each_tenant_has_a_database(server: Server, project: Project) -> None:
    """One that cannot be reached fails by itself; a second run finds everything done."""
    urls = [server.database() for _ in range(5)]
    absent = make_url(urls[0]).set(database="nowhere").render_as_string(hide_password=False)
    report = upgrade_many([*urls, absent, urls[0]], project.located(), workers=2)
    assert report.counts == {"upgraded": 5, "current": 0, "failed": 1, "left": 0, "duplicate": 1}
    assert {one.applied for one in report if one.result == "upgraded"} == {ALL}
    (failed,) = report.failures
    assert "nowhere" in failed.database
    expected = plain(project, server)
    assert [content(url) for url in urls] == [expected] * 5
    assert upgrade_many(urls, project.located()).counts["current"] == 5


def test_no_more_connections_are_open_than_allowed(server: Server, project: Project) -> None:
    """The server itself refuses one more than the limit of its user."""
    urls = [server.database() for _ in range(6)]
    users = {limited(urls[0], server, LIMIT)}
    (user,) = map(make_url, users)
    if server.name == "postgresql":
        for url in urls[1:]:
            server.run(f"ALTER DATABASE {make_url(url).database} OWNER TO {user.username}")
    theirs = [make_url(url).set(username=user.username, password="p").render_as_string(False) for url in urls]
    report = upgrade_many(theirs, project.located(), workers=6, max_connections=LIMIT)
    assert [one.error for one in report] == [None] * 6
    assert report.counts["upgraded"] == 6


@pytest.fixture
def schemas(postgresql: Server) -> tuple[str, list[str]]:
    """A database with a schema for each of four tenants, one with an odd name."""
    url, names = postgresql.database(), ["one", "two", "Three 3", 'fo"ur\\']
    with connected(url, isolation_level="AUTOCOMMIT") as connection:
        for name in names:
            quoted = name.replace('"', '""')
            connection.execute(text(f'CREATE SCHEMA "{quoted}"'))
    return url, names


def tables_of(url: str) -> dict[str, set[str]]:
    with connected(url) as connection:
        rows = connection.execute(
            text("SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'")
        )
        found: dict[str, set[str]] = {}
        for schema, name in rows:
            found.setdefault(schema, set()).add(name)
        return {schema: names for schema, names in found.items() if schema not in {"pg_catalog", "information_schema"}}


def test_each_tenant_has_a_schema(schemas: tuple[str, list[str]], project: Project) -> None:
    """Every table and the version of each are in its schema, and nothing is anywhere else; they run at once."""
    url, names = schemas
    report = upgrade_many([Tenant(url, name) for name in names], project.located(), workers=2)
    assert [one.error for one in report] == [None] * 4
    found = tables_of(url)
    assert set(found) == set(names)
    assert len({frozenset(tables) for tables in found.values()}) == 1
    assert "alembic_version" in found["one"]
    assert upgrade_many([Tenant(url, name) for name in names], project.located()).counts["current"] == 4


def test_the_examples_for_tenants_upgrade_each_schema(
    postgresql: Server, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of docs/fleets.md, in Python and in a shell."""
    url, schemas = postgresql.database(), ["tenant_one", "tenant_two"]
    with connected(url, isolation_level="AUTOCOMMIT") as connection:
        for name in schemas:
            connection.execute(text(f"CREATE SCHEMA {name}"))
    names = {"freezekit": freezekit, "migrations": project.located(), "schemas": schemas[:1]}
    exec(shown("docs/fleets.md", "tenants =", at=f"postgresql+psycopg://app@db/main=>{url}"), names)
    assert names["report"].counts["upgraded"] == 1
    changes = {"at": f"postgresql+psycopg://app@db/main=>'{url}'", "of": f"/srv=>'{tmp_path / 'srv'}'"}
    code = shown("docs/fleets.md", "freezekit upgrade-many", **changes)
    monkeypatch.chdir(project.root)
    location = project.migrations.relative_to(project.root)
    project.write("pyproject.toml", f'[tool.freezekit]\nscript_location = "{location}"\n')
    for name in ("notes/2026/a.notes", "srv/b c.notes"):
        document = (project.root if name.startswith("notes") else tmp_path) / name
        document.parent.mkdir(parents=True)
        with closing(sqlite3.connect(document)) as current, current:  # this history cannot run on SQLite
            current.execute("CREATE TABLE alembic_version (version_num)")
            current.execute("INSERT INTO alembic_version VALUES (?)", ALL[-1:])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(words, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if "1 current" in line][1:], done.stdout
    found = tables_of(url)
    assert set(found) == set(schemas)
    assert found["tenant_one"] == found["tenant_two"]


def test_env_py_may_name_the_schema_of_the_version_table(schemas: tuple[str, list[str]], project: Project) -> None:
    """As multi-tenant projects do it with plain Alembic: version_table_schema, from an -x argument."""
    url, names = schemas
    project.env(TENANT_ENV)
    tenants = [Tenant(url, name, {"tenant": name}) for name in names[:2]]
    report = upgrade_many(tenants, project.located(), workers=1)
    assert [one.error for one in report] == [None] * 2
    assert set(tables_of(url)) == set(names[:2])


def test_a_schema_that_does_not_exist_fails_by_itself(schemas: tuple[str, list[str]], project: Project) -> None:
    url, names = schemas
    report = upgrade_many([Tenant(url, "nobody"), Tenant(url, names[0])], project.located(), workers=1)
    (failed,) = report.failures
    assert failed.database.endswith("schema nobody")
    assert isinstance(failed.error, MigrationFailed)
    assert report.counts["upgraded"] == 1
    assert set(tables_of(url)) == {names[0]}


def test_a_query_names_the_schemas(
    schemas: tuple[str, list[str]], project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """And an -x argument may say which."""
    url, _names = schemas
    project.env(TENANT_ENV)
    query = "SELECT nspname FROM pg_namespace WHERE nspname IN ('one', 'two') ORDER BY 1"
    arguments = ["--url", url, "--url-query", query, "-x", "tenant={schema}", "--max-connections", "3", "--json"]
    assert main(["upgrade-many", *arguments, "--migrations", str(project.migrations)]) == 0
    *found, _last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [one["database"].rpartition(" ")[2] for one in found] == ["one", "two"]
    assert set(tables_of(url)) == {"one", "two"}


def test_a_driver_that_cannot_be_told_the_schema_is_refused(postgresql: Server, project: Project) -> None:
    url = make_url(postgresql.database()).set(drivername="postgresql+asyncpg").render_as_string(False)
    given: list[Any] = [Tenant(url, "one")]
    (failed,) = upgrade_many(given, project.located())
    assert isinstance(failed.error, freezekit.UsageError)
