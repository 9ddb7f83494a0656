"""What the tests share: every form of bundle of sample_app, built once per run whatever the number of workers."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from bundles import BUILD_SECONDS, ELSEWHERE, FORMS, PROGRAM, PROJECT, WINDOW_FORMS, Bundle, HiddenSource
from documents import shown
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], None]]:
    """Make a folder read-only until the test is over, for root as well."""
    with contextlib.ExitStack() as stack:

        def make_read_only(folder: Path) -> None:
            if os.geteuid() != 0:
                for path in (folder, *folder.iterdir()):
                    path.chmod(0o555)
                    stack.callback(path.chmod, 0o755)
                return
            for options in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
                done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"root cannot be kept from writing here: {done.stderr.strip()}")
                if options[0] == "--bind":
                    stack.callback(subprocess.run, ["umount", folder], check=True)

        yield make_read_only


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one option turn up the tests that are a matter of luck."""
    parser.addoption("--faults", type=int, default=1, metavar="N", help="N times as many faults as usual")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as frozen every test that needs a bundle, wherever it is, and all that are about bundles."""
    for item in items:
        if "build_bundle" in getattr(item, "fixturenames", ()) or item.path.parent.name == "frozen":
            item.add_marker(pytest.mark.frozen)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give the tests of one bundle to one worker, so that none waits for the other to build it."""
    from xdist.scheduler import LoadScopeScheduling

    class FreezerScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name, _, parameters = nodeid.partition("[")
            forms = [form.partition("-")[0] for form in (*FORMS, *WINDOW_FORMS) if form in parameters]
            # Of a project of its own, each freezer builds one bundle for all tests of a class or a file.
            own = [f"{name.rpartition('::')[0]} {one}" for one in ("PyInstaller", "cx_Freeze") if one in parameters]
            return (forms or own or [nodeid])[0]

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
    # A shipped command line prints plain text without it; the bundles of cx_Freeze have it.
    options += ["--exclude-module", "rich"]
    # The same work folder for both forms: the second build finds the first one's analysis there, and takes seconds.
    options += ["--workpath", str(work / "pyinstaller"), "--specpath", str(work / "pyinstaller")]
    if form == "pyinstaller-onefile":
        options.append("--onefile")
    script = _window_words("pyinstaller") if form == "pyinstaller-window" else ["sample_app/__main__.py"]
    _run_build([sys.executable, "-m", "PyInstaller", *options, *script])
    return distribution if form == "pyinstaller-onefile" else distribution / "sample_app"


def _build_with_cx_freeze(form: str, work: Path) -> Path:
    options = {
        "cx-zip": ["--zip"],
        "cx-zip-scripts": ["--zip", "--zip-scripts"],
        "cx-server": ["--server"],
    }
    words = ["setup_freeze.py", *options.get(form, [])] if form != "cx-window" else _window_words("python")
    _run_build([sys.executable, *words, "--target", str(work / form)])
    return work / form


def _window_words(program: str) -> list[str]:
    """Return what docs/howto/desktop.md has behind a program, to freeze the program with its window."""
    lines = shown("docs/howto/desktop.md", "pyinstaller --windowed").splitlines()
    (words,) = (words for line in lines if (words := shlex.split(line, comments=True))[0] == program)
    return words[1:]


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
