"""Smoke tests of real bundles: the good one passes, and one that is broken on purpose fails where it is broken."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest
from projects import CX_SCRIPT, Project, Workshop, history, program
from sample_data import RELEASES

from freezekit.check.formats import SMOKE_SCHEMA, schema
from freezekit.check.smoke import SmokeReport, smoke

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bundles import Bundle, HiddenSource

OPEN = "open {db}"
TOKEN = "0123456789abcdef" * 2
QUICK = {"twice", "killed", "application"}
"""Phases that start the program again: only where they are the point."""


@pytest.fixture
def folder_bundle(build_bundle: Callable[[str], Bundle]) -> Bundle:
    return build_bundle("cx-folder")


@pytest.fixture
def broken(folder_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the healthy bundle, to be broken."""
    folder = shutil.copytree(folder_bundle.folder, tmp_path / "broken", symlinks=True)
    return replace(folder_bundle, folder=folder, executable=folder / folder_bundle.executable.name)


def outcomes(report: SmokeReport, outcome: str) -> list[str]:
    return [phase.name for phase in report.phases if phase.outcome == outcome]


def only_failure(report: SmokeReport) -> str:
    """What the one phase that failed says; all others passed or were not tried."""
    (failed,) = (phase for phase in report.phases if phase.outcome == "failed")
    assert report.failure is not None
    assert report.failure.phase == failed.name
    return f"{failed.name}: {failed.detail}"


def migrations_of(bundle: Bundle) -> Path:
    return bundle.folder / "lib" / "sample_app" / "migrations"


def edit_manifest(bundle: Bundle, edit: Callable[[dict[str, dict[str, str]]], object]) -> None:
    path = migrations_of(bundle) / "freezekit.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(
    ("form", "skip"),
    [
        ("cx-folder", set()),
        ("cx-zip", QUICK),
        ("cx-zip-scripts", QUICK),
        ("pyinstaller-onedir", QUICK),
        ("pyinstaller-onefile", {"twice", "application"}),
    ],
)
def test_a_good_bundle_passes_every_phase(build_bundle: Callable[[str], Bundle], form: str, skip: set[str]) -> None:
    """Nothing but the bundle's own interpreter and packages takes part, and its author wrote no code for it."""
    report = smoke(build_bundle(form).executable, databases=RELEASES[:1], app_command=OPEN, skip=skip)
    assert report.failure is None
    assert set(outcomes(report, "skipped")) == skip
    assert {"Python", "SQLite", "Alembic", "SQLAlchemy"} <= set(report.versions)
    document = json.loads(json.dumps({"version": 1, "command": "smoke", **report.to_document(), "failure": None}))
    jsonschema.validate(document, schema(SMOKE_SCHEMA))


def test_an_altered_revision_fails_the_phase_of_files(broken: Bundle) -> None:
    (revision,) = migrations_of(broken).glob("versions/0002*.py")
    revision.write_text(revision.read_text(encoding="utf-8") + "\n# altered\n", encoding="utf-8")
    said = only_failure(smoke(broken.executable, skip=QUICK))
    assert said.startswith("files: ")
    assert revision.name in said


def test_a_module_that_a_revision_imports_while_it_runs_and_nobody_shipped_fails_the_first_upgrade(
    broken: Bundle,
) -> None:
    shutil.rmtree(broken.folder / "lib" / "inflection", ignore_errors=True)
    for path in broken.folder.rglob("inflection*.pyc"):
        path.unlink()
    _without(broken, "inflection.pyc")
    said = only_failure(smoke(broken.executable, skip=QUICK))
    assert said.startswith("empty: ")
    assert "No module named 'inflection'" in said


def test_a_missing_driver_fails_at_the_start(broken: Bundle) -> None:
    for path in broken.folder.rglob("_sqlite3*"):
        path.unlink()
    _without(broken, "sqlite3/__init__.pyc")
    assert only_failure(smoke(broken.executable, skip=QUICK)).startswith("start: ")


def test_a_schema_that_was_another_one_where_it_was_built_fails_the_phase_of_revisions(broken: Bundle) -> None:
    edit_manifest(broken, lambda manifest: manifest["fingerprints"].update({"v2.0.0.a": "0" * 64}))
    said = only_failure(smoke(broken.executable, skip=QUICK))
    assert said.startswith("revisions: ")
    assert "v2.0.0.a" in said


def test_a_snapshot_that_was_replaced_fails_the_phase_of_files(broken: Bundle) -> None:
    (migrations_of(broken) / "freezekit.db.gz").write_bytes(b"")
    assert only_failure(smoke(broken.executable, skip=QUICK)).startswith("files: ")


def test_an_application_that_does_not_upgrade_fails_that_phase(folder_bundle: Bundle) -> None:
    """It exits with 0, and only the version in the database tells."""
    skip = {"twice", "killed"}
    said = only_failure(smoke(folder_bundle.executable, app_command="status {db}", databases=RELEASES[:1], skip=skip))
    assert said.startswith("application: 1.0.notes: it is at ")


def test_content_that_breaks_a_rule_fails_that_phase(folder_bundle: Bundle) -> None:
    """The old database is attached as old."""
    rule = "SELECT count(*) FROM note HAVING count(*) = (SELECT count(*) FROM old.note);"
    said = only_failure(smoke(folder_bundle.executable, databases=RELEASES[:1], content=rule, skip=QUICK))
    assert said.startswith("content: 1.0.notes: SELECT")


def test_a_database_in_write_ahead_mode_is_given_whole_and_left_alone(folder_bundle: Bundle, tmp_path: Path) -> None:
    """Its last change is only in the journal, which belongs to it; nothing of both is changed."""
    release = Path(shutil.copy(RELEASES[0], tmp_path / "live.notes"))
    given = tmp_path / "given"
    given.mkdir()
    with closing(sqlite3.connect(release, isolation_level=None)) as live:
        live.execute("PRAGMA journal_mode = wal")
        live.execute("UPDATE note SET title = 'only in the journal' WHERE id = (SELECT min(id) FROM note)")
        for path in (release, release.with_name("live.notes-wal")):
            shutil.copy(path, given)
    before = {path.name: path.read_bytes() for path in given.iterdir()}
    assert b"only in the journal" not in before["live.notes"]
    rule = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM {}note WHERE title = 'only in the journal');"
    content = rule.format("main.") + rule.format("old.")
    report = smoke(folder_bundle.executable, databases=[given / "live.notes"], content=content, app_command=OPEN)
    assert report.failure is None
    assert outcomes(report, "skipped") == []
    assert {path.name: path.read_bytes() for path in given.iterdir()} == before


def tiny(name: str, files: Mapping[str, str], main: str = "") -> Project:
    text = program("'shop:migrations'") + main
    return Project(name, {**history("shop/migrations"), "shop/__init__.py": "", "app.py": text, **files}, CX_SCRIPT)


@pytest.fixture
def workshop(run_folder: Path, hidden_source: HiddenSource) -> Workshop:
    return Workshop(run_folder, hidden_source)


@pytest.mark.frozen
def test_a_program_without_a_test_of_itself_is_tested_by_its_own_command(workshop: Workshop) -> None:
    """With selftest = false nothing that answers ships; without a command that is a failure, not a success."""
    pyproject = '[tool.freezekit]\nscript_location = "shop:migrations"\nselftest = false\n'
    bundle = workshop.freeze(tiny("without selftest", {"pyproject.toml": pyproject}))
    assert not [path for path in bundle.folder.rglob("*") if "selftest" in path.name]
    assert "selftest = false" in only_failure(smoke(bundle.executable))
    report = smoke(bundle.executable, app_command="{db}", databases=[_at_first_revision(bundle)])
    assert report.failure is None
    assert outcomes(report, "passed") == ["application", "bundle"]


@pytest.mark.frozen
def test_a_revision_that_hangs_fails_its_phase_within_the_time_limit(workshop: Workshop) -> None:
    """The process is stopped, and the phases after that one are not tried."""
    hanging = "import sys\nif getattr(sys, 'frozen', False):\n    while True:\n        pass\n"
    script = f"revision = '0003'\ndown_revision = '0002'\n{hanging}\ndef upgrade(): pass\n"
    files = {"pyproject.toml": "[tool.freezekit]\nsnapshot = false\n", "shop/migrations/versions/0003.py": script}
    bundle = workshop.freeze(tiny("hanging", files))
    report = smoke(bundle.executable, timeout=4)
    assert only_failure(report).startswith("scripts: the program was stopped after 4 s")
    assert outcomes(report, "passed") == ["start", "files", "bundle"]


@pytest.mark.parametrize("form", ["cx-folder", "pyinstaller-onedir"])
def test_a_variable_set_by_anybody_else_changes_nothing(
    build_bundle: Callable[[str], Bundle], form: str, tmp_path: Path
) -> None:
    """Neither a folder open to others, nor another token, nor a request by another name: the program starts as ever."""
    bundle = build_bundle(form)
    request = json.dumps({"format": 1, "token": TOKEN, "databases": ["victim.db"]})
    private, public = tmp_path / "private", tmp_path / "public"
    for folder in (private, public):
        folder.mkdir(mode=0o700)
        (folder / "request-1.json").write_text(request)
        (folder / "other.json").write_text(request)
    public.chmod(0o755)
    asked = [
        f"{TOKEN}:{public}/request-1.json",
        f"{'f' * 32}:{private}/request-1.json",
        f"{TOKEN}:{private}/other.json",
    ]
    expected = bundle.run("--version")
    for one in (*asked, "", "1", f"{TOKEN}:/etc/passwd"):
        found = bundle.run("--version", env={"FREEZEKIT_SELFTEST": one})
        assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout) == (0, found.stdout)
    assert not [*tmp_path.rglob("answer*")]


def _without(bundle: Bundle, name: str) -> None:
    """Remove a module from every archive of a bundle."""
    for archive in bundle.folder.rglob("*.zip"):
        kept = archive.with_suffix(".kept")
        with zipfile.ZipFile(archive) as old, zipfile.ZipFile(kept, "w") as new:
            for member in old.infolist():
                if member.filename != name:
                    new.writestr(member, old.read(member))
        kept.replace(archive)


def _at_first_revision(bundle: Bundle) -> Path:
    path = bundle.home / f"old {os.getpid()}.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE note (body TEXT); CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);"
            "INSERT INTO alembic_version VALUES ('0001');"
        )
    return path
