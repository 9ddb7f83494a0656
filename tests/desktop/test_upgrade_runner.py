"""freezekit.runtime.qt, with each binding of Qt, in programs of their own: two bindings cannot share one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sample_data import RELEASES, content, expected_head, pending

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).resolve().parent.parent.parent
SECONDS = 60
# What every program begins with: an application, a document and a runner that prints what it hears.
BEGINNING = """
import sys, threading, warnings
from {binding}.QtCore import QCoreApplication, QThread, QTimer
import freezekit
from freezekit.runtime.qt import UpgradeRunner

warnings.simplefilter("error")
application = QCoreApplication([])
migrations = freezekit.locate("sample_app:migrations")
document = sys.argv[1]
main_thread = threading.get_ident()

def heard(kind):
    def hear(value):
        assert threading.get_ident() == main_thread, "another thread"
        print(kind, type(value).__name__, getattr(value, "phase", ""), flush=True)
        if kind != "progress":
            application.quit()
    return hear

def listened(runner):
    for kind in ("progress", "finished", "failed"):
        getattr(runner, kind).connect(heard(kind))
    return runner

def held(on_progress, cancel):  # an upgrade that goes on until it is cancelled
    def wait(now):
        on_progress(now)
        if now.phase == "migrate":
            cancelled = threading.Event()
            while not cancel():
                cancelled.wait(0.01)
    return migrations.upgrade(document, on_progress=wait, cancel=cancel)
"""


def needs(binding: str) -> None:
    """Skip where a binding is not installed; importing both in one process fails."""
    if importlib.util.find_spec(binding) is None:
        pytest.skip(f"{binding} is not installed")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return Path(shutil.copy(RELEASES[0], tmp_path / "old.notes"))


@pytest.fixture(params=["PySide6", "PyQt6"])
def run(request: pytest.FixtureRequest, document: Path) -> Callable[[str], tuple[list[str], str]]:
    """Run a program that ends well; return the lines it printed, and what it said on stderr."""
    needs(request.param)

    def run_program(code: str, returncode: int = 0) -> tuple[list[str], str]:
        program = BEGINNING.format(binding=request.param) + textwrap.dedent(code)
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "QT_QPA_PLATFORM": "offscreen"}
        command = [sys.executable, "-c", program, str(document)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == returncode, done.stderr
        return done.stdout.splitlines(), done.stderr

    return run_program


Run = Any


def test_an_upgrade_tells_its_progress_and_its_report_in_the_thread_of_the_window(run: Run, document: Path) -> None:
    """Whatever a signal is connected to, it is called in the thread that made the runner."""
    said, _ = run("""
        runner = listened(UpgradeRunner(migrations.upgrade, document))
        runner.finished.connect(lambda report: print(*report.applied))
        assert not runner.is_running
        runner.start()
        assert runner.is_running
        application.exec()
        assert not runner.is_running
    """)
    assert said[0] == "progress Progress backup"
    assert said[-3:] == ["progress Progress done", "finished Report ", " ".join(pending("1.0"))]
    assert content(document)["alembic_version"] == [(expected_head,)]


def test_a_cancelled_upgrade_fails_with_its_name_and_changes_nothing(run: Run, document: Path) -> None:
    before = document.read_bytes()
    said, _ = run("""
        runner = listened(UpgradeRunner(held))
        runner.progress.connect(lambda now: runner.cancel())
        runner.start()
        application.exec()
    """)
    assert said[-1] == "failed UpgradeCancelled "
    assert document.read_bytes() == before


def test_the_event_loop_goes_on_during_an_upgrade(run: Run) -> None:
    """The upgrade waits until the window's thread has done a hundred other things, which a frozen one never does."""
    said, _ = run("""
        ticks, runner = [], listened(UpgradeRunner(held))
        timer = QTimer(interval=0)
        timer.timeout.connect(lambda: ticks.append(None) or (len(ticks) > 100 and runner.cancel()))
        timer.start()
        runner.start()
        application.exec()
        print(len(ticks) > 100)
    """)
    assert said[-2:] == ["failed UpgradeCancelled ", "True"]


@pytest.mark.parametrize("end", ["application.quit()", "sys.exit()"], ids=["the event loop ends", "the program ends"])
def test_a_program_that_quits_meanwhile_cancels_the_upgrade_and_waits(run: Run, document: Path, end: str) -> None:
    """The document is the old one, and no part of an upgrade is left beside it."""
    before = document.read_bytes()
    said, _ = run(f"""
        runner = UpgradeRunner(held)
        runner.failed.connect(lambda error: print(type(error).__name__))
        runner.start()
        {"QTimer.singleShot(0, application.quit); application.exec()" if "quit" in end else end}
        print(runner.is_running)
    """)
    assert said == (["UpgradeCancelled", "False"] if "quit" in end else [])
    assert document.read_bytes() == before
    assert {path.name for path in document.parent.iterdir()} <= {"old.notes", "old.notes.0002.bak"}


@pytest.mark.parametrize("error", ["ValueError('broken')", "SystemExit('broken')"], ids=["error", "exit"])
def test_an_error_is_never_swallowed(run: Run, error: str) -> None:
    """It goes to what is connected to ``failed``; without that, where Python tells of errors that nobody caught."""
    said, complaint = run(f"""
        def broken(on_progress, cancel):
            raise {error}
        runner = listened(UpgradeRunner(broken))
        runner.start()
        runner.wait()
        runner = UpgradeRunner(broken)
        runner.start()
        runner.wait()
    """)
    assert said == [f"failed {error.partition('(')[0]} "]
    assert f"{error.partition('(')[0]}: broken" in complaint


def test_a_runner_that_nobody_keeps_still_tells_its_end(run: Run) -> None:
    said, _ = run("""
        import gc
        listened(UpgradeRunner(migrations.upgrade, document)).start()
        gc.collect()
        application.exec()
    """)
    assert said[-1] == "finished Report "


def test_what_an_upgrade_is_given_and_returns_is_let_go_in_the_thread_of_the_window(run: Run) -> None:
    """Objects of Qt must not end in another thread, even if that one takes its time to end itself."""
    said, _ = run("""
        class Widget:
            def __init__(self, name):
                self.name = name
            def __del__(self):
                print(self.name, threading.get_ident() == main_thread)
        def upgrade(widget, on_progress, cancel):
            return Widget("returned")
        def linger(frame, event, _value):
            if event == "return" and frame.f_code.co_name == "_tell":
                threading.Event().wait(0.3)
        threading.setprofile(linger)
        runner = UpgradeRunner(upgrade, Widget("given"))
        runner.finished.connect(lambda _result: application.quit())
        runner.start()
        application.exec()
        print("ended")
    """)
    assert said == ["given True", "returned True", "ended"]


def test_one_that_is_waited_for_has_told_everything(run: Run) -> None:
    said, _ = run("""
        runner = listened(UpgradeRunner(migrations.upgrade, document, backup=None))
        runner.wait()
        runner.start()
        runner.wait()
        print("waited")
        runner.wait()
        QTimer.singleShot(0, application.quit)
        application.exec()
    """)
    assert said[-2:] == ["finished Report ", "waited"]
    assert said.count("finished Report ") == 1


def test_importing_the_module_imports_no_qt() -> None:
    """Nor does freezekit; a program that has none must not pay for it."""
    code = "import sys, freezekit.runtime.qt; print(*[name for name in sys.modules if name.startswith('Py')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.split() == []


@pytest.mark.parametrize("binding", ["PySide6", "PyQt6"])
def test_the_binding_is_the_one_of_the_program(binding: str) -> None:
    """Even if the other one was imported first, by whomever, the application decides."""
    other = {"PySide6": "PyQt6", "PyQt6": "PySide6"}[binding]
    code = f"""
        import sys
        import {binding}.QtCore
        application = {binding}.QtCore.QCoreApplication([])
        sys.modules["{other}.QtCore"] = __import__("types").SimpleNamespace(
            QCoreApplication=__import__("types").SimpleNamespace(instance=lambda: None)
        )
        from freezekit.runtime.qt import UpgradeRunner
        print(type(UpgradeRunner(print).finished).__module__.partition(".")[0])
    """
    needs(binding)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.split() == [binding]


def test_without_qt_the_error_says_what_to_install() -> None:
    code = """
        import sys
        sys.modules.update({"PySide6": None, "PyQt6": None})
        import freezekit
        from freezekit.runtime.qt import UpgradeRunner
        try:
            UpgradeRunner(print)
        except freezekit.UsageError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout == "An UpgradeRunner needs PySide6 or PyQt6, and neither can be imported: install one.\n"
