"""Who does the work of a fleet: processes, threads, clusters, the program itself; and what their end costs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from documents import shown
from fleets import DYING, ENDLESS, by_name, copies, old_files, snapshot
from histories import Project, compiling
from sample_data import ROOT, content
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import freezekit
from freezekit import FleetProgress, Migrations, State, errors, upgrade_many

if TYPE_CHECKING:
    from contextlib import ExitStack


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
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    names = {"freezekit": freezekit, "paths": [*documents, "absent"], "migrations": migrations}
    with distributed.LocalCluster(**options) as cluster:
        # The example of docs/fleets.md.
        exec(shown("docs/fleets.md", "from dask", at=f"tcp://scheduler:8786=>{cluster.scheduler_address}"), names)
        report = names["report"]
        assert report.counts == {"upgraded": 6, "current": 0, "failed": 1, "left": 0, "duplicate": 0}
        assert {one.attempts for one in report if one.result == "upgraded"} == {1}


def test_what_a_cluster_was_handed_is_finished_before_a_cancelled_run_ends(project: Project) -> None:
    """Its futures do not tell which of them run: what is reported as left was not touched."""
    distributed = pytest.importorskip("distributed")
    project.revision("b2", "a1", "import time; time.sleep(0.5); op.execute('CREATE TABLE t_b2 (x)')")
    files, cancel = old_files(project, "abcdef"), threading.Event()
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:

        def enough(_progress: FleetProgress) -> None:
            cancel.set()

        executor = client.get_executor()
        report = upgrade_many(files, project.located(), executor=executor, cancel=cancel, on_progress=enough)
    states = {str(file): project.located().status(file).state for file in files}
    assert {one.database: one.result == "upgraded" for one in report} == {
        name: state is State.CURRENT for name, state in states.items()
    }


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
