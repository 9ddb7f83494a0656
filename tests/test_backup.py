"""Backups: what an upgrade copies first, which copies stay, and what putting one back promises."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import namedtuple
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sample_data import RELEASES, content, expected_head, revisions

import freezekit
from freezekit import Backup, Migrations, Progress
from freezekit.cli import main
from freezekit.runtime import restore, space
from freezekit.runtime.backup import copy_database, make_backup
from freezekit.runtime.space import refuse_too_little_space, space_needed
from freezekit.runtime.sqlite_file import version_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no such thing")
Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - what shutil.disk_usage returns


@pytest.fixture(scope="module")
def migrations() -> Migrations:
    return freezekit.locate("sample_app:migrations")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document of the oldest release."""
    return Path(shutil.copy(RELEASES[0], tmp_path / "my old.notes"))


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def execute(path: Path | str, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def titles(path: Path | str) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {title for (title,) in connection.execute("SELECT title FROM note")}


def backed_up(path: Path, **options: Any) -> str:
    """Make a backup as an upgrade does, with the write lock held."""
    backup = Backup(options.pop("keep", 1), options.pop("folder", None))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        return make_backup(str(path), ("0002",), backup, revisions, **options)


def big(path: Path) -> Path:
    """Fill a document up to some 6,000 pages."""
    execute(path, "CREATE TABLE blob (b)", *["INSERT INTO blob VALUES (zeroblob(4096000))"] * 6)
    return path


def with_damaged_page(path: Path) -> Path:
    """Damage a page inside a document: SQLite opens it, and finds the damage when it reads that page."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'note'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xaa" * 200)
    return path


def state_of(path: Path) -> Any:
    """Return what is in a document: rows, or the bytes of one that cannot be read."""
    if not path.exists():
        return None
    copy = Path(shutil.copytree(path.parent, f"{path.parent} copied", dirs_exist_ok=True)) / path.name
    try:
        # Reading is what rolls a journal back.
        titles(copy)
        return content(copy)
    except sqlite3.DatabaseError:
        return path.read_bytes()
    finally:
        shutil.rmtree(copy.parent)


class Stop(Exception):
    """What a program of ours raises to stop something."""


def fail_to_migrate(progress: Progress) -> None:
    if progress.phase == "migrate":
        raise Stop


def test_a_backup_holds_the_document_as_it_was(migrations: Migrations, document: Path) -> None:
    """The backup is complete, named after the revision, and a second upgrade keeps one."""
    before = content(document)
    report = migrations.upgrade(document)
    assert report.backup == f"{document}.0002.bak"
    assert content(report.backup) == before


def test_backups_are_kept_as_asked(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    """Old backups beyond ``keep`` go, files of the user that only look alike stay, and None makes none."""
    mine = tmp_path / f"{document.name}.mine.bak"
    mine.write_text("mine")
    for revision in ("5d1c0e8f27aa", "b82f64d01c7a", "e3a95f1786bc"):
        migrations.upgrade(document, revision, backup=Backup(keep=2))
    assert sorted(path.name.split(".")[-2] for path in tmp_path.glob("*.bak")) == [
        "5d1c0e8f27aa",
        "b82f64d01c7a",
        "mine",
    ]
    report = migrations.upgrade(document, backup=None)
    assert report.backup is None
    assert mine.read_text() == "mine"


def test_backups_can_go_elsewhere(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    before = content(document)
    report = migrations.upgrade(document, backup=Backup(folder=tmp_path / "new folder" / "backups"))
    assert Path(report.backup).parent == tmp_path / "new folder" / "backups"
    assert content(report.backup) == before


def test_a_failed_backup_stops_the_upgrade(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = snapshot(tmp_path)
    with pytest.raises(freezekit.MigrationFailed, match=r"no backup could be made in .*file \([A-Z][a-z ]+\)"):
        migrations.upgrade(document, backup=Backup(folder=tmp_path / "file"))
    assert snapshot(tmp_path) == before


def test_a_program_that_fails_at_every_start_makes_one_backup(migrations: Migrations, document: Path) -> None:
    """Whatever number is kept: the content is the same, so the copy is."""
    before = content(document)
    for _ in range(3):
        with pytest.raises(freezekit.MigrationFailed):
            migrations.upgrade(document, on_progress=fail_to_migrate, backup=Backup(keep=5))
    assert names(document.parent) == [document.name, f"{document.name}.0002.bak"]
    assert content(f"{document}.0002.bak") == before


@pytest.mark.parametrize(("keep", "older"), [(1, []), (2, [{"first"}]), (5, [{"first"}])])
def test_a_document_that_changed_at_the_same_revision_is_backed_up_anew(
    document: Path, keep: int, older: list[set[str]]
) -> None:
    """The newest content has the plain name; what was there before goes only where ``keep`` says so."""
    execute(document, "UPDATE note SET title = 'first'")
    backed_up(document)
    execute(document, "UPDATE note SET title = 'second'")
    newest = backed_up(document, keep=keep)
    assert newest == f"{document}.0002.bak"
    assert titles(newest) == {"second"}
    assert [titles(path) for path in document.parent.glob("*~2.bak")] == older


def test_an_older_backup_is_removed_although_the_one_it_was_set_aside_for_is_gone(
    migrations: Migrations, document: Path
) -> None:
    """Somebody removed the newest one by hand; the next upgrade still counts what it left."""
    execute(document, "UPDATE note SET title = 'first'")
    backed_up(document)
    execute(document, "UPDATE note SET title = 'second'")
    os.unlink(backed_up(document, keep=2))
    assert names(document.parent) == [document.name, f"{document.name}.0002~2.bak"]
    migrations.upgrade(document, revisions[3], backup=None)
    migrations.upgrade(document, backup=Backup(keep=1))
    assert names(document.parent) == [document.name, f"{document.name}.{revisions[3]}.bak"]


def test_what_is_no_backup_but_has_its_name_stays(migrations: Migrations, document: Path) -> None:
    """A file of the user's is set aside, not replaced and never removed."""
    letter = document.with_name(f"{document.name}.0002.bak")
    letter.write_text("mine")
    migrations.upgrade(document)
    assert content(letter) == content(RELEASES[0])
    assert document.with_name(f"{document.name}.0002~2.bak").read_text() == "mine"


def test_two_documents_of_one_name_share_a_folder_of_backups(migrations: Migrations, tmp_path: Path) -> None:
    """Neither overwrites, counts, lists or removes a backup of the other."""
    folder, before, homes = tmp_path / "backups", {}, [tmp_path / "a", tmp_path / "b", tmp_path / "backups"]
    for home in homes:
        home.mkdir()
        execute(Path(shutil.copy(RELEASES[0], home / "data.db")), f"UPDATE note SET title = '{home.name}'")
    for target in revisions[2:4]:
        for home in homes:
            before[home] = content(home / "data.db")
            migrations.upgrade(home / "data.db", target, backup=Backup(keep=1, folder=folder))
    for home in homes:
        (only,) = migrations.backups(home / "data.db", folder)
        assert content(Path(only.path)) == before[home]
        assert migrations.prune(home / "data.db", 1, folder) == ()
    assert len(list(folder.glob("*.bak"))) == len(homes)


@posix_only
def test_the_backup_of_a_link_lies_beside_the_real_file(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    """There it is found through both names; in a shared folder too."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.notes"
    link.symlink_to(document)
    assert migrations.upgrade(link, revisions[2]).backup == f"{document}.0002.bak"
    migrations.upgrade(link, backup=Backup(folder=tmp_path / "backups"))
    assert names(tmp_path / "elsewhere") == ["link.notes"]
    assert migrations.backups(link) == migrations.backups(document) != ()
    assert migrations.backups(link, tmp_path / "backups") == migrations.backups(document, tmp_path / "backups") != ()


@posix_only
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_backup_is_as_private_as_the_document(document: Path, mode: int) -> None:
    """Nobody else reads it, whatever the umask; nor half of it, while it is being written."""
    document.chmod(mode)
    seen = []
    before = os.umask(0)
    try:
        part = Path(f"{document}.0002.bak.part")
        path = backed_up(document, on_step=lambda _done: seen.append(stat.S_IMODE(part.stat().st_mode)))
    finally:
        os.umask(before)
    assert set(seen) == {0o600}
    assert stat.S_IMODE(os.stat(path).st_mode) == mode


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may give files away")
def test_a_backup_made_by_root_belongs_to_the_documents_owner(document: Path) -> None:
    os.chown(document, 12345, 23456)
    document.chmod(0o640)
    found = os.stat(backed_up(document))
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)


@posix_only
def test_a_group_that_cannot_be_given_gets_no_rights(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rights of the document's group are not those of whatever group the copy has."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a document of a foreign group")
    os.chown(document, -1, 23456)
    document.chmod(0o664)
    monkeypatch.setattr(os, "chown", lambda *_a, **_k: (_ for _ in ()).throw(PermissionError))
    found = os.stat(backed_up(document))
    assert (found.st_gid != 23456, stat.S_IMODE(found.st_mode)) == (True, 0o604)


def test_steps_are_told_while_a_backup_is_made(document: Path) -> None:
    """At least once in 2,000 pages, rising, and one at the end."""
    big(document)
    seen: list[float] = []
    backed_up(document, on_step=seen.append)
    pages = document.stat().st_size / 4096
    assert pages > 6000
    assert len(seen) >= pages / 2000
    assert seen == sorted(set(seen))
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    "error", [Stop(), OSError("mine"), sqlite3.OperationalError("mine"), KeyboardInterrupt()], ids=repr
)
def test_what_a_step_raises_ends_the_backup_and_leaves_unchanged(document: Path, error: BaseException) -> None:
    """No part of a copy is left, and the backup that is there already is not touched."""
    backed_up(big(document))
    execute(document, "DELETE FROM note")
    before = snapshot(document.parent)

    def fail(_done: float) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        backed_up(document, on_step=fail)
    assert caught.value is error
    assert snapshot(document.parent) == before


def test_nobody_writes_while_a_backup_is_made_and_after(document: Path) -> None:
    """The copy is read through a handle of its own, and closing that does not drop the write lock."""
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    tried: list[str] = []

    def try_to_write(_done: float = 0.0) -> None:
        tried.append(run_python(code, str(document)).stderr)

    with closing(sqlite3.connect(document, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        make_backup(str(document), ("0002",), Backup(), revisions, on_step=try_to_write)
        try_to_write()
    assert len(tried) == 2
    assert all("locked" in one for one in tried)


def test_what_a_killed_backup_left_is_cleared_away(document: Path) -> None:
    """It has the same name, so the next one finds it."""
    for end in ("", "-journal", "-wal"):
        Path(f"{document}.0002.bak.part{end}").write_text("half")
    assert content(backed_up(document)) == content(document)
    assert names(document.parent) == [document.name, f"{document.name}.0002.bak"]


def test_a_damaged_document_never_replaces_a_good_backup(document: Path) -> None:
    good = backed_up(document)
    before = content(good)
    with_damaged_page(document)
    bytes_before = snapshot(document.parent)
    with pytest.raises(freezekit.MigrationFailed, match="damaged"):
        backed_up(document)
    assert content(good) == before
    assert snapshot(document.parent) == bytes_before


def test_a_copy_at_another_version_is_no_backup(document: Path, tmp_path: Path) -> None:
    """What is read from the copy is compared with what the database said under its lock."""

    class Wrong(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **options: Any) -> None:
            with closing(sqlite3.connect(RELEASES[1])) as other:
                other.backup(target, **options)

    (tmp_path / "copy").touch()
    with (
        closing(sqlite3.connect(document, factory=Wrong)) as source,
        pytest.raises(sqlite3.DatabaseError, match="version"),
    ):
        copy_database(source, str(tmp_path / "copy"), version_rows(source).values())


def test_a_document_in_write_ahead_mode_is_backed_up_with_its_log(document: Path) -> None:
    """What is only in the log is in the backup, and the backup has no log of its own beside it."""
    with closing(sqlite3.connect(document, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE note SET title = 'in the log'")
        assert os.path.getsize(f"{document}-wal")
        copy = backed_up(document)
    assert [name for name in names(document.parent) if name.startswith(Path(copy).name)] == [Path(copy).name]
    assert titles(copy) == {"in the log"}


def test_names_that_are_long_have_backups_too(migrations: Migrations, tmp_path: Path) -> None:
    """As long as SQLite can work with them itself."""
    documents = [tmp_path / f"{'é' * 120}{one}" for one in "ab"]
    for document in documents:
        shutil.copy(RELEASES[0], document)
        migrations.upgrade(document)
    assert [len(migrations.backups(document)) for document in documents] == [1, 1]


@pytest.mark.parametrize("volumes", [1, 2])
@pytest.mark.parametrize("asked", ["backup", "no backup", "by copy"])
def test_the_room_an_upgrade_needs_is_told(
    document: Path, tmp_path: Path, asked: str, volumes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal beside the document, a backup where it goes; their sum where that is one volume."""
    folder = tmp_path / "not" / "yet"
    if volumes == 2:
        (tmp_path / "not").mkdir()
        as_volumes(monkeypatch, {tmp_path / "not": 2})
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(10**9, 0, 10**9))
    found = space_needed(
        str(document), None if asked == "no backup" else Backup(folder=folder), by_copy=asked == "by copy"
    )
    size = document.stat().st_size
    beside, there = {"no backup": (1, 0), "backup": (1, 1), "by copy": (2, 1)}[asked]
    expected = [beside + there] if volumes == 1 else [beside, there]
    assert [one.needed for one in found] == [count * size for count in expected if count]
    assert all(one.fits and one.free == 10**9 for one in found)
    assert not folder.exists()


def as_volumes(monkeypatch: pytest.MonkeyPatch, numbers: dict[Path, int]) -> None:
    """Let folders be on other volumes."""
    real = os.stat

    def fake(path: Any, **options: Any) -> Any:
        number = numbers.get(Path(path)) if isinstance(path, (str, Path)) else None
        found = real(path, **options)
        return found if number is None else os.stat_result([*found[:2], number, *found[3:]])

    monkeypatch.setattr(space.os, "stat", fake)


@pytest.mark.parametrize("kept", ["beside", "elsewhere"])
def test_too_little_room_is_told_before_anything_is_written(
    migrations: Migrations, document: Path, tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how much is needed, how much is free, and where."""
    needed = document.stat().st_size * 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(10**9, 0, needed - 1))
    before = snapshot(tmp_path)
    backup = Backup(folder=None if kept == "beside" else tmp_path / "new")
    with pytest.raises(freezekit.MigrationFailed, match=r"needs 49\.2 kB in .*, where 49\.2 kB are free") as caught:
        migrations.upgrade(document, backup=backup)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.restored
    assert caught.value.disk_full
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(10**9, 0, needed))
    assert migrations.upgrade(document, backup=backup).applied


@pytest.mark.parametrize(
    ("cause", "is_full"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (OSError(errno.EIO, "broken"), False),
        (sqlite3.OperationalError("disk I/O error"), False),
        (None, False),
    ],
)
def test_a_full_disk_is_told_from_other_failures_in_other_processes_too(cause: Exception | None, is_full: bool) -> None:
    error = freezekit.MigrationFailed("old.notes", "whatever the system calls it")
    error.__cause__ = RuntimeError("from a library")
    error.__cause__.__cause__ = cause
    assert error.disk_full is is_full
    assert pickle.loads(pickle.dumps(error)).disk_full is is_full


def test_without_a_backup_only_the_journal_must_fit(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume that says nothing of its room is no reason to refuse."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(10**9, 0, document.stat().st_size))
    refuse_too_little_space(str(document), None)
    with pytest.raises(freezekit.MigrationFailed):
        refuse_too_little_space(str(document), Backup())
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(0, 0, 0))
    refuse_too_little_space(str(document), Backup())


def upgraded(migrations: Migrations, document: Path) -> Path:
    """Upgrade a document, and return its backup."""
    return Path(str(migrations.upgrade(document).backup))


def as_upgraded(_document: Path) -> None:
    pass


def ahead(document: Path) -> None:
    execute(document, "UPDATE alembic_version SET version_num = 'future'")


def unversioned(document: Path) -> None:
    execute(document, "DROP TABLE alembic_version")


def in_write_ahead_mode(document: Path) -> None:
    with closing(sqlite3.connect(document)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def of_other_page_size(document: Path) -> None:
    with closing(sqlite3.connect(document, isolation_level=None)) as connection:
        for statement in ("PRAGMA page_size = 1024", "VACUUM", "PRAGMA journal_mode = WAL"):
            connection.execute(statement)


def larger(document: Path) -> None:
    big(document)


@pytest.mark.parametrize(
    "change",
    [as_upgraded, ahead, unversioned, in_write_ahead_mode, of_other_page_size, larger],
    ids=lambda one: one.__name__,
)
def test_a_backup_is_put_back_and_what_it_replaces_is_kept(
    migrations: Migrations, document: Path, change: Callable[[Path], None]
) -> None:
    """Both hold exactly what they held; nothing else appears, and the document can be upgraded again."""
    backup = upgraded(migrations, document)
    change(document)
    before = state_of(document)
    kept = migrations.restore(backup, document)
    assert kept is not None
    assert names(document.parent) == sorted([document.name, backup.name, Path(kept).name])
    assert content(document) == content(backup) == content(RELEASES[0])
    assert content(Path(kept)) == before
    assert migrations.upgrade(document).heads == (expected_head,)


def garbage(document: Path) -> None:
    document.write_bytes(b"not any more " * 999)


def cut(document: Path) -> None:
    document.write_bytes(document.read_bytes()[:9000])


def cut_in_its_header(document: Path) -> None:
    document.write_bytes(document.read_bytes()[:50])


def damaged(document: Path) -> None:
    with_damaged_page(document)


def with_journals(document: Path) -> None:
    cut(document)
    for end in ("-journal", "-wal"):
        Path(f"{document}{end}").write_bytes(f"what was in the {end}".encode() * 99)


def damaged_with_a_hot_journal(document: Path) -> None:
    with_damaged_page(document)
    die_within_a_transaction(document)


def empty_with_a_log(document: Path) -> None:
    document.write_bytes(b"")
    Path(f"{document}-wal").write_bytes(b"opening the document would delete this")


def die_within_a_transaction(document: Path) -> None:
    """Leave a journal that SQLite rolls back when it opens the document."""
    run_python(
        "import sqlite3, os, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN'); c.execute('CREATE TABLE big (x)');"
        "c.executemany('INSERT INTO big VALUES (?)', [['x' * 999]] * 999); os._exit(0)",
        str(document),
    )
    assert os.path.getsize(f"{document}-journal")


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "damage",
    [garbage, cut, cut_in_its_header, damaged, with_journals, damaged_with_a_hot_journal, empty_with_a_log],
    ids=lambda one: one.__name__,
)
def test_a_damaged_document_is_replaced_and_kept_byte_for_byte(
    migrations: Migrations, document: Path, damage: Callable[[Path], None]
) -> None:
    """Its journals too, under names that belong together; none of them spoils the restored document."""
    backup = upgraded(migrations, document)
    document.chmod(0o640)
    damage(document)
    inode = document.stat().st_ino
    before = {
        path.name.removeprefix(document.name): path.read_bytes() for path in document.parent.glob(f"{document.name}*")
    }
    before = {end: data for end, data in before.items() if end in {"", "-journal", "-wal"}}
    kept = migrations.restore(backup, document)
    assert {end: Path(f"{kept}{end}").read_bytes() for end in before} == before
    assert content(document) == content(RELEASES[0])
    assert names(document.parent) == sorted(
        [document.name, backup.name, *(f"{Path(str(kept)).name}{end}" for end in before)]
    )
    assert os.name == "nt" or {stat.S_IMODE(os.stat(f"{kept}{end}").st_mode) for end in before} <= {0o640, 0o644}
    assert os.name == "nt" or stat.S_IMODE(document.stat().st_mode) == 0o640
    if damage in {damaged, damaged_with_a_hot_journal, empty_with_a_log}:
        assert document.stat().st_ino == inode, "SQLite can write into it"


@pytest.mark.parametrize("left", [[], ["-journal"], ["-wal", "-shm"]], ids=repr)
def test_a_missing_document_is_made_from_its_backup(migrations: Migrations, document: Path, left: list[str]) -> None:
    """A journal that was left behind is kept, and not applied to the new file."""
    backup = upgraded(migrations, document)
    document.unlink()
    for end in left:
        Path(f"{document}{end}").write_bytes(b"left" * 999)
    kept = migrations.restore(backup, document)
    assert content(document) == content(RELEASES[0])
    assert (kept is None) == (not left)
    assert kept is None or Path(kept).read_bytes() == b"left" * 999
    assert len(names(document.parent)) == 2 + bool(left)


def test_an_empty_file_has_nothing_to_keep(migrations: Migrations, document: Path) -> None:
    backup = upgraded(migrations, document)
    document.write_bytes(b"")
    assert migrations.restore(backup, document) is None
    assert content(document) == content(RELEASES[0])


def test_a_document_with_a_hot_journal_is_kept_as_it_was_before_that_change(
    migrations: Migrations, document: Path
) -> None:
    backup = upgraded(migrations, document)
    before = content(document)
    die_within_a_transaction(document)
    assert content(Path(str(migrations.restore(backup, document)))) == before
    assert content(document) == content(RELEASES[0])


@posix_only
def test_restoring_writes_into_the_same_file(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    """Links of both kinds lead to the restored document, its rights stay, and an open connection sees it."""
    backup = upgraded(migrations, document)
    backup.chmod(0o644)
    document.chmod(0o640)
    soft, hard = tmp_path / "soft.notes", tmp_path / "hard.notes"
    soft.symlink_to(document)
    hard.hardlink_to(document)
    with closing(sqlite3.connect(document)) as open_before:
        assert open_before.execute("SELECT version_num FROM alembic_version").fetchall() == [(expected_head,)]
        kept = migrations.restore(backup, soft)
        assert open_before.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]
    assert kept == f"{document}.{expected_head}~replaced.bak"
    assert soft.is_symlink()
    assert content(hard) == content(RELEASES[0])
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in (document, kept)} == {0o640}


def foreign(path: Path) -> None:
    execute(path, "PRAGMA application_id = 12345")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def without_tables(path: Path) -> None:
    path.unlink()
    execute(path, "PRAGMA user_version = 7")


REFUSED = {
    damaged: freezekit.NotADatabase,
    garbage: freezekit.NotADatabase,
    cut: freezekit.NotADatabase,
    emptied: freezekit.NotADatabase,
    without_tables: freezekit.NotADatabase,
    Path.unlink: freezekit.NotADatabase,
    ahead: freezekit.DatabaseAhead,
    unversioned: freezekit.DatabaseUnversioned,
    foreign: freezekit.ForeignDatabase,
}


@pytest.mark.parametrize(("spoil", "error"), REFUSED.items(), ids=[one.__name__ for one in REFUSED])
@pytest.mark.parametrize("there", [True, False], ids=["over a document", "where there is none"])
def test_what_is_no_good_backup_is_not_put_back(
    migrations: Migrations, document: Path, spoil: Callable[[Path], None], error: type[Exception], there: bool
) -> None:
    """Not a byte changes, and nothing appears."""
    backup = upgraded(migrations, document)
    spoil(backup)
    if not there:
        document.unlink()
    before = snapshot(document.parent)
    with pytest.raises(error, match="Nothing was changed"):
        of_an_application(migrations).restore(backup, document)
    assert snapshot(document.parent) == before


def of_an_application(migrations: Migrations) -> Migrations:
    """Return the same scripts, of an application that marks its files."""
    from dataclasses import replace

    marked = freezekit.locate("sample_app:migrations")
    marked.__dict__["manifest"] = replace(migrations.manifest, application_id=54321)
    return marked


def test_a_document_of_another_application_is_not_written_over(migrations: Migrations, document: Path) -> None:
    backup = upgraded(migrations, document)
    foreign(document)
    before = snapshot(document.parent)
    with pytest.raises(freezekit.ForeignDatabase):
        of_an_application(migrations).restore(backup, document)
    for itself in (document, Path(f"{document.parent}/../{document.parent.name}/{document.name}")):
        with pytest.raises(freezekit.UsageError, match="itself"):
            migrations.restore(itself, document)
    with pytest.raises(freezekit.UsageError):
        migrations.restore(backup, "postgresql://localhost/x")
    assert snapshot(document.parent) == before


@contextmanager
def used(path: Path, *statements: str) -> Iterator[None]:
    """Let another program have a document open, until the block ends."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for one in sys.argv[2:]: c.execute(one).fetchone()\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.communicate("")


USES = {
    "writing": ["BEGIN IMMEDIATE", "DELETE FROM note"],
    "writing alone": ["BEGIN EXCLUSIVE", "DELETE FROM note"],
    "reading": ["BEGIN", "SELECT * FROM note"],
    "open in write-ahead mode": ["PRAGMA journal_mode = WAL", "SELECT * FROM note"],
    "writing in write-ahead mode": ["PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE", "DELETE FROM note"],
}


@pytest.mark.parametrize("statements", USES.values(), ids=list(USES))
def test_a_document_in_use_is_not_written_over(migrations: Migrations, document: Path, statements: list[str]) -> None:
    """It is waited for, then refused, and works once the other program is gone."""
    backup = upgraded(migrations, document)
    before = content(document)
    with used(document, *statements), pytest.raises(freezekit.DatabaseInUse, match="close the other program"):
        migrations.restore(backup, document, timeout=0.2)
    assert not list(document.parent.glob("*replaced*"))
    assert content(document) == before
    assert migrations.restore(backup, document)
    assert content(document) == content(RELEASES[0])


@posix_only
@pytest.mark.parametrize("statements", [USES["writing"], USES["reading"]], ids=["writing", "reading"])
@pytest.mark.parametrize("spoil", [damaged, garbage], ids=lambda one: one.__name__)
def test_a_damaged_document_in_use_is_not_written_over(
    migrations: Migrations, document: Path, statements: list[str], spoil: Callable[[Path], None]
) -> None:
    """Another program may not have noticed the damage yet."""
    backup = upgraded(migrations, document)
    statements = [statements[0], statements[1].replace("note", "alembic_version")]
    with used(document, *statements):
        spoil(document)
        before = snapshot(document.parent)
        with pytest.raises(freezekit.DatabaseInUse):
            migrations.restore(backup, document, timeout=0.2)
        assert snapshot(document.parent) == before


def test_a_full_volume_is_no_reason_to_replace_a_damaged_document(
    migrations: Migrations, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a file that SQLite cannot make sense of is; other failures leave it as it is, and it was kept."""
    backup = upgraded(migrations, document)
    with_damaged_page(document)
    before = document.read_bytes()

    def fail(*_arguments: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(restore, "_write_over", fail)
    with pytest.raises(freezekit.MigrationFailed, match=r"^The restore of .* disk is full"):
        migrations.restore(backup, document)
    assert document.read_bytes() == before
    assert [path.read_bytes() for path in document.parent.glob("*replaced.bak")] == [before]


def test_a_damaged_document_that_this_process_has_open_keeps_its_locks(migrations: Migrations, document: Path) -> None:
    """It is refused: looking at its bytes would drop the locks of the connection that has it open."""
    backup = upgraded(migrations, document)
    with_damaged_page(document)
    with closing(sqlite3.connect(document, isolation_level=None)) as mine:
        mine.execute("BEGIN IMMEDIATE")
        with pytest.raises(freezekit.DatabaseInUse):
            migrations.restore(backup, document, timeout=0.2)
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        assert "locked" in run_python(code, str(document)).stderr


@posix_only
def test_what_another_program_restored_meanwhile_is_kept_too(
    migrations: Migrations, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite cannot open the document, and to try it drops our lock on it: another may have been quicker."""
    backup = upgraded(migrations, document)
    garbage(document)
    lock, tries = restore._try_lock, []

    def late(held: Any, path: str) -> bool:
        tries.append(path)
        if len(tries) == 2:
            other = Path(shutil.copy(backup, f"{path}.other"))
            execute(other, "UPDATE note SET title = 'precious'")
            other.rename(path)
        return lock(held, path)

    monkeypatch.setattr(restore, "_try_lock", late)
    kept = migrations.restore(backup, document)
    assert content(document) == content(Path(backup))
    assert titles(str(kept)) == {"precious"}
    assert len(list(document.parent.glob("*replaced*"))) == 2


@posix_only
def test_what_others_lock_while_a_damaged_document_is_replaced_keeps_no_thread_waiting(
    migrations: Migrations, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restoring waits for them as long as it may, without keeping the bytes twice; other documents can be looked at."""
    backup = upgraded(migrations, document)
    garbage(document)
    before, lock, tries, waited = document.read_bytes(), restore._try_lock, [], []

    def lost(held: Any, path: str) -> bool:
        tries.append(path)
        return len(tries) % 2 == 1 and lock(held, path)

    def wait(_seconds: float) -> None:
        looking = threading.Thread(target=lambda: waited.append(migrations.status(backup).state))
        looking.start()
        looking.join(30)

    monkeypatch.setattr(restore, "_try_lock", lost)
    monkeypatch.setattr(restore.time, "sleep", wait)
    with pytest.raises(freezekit.DatabaseInUse):
        migrations.restore(backup, document, timeout=0.1)
    assert waited
    assert set(waited) == {freezekit.State.BEHIND}
    assert document.read_bytes() == before
    assert [path.read_bytes() for path in document.parent.glob("*replaced*")] == [before]


def test_only_one_of_two_restores_puts_a_backup_where_nothing_is(
    migrations: Migrations, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told so has a whole document there; the other is told that there is one."""
    backup = upgraded(migrations, document)
    document.unlink()
    begun, published, late = threading.Event(), threading.Event(), []

    def first(*arguments: Any) -> None:
        copy_database(*arguments)
        monkeypatch.setattr(restore, "copy_database", second)
        other.start()
        begun.wait(30)

    def second(*arguments: Any) -> None:
        begun.set()
        published.wait(30)
        copy_database(*arguments)

    def restored_late() -> None:
        with pytest.raises(freezekit.UsageError, match="by somebody else") as caught:
            migrations.restore(backup, document)
        late.append(caught.value)

    other = threading.Thread(target=restored_late)
    monkeypatch.setattr(restore, "copy_database", first)
    assert migrations.restore(backup, document) is None
    assert content(document) == content(Path(backup))
    execute(document, "UPDATE note SET title = 'precious'")
    published.set()
    other.join(30)
    assert late
    assert titles(document) == {"precious"}
    assert names(document.parent) == sorted([document.name, os.path.basename(backup)])


def test_what_was_replaced_is_never_removed(migrations: Migrations, document: Path) -> None:
    """Neither by upgrades nor by pruning, which do not count it either."""
    kept = migrations.restore(upgraded(migrations, document), document)
    for target in revisions[2:]:
        made = migrations.upgrade(document, target).backup
        assert migrations.prune(document, 1) == ()
        assert [one.path for one in migrations.backups(document)] == [made, kept]


def test_trying_twice_keeps_the_same_thing_once(migrations: Migrations, document: Path) -> None:
    backup = upgraded(migrations, document)
    kept = migrations.restore(backup, document)
    migrations.restore(str(kept), document)
    assert migrations.restore(backup, document) == kept
    execute(document, "UPDATE note SET title = 'changed'")
    assert migrations.restore(str(kept), document) == f"{document}.0002~replaced2.bak"


def test_restoring_needs_room_for_what_it_keeps(
    migrations: Migrations, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before anything is written."""
    backup = upgraded(migrations, document)
    before = snapshot(document.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(10**9, 0, 2 * document.stat().st_size - 1))
    with pytest.raises(freezekit.MigrationFailed, match=r"^The restore of .* needs .* kB in .* are free"):
        migrations.restore(backup, document)
    assert snapshot(document.parent) == before


def test_backups_are_listed_newest_first(migrations: Migrations, document: Path) -> None:
    """With what they hold; files that only look alike, or are another document's, are not among them."""
    made = [migrations.upgrade(document, target, backup=Backup(keep=9)).backup for target in revisions[2:5]]
    shutil.copy(RELEASES[0], document.with_name(f"{document.name}.0001.bak"))
    shutil.copy(RELEASES[0], document.with_name(f"{document.name}.copy.0002.bak"))
    document.with_name(f"{document.name}.0003.bak").write_text("mine")
    ahead(Path(shutil.copy(RELEASES[0], document.with_name(f"{document.name}.future.bak"))))
    found = migrations.backups(document)
    assert [one.path for one in found] == made[::-1]
    assert [one.revisions for one in found] == [(one,) for one in revisions[3:0:-1]]
    assert [one.size for one in found] == [os.path.getsize(one.path) for one in found]
    assert [one.time for one in found] == sorted((one.time for one in found), reverse=True)


def test_pruning_keeps_as_many_good_backups_as_told(migrations: Migrations, document: Path) -> None:
    """A damaged one does not count as one that is kept."""
    made = [str(migrations.upgrade(document, target, backup=Backup(keep=9)).backup) for target in revisions[2:6]]
    with_damaged_page(Path(made[3]))
    assert migrations.prune(document, 2) == (made[0],)
    assert [one.path for one in migrations.backups(document)] == made[:0:-1]
    with pytest.raises(freezekit.UsageError):
        migrations.prune(document, 0)
    document.unlink()
    assert migrations.prune(document, 1) == (made[1],)


def test_backups_on_the_command_line(
    migrations: Migrations, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Listed, put back and removed, inside a shipped program too; the JSON names the whole command."""
    made = [migrations.upgrade(document, target, backup=Backup(keep=9)).backup for target in revisions[2:5]]
    answers = {}
    for command in (["list", document], ["prune", document, "--keep", 2], ["restore", made[2], document]):
        assert main(["backups", *map(str, command), "--json"], migrations=migrations) == 0
        answers[command[0]] = json.loads(capsys.readouterr().out)
    assert [answer["command"] for answer in answers.values()] == ["backups list", "backups prune", "backups restore"]
    assert [one["path"] for one in answers["list"]["backups"]] == made[::-1]
    first = answers["list"]["backups"][0]
    assert first == {**first, "revisions": [revisions[3]], "size": os.path.getsize(made[2]), "replaced": False}
    assert answers["prune"]["removed"] == made[:1]
    kept = f"{document}.{revisions[4]}~replaced.bak"
    assert (answers["restore"]["current"], answers["restore"]["kept"]) == ([revisions[3]], kept)
    assert content(document) == content(made[2])


def test_backups_are_shown_to_a_person(
    migrations: Migrations, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What each command did is a sentence or a table."""
    assert main(["backups", "list", str(document)], migrations=migrations) == 0
    assert capsys.readouterr().out == f"{document} has no backups.\n"
    backup = upgraded(migrations, document)
    assert main(["backups", "restore", str(backup), str(document)], migrations=migrations) == 0
    kept = f"{document}.{expected_head}~replaced.bak"
    assert capsys.readouterr().out == f"{document} is at 0002 again, as in {backup}. What was there before: {kept}\n"
    assert main(["backups", "list", str(document)], migrations=migrations) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith(kept)
    assert shown[1].endswith("kept by restore")
    assert shown[2].startswith(f"{backup} ")
    assert shown[2].removeprefix(str(backup)).split()[:2] == ["0002", str(backup.stat().st_size)]
    assert main(["backups", "prune", str(document), "--keep", "1"], migrations=migrations) == 0
    assert "nothing was removed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["list"], 2, "Missing argument 'DB'. See 'freezekit backups list --help'"),
        (["list", "postgresql://localhost/x"], 2, "no SQLite file"),
        (["prune", "x"], 2, "--keep"),
        (["prune", "x", "--keep", "0"], 2, "--keep"),
        (["restore", "x"], 2, "Missing argument"),
        (["restore", "x", "y"], 1, "no such file"),
        ([], 2, "Missing command"),
        (["nonsense"], 2, "nonsense"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else None,
)
def test_wrong_usage_of_backups_is_told(
    argv: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the exit codes that every command has; nothing is created."""
    argv = ["backups", *(str(tmp_path / one) if one in {"x", "y"} else one for one in argv)]
    here = ["--migrations", "sample_app:migrations"] if len(argv) > 1 and argv[1] != "nonsense" else []
    assert main([*argv, *here]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


KILLED_AT = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,unlinkat,rename,link"
RESTORE = """
import sys
from freezekit.manifest import Manifest
from freezekit.runtime.restore import restore
manifest, backup, document = sys.argv[1:]
restore(backup, document, Manifest.from_json(open(manifest, "rb").read(), manifest), 5.0)
"""
KILLS = 12


def run_traced(rule: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = ["strace", "-f", "-qq", "-o", "/dev/stdout", "-e", f"trace={KILLED_AT}", *rule.split()]
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(freezekit.__file__).parent.parent),
    }
    return subprocess.run(
        [*command, sys.executable, "-S", "-c", RESTORE, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("state", ["sound", "write-ahead", "damaged", "missing"])
def test_a_restore_killed_at_any_write_leaves_the_old_or_the_restored_document(
    migrations: Migrations, document: Path, tmp_path: Path, state: str
) -> None:
    """What is replaced is complete under its name before the document changes; the next restore succeeds."""
    backup = upgraded(migrations, document)
    {"sound": as_upgraded, "write-ahead": in_write_ahead_mode, "damaged": cut, "missing": Path.unlink}[state](document)
    (tmp_path / "manifest.json").write_text(migrations.manifest.to_json())
    start = tmp_path / "start"
    start.mkdir()
    for path in (document, backup):
        if path.exists():
            shutil.move(path, start)
    old, new = state_of(start / document.name), content(start / backup.name)

    def restored(rule: str, name: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
        home = Path(shutil.copytree(start, tmp_path / name))
        target = home / document.name
        return target, run_traced(rule, [str(tmp_path / "manifest.json"), str(home / backup.name), str(target)])

    _, whole = restored("", "whole")
    assert whole.returncode == 0, whole.stderr
    calls = re.findall(r"^\d+ +(\w+)\(", whole.stdout, re.MULTILINE)
    assert len(calls) > KILLS
    for number in {(len(calls) - 1) * step // (KILLS - 1) for step in range(KILLS)}:
        # strace counts each system call by itself.
        when = calls[: number + 1].count(calls[number])
        rule = f"-e inject={calls[number]}:signal=SIGKILL:when={when}"
        target, result = restored(rule, f"killed at {number}")
        assert result.returncode != 0
        kept = {str(state_of(path)) for path in target.parent.glob("*replaced.bak")}
        found = state_of(target)
        assert found in (old, new)
        assert kept <= {str(old)}
        assert found == old or old is None or kept == {str(old)}
        migrations.restore(target.parent / backup.name, target)
        assert state_of(target) == new
        assert not list(target.parent.glob(f"{target.name}*-*"))
