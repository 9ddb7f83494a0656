"""What the tests share: every form of bundle of sample_app, built once per run whatever the number of workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROJECT = Path(__file__).resolve().parent.parent
PROGRAM = "sample_app.exe" if sys.platform == "win32" else "sample_app"
# A folder name that users have, and that breaks careless path handling: a space, a non-ASCII letter and a percent sign.
ELSEWHERE = "Programs of Zoë 100%"
BUILD_SECONDS = 300
RUN_SECONDS = 120

FORMS = ("pyinstaller-onedir", "pyinstaller-onefile", "cx-folder", "cx-zip", "cx-zip-scripts")


@dataclass(frozen=True)
class HiddenSource:
    """A way to run programs that cannot see the source tree.

    Attributes:
        prefix: What to put before a command.
        how: What is done, in words, for reports.
        hidden: Whether the source tree is really out of sight, or only not the working directory.
    """

    prefix: tuple[str, ...]
    how: str
    hidden: bool


@dataclass(frozen=True)
class Bundle:
    """A built and moved bundle of sample_app.

    Attributes:
        form: One of FORMS.
        executable: The program.
        folder: The folder that was moved; it holds nothing but the bundle.
        source: How the source tree is kept out of the program's sight.
        home: An empty folder, the working directory and the HOME of programs that are given no other.
    """

    form: str
    executable: Path
    folder: Path
    source: HiddenSource
    home: Path

    def run(
        self, *args: str | os.PathLike[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the program as on a user's machine: nothing of Python in the environment, no source, a time limit."""
        return subprocess.run(
            [*self.source.prefix, self.executable, *args],
            cwd=cwd or self.home,
            env={**clean_environment(self.home), **(env or {})},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=RUN_SECONDS,
            check=False,
        )


def clean_environment(home: Path) -> dict[str, str]:
    """Return the few variables that any program may expect."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMPDIR") if name in os.environ}
    return {"HOME": str(home), "LANG": "C.UTF-8", "PATH": os.defpath, **kept}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share, and no other run."""
    base = tmp_path_factory.getbasetemp()
    # A worker of pytest-xdist gets a folder of its own inside the folder of the run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def hidden_source() -> HiddenSource:
    """Hide the source tree from programs: an empty file system over it, where the system lets us mount one."""
    script = 'root=$1; shift; mount -t tmpfs none "$root" && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", str(PROJECT))
    probe = ["test", "!", "-e", str(PROJECT / "pyproject.toml")]
    if shutil.which("unshare") and subprocess.run([*prefix, *probe], capture_output=True, check=False).returncode == 0:
        return HiddenSource(prefix, "an empty file system is mounted over it", hidden=True)
    return HiddenSource((), "it is only not the working directory", hidden=False)


@pytest.fixture(scope="session")
def build_bundle(run_folder: Path, hidden_source: HiddenSource) -> Callable[[str], Bundle]:
    """Return a function that gives the bundle of a form, built by whichever worker needs it first."""

    def bundle_of(form: str) -> Bundle:
        folder = run_folder / ELSEWHERE / form
        # One lock per freezer: PyInstaller's second build continues from the first one's analysis.
        with FileLock(run_folder / f"{form.partition('-')[0]}.lock"):
            if not folder.exists():
                folder.parent.mkdir(exist_ok=True)
                _build_once(form, run_folder / "build").rename(folder)
        home = run_folder / "home"
        home.mkdir(exist_ok=True)
        return Bundle(form, folder / PROGRAM, folder, hidden_source, home)

    return bundle_of


@pytest.fixture(scope="session", params=FORMS)
def bundle(request: pytest.FixtureRequest, build_bundle: Callable[[str], Bundle]) -> Bundle:
    """Each form of bundle of sample_app in turn."""
    return build_bundle(request.param)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one option turn up the tests that are a matter of luck."""
    parser.addoption("--faults", type=int, default=1, metavar="N", help="N times as many faults as usual")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as frozen every test that needs a bundle."""
    for item in items:
        if "build_bundle" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.frozen)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give all tests of one freezer to one worker, so that both freezers build at the same time."""
    from xdist.scheduler import LoadScopeScheduling

    class FreezerScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            parameters = nodeid.partition("[")[2]
            return next((form.partition("-")[0] for form in FORMS if form in parameters), nodeid)

    return FreezerScheduling(config, log)


def _build_once(form: str, work: Path) -> Path:
    """Build a form, or fail again at once as the first attempt of this run did."""
    work.mkdir(exist_ok=True)
    log = work / f"{form}.log"
    if log.exists():
        pytest.fail(f"The build of {form} had failed before; see {log}", pytrace=False)
    log.write_text("It was not finished.")
    built = _build(form, work)
    log.unlink()
    return built


def _build(form: str, work: Path) -> Path:
    """Build a form from the command line that an author would use; return the folder that holds nothing else."""
    if form.startswith("pyinstaller"):
        return _build_with_pyinstaller(form, work)
    return _build_with_cx_freeze(form, work)


def _build_with_pyinstaller(form: str, work: Path) -> Path:
    distribution = work / form
    options = ["--noconfirm", "--log-level=WARN", "--name", "sample_app", "--distpath", str(distribution)]
    # The same work folder for both forms: the second build finds the first one's analysis there, and takes seconds.
    options += ["--workpath", str(work / "pyinstaller"), "--specpath", str(work / "pyinstaller")]
    if form == "pyinstaller-onefile":
        options.append("--onefile")
    _run_build([sys.executable, "-m", "PyInstaller", *options, "sample_app/__main__.py"])
    return distribution if form == "pyinstaller-onefile" else distribution / "sample_app"


def _build_with_cx_freeze(form: str, work: Path) -> Path:
    options = {"cx-folder": [], "cx-zip": ["--zip"], "cx-zip-scripts": ["--zip", "--zip-scripts"]}[form]
    _run_build([sys.executable, "setup_freeze.py", "--target", str(work / form), *options])
    return work / form


def _run_build(command: list[str]) -> None:
    """Build in the project's folder; a failed build fails the test with all that the freezer said."""
    result = subprocess.run(
        command,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=BUILD_SECONDS,
        check=False,
    )
    if result.returncode:
        pytest.fail(f"{' '.join(command)}\nexit code {result.returncode}\n{result.stdout}", pytrace=False)
