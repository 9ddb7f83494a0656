"""The phases that a bundle tries by itself can fail: each is given a program that does the wrong thing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sample_data import RELEASES

import freezekit
from freezekit.errors import InvalidMigrations
from freezekit.runtime import selfcheck
from freezekit.runtime.adopt import recorded_fingerprints
from freezekit.runtime.selfcheck import Skipped
from freezekit.runtime.selfphases import PHASES, Subject, Unexpected

if TYPE_CHECKING:
    from freezekit import Migrations

REFUSALS = ("newer", "unversioned", "foreign", "damaged")


def located(**changes: Any) -> Migrations:
    """The migrations of sample_app, with another manifest if that is asked for."""
    migrations = freezekit.locate("sample_app:migrations")
    migrations.__dict__["manifest"] = replace(migrations.manifest, **changes)
    return migrations


def tried(folder: Path, migrations: Migrations, *phases: str, databases: tuple[str, ...] = ()) -> Any:
    """Try phases one after the other, and return what the last one gave."""
    subjects, found = [Subject(0, migrations, str(folder))], None
    for phase in phases:
        found = PHASES[phase][1](subjects, databases)
    return found


@pytest.mark.parametrize("phase", REFUSALS)
def test_a_program_that_refuses_a_database_passes(tmp_path: Path, phase: str) -> None:
    tried(tmp_path, located(application_id=7), "empty", phase)


@pytest.mark.parametrize("phase", REFUSALS)
def test_a_program_that_accepts_what_it_must_refuse_fails(
    tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations = located()
    tried(tmp_path, migrations, "empty")
    monkeypatch.setattr(migrations, "upgrade", lambda *_arguments, **_options: None)
    with pytest.raises(Unexpected, match="was not refused"):
        tried(tmp_path, migrations, phase)


def test_a_program_that_refuses_a_database_and_changes_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations = located()
    tried(tmp_path, migrations, "empty")
    upgrade = migrations.upgrade

    def touching(path: str, **options: Any) -> None:
        Path(path + "-left").touch()
        upgrade(path, **options)

    monkeypatch.setattr(migrations, "upgrade", touching)
    with pytest.raises(Unexpected, match="changed all the same"):
        tried(tmp_path, migrations, "newer")


def test_a_schema_that_differs_from_the_recorded_one_fails(tmp_path: Path) -> None:
    """By the revision after which it does; with the recorded ones it passes."""
    recorded = recorded_fingerprints(located().scripts, str(tmp_path / "recorded.db"))
    tried(tmp_path, located(fingerprints=recorded), "revisions")
    (tmp_path / "0-replay.db").unlink()
    with pytest.raises(Unexpected, match=r"after v2\.0\.1$"):
        tried(tmp_path, located(fingerprints={**recorded, "v2.0.1": "0"}), "revisions")


def test_schemas_that_were_not_recorded_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(Skipped, match="recorded no schemas"):
        tried(tmp_path, located(), "revisions")


@pytest.mark.parametrize(
    ("statement", "said"),
    [("CREATE TABLE more (x)", "another schema"), ("INSERT INTO notebook (name) VALUES ('x')", "other rows")],
)
def test_a_snapshot_that_is_not_what_the_revisions_make_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, said: str
) -> None:
    migrations = located(snapshot="freezekit.db.gz")
    tried(tmp_path, migrations, "empty")

    def create(path: str) -> None:
        Path(path).write_bytes((tmp_path / "0-empty.db").read_bytes())
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(statement)

    monkeypatch.setattr(migrations, "create", create)
    with pytest.raises(Unexpected, match=said):
        tried(tmp_path, migrations, "snapshot")


def test_a_database_at_the_first_revision_is_made_and_upgraded(tmp_path: Path) -> None:
    assert tried(tmp_path, located(), "empty", "old") == [0]
    assert located().status(str(tmp_path / "0-old.db")).current == ("0001",)
    assert located().status(str(tmp_path / "0-old-upgraded.db")).state.value == "current"


def test_databases_of_past_releases_are_upgraded_and_each_failure_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    good.write_bytes(RELEASES[0].read_bytes())
    bad.write_text("rubbish " * 20)
    assert tried(tmp_path, located(), "releases", databases=(str(good),)) == {"good.db": 0}
    with pytest.raises(Unexpected, match=r"^bad\.db: "):
        tried(tmp_path, located(), "releases", databases=(str(good), str(bad)))


def test_scripts_that_cannot_be_imported_are_all_named(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text("")
    for number in (1, 2):
        parent = repr("1") if number > 1 else None
        text = f"revision = '{number}'\ndown_revision = {parent}\nimport nowhere_{number}\n"
        (folder / "versions" / f"{number}.py").write_text(text)
    migrations = freezekit.locate(folder)
    migrations.__dict__["manifest"] = replace(migrations._computed_manifest(), version_table="alembic_version")
    with pytest.raises(InvalidMigrations) as caught:
        tried(tmp_path, migrations, "scripts")
    assert [issue.rpartition(" ")[2] for issue in caught.value.issues] == ["'nowhere_1'", "'nowhere_2'"]


def test_what_needs_a_phase_that_failed_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what came of each phase is a line of its own, ended by a last one."""
    monkeypatch.setattr(selfcheck, "bundled_chains", list)
    assert selfcheck.run(str(tmp_path), 1, {"databases": []}) == 0
    lines = [json.loads(line) for line in (tmp_path / "answer-1.jsonl").read_text().splitlines()]
    outcomes = {line["phase"]: line["outcome"] for line in lines if "phase" in line}
    assert outcomes == {"start": "failed", **dict.fromkeys(PHASES, "skipped")}
    assert lines[-1] == {"done": True}
