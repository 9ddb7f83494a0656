"""The empty database that ships: when there is one, what is in it, and that new documents come from it."""

from __future__ import annotations

import gzip
import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sample_data import MIGRATIONS, ROOT, content, plain_upgrade, revisions

import freezekit
from freezekit.build.snapshot import Snapshot, make_snapshot
from freezekit.config import chain_of
from freezekit.runtime.create import create_file

ENV = """\
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """\
import datetime
import os
import random
import time
from alembic import op

revision = "one"
down_revision = None


def upgrade():
    op.execute("CREATE TABLE calm (x)")
    op.execute("CREATE TABLE one (x)")
    op.execute("INSERT INTO calm VALUES (1)")
    op.execute(f"INSERT INTO one VALUES ('MADE_UP')")
"""


def project(folder: Path, value: str) -> Path:
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "versions" / "one.py").write_text(REVISION.replace("MADE_UP", value))
    return folder


@pytest.fixture(scope="session")
def snapshot() -> Snapshot:
    """What a build makes of sample_app."""
    made = make_snapshot(chain_of(str(MIGRATIONS)), [str(ROOT)])
    assert made is not None
    return made


@pytest.fixture
def shipped(tmp_path: Path, snapshot: Snapshot) -> Path:
    """The scripts of sample_app as a bundle holds them, with manifest and empty database."""
    folder = tmp_path / "sample_app" / "migrations"
    for source in MIGRATIONS.rglob("*"):
        if source.is_file() and source.parent.name != "__pycache__":
            target = folder / source.relative_to(MIGRATIONS)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    manifest = replace(
        freezekit.locate(folder).manifest,
        fingerprints=snapshot.fingerprints,
        snapshot="freezekit.db.gz",
        snapshot_sha256=snapshot.sha256,
    )
    (folder / "freezekit.json").write_text(manifest.to_json())
    (folder / "freezekit.db.gz").write_bytes(snapshot.content or b"")
    return folder


def test_the_snapshot_is_what_a_replay_makes(shipped: Path, tmp_path: Path) -> None:
    """A document created from it has the content of one made by plain Alembic, and can be written to at once."""
    freezekit.locate(shipped).create(tmp_path / "new.notes")
    assert content(tmp_path / "new.notes") == content(plain_upgrade(None, tmp_path / "plain.db"))
    assert (tmp_path / "new.notes").read_bytes() == gzip.decompress((shipped / "freezekit.db.gz").read_bytes())
    with closing(sqlite3.connect(tmp_path / "new.notes")) as connection, connection:
        connection.execute("INSERT INTO tag (name) VALUES ('mine')")


def test_a_schema_is_recorded_after_each_revision(snapshot: Snapshot) -> None:
    assert tuple(snapshot.fingerprints) == revisions


def test_a_snapshot_is_compact(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "snapshot.db").write_bytes(gzip.decompress(snapshot.content or b""))
    with closing(sqlite3.connect(tmp_path / "snapshot.db")) as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_no_revision_runs_where_there_is_a_snapshot(shipped: Path, tmp_path: Path) -> None:
    """Not even a broken script matters to a copy."""
    (shipped / "versions" / "v2.0.1.py").write_text("raise SystemExit")
    assert freezekit.locate(shipped).create(tmp_path / "new.notes").heads == revisions[-1:]


@pytest.mark.parametrize("damage", ["altered", "missing", "empty"])
def test_a_damaged_snapshot_makes_no_document(shipped: Path, tmp_path: Path, damage: str) -> None:
    """It is an error by name, for creating and for verifying, and nothing appears."""
    database = shipped / "freezekit.db.gz"
    if damage == "missing":
        database.unlink()
    else:
        database.write_bytes(b"" if damage == "empty" else database.read_bytes()[:-1] + b"!")
    folder = tmp_path / "documents"
    folder.mkdir()
    migrations = freezekit.locate(shipped)
    with pytest.raises(freezekit.InvalidMigrations, match=r"freezekit\.db\.gz"):
        migrations.create(folder / "new.notes")
    assert list(folder.iterdir()) == []
    with pytest.raises(freezekit.InvalidMigrations, match=r"freezekit\.db\.gz"):
        migrations.verify()


def test_a_database_in_memory_comes_from_the_snapshot(shipped: Path) -> None:
    (shipped / "env.py").write_text("raise SystemExit")
    with closing(freezekit.locate(shipped).create(":memory:")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revisions[-1],)]


@pytest.mark.parametrize(
    "value",
    [
        "{random.random()}",
        "{datetime.datetime.now()}",
        "{datetime.date.today()}",
        "{int(time.time())}",
        "{os.getpid()}",
    ],
)
def test_a_history_that_gives_other_rows_each_time_ships_none(
    tmp_path: Path, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The build names the tables that differ, and only these; the schemas are recorded all the same."""
    made = make_snapshot(chain_of(str(project(tmp_path / "migrations", value))), [])
    assert made is not None
    assert made.content is None
    assert list(made.fingerprints) == ["one"]
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "differ in one:" in message


def test_a_history_that_fails_on_sqlite_ships_none_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The build goes on."""
    assert make_snapshot(chain_of(str(project(tmp_path / "migrations", "{1 / 0}"))), []) is None
    assert "ZeroDivisionError" in caplog.text


def test_what_a_migration_prints_disturbs_nothing(tmp_path: Path) -> None:
    made = make_snapshot(chain_of(str(project(tmp_path / "migrations", "{print('noise')}"))), [])
    assert made is not None
    assert made.content is not None


def test_a_created_file_bears_the_mark_of_its_application(tmp_path: Path) -> None:
    """With application_id configured, new and upgraded documents bear it, and another application's are foreign."""
    scripts = project(tmp_path / "migrations", "x")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.freezekit]\nscript_location = 'migrations'\napplication_id = 0x4E4F5445\n"
    )
    migrations = freezekit.locate(scripts)
    migrations.create(tmp_path / "created.notes")
    migrations.upgrade(tmp_path / "upgraded.notes")
    for name in ("created.notes", "upgraded.notes"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            assert connection.execute("PRAGMA application_id").fetchone() == (0x4E4F5445,)
    foreign = tmp_path / "foreign.notes"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("PRAGMA application_id = 7")
        connection.execute("CREATE TABLE other (x)")
    before = foreign.read_bytes()
    assert migrations.status(foreign).state is freezekit.State.FOREIGN
    with pytest.raises(freezekit.ForeignDatabase, match="0x7"):
        migrations.upgrade(foreign)
    assert foreign.read_bytes() == before


def test_two_who_create_one_document_do_not_both_succeed(shipped: Path, tmp_path: Path) -> None:
    """Who comes second finds the name taken; what the first one made stays."""
    migrations = freezekit.locate(shipped)
    target = tmp_path / "new.notes"

    def meanwhile(part: str) -> None:
        Path(part).write_text("second")
        target.write_text("first")

    without = replace(migrations.manifest, snapshot=None)
    with pytest.raises(freezekit.UsageError, match="somebody else"):
        create_file(migrations._tree, without, str(target), meanwhile)
    assert target.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["new.notes"]
