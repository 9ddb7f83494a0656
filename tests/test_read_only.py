"""Documents and folders that cannot be written: questions are answered, and an upgrade says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sample_data import RELEASES, expected_head, pending, release_heads
from test_create import without_version

import freezekit
from freezekit import Backup, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from freezekit import Migrations

OLD = RELEASES[0]
ADVICE = (
    "the file and its folder are read-only. The database is as it was before: make that writable, or copy the database "
    "to a folder that can be written."
)
# Each program dies, as if killed, and leaves the document as its name says.
BEGIN = "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
LEFT = {
    "rollback journal": "",
    "write-ahead mode": "c.execute('PRAGMA journal_mode = WAL'); c.close();",
    "write-ahead log and its index": (
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('DELETE FROM attachment'); os._exit(0)"
    ),
    "write-ahead log alone": (
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('DELETE FROM attachment'); os.unlink(sys.argv[1] + '-shm');"
        "os._exit(0)"
    ),
    "hot journal": (
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN'); c.execute('DELETE FROM note');"
        "c.execute('CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)'"
        " ' SELECT i FROM n'); os._exit(0)"
    ),
}
SIDECARS = {
    "write-ahead log and its index": {"-wal", "-shm"},
    "write-ahead log alone": {"-wal"},
    "hot journal": {"-journal"},
}


@pytest.fixture
def migrations() -> Migrations:
    return freezekit.locate("sample_app:migrations")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=LEFT)
def document(request: pytest.FixtureRequest, folder: Path, read_only: Callable[[Path], None]) -> Path:
    """A document of the first release in a folder that cannot be written, in each state a program can leave."""
    path = folder / "old.notes"
    shutil.copyfile(OLD, path)
    subprocess.run([sys.executable, "-c", BEGIN + LEFT[request.param], str(path)], check=True)
    assert set(contents(folder)) == {f"old.notes{one}" for one in {"", *SIDECARS.get(request.param, set())}}
    read_only(folder)
    return path


def test_questions_about_a_read_only_document_are_answered(migrations: Migrations, document: Path) -> None:
    """Nothing is written for it, and a rehearsal works."""
    before = contents(document.parent)
    status = migrations.status(document)
    assert (status.state, status.current) == (State.BEHIND, (release_heads[OLD.stem],))
    assert [one.revision for one in migrations.plan(document).revisions] == list(pending(OLD.stem))
    assert "CREATE TABLE" in migrations.sql(document)
    assert migrations.upgrade(document, rehearse=True).applied == tuple(pending(OLD.stem))
    assert migrations.upgrade(document, revision=release_heads[OLD.stem]).applied == ()
    assert contents(document.parent) == before


def test_a_read_only_document_is_not_upgraded_and_the_error_says_what_to_do(
    migrations: Migrations, document: Path, tmp_path: Path
) -> None:
    """In one sentence for every kind of journal, whether a backup is made, and where."""
    before = contents(document.parent)
    for backup in (Backup(), Backup(folder=tmp_path / "backups"), None):
        with pytest.raises(freezekit.MigrationFailed) as failed:
            migrations.upgrade(document, backup=backup)
        assert str(failed.value) == f"The upgrade of {document} failed: {ADVICE}"
        assert (failed.value.restored, failed.value.disk_full) == (True, False)
    assert contents(document.parent) == before
    assert not (tmp_path / "backups").exists()


def test_a_copy_of_a_read_only_document_is_upgraded(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    """What the error advises works."""
    copy = shutil.copytree(document.parent, tmp_path / "copy") / document.name
    copy.parent.chmod(0o700)
    for path in copy.parent.iterdir():
        path.chmod(0o600)
    assert migrations.upgrade(copy).applied == tuple(pending(OLD.stem))


@pytest.mark.parametrize("which", ["the file", "its folder"])
def test_one_that_is_read_only_is_named(which: str, migrations: Migrations, folder: Path) -> None:
    """A backup could be made beside a read-only file, and a file written where no journal can lie: both fail later."""
    path = folder / "old.notes"
    shutil.copyfile(OLD, path)
    fixed = path if which == "the file" else folder
    fixed.chmod(0o555)
    try:
        if os.access(fixed, os.W_OK):
            pytest.skip("root can write whatever the permissions say")
        with pytest.raises(freezekit.MigrationFailed, match=f"failed: {which} is read-only"):
            migrations.upgrade(path, backup=None)
    finally:
        fixed.chmod(0o755)
    assert contents(folder) == {"old.notes": OLD.read_bytes()}


def test_a_document_in_a_read_only_folder_is_named(
    migrations: Migrations, folder: Path, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    """A link to a document counts as the document, beside which the journal would lie."""
    shutil.copyfile(OLD, folder / "old.notes")
    link = tmp_path / "link.notes"
    link.symlink_to(folder / "old.notes")
    read_only(folder)
    with pytest.raises(freezekit.MigrationFailed, match=rf"upgrade of {link} failed: .* are read-only"):
        migrations.upgrade(link)
    assert contents(folder) == {"old.notes": OLD.read_bytes()}


def test_a_current_document_needs_no_writing(
    migrations: Migrations, folder: Path, read_only: Callable[[Path], None]
) -> None:
    migrations.create(folder / "new.notes")
    read_only(folder)
    for revision in ("heads", "head", expected_head):
        report = migrations.upgrade(folder / "new.notes", revision)
        assert (report.applied, report.heads) == ((), (expected_head,))


@pytest.mark.parametrize("way", ["create", "upgrade"])
def test_no_document_is_made_in_a_read_only_folder(
    way: str, migrations: Migrations, folder: Path, read_only: Callable[[Path], None]
) -> None:
    read_only(folder)
    path = folder / "new.notes"
    with pytest.raises(freezekit.MigrationFailed) as failed:
        getattr(migrations, way)(path)
    assert str(failed.value) == (
        f"The creation of {path} failed: its folder is read-only. No file was made: "
        "choose another folder, or make this one writable."
    )
    assert contents(folder) == {}


def test_a_read_only_document_is_not_adopted(
    migrations: Migrations, folder: Path, read_only: Callable[[Path], None]
) -> None:
    document = without_version(OLD, folder)
    before = contents(folder)
    read_only(folder)
    with pytest.raises(freezekit.MigrationFailed, match=rf"^The adoption of {document} failed: .* are read-only"):
        migrations.adopt(document)
    assert contents(folder) == before
