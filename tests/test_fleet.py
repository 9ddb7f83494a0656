"""Many databases: what becomes of each, whatever becomes of the others, and of the processes that do the work."""

from __future__ import annotations

import glob
import json
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from documents import shown
from histories import Project, compiling, project_in
from sample_data import RELEASES, ROOT, content, expected_head, pending, plain_upgrade
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import freezekit
from freezekit import FleetProgress, FleetReport, Migrations, Outcome, State, Tenant, errors, upgrade_many
from freezekit.cli import main
from freezekit.runtime.fleet.entries import Entry, entries
from freezekit.runtime.fleet.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = ["--migrations", "sample_app:migrations"]
# Dies in the worker, as if killed; how often is the content of a file beside the document, which counts down.
DYING = """
import os, pathlib, signal
lives = pathlib.Path(op.get_bind().exec_driver_sql("PRAGMA database_list").first()[2] + ".deaths")
if lives.exists():
    left = int(lives.read_text())
    lives.write_text(str(left - 1))
    if left > 0:
        op.execute("INSERT INTO t_a1 (x) VALUES ('half done')")
        os.kill(os.getpid(), signal.SIGKILL)
"""
ENDLESS = """
import os
path = op.get_bind().exec_driver_sql("PRAGMA database_list").first()[2]
if os.path.exists(path + ".endless"):
    open(path + ".begun", "w").close()
    op.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
"""


@pytest.fixture
def closing_later() -> Iterator[ExitStack]:
    """A stack that is unwound after the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def migrations() -> Migrations:
    return freezekit.locate("sample_app:migrations")


@pytest.fixture
def documents(tmp_path: Path) -> list[Path]:
    """Six old documents, two of each release."""
    copies = [tmp_path / f"{number} {release.name}" for number in range(2) for release in RELEASES]
    for copy in copies:
        shutil.copyfile(ROOT / "sample_app" / "releases" / copy.name.split()[1], copy)
    return copies


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path / "app") as one:
        one.table("a1")
        yield one


def old_files(project: Project, names: str) -> list[Path]:
    """Return files at the first revision of a project."""
    files = [project.root.parent / f"{name}.db" for name in names]
    for file in files:
        project.located().upgrade(file, "a1")
    return files


def copies(original: Path, count: int) -> list[Path]:
    """Return so many files beside one, each with its content."""
    files = [original.with_name(f"{number}.db") for number in range(count)]
    for file in files:
        shutil.copyfile(original, file)
    return files


def by_name(report: FleetReport) -> dict[str, Outcome]:
    return {Path(one.database).name: one for one in report}


def snapshot(*paths: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in paths}


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep a database locked, as a program does that is writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def test_each_document_ends_as_plain_alembic_would_end_it(
    migrations: Migrations, documents: list[Path], tmp_path: Path
) -> None:
    report = upgrade_many(documents, migrations, workers=2)
    assert (report.ok, report.counts["upgraded"], len(report)) == (True, 6, 6)
    for one in report:
        release = Path(one.database).name.split()[1]
        assert one.result == "upgraded"
        assert (one.state_before, one.heads, one.attempts) == (State.BEHIND, (expected_head,), 1)
        assert one.applied == pending(Path(release).stem)
        assert one.backup is not None
        assert content(Path(one.backup)) == content(ROOT / "sample_app" / "releases" / release)
        plain = plain_upgrade(ROOT / "sample_app" / "releases" / release, tmp_path / "plain.db")
        assert content(Path(one.database)) == content(plain)


def test_a_second_run_does_only_what_is_left(migrations: Migrations, documents: list[Path]) -> None:
    upgrade_many(documents[:4], migrations, workers=1, backup=None)
    report = upgrade_many(documents, migrations, workers=1, backup=None)
    assert report.counts == {"upgraded": 2, "current": 4, "failed": 0, "left": 0, "duplicate": 0}
    assert {one.database for one in report if one.result == "upgraded"} == set(map(str, documents[4:]))


def test_current_documents_need_no_alembic_and_no_process(migrations: Migrations, documents: list[Path]) -> None:
    """They are told by a look, in the process that asks."""
    upgrade_many(documents, migrations, backup=None)
    before = snapshot(*documents)
    script = f"""
import sys
import freezekit
started = []
sys.addaudithook(lambda event, arguments: started.append(event) if event in ("subprocess.Popen", "os.fork") else None)
report = freezekit.upgrade_many({str(documents[0].parent)!r} + "/*.notes", freezekit.locate("sample_app:migrations"))
assert report.counts["current"] == 6, report
assert not started and "alembic" not in sys.modules and "sqlalchemy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
    assert snapshot(*documents) == before


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


def test_the_largest_are_upgraded_first(project: Project) -> None:
    project.table("b2", "a1")
    files = old_files(project, "abcd")
    for file, pages in zip(files, (3, 40, 1, 20), strict=True):
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("CREATE TABLE more (x)")
            connection.execute("INSERT INTO more VALUES (zeroblob(?))", (pages * 4096,))
    report = upgrade_many(files, project.located(), workers=1)
    assert [Path(one.database).stem for one in report] == ["b", "d", "a", "c"]


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


@pytest.mark.parametrize("kind", ["Engine", "Connection", "AsyncEngine"])
def test_what_cannot_go_to_another_process_is_refused_with_what_to_give_instead(
    kind: str, migrations: Migrations, documents: list[Path], closing_later: ExitStack
) -> None:
    """Alone it is wrong usage, and nothing is done; among others it fails by itself. Its password is not told."""
    url = "postgresql+psycopg://me:secret@localhost/x"
    one: Any = create_async_engine(url) if kind == "AsyncEngine" else create_engine(url)
    if kind == "Connection":
        one = closing_later.enter_context(create_engine("sqlite://", poolclass=NullPool).connect())
    with pytest.raises(errors.UsageError, match=f"^{kind} cannot be given to another process.*: give its URL"):
        upgrade_many(one, migrations)
    report = upgrade_many([one, documents[0]], migrations, workers=1)
    (failed,) = report.failures
    assert (type(failed.error), report.counts["upgraded"]) == (errors.UsageError, 1)
    assert "secret" not in f"{failed.database} {failed.error}"


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


def test_a_locked_document_fails_after_its_time_alone(migrations: Migrations, documents: list[Path]) -> None:
    before = documents[0].read_bytes()
    with held(documents[0]):
        report = upgrade_many(documents, migrations, workers=2, timeout=0.2)
    (failed,) = report.failures
    assert (failed.database, type(failed.error)) == (str(documents[0]), errors.DatabaseInUse)
    assert report.counts["upgraded"] == 5
    assert documents[0].read_bytes() == before


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


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@h1:5432,h2:5433/db",
        "postgresql://u:se@cr:et@h:x/db",
        "no+such://u:secret@h/db",
        "no+such+one://u:secret",
        "no+such+one://h/db?password=secret",
    ],
)
def test_a_line_that_is_no_url_shows_no_password(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list").write_text(url)
    for given in ([url], ["--from-file", str(tmp_path / "list")], ["--url", url, "--url-query", "SELECT 1"]):
        assert main(["upgrade-many", *given, "--json", *HERE]) in (1, 2)
        said = "".join(capsys.readouterr())
        assert "secret" not in said
        assert "se@cr" not in said
        assert "UsageError" in said
    assert "secret" not in str(Tenant(url))


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
    assert (failed.database, type(failed.error)) == (str(tmp_path / "left.db"), errors.NotADatabase)
    assert report.counts["upgraded"] == 6
    assert "cannot be looked at" in (migrations.status(tmp_path / "left.db").reason or "")


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


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_killed_worker_loses_one_attempt_of_one_database(project: Project) -> None:
    """It is tried again once, and then reported; what the killed one began is undone; nobody else notices."""
    project.revision("b2", "a1", DYING)
    files = old_files(project, "abcdefgh")
    Path(f"{files[1]}.deaths").write_text("1")
    Path(f"{files[5]}.deaths").write_text("2")
    before = content(files[5])
    report = upgrade_many(files, project.located(), workers=2)
    found = by_name(report)
    assert (found["b.db"].result, found["b.db"].attempts) == ("upgraded", 2)
    lost = found["f.db"]
    assert (lost.result, lost.attempts, type(lost.error)) == ("failed", 2, errors.MigrationFailed)
    assert "signal 9" in str(lost.error)
    assert lost.error is not None
    assert vars(lost.error)["restored"] is True
    assert content(files[5]) == before
    assert report.counts["upgraded"] == 7
    assert {one.attempts for name, one in found.items() if name not in {"b.db", "f.db"}} == {1}
    assert upgrade_many(files, project.located()).counts["upgraded"] == 1


def test_what_a_killed_worker_had_not_begun_counts_as_no_attempt(project: Project) -> None:
    """Small documents are handed over some at once; the next worker gets them."""
    project.revision("b2", "a1", DYING)
    files = copies(*old_files(project, "a"), 60)
    for file in files[10::20]:
        Path(f"{file}.deaths").write_text("1")
    report = upgrade_many(files, project.located(), workers=1)
    assert report.counts["upgraded"] == 60
    assert [one.database for one in report if one.attempts != 1] == [str(file) for file in files[10::20]]
    assert {one.attempts for one in report} == {1, 2}


def test_cancelling_rolls_back_what_runs_and_names_the_rest(project: Project) -> None:
    """Also a statement that never ends; what was left is exactly as it was."""
    project.revision("b2", "a1", ENDLESS)
    files = old_files(project, "abcdefgh")
    for file in files[2:4]:
        Path(f"{file}.endless").touch()
    before = content(files[2])
    enough = threading.Event()

    def both_run() -> bool:
        if all(Path(f"{file}.begun").exists() for file in files[2:4]):
            enough.set()
        return enough.is_set()

    report = upgrade_many(files, project.located(), workers=2, cancel=both_run)
    found = by_name(report)
    assert {name: one.result for name, one in found.items()} == {
        f"{name}.db": "upgraded" if name in "ab" else "left" for name in "abcdefgh"
    }
    assert all(isinstance(found[f"{name}.db"].error, errors.UpgradeCancelled) for name in "cdefgh")
    assert content(files[2]) == before
    for file in files[2:4]:
        Path(f"{file}.endless").unlink()
    assert upgrade_many(files, project.located()).counts == {
        "upgraded": 6, "current": 2, "failed": 0, "left": 0, "duplicate": 0
    }  # fmt: skip


def test_cancelling_is_heard_while_answers_come(project: Project) -> None:
    """What is handed out, but not begun, is left."""
    project.revision("b2", "a1", "import time; time.sleep(0.1)")
    files = copies(*old_files(project, "a"), 30)
    enough = threading.Event()
    report = upgrade_many(files, project.located(), workers=2, cancel=enough, on_progress=lambda _one: enough.set())
    assert report.counts["left"] > 20
    assert report.counts["upgraded"] + report.counts["left"] == 30


def test_ctrl_c_while_files_are_looked_at_tells_each_once(migrations: Migrations, documents: list[Path]) -> None:
    upgrade_many(documents[:1], migrations, backup=None)
    files = copies(documents[0], 1600)
    told: list[str] = []

    def interrupted(progress: FleetProgress) -> None:
        told.append(progress.outcome.database)
        if progress.done == 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade_many(files, migrations, workers=2, on_progress=interrupted)
    assert sorted(told) == sorted(map(str, files))


@pytest.fixture
def without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a frozen program that was built without the hooks: it cannot start itself as a worker."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)


@pytest.mark.usefixtures("without_workers")
def test_a_program_that_cannot_start_itself_does_the_work_itself(project: Project) -> None:
    """And a statement that never ends is cancelled all the same."""
    project.revision("b2", "a1", ENDLESS)
    files, located = old_files(project, "abc"), project.located()
    Path(f"{files[1]}.endless").touch()
    report = upgrade_many(files, located, cancel=Path(f"{files[1]}.begun").exists)
    assert {name: one.result for name, one in by_name(report).items()} == {
        "a.db": "upgraded",
        "b.db": "left",
        "c.db": "left",
    }


@pytest.mark.usefixtures("without_workers")
def test_ctrl_c_ends_a_program_that_does_the_work_itself_in_order(project: Project) -> None:
    """What ran is rolled back and not begun again; the rest is told as left before the interrupt goes on."""
    body = f"import os; os.mkdir({str(project.root.parent / 'begun')!r}); raise KeyboardInterrupt"
    project.revision("b2", "a1", body)
    files, located = old_files(project, "abc"), project.located()
    before, told = content(files[0]), []
    with pytest.raises(KeyboardInterrupt):
        upgrade_many(files, located, on_progress=told.append)
    assert [one.outcome.result for one in told] == ["left"] * 3
    assert content(files[0]) == before


def test_what_the_callers_function_raises_ends_the_run_in_order(migrations: Migrations, documents: list[Path]) -> None:
    def full(_progress: FleetProgress) -> None:
        raise OSError("no room for the list")

    with pytest.raises(OSError, match="no room"):
        upgrade_many(documents, migrations, workers=1, on_progress=full)
    assert upgrade_many(documents, migrations).ok


def test_what_the_callers_list_raises_ends_the_run_in_order(migrations: Migrations, documents: list[Path]) -> None:
    def broken() -> Iterator[Path]:
        yield from documents
        raise OSError("the list is gone")

    told: list[FleetProgress] = []
    with pytest.raises(OSError, match="list is gone"):
        upgrade_many(broken(), migrations, workers=1, on_progress=told.append)
    assert sorted(one.outcome.database for one in told) == sorted(map(str, documents))
    assert upgrade_many(documents, migrations).ok


def test_progress_counts_every_database_once(migrations: Migrations, documents: list[Path]) -> None:
    told: list[FleetProgress] = []
    report = upgrade_many([*documents, "absent"], migrations, on_progress=told.append)
    assert [one.done for one in told] == list(range(1, 8))
    assert [one.total for one in told] == [None, *[7] * 6]
    assert [one.outcome.result for one in told] == ["failed", *["upgraded"] * 6]
    assert [one.outcome.database for one in told] == [one.database for one in report]


def test_the_rest_is_left_after_so_many_failures(project: Project) -> None:
    project.revision("b2", "a1", "raise ValueError('never')")
    files = old_files(project, "abcdefgh")
    before = {file: content(file) for file in files}
    report = upgrade_many(files, project.located(), workers=1, stop_after_failures=2)
    assert 2 <= report.counts["failed"] <= 4  # what was handed out already is finished
    assert report.counts["failed"] + report.counts["left"] == 8
    assert {file: content(file) for file in files} == before


class _Handing(Executor):
    """Hands everything on, and does not say to how many workers, as the executor of a cluster."""

    def __init__(self, workers: Executor) -> None:
        self._workers = workers

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self._workers.submit(fn, *args, **kwargs)


def test_what_an_executor_has_not_begun_is_left_after_so_many_failures(project: Project) -> None:
    project.revision("b2", "a1", "raise ValueError('never')")
    files = copies(*old_files(project, "a"), 60)
    with ThreadPoolExecutor(1) as threads:
        crew = _Handing(threads)
        report = upgrade_many(files, project.located(), executor=crew, stop_after_failures=2)
    assert 2 <= report.counts["failed"] <= 10
    assert report.counts["failed"] + report.counts["left"] == 60


def _threads() -> Executor:
    return ThreadPoolExecutor(2)


def _processes() -> Executor:
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


@pytest.mark.parametrize("executor", [_threads, _processes], ids=["threads", "processes"])
def test_any_executor_does_the_work(executor: Any, migrations: Migrations, documents: list[Path]) -> None:
    with executor() as crew:
        report = upgrade_many([*documents, "absent"], migrations, executor=crew)
        assert report.counts == {"upgraded": 6, "current": 0, "failed": 1, "left": 0, "duplicate": 0}
        assert upgrade_many(documents, migrations, executor=crew).counts["current"] == 6


def test_a_cluster_does_the_work(migrations: Migrations, documents: list[Path]) -> None:
    """The executor of a real dask cluster: a scheduler and two worker processes."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    names = {"freezekit": freezekit, "paths": [*documents, "absent"], "migrations": migrations}
    with distributed.LocalCluster(**options) as cluster:
        # The example of docs/fleets.md.
        exec(shown("docs/fleets.md", "from dask", at=f"tcp://scheduler:8786=>{cluster.scheduler_address}"), names)
        report = names["report"]
        assert report.counts == {"upgraded": 6, "current": 0, "failed": 1, "left": 0, "duplicate": 0}
        assert {one.attempts for one in report if one.result == "upgraded"} == {1}


def test_processes_of_mpi_do_the_work(documents: list[Path], tmp_path: Path) -> None:
    """The example of docs/fleets.md, with a real MPI."""
    pytest.importorskip("mpi4py")
    programs = Path(sys.executable).parent
    if not (programs / "mpiexec").exists():
        pytest.skip("no MPI is installed beside this Python")
    script = shown("docs/fleets.md", "import sys", at="myapp:migrations=>sample_app:migrations")
    (tmp_path / "upgrade_all.py").write_text(script)
    folder = tmp_path / "notes"
    folder.mkdir()
    for document in documents:
        document.rename(folder / document.name)
    (folder / "broken.notes").write_text("no database")
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = ["bash", "-c", shown("docs/fleets.md", "mpiexec")]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (result.returncode, result.stderr) == (0, "")
    counts = {"upgraded": 6, "current": 0, "failed": 1, "left": 0, "duplicate": 0}
    assert result.stdout.strip() == str(counts)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_an_executor_that_breaks_fails_what_it_had(project: Project) -> None:
    """A pool of the standard library takes nothing more once one of its workers was killed: each is named."""
    project.revision("b2", "a1", DYING)
    files = old_files(project, "abcd")
    Path(f"{files[0]}.deaths").write_text("9")
    with _processes() as executor:
        report = upgrade_many(files, project.located(), executor=executor)
    assert report.counts["failed"] + report.counts["upgraded"] == 4
    assert {type(one.error) for one in report.failures} == {errors.MigrationFailed}
    assert by_name(report)["a.db"].result == "failed"
    Path(f"{files[0]}.deaths").unlink()
    assert upgrade_many(files, project.located()).ok


def test_a_worker_with_other_scripts_changes_nothing(project: Project) -> None:
    """A worker that finds other scripts than the program that gave it the task refuses by name."""
    project.table("b2", "a1")
    files, located = old_files(project, "ab"), project.located()
    assert located.heads == ("b2",)
    project.table("c3", "b2")
    before = snapshot(*files)
    report = upgrade_many(files, located, workers=1)
    assert {type(one.error) for one in report} == {errors.InvalidMigrations}
    assert snapshot(*files) == before


@pytest.mark.parametrize(
    "numbers",
    [
        {"workers": 0},
        {"max_connections": 2},
        {"stop_after_failures": 0},
        {"workers": 1, "executor": ThreadPoolExecutor()},
    ],
    ids="+".join,
)
def test_wrong_numbers_are_refused_before_anything_is_read(numbers: dict[str, Any], migrations: Migrations) -> None:
    with pytest.raises(freezekit.UsageError):
        upgrade_many((pytest.fail("was read") for _ in range(1)), migrations, **numbers)


def test_scripts_that_cannot_be_used_are_said_before_anything_is_read(project: Project) -> None:
    project.write("migrations/versions/broken.py", "revision = = 1")
    with pytest.raises(freezekit.InvalidMigrations):
        upgrade_many((pytest.fail("was read") for _ in range(1)), project.located())


def test_a_program_without_a_guard_around_its_main_part_is_no_worker(documents: list[Path], tmp_path: Path) -> None:
    """A worker does not run the main module again, prints nothing into its answers, and ends with its parent."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import freezekit\n"
        f"open({str(tmp_path / 'starts')!r}, 'a').write('x')\n"
        f"report = freezekit.upgrade_many({[str(one) for one in documents]!r},"
        " freezekit.locate('sample_app:migrations'), workers=2)\n"
        "print(report.counts['upgraded'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "6\n", "")
    assert (tmp_path / "starts").read_text() == "x"


def test_what_scripts_print_does_not_disturb_the_answers(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    project.revision("b2", "a1", "import os; print('printed'); os.write(1, b'written'); os.system('echo echoed')")
    files = old_files(project, "ab")
    with compiling(False):
        assert upgrade_many(files, project.located(), workers=1).counts["upgraded"] == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("written") == err.count("echoed") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have names elsewhere")
def test_a_worker_variable_set_by_anybody_else_changes_nothing() -> None:
    """A process is a worker only if the variable names the pipe that is its input."""
    script = "from freezekit.runtime.fleet.serve import serve; serve(); print('as ever')"
    environment = {**os.environ, "FREEZEKIT_WORKER": "1:2"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, input=b"", capture_output=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"as ever\n")


def test_a_report_takes_no_memory_to_speak_of() -> None:
    """Outcomes and entries go to a private file as they become many."""
    tracemalloc.start()
    try:
        ledger = Ledger()
        for number in range(30_000):
            assert ledger.first_of(f"1:{number}", f"a document with quite a long name {number}.notes") is None
            ledger.put(number, ("a document with quite a long name", number))
            ledger.add(Outcome(f"a document with quite a long name {number}.notes", "current", State.CURRENT))
        report = FleetReport(ledger, 1.0)
        assert sum(1 for one in report if one.result == "current") == len(report) == 30_000
        assert next(iter(ledger.taken())) == ("a document with quite a long name", 29_999)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


EXAMPLES = [
    errors.MigrationsNotFound("a:b", ["x"], "source"),
    errors.InvalidMigrations("a", ["one", "two"]),
    errors.DatabaseAhead("a", ("1",), ("2",)),
    errors.DatabaseUnversioned("a", ("t",), ("1", "2")),
    errors.NotADatabase("a", "reason"),
    errors.ForeignDatabase("a", "reason"),
    errors.DatabaseInUse("a", 1.5),
    errors.MigrationFailed("a", "reason", applied=("1",), failed="2", pending=("3",), restored=False),
    errors.UpgradeCancelled("a", applied=("1",), restored=False),
    errors.EnvironmentIgnoredDatabase("a", ["b"]),
    errors.UnreadableBundle("a", "reason"),
    errors.SmokeTestFailed("phase", 1, "output"),
    errors.UsageError("wrong"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_goes_to_another_process_and_says_the_same(error: freezekit.FreezekitError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


class TestCommandLine:
    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def test_each_database_is_a_line_of_json(self, documents: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
        """They are printed as they are finished; the last line is a summary."""
        assert main(["upgrade-many", *map(str, documents), "absent", "--json", *HERE]) == 1
        *found, last = self.lines(capsys)
        assert {one["result"] for one in found} == {"upgraded", "failed"}
        assert all(one["version"] == 1 and one["command"] == "upgrade-many" for one in (*found, last))
        (failed,) = (one for one in found if one["error"])
        assert (failed["database"], failed["error"]["type"]) == ("absent", "NotADatabase")
        upgraded = next(one for one in found if one["database"] == str(documents[0]))
        assert upgraded["applied"] == list(pending("1.0"))
        assert upgraded["backup"].endswith(".bak")
        assert last["summary"].items() >= {"upgraded": 6, "failed": 1, "left": 0}.items()

    def test_all_lines_go_to_a_file_if_one_is_named(
        self, documents: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A step of an installer has no standard output to read them from."""
        answer = tmp_path / "answer.jsonl"
        assert main(["upgrade-many", *map(str, documents), "--json", "--output", str(answer), *HERE]) == 0
        *found, last = map(json.loads, answer.read_text(encoding="utf-8").splitlines())
        assert {one["database"] for one in found} == set(map(str, documents))
        assert last["summary"]["upgraded"] == 6
        assert capsys.readouterr().out == ""

    def test_a_person_gets_a_summary_and_what_failed(
        self, documents: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["upgrade-many", f"{documents[0].parent}/*.notes", *HERE]) == 0
        assert "6 databases" in capsys.readouterr().out
        assert main(["upgrade-many", f"{documents[0].parent}/*.notes", *map(str, range(30)), *HERE]) == 1
        said = capsys.readouterr().out
        assert "6 current, 30 failed" in said
        assert "there is no such file" in said
        assert "and 10 more" in said

    def test_the_rest_is_left_after_as_many_failures_as_are_named(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project.revision("b2", "a1", "raise ValueError('never')")
        command = ["upgrade-many", *map(str, old_files(project, "abcdefgh")), "--workers", "1", "--json"]
        command += ["--migrations", str(project.migrations)]
        assert main([*command, "--stop-after-failures", "2"]) == 1
        summary = self.lines(capsys)[-1]["summary"]
        assert 2 <= summary["failed"] <= 4  # what was handed out already is finished
        assert summary["left"] == 8 - summary["failed"]
        assert main(command) == 1
        assert self.lines(capsys)[-1]["summary"]["failed"] == 8

    def test_a_list_may_hold_nonsense(
        self, documents: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every line is a name or is reported; a name that is no text is a name."""
        odd = tmp_path / os.fsdecode(b"\xff\xfe odd.notes")
        documents[0].rename(odd)
        listed = tmp_path / "list"
        content_of = [*(os.fsencode(one) for one in (odd, *documents[1:])), b"", b"# no such file", b"\x00\x01", b"://"]
        listed.write_bytes(b"\n".join(content_of))
        assert main(["upgrade-many", "--from-file", str(listed), "--json", *HERE]) == 1
        *found, last = self.lines(capsys)
        assert (len(found), last["summary"]["left"]) == (9, 0)
        names = {one["database"]: one for one in found}
        assert {name for name, one in names.items() if one["error"]} == {"# no such file", "\x00\x01", "://"}
        assert names[str(odd)]["applied"]

    def test_a_line_of_a_list_is_no_pattern(
        self, documents: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A file that is gone by now must not stand for another one."""
        documents[0].rename(tmp_path / "gone1.db")
        (tmp_path / "list").write_text(f"{tmp_path}/gone[1].db\n")
        before = (tmp_path / "gone1.db").read_bytes()
        assert main(["upgrade-many", "--from-file", str(tmp_path / "list"), *HERE]) == 1
        assert "no such file" in capsys.readouterr().out
        assert (tmp_path / "gone1.db").read_bytes() == before

    def test_an_error_of_the_command_itself_is_one_line_too(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments in (["--from-file", str(tmp_path / "absent")], ["--no-such-option"], []):
            assert main(["upgrade-many", *arguments, "--json", *HERE]) != 0
            (only,) = self.lines(capsys)
            assert only["error"]["type"] in ("FileNotFoundError", "UsageError")

    def test_a_list_is_read_from_standard_input(self, documents: list[Path]) -> None:
        command = [sys.executable, "-m", "freezekit", "upgrade-many", "--from-file", "-", *HERE]
        names = "\n".join(map(str, documents))
        done = subprocess.run(command, input=names, capture_output=True, text=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "6 upgraded" in done.stdout

    def test_a_query_names_the_databases(
        self, documents: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        control = tmp_path / "control.db"
        with closing(sqlite3.connect(control)) as connection, connection:
            connection.execute("CREATE TABLE customer (url)")
            connection.executemany("INSERT INTO customer VALUES (?)", [(f"sqlite:///{one}",) for one in documents])
        query = ["--url", f"sqlite:///{control}", "--url-query", "SELECT url FROM customer"]
        assert main(["upgrade-many", *query, *HERE]) == 0
        assert "6 upgraded" in capsys.readouterr().out
        assert main(["upgrade-many", *query[:3], "SELECT 1", *HERE]) == 2
        assert "one column" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments",
        [[], ["--url", "sqlite:///x"], ["--url-query", "SELECT 1"], ["x", "--no-backup", "--keep", "2"]],
        ids=["nothing", "no query", "no url", "two minds"],
    )
    def test_wrong_usage_is_told(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["upgrade-many", *arguments, *HERE]) == 2
        assert capsys.readouterr().err

    @pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
    def test_ctrl_c_rolls_back_and_lists_the_rest(self, project: Project) -> None:
        project.revision("b2", "a1", ENDLESS)
        files = old_files(project, "abcd")
        for file in files:
            Path(f"{file}.endless").touch()
        before = {file: content(file) for file in files}
        listening = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from freezekit.cli import main; sys.exit(main())"
        )
        command = [sys.executable, "-c", listening, "upgrade-many", *map(str, files), "--json", "--workers", "1"]
        command += ["--migrations", str(project.migrations)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            while not Path(f"{files[0]}.begun").exists():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        *found, last = map(json.loads, out.splitlines())
        assert process.returncode == 1
        assert [one["result"] for one in found] == ["left"] * 4
        assert last["summary"]["left"] == 4
        assert {file: content(file) for file in files} == before


def test_a_tenant_names_itself_without_its_password() -> None:
    assert str(Tenant("postgresql://me:secret@host/db", "one")) == "postgresql://me:***@host/db schema one"
    assert str(Tenant("postgresql://host/db?password=secret&sslmode=require")) == "postgresql://host/db?sslmode=require"
    report = upgrade_many(
        Tenant("postgresql+asyncpg://me:secret@host/db", "one"), freezekit.locate("sample_app:migrations")
    )
    (failed,) = report
    assert isinstance(failed.error, freezekit.UsageError)
    assert "secret" not in f"{failed!r} {failed.error}"
