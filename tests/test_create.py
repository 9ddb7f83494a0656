"""New databases, and old ones without a version: snapshots, replays, fingerprints."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sample_data import MIGRATIONS, RELEASES, content, expected_head, pending, plain_upgrade, release_heads
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

import freezekit
from freezekit import State
from freezekit.runtime import adopt as adopting
from freezekit.runtime.fingerprint import fingerprint
from freezekit.runtime.sqlite_upgrade import write_locked
from sample_app.models import Base

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from freezekit import Migrations


@pytest.fixture
def migrations() -> Migrations:
    return freezekit.locate("sample_app:migrations")


def test_a_created_file_is_what_plain_alembic_makes(migrations: Migrations, tmp_path: Path) -> None:
    """Same content and same schema, and nothing else appears in the folder."""
    report = migrations.create(tmp_path / "new.notes")
    assert (report.state_before, report.heads) == (State.NEW, (expected_head,))
    assert [path.name for path in tmp_path.iterdir()] == ["new.notes"]
    plain = plain_upgrade(None, tmp_path / "plain.db")
    assert content(tmp_path / "new.notes") == content(plain)
    assert digest(tmp_path / "new.notes") == digest(plain)


@pytest.mark.parametrize("what", ["file", "empty file", "folder", "dangling link"])
def test_what_exists_is_never_replaced(migrations: Migrations, tmp_path: Path, what: str) -> None:
    path = tmp_path / "taken"
    {
        "file": lambda: path.write_text("mine"),
        "empty file": path.touch,
        "folder": path.mkdir,
        "dangling link": lambda: path.symlink_to(tmp_path / "nowhere"),
    }[what]()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(freezekit.UsageError, match="exists"):
        migrations.create(path)
    assert sorted(tmp_path.iterdir()) == before
    assert what != "file" or path.read_text() == "mine"


def test_a_missing_folder_is_named(migrations: Migrations, tmp_path: Path) -> None:
    with pytest.raises(freezekit.NotADatabase, match="folder does not exist"):
        migrations.create(tmp_path / "nowhere" / "new.notes")


def test_a_database_in_memory_is_at_head_at_once(migrations: Migrations) -> None:
    with closing(migrations.create(":memory:")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(expected_head,)]
        connection.execute("INSERT INTO tag (name) VALUES ('mine')")


def digest(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return fingerprint(connection, "alembic_version")


def test_a_schema_made_from_models_has_the_fingerprint_of_the_history(tmp_path: Path) -> None:
    """Spelling, order and what SQLite rewrites do not matter: both ways to head have one digest."""
    engine = create_engine(f"sqlite:///{tmp_path / 'models.db'}")
    Base.metadata.create_all(engine)
    engine.dispose()
    for release in RELEASES:
        assert digest(plain_upgrade(release, tmp_path / release.name)) == digest(tmp_path / "models.db")


WRITTEN = "CREATE TABLE a (id INTEGER PRIMARY KEY, x VARCHAR(9) DEFAULT 'q', y INT CHECK (y > 0), UNIQUE (x, y))"


@pytest.mark.parametrize(
    "other",
    [
        "create table A ( y int check (Y>0), X varchar ( 9 ) default ('q'), ID integer primary key, unique (x, y) )",
        (
            'CREATE TABLE "a" ("id" INTEGER NOT NULL, "x" VARCHAR(9) DEFAULT \'q\', y INT, CONSTRAINT c CHECK (y > 0), '
            "CONSTRAINT u UNIQUE (x, y), PRIMARY KEY (id)) -- same"
        ),
        (
            "CREATE TABLE [a] ([id] INTEGER PRIMARY KEY, `x` VARCHAR(9) DEFAULT 'q', y INT CHECK /* why */ ((y > 0)), "
            "UNIQUE (x, y))"
        ),
    ],
)
def test_how_a_schema_is_written_does_not_change_its_fingerprint(other: str) -> None:
    assert written(other) == written(WRITTEN)


@pytest.mark.parametrize(
    "other",
    [
        WRITTEN.replace("y > 0", "y > 1"),
        WRITTEN.replace("'q'", "'Q'"),
        WRITTEN.replace("VARCHAR(9)", "VARCHAR(8)"),
        WRITTEN.replace("UNIQUE (x, y)", "UNIQUE (x)"),
        WRITTEN.replace("y INT", "y INT NOT NULL"),
        WRITTEN.replace("PRIMARY KEY", "PRIMARY KEY AUTOINCREMENT"),
        WRITTEN.replace("VARCHAR(9)", "VARCHAR(9) COLLATE NOCASE"),
        WRITTEN[:-1] + ", FOREIGN KEY (y) REFERENCES a (id))",
        WRITTEN.replace("UNIQUE", "z INT GENERATED ALWAYS AS (y + 1), UNIQUE"),
        WRITTEN + "; CREATE INDEX i ON a (y)",
        WRITTEN + "; CREATE INDEX i ON a (y) WHERE y > 5",
        WRITTEN + "; CREATE INDEX i ON a (y + 1)",
        WRITTEN + "; CREATE VIEW v AS SELECT x FROM a",
        WRITTEN + "; CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END",
        WRITTEN + " WITHOUT ROWID",
    ],
)
def test_what_a_schema_means_changes_its_fingerprint(other: str) -> None:
    assert written(other) != written(WRITTEN)


def written(sql: str) -> str:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(sql)
        return fingerprint(connection, "alembic_version")


def without_version(release: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    copy = folder / release.name
    shutil.copy(release, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DROP TABLE alembic_version")
    return copy


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
def test_a_document_without_a_version_is_recognised_by_its_schema(
    migrations: Migrations, release: Path, tmp_path: Path
) -> None:
    """It is stamped with its revision, keeps all its rows, and can then be upgraded."""
    document = without_version(release, tmp_path)
    before = content(document)
    status = migrations.adopt(document)
    assert (status.state, status.current) == (State.BEHIND, (release_heads[release.stem],))
    after = content(document)
    assert after.pop("alembic_version") == [(release_heads[release.stem],)]
    assert after == before
    assert list(migrations.upgrade(document).applied) == list(pending(release.stem))


def test_a_schema_of_no_revision_is_not_adopted(migrations: Migrations, tmp_path: Path) -> None:
    document = without_version(RELEASES[0], tmp_path)
    with closing(sqlite3.connect(document)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
    before = document.read_bytes()
    with pytest.raises(freezekit.DatabaseUnversioned, match="no revision") as caught:
        migrations.adopt(document)
    assert caught.value.candidates == ()
    assert document.read_bytes() == before


def test_a_schema_of_several_revisions_is_not_adopted(migrations: Migrations, tmp_path: Path) -> None:
    """Two revisions that differ in rows alone have one schema: which of them it is, a person must say."""
    document = tmp_path / "between.notes"
    plain_upgrade(RELEASES[0], document, "b82f64d01c7a")
    document = without_version(document, tmp_path / "copies")
    before = document.read_bytes()
    with pytest.raises(freezekit.DatabaseUnversioned, match="several revisions") as caught:
        migrations.adopt(document)
    assert set(caught.value.candidates or ()) == {"5d1c0e8f27aa", "b82f64d01c7a"}
    assert document.read_bytes() == before


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], None]:
    """Let another program change a document after ``adopt`` has looked at it, just before it has the lock."""

    def changed(document: Path, script: str) -> None:
        def locked_late(*arguments: object) -> object:
            with closing(sqlite3.connect(document)) as other:
                other.executescript(script)
            return write_locked(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(adopting, "write_locked", locked_late)

    return changed


def test_a_schema_that_changes_before_the_lock_is_taken_is_not_adopted(
    migrations: Migrations, tmp_path: Path, meanwhile: Callable[[Path, str], None]
) -> None:
    """What is stamped is the schema that the lock holds still."""
    document = without_version(RELEASES[0], tmp_path)
    meanwhile(document, "CREATE TABLE mine (x)")
    with pytest.raises(freezekit.DatabaseUnversioned, match="no revision"):
        migrations.adopt(document)
    assert "alembic_version" not in content(document)


def test_a_version_that_another_program_stamps_meanwhile_stays(
    migrations: Migrations, tmp_path: Path, meanwhile: Callable[[Path, str], None]
) -> None:
    """Two that adopt one document both succeed; a version this program does not know is refused as ever."""
    stamp = "CREATE TABLE alembic_version (version_num VARCHAR(32)); INSERT INTO alembic_version VALUES ('{}')"
    for version in (release_heads[RELEASES[1].stem], "9999"):
        document = without_version(RELEASES[0], tmp_path)
        meanwhile(document, stamp.format(version))
        if version == "9999":
            with pytest.raises(freezekit.DatabaseAhead):
                migrations.adopt(document)
        else:
            assert migrations.adopt(document).current == (version,)
        assert content(document)["alembic_version"] == [(version,)]


def test_only_an_sqlite_file_can_be_adopted(migrations: Migrations) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE note (id)")
    with pytest.raises(freezekit.UsageError, match="no SQLite file"):
        migrations.adopt(engine)  # type: ignore[arg-type]
    engine.dispose()


def test_a_document_with_a_version_needs_no_adoption(migrations: Migrations, tmp_path: Path) -> None:
    document = tmp_path / "old.notes"
    shutil.copy(RELEASES[0], document)
    before = document.read_bytes()
    assert migrations.adopt(document).state is State.BEHIND
    assert document.read_bytes() == before


def test_the_history_of_sample_app_is_not_written_into(migrations: Migrations, tmp_path: Path) -> None:
    """Other tests may be compiling it just now."""

    def files() -> dict[Path, int]:
        found = [path for path in MIGRATIONS.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
        return {path: path.stat().st_mtime_ns for path in found}

    before = files()
    migrations.create(tmp_path / "new.notes")
    assert files() == before


def test_a_database_that_is_no_file_is_not_adopted(migrations: Migrations) -> None:
    with pytest.raises(freezekit.UsageError, match="is no SQLite file"):
        migrations.adopt("postgresql://nobody@localhost/none")
