"""Many databases: what becomes of each, whatever becomes of the others."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleets import ENDLESS, by_name, copies, held, old_files, snapshot
from sample_data import ROOT, content, expected_head, pending, plain_upgrade

import freezekit
from freezekit import FleetProgress, FleetReport, Migrations, Outcome, State, errors, upgrade_many
from freezekit.runtime.fleet.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histories import Project


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


def test_the_largest_are_upgraded_first(project: Project) -> None:
    project.table("b2", "a1")
    files = old_files(project, "abcd")
    for file, pages in zip(files, (3, 40, 1, 20), strict=True):
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("CREATE TABLE more (x)")
            connection.execute("INSERT INTO more VALUES (zeroblob(?))", (pages * 4096,))
    report = upgrade_many(files, project.located(), workers=1)
    assert [Path(one.database).stem for one in report] == ["b", "d", "a", "c"]


def test_a_locked_document_fails_after_its_time_alone(migrations: Migrations, documents: list[Path]) -> None:
    before = documents[0].read_bytes()
    with held(documents[0]):
        report = upgrade_many(documents, migrations, workers=2, timeout=0.2)
    (failed,) = report.failures
    assert (failed.database, type(failed.error)) == (str(documents[0]), errors.DatabaseInUse)
    assert report.counts["upgraded"] == 5
    assert documents[0].read_bytes() == before


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


@pytest.mark.parametrize("lend", [False, True], ids=["workers", "executor"])
def test_ctrl_c_is_raised_once_each_is_told(lend: bool, migrations: Migrations, documents: list[Path]) -> None:
    """Whenever it is pressed: here as often as there are documents, each time in another moment of the run."""
    files = copies(documents[0], 5)
    for moment in range(len(files)):
        told: list[str] = []

        def press(progress: FleetProgress, told: list[str] = told, moment: int = moment) -> None:
            told.append(progress.outcome.database)
            if len(told) == moment + 1:
                signal.raise_signal(signal.SIGINT)

        how = {"executor": ThreadPoolExecutor(1)} if lend else {"workers": 1}
        with pytest.raises(KeyboardInterrupt):
            upgrade_many(files, migrations, backup=None, on_progress=press, **how)
        assert sorted(told) == sorted(map(str, files))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_heard_where_the_list_keeps_us_waiting(migrations: Migrations, documents: list[Path]) -> None:
    def slow() -> Iterator[Path]:
        yield documents[0]
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        time.sleep(60)

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        upgrade_many(slow(), migrations, on_progress=lambda one: told.append(one.outcome.database))
    assert told == [str(documents[0])]


@pytest.mark.parametrize("how", ["cancel", "stop_after_failures"])
def test_a_list_that_never_ends_is_read_no_further_than_to_the_stop(
    how: str, migrations: Migrations, documents: list[Path]
) -> None:
    """What was not read is one entry of the report, which is not ok then."""
    cancel, given = threading.Event(), []

    def endless() -> Iterator[Path]:
        while True:
            given.append(documents[0] if how == "cancel" else documents[0].with_name("absent"))
            if len(given) == 1000:
                cancel.set()
            yield given[-1]

    limits = {"cancel": cancel} if how == "cancel" else {"stop_after_failures": 3}
    report = upgrade_many(endless(), migrations, workers=1, **limits)
    last = list(report)[-1]
    assert (last.database, last.result, report.ok) == ("the rest of what was given", "left", False)
    assert len(report) == len(given) + 1


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
