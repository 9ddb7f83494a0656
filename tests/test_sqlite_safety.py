"""What an upgrade of an SQLite file does beside running revisions: its checks, its copies, who hears of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from histories import Project, dump
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

import freezekit
from freezekit import Backup, State
from freezekit.runtime import guard, sqlite_upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from freezekit.runtime.reports import Progress

LISTENER = """
from alembic import context
from sqlalchemy import create_engine, event, pool

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)


@event.listens_for(engine, "connect")
def connected(raw, _record):
    raw.execute("PRAGMA {setting}")


with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
VACUUMS = {
    "plain": "op.execute('VACUUM')",
    "in a block": "with op.get_context().autocommit_block():\n    op.execute('VACUUM')",
    "of a larger page": "op.execute('PRAGMA page_size = 8192')\nop.execute('VACUUM')",
    "hidden from the build": "op.execute('VAC' + 'UUM')",
    "in a raw cursor": "op.get_bind().connection.cursor().execute('VACUUM')",
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project").line()


@pytest.fixture
def old(project: Project, tmp_path: Path) -> Path:
    """A document at the second of the three revisions, with children of the table the third one rebuilds."""
    path = tmp_path / "my old.db"
    project.plain(path, "b2")
    return path


NAMES = ["a #1?.db", "100%.db", "50%25 & more.db", "naïve ü.db", os.fsdecode(b"no \xff text.db")]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("start", ["/", "//"])
def test_a_name_is_a_name_whatever_it_would_mean_in_a_uri(
    start: str, name: str, project: Project, tmp_path: Path
) -> None:
    """Also a path that begins with two slashes, which POSIX allows and a URI takes for a host."""
    path, migrations = f"{start}{str(tmp_path / name).lstrip('/')}", project.located()
    migrations.upgrade(path, "b2")
    assert migrations.status(path).current == ("b2",)
    assert migrations.upgrade(path).applied == ("c3",)
    assert {name, f"{name}.b2.bak"} == files(tmp_path)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_the_url_env_py_is_given_leads_to_the_file_whatever_its_name(
    name: str, project: Project, old: Path, tmp_path: Path
) -> None:
    """For SQLAlchemy and for freezekit; SQLAlchemy 2.0 has no way to write a question mark in a plain one."""
    named, migrations = old.rename(tmp_path / name), project.located()
    url = migrations.alembic_config(named).get_main_option("sqlalchemy.url")
    assert url is not None
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "b2"
    assert migrations.status(url).current == ("b2",)
    assert migrations.upgrade(engine).applied == ("c3",)
    assert {name, f"{name}.b2.bak"} == files(tmp_path)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def rows_of(count: int) -> str:
    """Return the body of a revision that makes a table of so many rows."""
    numbers = f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {count})"
    return f'op.execute("CREATE TABLE big AS {numbers} SELECT x, hex(randomblob(100)) FROM n")'


def values(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@contextlib.contextmanager
def small_volume(folder: Path, size: int) -> Iterator[Path]:
    """Yield a file system of so many bytes; skip the test where none can be made."""
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("body", VACUUMS.values(), ids=VACUUMS)
def test_a_revision_that_cannot_run_in_a_transaction_runs_on_a_copy(
    body: str, journal: str, project: Project, old: Path, tmp_path: Path
) -> None:
    """The content is plain Alembic's, the file the same one, and beside it lies only the backup."""
    if journal == "wal" and "page_size" in body:
        pytest.skip("SQLite changes no page size in write-ahead mode")
    values(old, f"PRAGMA journal_mode = {journal}")
    project.revision("d4", "c3", body)
    project.table("e5", "d4")
    expected_file = tmp_path / "plain" / "expected.db"
    expected_file.parent.mkdir(exist_ok=True)
    expected_file.write_bytes(old.read_bytes())
    expected = project.plain(expected_file)
    inode = old.stat().st_ino
    report = project.located().upgrade(old)
    assert report.applied == ("c3", "d4", "e5")
    assert dump(old) == expected
    assert values(old, "PRAGMA page_size") == values(expected_file, "PRAGMA page_size")
    assert values(old, "PRAGMA journal_mode") == [(journal,)]
    assert old.stat().st_ino == inode
    assert files(tmp_path) == {"my old.db", "my old.db.b2.bak"}


def test_vacuum_is_found_while_building(project: Project) -> None:
    """What a revision shows is written down, so that no attempt is made in place; words and downgrades do not count."""
    project.revision("d4", "c3", VACUUMS["plain"])
    path = project.revision("e5", "d4", '"""Vacuum the house."""')
    path.write_text(
        path.read_text().replace("def downgrade():\n    pass", "def downgrade():\n    op.execute('VACUUM')")
    )
    assert project.located().manifest.outside_transaction == ("d4",)


def test_a_failure_on_the_copy_leaves_the_document_alone(project: Project, old: Path, tmp_path: Path) -> None:
    project.revision("d4", "c3", "op.execute('VACUUM')\nraise RuntimeError('no')")
    before = old.read_bytes()
    with pytest.raises(freezekit.MigrationFailed, match="no") as failed:
        project.located().upgrade(old)
    assert (failed.value.restored, failed.value.applied, failed.value.failed) == (True, (), "d4")
    assert old.read_bytes() == before
    assert files(tmp_path) == {"my old.db", "my old.db.b2.bak"}


def test_a_new_document_may_be_vacuumed(project: Project, tmp_path: Path) -> None:
    project.revision("d4", "c3", "op.execute('VACUUM')")
    assert project.located().upgrade(tmp_path / "new.db").state_before is State.NEW
    assert project.located().status(tmp_path / "new.db").state is State.CURRENT
    assert files(tmp_path) == {"new.db"}


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_large_document_is_upgraded_through_a_copy(
    journal: str, project: Project, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than may wait in memory would reach the file before the commit; a write-ahead log keeps it from that."""
    values(old, f"PRAGMA journal_mode = {journal}")
    monkeypatch.setattr(sqlite_upgrade, "IN_PLACE_BYTES", 8192)
    written = []
    monkeypatch.setattr(sqlite_upgrade, "write_back", _noting(written, sqlite_upgrade.write_back))
    report = project.located().upgrade(old)
    assert report.applied == ("c3",)
    assert bool(written) == (journal == "delete")
    expected = project.plain(tmp_path / "expected.db")
    assert dump(old) == expected


def _noting(calls: list[object], function: Any) -> Any:
    def noted(*args: Any) -> Any:
        calls.append(args)
        return function(*args)

    return noted


def test_an_upgrade_through_a_copy_waits_for_readers_and_then_gives_up(project: Project, old: Path) -> None:
    project.revision("d4", "c3", "op.execute('VACUUM')")
    before = old.read_bytes()
    with closing(sqlite3.connect(old)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM book").fetchone()
        with pytest.raises(freezekit.DatabaseInUse):
            project.located().upgrade(old, timeout=0.3)
        assert old.read_bytes() == before
    assert project.located().upgrade(old).applied == ("c3", "d4")


def test_a_copy_left_by_a_kill_is_removed_by_the_next_start(project: Project, old: Path, tmp_path: Path) -> None:
    """Also by one that finds nothing pending."""
    leftover = tmp_path / f"{old.name}.freezekit-upgrading"
    for _ in range(2):
        leftover.write_bytes(b"half")
        project.located().upgrade(old)
        assert files(tmp_path) == {"my old.db", "my old.db.b2.bak"}


def test_what_an_upgrade_changes_waits_in_memory(project: Project, old: Path) -> None:
    """Not a byte of the file itself changes before the commit, so it may be copied alone at any time until then."""
    project.revision("d4", "c3", rows_of(40000))
    before, seen = old.read_bytes(), set()

    def watch(now: Progress) -> None:
        if now.phase != "done":
            seen.add(old.read_bytes() == before)

    project.located().upgrade(old, on_progress=watch)
    assert seen == {True}
    assert old.stat().st_size > 5_000_000


ORPHAN = "op.execute('DELETE FROM book WHERE id = 1')"


@pytest.mark.parametrize("policy", ["auto", "on", "off"])
@pytest.mark.parametrize("enforced", [True, False], ids=["enforced", "not enforced"])
def test_rows_that_lose_what_they_refer_to(policy: str, enforced: bool, project: Project, old: Path) -> None:
    """Where env.py enforces references it is a failure, unless the project says otherwise; elsewhere it is counted."""
    project.revision("c3", "b2", ORPHAN)
    project.write("pyproject.toml", f'[tool.freezekit]\nscript_location = "migrations"\nforeign_keys = "{policy}"')
    if enforced:
        project.env(LISTENER.format(setting="foreign_keys = ON"))
    before = dump(old)
    if policy == "auto" and enforced:
        with pytest.raises(freezekit.MigrationFailed, match="1 rows refer to a row that is not there"):
            project.located().upgrade(old)
        assert dump(old) == before
        return
    report = project.located().upgrade(old)
    # With references on, SQLite itself deletes the child.
    assert report.dangling == (0 if policy == "on" else 1)
    assert len(values(old, "SELECT * FROM note")) == (2 if policy == "on" else 3)


def test_references_that_the_applications_engine_enforces_must_not_dangle(project: Project, old: Path) -> None:
    project.revision("c3", "b2", ORPHAN)
    engine = create_engine(f"sqlite:///{old}")
    event.listen(engine, "connect", lambda raw, _record: raw.execute("PRAGMA foreign_keys = ON"))
    before = dump(old)
    with pytest.raises(freezekit.MigrationFailed, match="1 rows refer"):
        project.located().upgrade(engine)
    engine.dispose()
    assert dump(old) == before
    assert project.located().upgrade(create_engine(f"sqlite:///{old}", poolclass=NullPool)).dangling == 1


def test_a_rebuild_with_references_on_is_refused(project: Project, old: Path) -> None:
    """SQLite would delete every child of the rebuilt table, and plain Alembic does not notice."""
    project.write("pyproject.toml", '[tool.freezekit]\nscript_location = "migrations"\nforeign_keys = "on"')
    before = dump(old)
    with pytest.raises(freezekit.MigrationFailed, match="note refers to it"):
        project.located().upgrade(old)
    assert dump(old) == before


def test_references_that_dangled_before_do_not_count(project: Project, old: Path) -> None:
    values(old, "PRAGMA user_version = 1")
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("DELETE FROM book WHERE id = 1")
    project.env(LISTENER.format(setting="foreign_keys = ON"))
    assert project.located().upgrade(old).dangling == 0


def test_a_damaged_document_is_refused_before_anything_runs(project: Project, old: Path) -> None:
    """A page in the middle is overwritten: the header and the version table can still be read."""
    content = bytearray(old.read_bytes())
    (page,) = values(old, "SELECT rootpage FROM sqlite_master WHERE name = 'note'")[0]
    content[(page - 1) * 4096 : (page - 1) * 4096 + 200] = b"\xff" * 200
    old.write_bytes(content)
    assert project.located().status(old).state is State.BEHIND
    with pytest.raises(freezekit.NotADatabase, match="damaged"):
        project.located().upgrade(old)
    assert old.read_bytes() == content


def test_rows_against_a_rule_of_their_table_are_no_damage(project: Project, old: Path) -> None:
    """Documents hold such rows for years: the rule came later, or the application that wrote them knew better."""
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("CREATE TABLE strange (x)")
        connection.execute("INSERT INTO strange VALUES (NULL)")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE strange (x NOT NULL)' WHERE name = 'strange'")
    assert values(old, "PRAGMA quick_check") == [("NULL value in strange.x",)]
    assert project.located().upgrade(old).applied == ("c3",)


def test_what_plain_alembic_left_half_made_is_named(project: Project, old: Path) -> None:
    """A table that is being rebuilt when the program is killed leaves its copy behind, and no upgrade can go on."""
    values(old, "CREATE TABLE _alembic_tmp_book (id INTEGER)")
    before = old.read_bytes()
    assert project.located().status(old).leftovers == ("_alembic_tmp_book",)
    for ask in (project.located().upgrade, project.located().plan):
        with pytest.raises(freezekit.MigrationFailed, match="_alembic_tmp_book") as failed:
            ask(old)
        assert failed.value.restored
    assert old.read_bytes() == before


def test_a_rehearsal_leaves_the_document_alone(project: Project, old: Path, tmp_path: Path) -> None:
    """It reports what the upgrade would do, runs every check, and nothing appears beside the document."""
    before = old.read_bytes()
    rehearsed = project.located().upgrade(old, rehearse=True)
    assert (rehearsed.rehearsed, rehearsed.backup, rehearsed.fits) == (True, None, True)
    assert old.read_bytes() == before
    assert files(tmp_path) == {"my old.db"}
    report = project.located().upgrade(old)
    assert (report.applied, report.heads, report.fits) == (rehearsed.applied, rehearsed.heads, None)


def test_a_rehearsal_says_whether_the_upgrade_fits(project: Project, old: Path, tmp_path: Path) -> None:
    """Asked of a volume with room for less than the backup and the journal."""
    with small_volume(tmp_path / "small", old.stat().st_size * 3 // 2) as volume:
        document = volume / "document"
        document.write_bytes(old.read_bytes())
        assert project.located().upgrade(document, rehearse=True).fits is False
        with pytest.raises(freezekit.MigrationFailed, match="make room there"):
            project.located().upgrade(document)
        with pytest.raises(freezekit.MigrationFailed, match="make room there"):
            project.located().upgrade(document, backup=None)
        assert document.read_bytes() == old.read_bytes()
        assert files(volume) == {"document"}
        assert project.located().upgrade(document, backup=Backup(folder=tmp_path), rehearse=True).fits is False


def test_only_an_sqlite_file_can_be_rehearsed_on(project: Project) -> None:
    with pytest.raises(freezekit.UsageError, match="no SQLite file"):
        project.located().upgrade(create_engine("sqlite://"), rehearse=True)


def test_a_rehearsal_fails_as_the_upgrade_would(project: Project, old: Path) -> None:
    project.revision("d4", "c3", "raise RuntimeError('no')")
    before = old.read_bytes()
    with pytest.raises(freezekit.MigrationFailed, match=r"my old\.db failed in revision d4: RuntimeError: no"):
        project.located().upgrade(old, rehearse=True)
    assert old.read_bytes() == before


def test_a_rehearsal_waits_no_longer_than_said_for_a_locked_document(project: Project, old: Path) -> None:
    """Python's own copying of a database waits for ever."""
    migrations = project.located()
    with closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(freezekit.DatabaseInUse):
            migrations.upgrade(old, rehearse=True, timeout=0.2)
        with pytest.raises(freezekit.UpgradeCancelled):
            migrations.upgrade(old, rehearse=True, cancel=lambda: True)


LONG = (
    'op.execute("CREATE TABLE long AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 4000000)'
    ' SELECT count(x) FROM n")'
)


# One statement that ends after so many seconds, however fast the machine is.
TIMED = """
import time
end = time.monotonic() + {seconds}
op.get_bind().connection.dbapi_connection.create_function("goes_on", 0, lambda: time.monotonic() < end)
op.execute("CREATE TABLE long AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE goes_on())"
           " SELECT count(x) FROM n")
"""


def test_progress_is_heard_within_one_long_statement(project: Project, old: Path) -> None:
    """At least twice in each second it takes, in the thread of the caller."""
    seconds = 3
    project.revision("d4", "c3", TIMED.format(seconds=seconds))
    heard: list[float] = []

    def on_progress(now: Progress) -> None:
        if now.revision == "d4":
            heard.append(time.monotonic())
            assert threading.current_thread() is threading.main_thread()

    project.located().upgrade(old, on_progress=on_progress)
    assert heard[-1] - heard[0] > seconds - 1
    assert len(heard) - 1 >= 2 * (heard[-1] - heard[0])


@pytest.mark.parametrize("through", ["statement", "copy"])
def test_a_long_statement_is_cancelled_within_a_second(through: str, project: Project, old: Path) -> None:
    """The document is as it was, and the same upgrade works later."""
    project.revision("d4", "c3", LONG.replace("4000000", "400000000" if through == "statement" else "4000000"))
    if through == "copy":
        project.revision("e5", "d4", VACUUMS["plain"])
    before, stop, asked = old.read_bytes(), threading.Event(), []

    def on_progress(now: Progress) -> None:
        if now.revision == "d4" and not stop.is_set():
            stop.set()
            asked.append(time.monotonic())

    with pytest.raises(freezekit.UpgradeCancelled):
        project.located().upgrade(old, on_progress=on_progress, cancel=stop)
    assert time.monotonic() - asked[0] < 1
    assert old.read_bytes() == before


@pytest.mark.parametrize("rows", [300_000, 2_000_000])
@pytest.mark.parametrize("through", ["statement", "copy"])
def test_the_check_of_a_backup_can_be_cancelled(rows: int, through: str, project: Project, old: Path) -> None:
    """It reads the whole copy, which takes a while for a large document; no part of the copy stays."""
    if through == "copy":
        project.revision("d4", "c3", VACUUMS["plain"])
    with closing(sqlite3.connect(old)) as connection, connection:
        numbers = f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {rows})"
        connection.execute(f"CREATE TABLE large AS {numbers} SELECT x FROM n")
    before, asked = old.read_bytes(), []

    def cancel() -> bool:
        is_copied = [path for path in old.parent.glob("*.part") if path.stat().st_size == len(before)]
        asked.extend(is_copied)
        return len(asked) > 1  # the first time is still the copying

    with pytest.raises(freezekit.UpgradeCancelled):
        project.located().upgrade(old, cancel=cancel)
    assert old.read_bytes() == before
    assert files(old.parent) == {"my old.db"}


CTRL_C = """
import os, signal, sys, threading, freezekit

def press(progress):
    if progress.revision == "d4" and not pressed:
        pressed.append(progress)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

pressed = []

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    freezekit.locate(sys.argv[1]).upgrade(sys.argv[2], on_progress=press, cancel=CANCEL)
except KeyboardInterrupt:
    print("Ctrl-C")
"""


@pytest.mark.parametrize("cancel", ["None", "lambda: False"])
def test_ctrl_c_within_a_statement_stays_ctrl_c(cancel: str, project: Project, old: Path) -> None:
    """SQLite calls us while it runs, and passes on no exception."""
    project.revision("d4", "c3", LONG.replace("4000000", "400000000"))
    before = old.read_bytes()
    command = [sys.executable, "-c", CTRL_C.replace("CANCEL", cancel), str(project.migrations), str(old)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.stdout, result.stderr) == ("Ctrl-C\n", "")
    assert old.read_bytes() == before


ASKED = {
    "a statement": (sqlite3.SQLITE_INSERT, "book", "op.execute(\"INSERT INTO book VALUES (9, 'nine')\")"),
    "a statement that may fail": (
        sqlite3.SQLITE_INSERT,
        "book",
        """
try:
    op.execute("INSERT INTO book VALUES (9, 'nine')")
except Exception:
    pass
""",
    ),
    "the commit": (sqlite3.SQLITE_TRANSACTION, "COMMIT", "pass"),
    "the rollback": (sqlite3.SQLITE_TRANSACTION, "ROLLBACK", "raise RuntimeError('no')"),
}


@pytest.mark.parametrize("moment", ASKED)
def test_ctrl_c_while_sqlite_asks_us_stays_ctrl_c(
    moment: str, project: Project, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks before each statement, and takes Ctrl-C for a no: nothing is left of the upgrade, nor of its lock."""
    action, detail, body = ASKED[moment]
    project.revision("d4", "c3", body)
    before, answer, pressed = old.read_bytes(), guard.GuardedConnection._authorize, []

    def asked(connection: guard.GuardedConnection, about: int, *details: object) -> int:
        if (about, details[0]) == (action, detail) and not pressed:
            pressed.append(about)
            signal.raise_signal(signal.SIGINT)
        return answer(connection, about, *details)

    monkeypatch.setattr(guard.GuardedConnection, "_authorize", asked)
    with pytest.raises(KeyboardInterrupt):
        project.located().upgrade(old, backup=None)
    assert pressed
    assert old.read_bytes() == before
    assert files(old.parent) == {old.name}
    with closing(sqlite3.connect(old, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")


def test_what_an_authorizer_of_a_revision_refuses_is_no_ctrl_c(project: Project, old: Path) -> None:
    body = """
import sqlite3
op.get_bind().connection.dbapi_connection.set_authorizer(lambda *asked: sqlite3.SQLITE_DENY)
op.execute("INSERT INTO book VALUES (9, 'nine')")
"""
    project.revision("d4", "c3", body)
    before = old.read_bytes()
    with pytest.raises(freezekit.MigrationFailed, match="not authorized"):
        project.located().upgrade(old)
    assert old.read_bytes() == before


NUMBERS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000) SELECT max(x) FROM n"


def test_a_stop_is_no_ctrl_c_although_it_is_said_only_once(old: Path) -> None:
    answers = iter([True])
    with (  # noqa: PT012 - the block is what is tested
        pytest.raises(sqlite3.OperationalError, match="interrupted"),
        sqlite_upgrade.write_locked(str(old), 1.0, cancelled=lambda: next(answers, False)) as connection,
    ):
        try:
            connection.execute(NUMBERS).fetchone()
        finally:
            assert connection.execute(NUMBERS).fetchone() == (100000,)


def test_what_cancel_raises_within_a_statement_is_no_ctrl_c(project: Project, old: Path) -> None:
    project.revision("d4", "c3", LONG)
    before, asked = old.read_bytes(), []

    def cancel() -> bool:
        asked.append(time.monotonic())
        if asked[-1] - asked[0] > 0.5:
            raise ValueError("no answer")
        return False

    with pytest.raises(ValueError, match="no answer"):
        project.located().upgrade(old, cancel=cancel)
    assert old.read_bytes() == before


def test_an_upgrade_that_waits_can_be_cancelled(project: Project, old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(freezekit.UpgradeCancelled):
            project.located().upgrade(old, cancel=lambda: True, timeout=60)


@pytest.mark.parametrize("phase", ["backup", "migrate", "check", "commit"])
def test_an_error_of_on_progress_fails_the_upgrade(phase: str, project: Project, old: Path) -> None:
    before = old.read_bytes()

    def on_progress(now: Progress) -> None:
        if now.phase == phase:
            raise ZeroDivisionError

    with pytest.raises(freezekit.MigrationFailed, match=r"on_progress failed: ZeroDivisionError\(\)"):
        project.located().upgrade(old, on_progress=on_progress)
    assert old.read_bytes() == before


@pytest.mark.parametrize("rehearse", [False, True])
def test_an_error_of_on_progress_after_the_commit_is_not_called_undone(
    rehearse: bool, project: Project, old: Path
) -> None:
    def on_progress(now: Progress) -> None:
        if now.phase == "done":
            raise ZeroDivisionError

    with pytest.raises(freezekit.MigrationFailed, match="on_progress failed: ZeroDivisionError") as caught:
        project.located().upgrade(old, on_progress=on_progress, rehearse=rehearse)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    pending = project.located().status(old).pending
    assert (caught.value.restored, caught.value.applied == ()) == (rehearse, rehearse)
    assert (pending == ()) is not rehearse


def test_an_error_of_on_progress_within_a_statement_fails_the_upgrade(project: Project, old: Path) -> None:
    project.revision("d4", "c3", LONG)
    before, seen = old.read_bytes(), []

    def on_progress(now: Progress) -> None:
        seen.append(now.revision)
        if seen.count("d4") == 2:
            raise ZeroDivisionError

    with pytest.raises(freezekit.MigrationFailed, match="ZeroDivisionError") as caught:
        project.located().upgrade(old, on_progress=on_progress)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert old.read_bytes() == before


def test_an_error_of_on_progress_while_waiting_is_not_called_cancelled(project: Project, old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(freezekit.MigrationFailed, match="on_progress failed: ZeroDivisionError"):
            project.located().upgrade(old, on_progress=lambda _now: 1 // 0, timeout=60)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_journal_mode_env_py_asks_for_is_set_in_the_end(mode: str, project: Project, old: Path) -> None:
    """SQLite cannot change it within the transaction; plain Alembic would leave the file in that mode."""
    values(old, f"PRAGMA journal_mode = {'delete' if mode == 'wal' else 'wal'}")
    project.env(LISTENER.format(setting=f"journal_mode = {mode}"))
    project.located().upgrade(old)
    assert values(old, "PRAGMA journal_mode") == [(mode,)]


def test_memory_is_bounded(project: Project, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is more than the limit goes to the file's journal before the commit; the result is the same."""
    monkeypatch.setattr(guard, "MEMORY_BYTES", 100_000)
    spilled = set()
    before = old.read_bytes()
    project.revision("d4", "c3", rows_of(90000))
    project.located().upgrade(old, on_progress=lambda _now: spilled.add(old.read_bytes() != before))
    assert spilled == {True, False}
    assert len(values(old, "SELECT x FROM big")) == 90_000
