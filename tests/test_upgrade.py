"""Upgrading documents: what is promised of an SQLite file, of lent connections, and of the process."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sample_data import MIGRATIONS, RELEASES, content, expected_head, pending, plain_upgrade
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.pool import StaticPool

import freezekit
from freezekit import Migrations, Progress, State

Use = Callable[[Path], contextlib.AbstractContextManager[object]]


@pytest.fixture
def migrations() -> Migrations:
    return freezekit.locate("sample_app:migrations")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document of the oldest release."""
    copy = tmp_path / "my old.notes"
    copy.write_bytes(RELEASES[0].read_bytes())
    return copy


@pytest.fixture(params=["not open", "open", "connected", "written"])
def use(request: pytest.FixtureRequest) -> Use:
    """How this program has a document open meanwhile, without reading it."""
    ways: dict[str, Use] = {
        "not open": contextlib.nullcontext,
        "open": lambda path: path.open("rb"),
        "connected": lambda path: closing(sqlite3.connect(path)),
        "written": lambda path: path.open("ab"),
    }
    return ways[request.param]


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A database in memory, shared by all who use the engine."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    yield engine
    engine.dispose()


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
def test_a_document_of_each_release_ends_with_the_content_plain_alembic_gives_it(
    migrations: Migrations, release: Path, tmp_path: Path
) -> None:
    copy = tmp_path / release.name
    copy.write_bytes(release.read_bytes())
    report = migrations.upgrade(copy)
    assert list(report.applied) == list(pending(release.stem))
    assert content(copy) == content(plain_upgrade(release, tmp_path / "plain.db"))
    assert report.heads == (expected_head,)


def test_nothing_pending_means_nothing_done(migrations: Migrations, document: Path) -> None:
    """A second upgrade applies nothing, makes no backup and writes nothing."""
    migrations.upgrade(document)
    before = snapshot(document.parent)
    report = migrations.upgrade(document)
    assert (report.applied, report.backup, report.state_before) == ((), None, State.CURRENT)
    assert snapshot(document.parent) == before


def test_status_of_a_missing_file_creates_none(migrations: Migrations, tmp_path: Path) -> None:
    assert migrations.status(tmp_path / "no.notes").state is State.NEW
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_created_at_head(migrations: Migrations, tmp_path: Path) -> None:
    report = migrations.upgrade(tmp_path / "new.notes")
    assert report.state_before is State.NEW
    assert report.backup is None
    assert content(tmp_path / "new.notes") == content(plain_upgrade(None, tmp_path / "plain.db"))


def test_the_states_of_one_document_over_its_life(migrations: Migrations, document: Path) -> None:
    assert migrations.status(document).state is State.BEHIND
    assert list(migrations.status(document).pending) == list(pending("1.0"))
    migrations.upgrade(document)
    assert migrations.status(document).state is State.CURRENT
    with closing(sqlite3.connect(document)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    assert migrations.status(document).state is State.AHEAD


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'future'")


def _unversioned(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE alembic_version")


def _text(path: Path) -> None:
    path.write_text("Dear diary, " * 50)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _cut_in_its_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def _cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("damage", "error", "state"),
    [
        (_newer, freezekit.DatabaseAhead, State.AHEAD),
        (_unversioned, freezekit.DatabaseUnversioned, State.UNVERSIONED),
        (_text, freezekit.NotADatabase, State.FOREIGN),
        (_folder, freezekit.NotADatabase, State.FOREIGN),
        (_fifo, freezekit.NotADatabase, State.FOREIGN),
        (_cut_in_its_header, freezekit.NotADatabase, State.FOREIGN),
        (_cut_in_half, freezekit.NotADatabase, State.FOREIGN),
    ],
)
def test_what_cannot_be_upgraded_is_refused_by_name_and_left_alone(
    migrations: Migrations,
    document: Path,
    damage: Callable[[Path], None],
    error: type[freezekit.FreezekitError],
    state: State,
) -> None:
    """Each unusable database has its own error, and not a byte of it or beside it changes."""
    damage(document)
    before = snapshot(document.parent)
    assert migrations.status(document).state is state
    with pytest.raises(error, match=r"(?i)nothing was changed"):
        migrations.upgrade(document)
    assert snapshot(document.parent) == before


def test_a_document_somebody_is_writing_is_waited_for_and_then_refused(migrations: Migrations, document: Path) -> None:
    """The wait ends at the limit; nothing was changed, and afterwards the upgrade works."""
    with closing(sqlite3.connect(document, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(freezekit.DatabaseInUse) as caught:
            migrations.upgrade(document, timeout=0.2)
        assert caught.value.waited_s >= 0.2
    assert migrations.upgrade(document).applied


def test_an_upgrade_waits_for_a_writer_that_finishes(migrations: Migrations, document: Path) -> None:
    with closing(sqlite3.connect(document, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.rollback)
        timer.start()
        assert migrations.upgrade(document, timeout=20).applied
        timer.join()


@pytest.mark.parametrize("through", ["function", "event"])
def test_a_cancelled_upgrade_changes_nothing(migrations: Migrations, document: Path, through: str) -> None:
    """Cancelling in the middle leaves content as it was; the same upgrade works later."""
    before = content(document)
    stop = threading.Event()

    def halfway(progress: Progress) -> None:
        if progress.index == 3:
            stop.set()

    with pytest.raises(freezekit.UpgradeCancelled):
        migrations.upgrade(document, on_progress=halfway, cancel=stop if through == "event" else stop.is_set)
    assert content(document) == before
    assert migrations.upgrade(document).applied


def test_progress_names_each_revision_and_ends_at_one(migrations: Migrations, document: Path) -> None:
    """Each revision is announced before it runs, and only what is permanent is called done."""
    seen: list[Progress] = []
    report = migrations.upgrade(document, on_progress=seen.append)
    assert tuple(dict.fromkeys(one.revision for one in seen if one.revision)) == report.applied
    assert all(one.doc for one in seen if one.revision)
    assert list(dict.fromkeys(one.phase for one in seen)) == ["backup", "migrate", "check", "commit", "done"]
    fractions = [one.fraction for one in seen]
    assert fractions == sorted(fractions)
    assert (seen[0].fraction, seen[-1].fraction, seen[-1].index) == (0.0, 1.0, len(report.applied))


def test_a_plan_is_what_then_happens(migrations: Migrations, document: Path) -> None:
    """The plan changes nothing and names the revisions in the order in which they run."""
    before = snapshot(document.parent)
    plan = migrations.plan(document)
    assert snapshot(document.parent) == before
    assert tuple(one.revision for one in plan) == migrations.upgrade(document).applied
    assert len(migrations.plan(document)) == 0


def test_the_sql_shown_is_the_sql_that_runs(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    """The text holds every change, leaves the document alone, and run by hand gives the same content."""
    before = snapshot(tmp_path)
    text = migrations.sql(document)
    assert snapshot(tmp_path) == before
    by_hand = tmp_path / "by hand.notes"
    by_hand.write_bytes(document.read_bytes())
    if sys_shows_values():
        with closing(sqlite3.connect(by_hand)) as connection:
            connection.executescript(text)
        migrations.upgrade(document)
        assert content(by_hand) == content(document)
    assert migrations.sql(tmp_path / "new.notes").count("CREATE TABLE") >= 5
    assert not (tmp_path / "new.notes").exists()


def sys_shows_values() -> bool:
    """SQLite's trace gives the values of parameters since Python 3.11."""
    return sys.version_info >= (3, 11)


def test_an_unknown_target_is_a_usage_error(migrations: Migrations, document: Path) -> None:
    with pytest.raises(freezekit.UsageError, match="no-such-revision"):
        migrations.upgrade(document, "no-such-revision")
    assert content(document) == content(RELEASES[0])


@pytest.mark.parametrize("db", ["", 7, None, b"x.db", ":memory:", "sqlite://", "nonsense://x"], ids=repr)
def test_what_is_no_database_is_a_usage_error(migrations: Migrations, db: Any) -> None:
    import sqlalchemy  # noqa: F401 - an application that hands over engines has it imported

    with pytest.raises(freezekit.UsageError):
        migrations.status(db)


NUL = "a\0b"
NAMELESS: dict[str, Callable[[Any, Path], object]] = {
    "status": lambda migrations, _: migrations.status(NUL),
    "plan": lambda migrations, _: migrations.plan(Path(NUL)),
    "sql": lambda migrations, _: migrations.sql(NUL),
    "url": lambda migrations, _: migrations.upgrade(f"sqlite:///{NUL}"),
    "URL": lambda migrations, _: migrations.upgrade(URL.create("sqlite", database=NUL)),
    "engine": lambda migrations, _: migrations.upgrade(create_engine(URL.create("sqlite", database=NUL))),
    "backup-folder": lambda migrations, document: migrations.upgrade(document, backup=freezekit.Backup(folder=NUL)),
    "config": lambda migrations, _: migrations.alembic_config(NUL),
    "create": lambda migrations, _: migrations.create(NUL),
    "bytes": lambda migrations, _: migrations.create(NUL.encode()),
    "adopt": lambda migrations, _: migrations.adopt(NUL),
    "backup": lambda migrations, document: migrations.restore(NUL, document),
    "restore": lambda migrations, document: migrations.restore(document, NUL),
    "backups": lambda migrations, _: migrations.backups(NUL),
    "folder": lambda migrations, document: migrations.backups(document, NUL),
    "prune": lambda migrations, document: migrations.prune(document, 1, NUL),
}


@pytest.mark.parametrize("call", NAMELESS.values(), ids=list(NAMELESS))
def test_a_name_that_no_file_can_have_is_a_usage_error(
    call: Callable[[Migrations, Path], object], migrations: Migrations, document: Path
) -> None:
    """Not the bare ValueError of the system's functions; and nothing is done."""
    before = document.read_bytes()
    with pytest.raises(freezekit.UsageError, match="NUL"):
        call(migrations, document)
    assert document.read_bytes() == before
    with pytest.raises(freezekit.UsageError) as caught:
        migrations.status("postgresql://me:secret\0@localhost/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "as_database",
    [
        str,
        Path,
        lambda p: f"sqlite:///{p}",
        lambda p: make_url(f"sqlite:///{p}"),
        lambda p: create_engine(f"sqlite:///{p}"),
    ],
    ids=["str", "Path", "URL text", "URL", "Engine"],
)
def test_a_file_may_be_given_in_every_way(
    migrations: Migrations, document: Path, as_database: Callable[[Path], Any]
) -> None:
    assert migrations.status(as_database(document)).state is State.BEHIND
    assert migrations.upgrade(as_database(document)).applied
    assert migrations.status(document).state is State.CURRENT


def test_a_database_in_memory_is_upgraded_through_its_engine(migrations: Migrations, engine: Engine) -> None:
    assert migrations.upgrade(engine).heads == (expected_head,)
    assert migrations.status(engine).state is State.CURRENT


@pytest.mark.parametrize("enforced", [False, True], ids=["references off", "references on"])
def test_a_lent_connection_keeps_its_setting_and_its_children(
    migrations: Migrations, enforced: bool, document: Path, engine: Engine
) -> None:
    """Rebuilding a parent table on a lent connection deletes no child row, even where foreign keys are enforced."""
    with closing(sqlite3.connect(document)) as source:
        raw = engine.raw_connection()
        source.backup(raw.dbapi_connection)
        raw.close()
    event.listen(engine, "connect", lambda raw, _: raw.execute(f"PRAGMA foreign_keys = {int(enforced)}"))
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA foreign_keys = {int(enforced)}")
        connection.rollback()
        migrations.upgrade(connection)
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == int(enforced)
        notes = connection.exec_driver_sql("SELECT count(*) FROM note").scalar()
    assert notes == len(content(document)["note"])


def test_a_transaction_of_the_host_stays_the_hosts(migrations: Migrations, engine: Engine) -> None:
    """What is done inside the host's own transaction is undone when the host rolls back."""
    with engine.connect() as connection:
        transaction = connection.begin()
        assert migrations.upgrade(connection).applied
        transaction.rollback()
    assert migrations.status(engine).state is State.NEW


def test_a_document_in_use_elsewhere_in_the_process_keeps_its_lock(migrations: Migrations, document: Path) -> None:
    """A question about a document does not drop the lock that the application holds on it in the same process."""
    with closing(sqlite3.connect(document, isolation_level=None)) as mine:
        mine.execute("BEGIN IMMEDIATE")
        assert migrations.status(document).state is State.BEHIND
        code = f"import sqlite3; sqlite3.connect({str(document)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        assert "locked" in _python(code)


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr


def test_a_document_in_write_ahead_mode_is_read_without_a_trace(
    migrations: Migrations, document: Path, use: Use
) -> None:
    """Neither an index nor a log appears beside the file, also where a program that died left its log behind."""
    with closing(sqlite3.connect(document)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with use(document):
        assert migrations.status(document).state is State.BEHIND
        assert [path.name for path in document.parent.iterdir()] == [document.name]
    assert migrations.status(document).state is State.BEHIND
    assert [path.name for path in document.parent.iterdir()] == [document.name]
    died = "import sqlite3, os; c = sqlite3.connect({0!r}); c.execute('DELETE FROM note'); c.commit(); os._exit(0)"
    _python(died.format(str(document)))
    os.unlink(f"{document}-shm")
    before = snapshot(document.parent)
    with use(document):
        assert migrations.status(document).state is State.BEHIND
        assert snapshot(document.parent) == before


def test_a_document_left_with_a_hot_journal_is_read_as_it_was_before(
    migrations: Migrations, document: Path, use: Use
) -> None:
    """The question rolls nothing back on disk, and answers what the rolled back database would."""
    died = (
        "import sqlite3, os; c = sqlite3.connect({0!r}, isolation_level=None); c.execute('PRAGMA cache_size = 1');"
        "c.execute('BEGIN'); c.execute('UPDATE alembic_version SET version_num = 9');"
        "c.execute('CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)'"
        " ' SELECT i FROM n');"
        "os._exit(0)"
    )
    _python(died.format(str(document)))
    assert os.path.getsize(f"{document}-journal")
    before = snapshot(document.parent)
    with use(document):
        assert migrations.status(document).current == ("0002",)
        assert snapshot(document.parent) == before
        assert migrations.upgrade(document).heads == (expected_head,)


def test_a_link_is_upgraded_where_it_leads(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.notes"
    link.symlink_to(document)
    migrations.upgrade(link)
    assert link.is_symlink()
    assert migrations.status(document).state is State.CURRENT


def test_a_hard_link_is_upgraded_with_its_other_name(migrations: Migrations, document: Path, tmp_path: Path) -> None:
    """Both names lead to the upgraded file, and the backup lies beside the name that was given."""
    other = tmp_path / "elsewhere" / "link.notes"
    other.parent.mkdir()
    os.link(document, other)
    inode = document.stat().st_ino
    assert migrations.upgrade(other).backup == f"{other}.0002.bak"
    assert document.stat().st_ino == other.stat().st_ino == inode
    assert content(document) == content(other) == content(plain_upgrade(RELEASES[0], tmp_path / "plain.db"))
    assert {path.name for path in other.parent.iterdir()} == {"link.notes", "link.notes.0002.bak"}
    assert not list(document.parent.glob("*.bak"))


def test_nobody_but_the_upgrade_ends_its_transaction(tmp_path: Path) -> None:
    """COMMIT, BEGIN, executescript and isolation_level change nothing before the end; VACUUM and ATTACH do not run."""
    from freezekit.runtime.guard import NeedsCopy
    from freezekit.runtime.sqlite_upgrade import write_locked

    path = tmp_path / "guarded.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE old (x)")
    with write_locked(str(path), 1.0, cancelled=lambda: False) as guarded:
        guarded.execute("CREATE TABLE a (x)")
        guarded.execute("/* hidden */ COMMIT")
        guarded.execute("-- hidden\nBEGIN")
        guarded.executescript(
            "CREATE TABLE b (x); COMMIT; CREATE TRIGGER t AFTER INSERT ON b BEGIN SELECT 1; SELECT 2; END;"
        )
        guarded.isolation_level = "EXCLUSIVE"
        guarded.commit()
        with guarded:
            guarded.execute("INSERT INTO b VALUES (1)")
        guarded.close()
        guarded.execute("PRAGMA journal_mode = WAL")
        with pytest.raises(NeedsCopy):
            guarded.execute("VACUUM")
        with pytest.raises(sqlite3.OperationalError, match="one change to one file"):
            guarded.execute("ATTACH DATABASE ':memory:' AS other")
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            sqlite3.Cursor.execute(sqlite3.Connection.cursor(guarded), "COMMIT")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("old",)]


def test_the_scripts_folder_is_not_written_into(migrations: Migrations, document: Path) -> None:
    before = snapshot(MIGRATIONS)
    migrations.upgrade(document)
    assert snapshot(MIGRATIONS) == before


@pytest.mark.parametrize(
    ("statements", "error", "state"),
    [
        ("INSERT INTO alembic_version VALUES ('0001')", freezekit.NotADatabase, State.BEHIND),
        ("INSERT INTO alembic_version VALUES ('future')", freezekit.DatabaseAhead, State.AHEAD),
        ("DELETE FROM alembic_version", freezekit.MigrationFailed, State.BEHIND),
        ("ALTER TABLE alembic_version RENAME COLUMN version_num TO v", freezekit.NotADatabase, State.FOREIGN),
        ("ALTER TABLE alembic_version RENAME TO versions", freezekit.DatabaseUnversioned, State.UNVERSIONED),
    ],
    ids=["contradicting rows", "one unknown row", "no row", "another column", "another name"],
)
def test_a_version_table_that_makes_no_sense_is_refused_by_name(
    migrations: Migrations, document: Path, statements: str, error: type[freezekit.FreezekitError], state: State
) -> None:
    """Each has its typed error, and leaves the content as it was."""
    with closing(sqlite3.connect(document)) as connection, connection:
        connection.execute(statements)
    before = content(document)
    assert migrations.status(document).state is state
    with pytest.raises(error):
        migrations.upgrade(document)
    assert content(document) == before


def test_a_program_that_keeps_a_file_to_itself_is_waited_for_only_so_long(
    migrations: Migrations, document: Path
) -> None:
    """Whoever waits may say how long, and may stop waiting, also while nobody else can even read the file."""
    before = document.read_bytes()
    with closing(sqlite3.connect(document, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(freezekit.DatabaseInUse) as caught:
            migrations.upgrade(document, timeout=0.2)
        assert 0.2 <= caught.value.waited_s < 3
        with pytest.raises(freezekit.UpgradeCancelled):
            migrations.upgrade(document, cancel=lambda: True)
    assert document.read_bytes() == before
    assert migrations.upgrade(document).applied
