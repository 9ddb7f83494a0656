"""What the freezers take: Qt for the program with a window, and no Qt for one without, even if it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bundles import RUN_SECONDS, clean_environment
from sample_data import RELEASES

from freezekit.check.run import check
from freezekit.check.smoke import smoke

if TYPE_CHECKING:
    from collections.abc import Callable

    from bundles import Bundle

PROJECT = Path(__file__).resolve().parent.parent.parent
BINDINGS = {"PySide6", "PyQt6", "shiboken6", "PyQt5"}
# What the command line of sample_app consists of, and a module that a program without Qt has no use for.
WITHOUT_QT = "import sample_app.cli, sample_app.documents, sample_app.models\nfrom freezekit.runtime import qt\n"
# Large, and known not to lead anywhere.
SKIPPED = ("alembic", "sqlalchemy", "inflection", "test", "email", "http", "xml", "multiprocessing", "asyncio")


def modules_for_cx_freeze(script: Path) -> set[str]:
    """What cx_Freeze puts into the bundle of a script."""
    code = f"""
        import sys
        from cx_Freeze import Executable, Freezer
        target = sys.argv[1] + "-frozen"
        freezer = Freezer([Executable(sys.argv[1])], target_dir=target, silent=True, excludes={list(SKIPPED)})
        freezer.freeze()
        print(*[module.name for module in freezer.finder.modules])
    """
    return names(code, script)


def modules_for_pyinstaller(script: Path) -> set[str]:
    """What PyInstaller's analysis finds from a script."""
    code = f"""
        import sys
        from PyInstaller.lib.modulegraph.modulegraph import ModuleGraph, Package, SourceModule
        graph = ModuleGraph(sys.path, excludes=[*{SKIPPED}, *sys.stdlib_module_names])
        graph.add_script(sys.argv[1])
        print(*[node.identifier for node in graph.nodes() if isinstance(node, (Package, SourceModule))])
    """
    return names(code, script)


def names(code: str, script: Path) -> set[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), str(script)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("modules_of", [modules_for_cx_freeze, modules_for_pyinstaller])
def test_a_program_without_a_window_gets_no_qt(modules_of: Callable[[Path], set[str]], tmp_path: Path) -> None:
    """freezekit and sample_app name Qt in no import statement that a freezer would follow from there."""
    script = tmp_path / "program.py"
    script.write_text(WITHOUT_QT)
    found = modules_of(script)
    assert {"freezekit.runtime.locate", "freezekit.runtime.qt", "sample_app.cli"} <= found
    assert {name.partition(".")[0] for name in found} & BINDINGS == set()
    assert not [name for name in found if name.startswith("sample_app.window")]


def test_a_bundle_with_the_window_holds_the_modules_of_qt_that_it_uses(window_bundle: Bundle) -> None:
    modules = {path.name.partition(".")[0] for path in window_bundle.folder.rglob("PySide6/Qt*.so")}
    assert {"QtCore", "QtGui", "QtWidgets"} <= modules <= {"QtCore", "QtGui", "QtWidgets", "QtDBus", "QtNetwork"}
    assert not [path for path in window_bundle.folder.rglob("*") if "PyQt6" in path.name]


def test_the_bundle_with_the_window_is_checked_and_smoked(window_bundle: Bundle) -> None:
    assert check(window_bundle.folder).findings == ()
    report = smoke(window_bundle.executable, databases=RELEASES[:1], app_command="open {db}", skip={"twice", "killed"})
    assert report.failure is None


def test_the_frozen_window_is_a_command_line_too(window_bundle: Bundle, tmp_path: Path) -> None:
    result = window_bundle.run("new", tmp_path / "new.notes")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "new.notes").exists()


def test_the_frozen_window_answers_an_installer_that_gives_it_no_stream(window_bundle: Bundle, tmp_path: Path) -> None:
    """As a program without a console is started: the answer is in the file, and no window is shown."""
    document, answer = shutil.copy(RELEASES[0], tmp_path / "old.notes"), tmp_path / "answer.json"
    command = [window_bundle.executable, "db", "status", document, "--json", "--output", answer]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *window_bundle.source.prefix, *command]
    home = window_bundle.home
    ended = subprocess.run(shell, cwd=home, env=clean_environment(home), check=False, timeout=RUN_SECONDS)
    (found,) = json.loads(answer.read_text(encoding="utf-8"))["databases"]
    assert (ended.returncode, found["state"]) == (10, "behind")


def test_without_pyside_the_command_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['PySide6'] = None; from sample_app.cli import main; sys.exit(main([]))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "sample_app: the window needs PySide6: pip install 'freezekit[desktop]'. "
        "Without it there is the command line, such as: sample_app open FILE\n"
    )


def test_a_program_that_was_frozen_without_its_window_says_so() -> None:
    code = """
        import sys
        sys.modules["sample_app.window"] = None
        from sample_app.cli import main
        sys.exit(main(["any.notes"]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this program was built without its window" in done.stderr
