"""What a fleet is made of: names, patterns, links, tenants, and what is none of these."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import sqlite3
import tempfile
import tracemalloc
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleets import by_name, old_files, snapshot
from sample_data import RELEASES

import freezekit
from freezekit import FleetProgress, Migrations, Tenant, errors, upgrade_many
from freezekit.runtime.fleet.entries import Entry, entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histories import Project


def test_the_entries_are_read_only_as_far_as_needed(migrations: Migrations, documents: list[Path]) -> None:
    """A list that never ends is no reason to begin late: it is read in small parts, and stops when the run does."""
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield str(documents[0].parent / f"absent {read}.notes")

    class Enough(Exception):
        pass

    def enough(progress: FleetProgress) -> None:
        assert progress.total is None
        if progress.done == 1000:
            raise Enough

    entries = endless()
    with pytest.raises(Enough):
        upgrade_many((next(entries) for _ in range(1500)), migrations, on_progress=enough)
    assert read == 1500
    with pytest.raises(Enough):
        upgrade_many((str(one) for one in [*documents, *map(str, range(1000))]), migrations, on_progress=enough)


def _folder(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("no database at all, but longer than a header of SQLite, which has a hundred bytes of its own")


def _damaged(path: Path) -> None:
    path.write_bytes(RELEASES[0].read_bytes()[:5000])


def _newer(path: Path) -> None:
    shutil.copyfile(RELEASES[2], path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")


def _unversioned(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _endless_link(path: Path) -> None:
    path.symlink_to(path)


BAD = {
    "folder": (_folder, errors.NotADatabase),
    "text": (_text, errors.NotADatabase),
    "damaged": (_damaged, errors.NotADatabase),
    "newer": (_newer, errors.DatabaseAhead),
    "unversioned": (_unversioned, errors.DatabaseUnversioned),
    "absent": (lambda _path: None, errors.NotADatabase),
    "fifo": (os.mkfifo, errors.NotADatabase),
    "dangling link": (_dangling_link, errors.NotADatabase),
    "endless link": (_endless_link, errors.NotADatabase),
}
NONSENSE: dict[Any, type[Exception]] = {
    None: errors.UsageError,
    5: errors.UsageError,
    "": errors.UsageError,
    "a\0b": errors.UsageError,
    "nodialect://x": errors.UsageError,
    "/no\0where/[ab].db": errors.UsageError,
    "*.nothing": errors.UsageError,
    b"bytes": errors.UsageError,
}


def test_what_cannot_be_upgraded_is_named_and_left_alone(
    migrations: Migrations, documents: list[Path], tmp_path: Path
) -> None:
    """Bad entries fail one by one, each with the error that upgrade has for it, and keep nobody from the rest."""
    for name, (make, _) in BAD.items():
        make(tmp_path / name)
    files = [tmp_path / name for name in BAD if (tmp_path / name).is_file()]
    before = snapshot(*files)
    report = upgrade_many([*(tmp_path / name for name in BAD), *NONSENSE, *documents], migrations, workers=1)
    found = by_name(report)
    assert {name: type(found[name].error) for name in BAD} == {name: kind for name, (_, kind) in BAD.items()}
    assert all(str(tmp_path / name) in str(found[name].error) for name in BAD)
    failed = {one.database: type(one.error) for one in report.failures}
    assert {one: failed[str(one)] for one in NONSENSE} == NONSENSE
    assert report.counts == {"upgraded": 6, "current": 0, "failed": len(BAD) + len(NONSENSE), "left": 0, "duplicate": 0}
    assert not report.ok
    assert snapshot(*files) == before
    assert not (tmp_path / "absent").exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_cannot_be_read_is_named(migrations: Migrations, documents: list[Path]) -> None:
    documents[0].chmod(0)
    if os.access(documents[0], os.R_OK):
        pytest.skip("root can read whatever the permissions say")
    found = by_name(upgrade_many(documents, migrations, workers=1))
    error = found[documents[0].name].error
    assert isinstance(error, errors.NotADatabase)
    assert "Permission denied" in error.reason
    assert [one.result for name, one in found.items() if name != documents[0].name] == ["upgraded"] * 5


@pytest.mark.parametrize("one", [5, None, object()], ids=["number", "None", "object"])
def test_neither_a_database_nor_several_is_wrong_usage(one: Any, migrations: Migrations) -> None:
    with pytest.raises(errors.UsageError, match="is no database of a fleet: give a path"):
        upgrade_many(one, migrations)


def test_equal_tenants_have_one_hash_whatever_env_py_gets_for_them() -> None:
    """So that they can be in a set, and be the keys of what a program knows about each."""
    url = "postgresql://localhost/x"
    one, same, other = (Tenant(url, "a", {"name": given}) for given in ("1", "1", ["2"]))
    assert len({one, same, other, Tenant(url, "b"), Tenant(url)}) == 4
    assert {one: "known"}[same] == "known"


def test_the_file_of_another_application_is_named_and_left_alone(project: Project) -> None:
    project.write("pyproject.toml", '[tool.freezekit]\nscript_location = "migrations"\napplication_id = 4711\n')
    project.table("b2", "a1")
    files = old_files(project, "ab")
    with closing(sqlite3.connect(files[0])) as connection:
        connection.execute("PRAGMA application_id = 77")
    before = files[0].read_bytes()
    found = by_name(upgrade_many(files, project.located()))
    assert (found["b.db"].result, type(found["a.db"].error)) == ("upgraded", errors.ForeignDatabase)
    assert files[0].read_bytes() == before


def test_one_file_by_several_names_is_upgraded_once(
    migrations: Migrations, documents: list[Path], tmp_path: Path
) -> None:
    hard, soft = tmp_path / "hard", tmp_path / "soft"
    os.link(documents[0], hard)
    soft.symlink_to(documents[0])
    names = [documents[0], hard, soft, str(documents[0]), f"{tmp_path}/../{tmp_path.name}/{documents[0].name}"]
    report = upgrade_many([*names, f"sqlite:///{documents[0]}"], migrations)
    assert report.counts == {"upgraded": 1, "current": 0, "failed": 0, "left": 0, "duplicate": 5}
    assert {one.same_as for one in report if one.result == "duplicate"} == {str(documents[0])}
    assert report.ok


def test_a_file_that_took_the_number_of_another_is_no_duplicate(project: Project) -> None:
    """Programs that save through a temporary file give numbers free, and file systems give them out again."""
    project.table("b2", "a1")
    files = old_files(project, "ab")

    def saved_meanwhile() -> Iterator[Path]:
        yield from [files[0], *(Path(f"absent {number}") for number in range(300))]
        files[0].replace(files[1])
        os.utime(files[1], ns=(1, 1))
        yield files[1]

    found = by_name(upgrade_many(saved_meanwhile(), project.located(), workers=1))
    assert (found["b.db"].result, found["a.db"].result) == ("upgraded", "failed")


def test_a_file_that_is_gone_by_the_time_of_its_upgrade_is_not_made_anew(project: Project) -> None:
    """Whoever renamed it has it, and an empty one in its place would pass for the document."""
    project.table("b2", "a1")
    files = old_files(project, "abc")
    with closing(sqlite3.connect(files[0])) as connection, connection:
        connection.execute("CREATE TABLE more AS SELECT zeroblob(100000)")  # it is upgraded first

    def move(progress: FleetProgress) -> None:
        if progress.done == 1:
            files[2].rename(f"{files[2]}.moved")

    # With that limit only few are handed out ahead, so the last one is still to come.
    report = upgrade_many(files, project.located(), workers=1, on_progress=move, stop_after_failures=9)
    (failed,) = report.failures
    assert (failed.database, type(failed.error), files[2].exists()) == (str(files[2]), errors.NotADatabase, False)
    assert "no such file" in str(failed.error)
    assert report.counts["upgraded"] == 2


def test_the_file_of_a_tenant_may_have_any_name(project: Project) -> None:
    project.table("b2", "a1")
    (old,) = old_files(project, "a")
    odd = old.rename(old.with_name(os.fsdecode(b"what now? 100% \xff")))
    (one,) = upgrade_many([Tenant(os.fspath(odd), None, {"name": "x"})], project.located(), workers=1)
    assert (one.database, one.result) == (str(odd), "upgraded")


@pytest.mark.parametrize("name", ["sqlite:///{0}", "sqlite+pysqlite:///{0}", "{0}"])
def test_a_tenant_with_a_file_is_that_file(name: str, project: Project, documents: list[Path]) -> None:
    """It is looked at, upgraded once, and not created."""
    project.table("b2", "a1")
    (old,) = old_files(project, "a")
    absent = documents[0].with_name("absent.db")
    given = [Tenant(name.format(one), None, {"name": "x"}) for one in (old, absent)]
    report = upgrade_many([old, *given, Tenant(name.format(absent))], project.located(), workers=1)
    assert [one.result for one in report if one.database == str(old)].count("upgraded") == 1
    assert report.counts == {"upgraded": 1, "current": 0, "failed": 2, "left": 0, "duplicate": 1}
    assert not absent.exists()


def test_what_cannot_be_looked_at_fails_alone(
    migrations: Migrations, documents: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that was left within a transaction is looked at in a copy, for which there may be no room."""
    with closing(sqlite3.connect(documents[0], isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_spill = 1")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 9999) SELECT x FROM n"
        connection.execute(f"CREATE TABLE more AS {rows}")
        for end in ("", "-journal"):
            shutil.copyfile(f"{documents[0]}{end}", tmp_path / f"left.db{end}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    report = upgrade_many([tmp_path / "left.db", *documents], migrations, workers=1)
    (failed,) = report.failures
    assert (failed.database, type(failed.error)) == (str(tmp_path / "left.db"), errors.MigrationFailed)
    assert report.counts["upgraded"] == 6
    with pytest.raises(errors.MigrationFailed, match=r"^The reading of .*left\.db failed: it cannot be looked at"):
        migrations.status(tmp_path / "left.db")


def test_a_lack_of_handles_is_no_fault_of_a_document(migrations: Migrations, documents: list[Path]) -> None:
    """A sound document must not be called another program's, nor be replaced by a backup."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    report = upgrade_many(documents[1:], migrations, workers=1)
    backup = next(one.backup for one in report if one.backup)
    migrations.restore(backup, documents[1])  # modules are files, too
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 1, hard))
        with suppress(OSError):
            while True:
                stack.enter_context(open(os.devnull))
        for action in (migrations.status, migrations.upgrade, lambda one: migrations.restore(backup, one)):
            with pytest.raises(errors.MigrationFailed, match="Too many open files") as caught:
                action(documents[0])
            assert "restore a backup" not in str(caught.value)
    assert migrations.upgrade(documents[0]).applied


def test_patterns_take_no_backups_and_nothing_that_belongs_to_a_database(
    migrations: Migrations, documents: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.move(documents[0], tmp_path / "deep" / "er")
    first = upgrade_many(f"{tmp_path}/**/*.notes", migrations)
    assert first.counts["upgraded"] == 6
    for suffix in ("-wal", "-journal", "-shm"):
        Path(f"{documents[1]}{suffix}").touch()
    files = [str(path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(name.endswith(".bak") for name in files) == 6
    assert len(upgrade_many(f"{tmp_path}/**/*.*", migrations)) == 6
    backups = upgrade_many(f"{tmp_path}/*.bak", migrations, backup=None)
    assert backups.counts["upgraded"] == 5


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*.db",
        ".*",
        "?.db",
        "[ab].d?",
        "*/*.db",
        "**/*.db",
        "**/*",
        "**",
        "**/s*/*.db",
        "**/**/*",
        "s*/**/*.db",
        "sub/*",
        "*/c.db",
        "no/*",
        "a.db/*",
    ],
)
@pytest.mark.parametrize("prefix", ["", "{here}/", "{here}/../{name}/"], ids=["relative", "absolute", "with dots"])
def test_a_pattern_matches_what_glob_says(
    prefix: str, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("a.db", "b.db", ".hidden.db", "sub/c.db", "sub/.d.db", "sub/deep/e.db", ".secret/f.db", "other/x"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "led").symlink_to(tmp_path / "sub", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    whole = prefix.format(here=tmp_path, name=tmp_path.name) + pattern
    found = [one.name if isinstance(one, Entry) else one[0] for one in entries(whole)]
    assert sorted(found) == sorted(glob.glob(whole, recursive=True) or [whole])


def test_folders_that_lead_to_themselves_are_looked_into_once(migrations: Migrations, documents: list[Path]) -> None:
    """By two links, bash and find end; glob of Python does not, in any time that somebody would wait."""
    folder = documents[0].parent / "below"
    folder.mkdir()
    documents[0].rename(folder / "a.notes")
    for link, target in (("up", ".."), ("self", "."), ("round", "../below")):
        (folder / link).symlink_to(target, target_is_directory=True)
    report = upgrade_many(f"{documents[0].parent}/**/*.notes", migrations, workers=1)
    assert (len(report), report.counts["upgraded"]) == (6, 6)
    assert upgrade_many(f"{documents[0].parent}/**", migrations, workers=1).counts["current"] == 6


@pytest.mark.parametrize("pattern", ["**/*.notes", "*/*.notes", "**/deep/*.notes", "closed/*.notes", "**/a.notes"])
def test_a_folder_that_cannot_be_looked_into_is_named(
    pattern: str, migrations: Migrations, documents: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, as a failure: what lies there may be old."""
    closed = documents[0].parent / "closed"
    closed.mkdir()
    shutil.copy(documents[0], closed)
    look_into = os.scandir

    def refused(path: str) -> Any:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return look_into(path)

    monkeypatch.setattr(os, "scandir", refused)
    report = upgrade_many(documents[0].parent / pattern, migrations, workers=1)
    failed = [(Path(one.database), type(one.error)) for one in report.failures]
    assert failed == [(closed, errors.NotADatabase)]
    assert "cannot be looked into (Permission denied)" in str(next(report.failures).error)


@pytest.mark.parametrize("pattern", ["{here}/*.notes", "*.notes", "**/*.notes"])
def test_a_pattern_keeps_no_names_of_a_large_folder(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20_000):
        (tmp_path / f"a document with quite a long name {number}.notes").touch()
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        assert sum(isinstance(one, Entry) for one in entries(pattern.format(here=tmp_path))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_a_file_named_like_a_pattern_is_meant_itself(migrations: Migrations, documents: list[Path]) -> None:
    odd = documents[0].parent / "[12]*.notes"
    documents[0].rename(odd)
    (one,) = upgrade_many(odd, migrations)
    assert (one.database, one.result) == (str(odd), "upgraded")


def test_a_tenant_names_itself_without_its_password() -> None:
    assert str(Tenant("postgresql://me:secret@host/db", "one")) == "postgresql://me:***@host/db schema one"
    assert str(Tenant("postgresql://host/db?password=secret&sslmode=require")) == "postgresql://host/db?sslmode=require"
    for query in ("PWD=secret&driver=x", "odbc_connect=UID%3Dsa%3BPWD%3Dsecret&driver=x"):
        assert str(Tenant(f"mssql+pyodbc://host/db?{query}")) == "mssql+pyodbc://host/db?driver=x"
    report = upgrade_many(
        Tenant("postgresql+asyncpg://me:secret@host/db", "one"), freezekit.locate("sample_app:migrations")
    )
    (failed,) = report
    assert isinstance(failed.error, freezekit.UsageError)
    assert "secret" not in f"{failed!r} {failed.error}"
