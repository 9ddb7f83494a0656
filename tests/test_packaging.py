"""What users install: the exact files of the wheel, what the sdist can test, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
IN_SOURCE_TREE = (PROJECT / "freezekit").is_dir()
SCHEMAS = ["freezekit/check/report.schema.json", "freezekit/check/smoke.schema.json"]
HOOKS = [path for path in (PROJECT / "hooks").rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
FREEZER_HOOKS = [
    f"freezekit/_hooks/{name}"
    for name in ("hook-freezekit.py", "hook-alembic.util.compat.py", "rthooks.dat", "rthooks/pyi_rth_freezekit.py")
]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def build_project(kind: str, target: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)]
    subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel built now or, away from the source tree, of the wheel that is installed."""
    if IN_SOURCE_TREE:
        with zipfile.ZipFile(build_project("wheel", tmp_path_factory.mktemp("wheel"))) as wheel:
            names = set(wheel.namelist())
    else:
        names = {path.as_posix() for path in distribution("freezekit").files or () if path.suffix != ".pyc"}
    return {name for name in names if name.startswith("freezekit") and ".dist-info/" not in name}


@pytest.mark.skipif(not IN_SOURCE_TREE, reason="compares with the source tree")
def test_the_wheel_holds_the_package_and_the_hooks_and_nothing_else(wheel_files: set[str]) -> None:
    package = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "freezekit").rglob("*.py")}
    hooks = {f"freezekit/_hooks/{path.relative_to(PROJECT / 'hooks').as_posix()}" for path in HOOKS}
    assert wheel_files == package | hooks | {"freezekit/py.typed", "freezekit/fleets.pyi", *SCHEMAS}


@pytest.mark.parametrize("name", ["freezekit/py.typed", "freezekit/fleets.pyi", *SCHEMAS, *FREEZER_HOOKS])
def test_the_wheel_holds_files_that_are_no_modules(wheel_files: set[str], name: str) -> None:
    assert name in wheel_files


def test_the_wheel_installs_nothing_beside_the_package() -> None:
    """A wheel that brings `tests` or `sample_app` overwrites other people's packages of that name."""
    names = {path.parts[0] for path in distribution("freezekit").files or ()}
    assert not names & {"tests", "sample_app", "hooks", "tools", "benchmarks"}


@pytest.mark.skipif(not IN_SOURCE_TREE, reason="builds the sdist")
def test_the_sdist_holds_everything_the_tests_need(tmp_path: Path) -> None:
    with tarfile.open(build_project("sdist", tmp_path)) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = {"pyproject.toml", "noxfile.py", "setup_freeze.py", "hooks/hook-freezekit.py", "LICENSE"}
    for folder in ("tests", "sample_app", "tools"):
        found = (path.relative_to(PROJECT) for path in (PROJECT / folder).rglob("*") if path.is_file())
        needed |= {path.as_posix() for path in found if not any(part.startswith((".", "__py")) for part in path.parts)}
    assert needed - names == set()


def test_importing_freezekit_imports_neither_alembic_nor_sqlalchemy() -> None:
    """A start-up check must not pay for what it does not need, nor PyInstaller's hook search fail because of it."""
    code = "import sys, freezekit; print(*sorted({'alembic', 'sqlalchemy', 'click', 'rich'} & set(sys.modules)))"
    assert run_python(code).split() == []


@pytest.mark.parametrize("room", ["build", "check"])
def test_importing_freezekit_imports_no_room_that_stays_at_home(room: str) -> None:
    code = f"import sys, freezekit; print('freezekit.{room}' in sys.modules)"
    assert run_python(code).strip() == "False"


@pytest.mark.parametrize(
    ("group", "name"),
    [("pyinstaller40", "hook-dirs"), ("setuptools.finalize_distribution_options", "freezekit")],
    ids=["PyInstaller", "cx_Freeze"],
)
def test_the_freezers_find_freezekit_by_entry_point(group: str, name: str) -> None:
    """A failing entry point is only a warning to PyInstaller: the build would go on without the hooks."""
    (entry,) = (
        entry for entry in entry_points(group=group) if entry.value.startswith("freezekit.") and entry.name == name
    )
    assert callable(entry.load())


def test_pyinstaller_is_given_a_folder_that_holds_the_hook() -> None:
    (entry,) = (entry for entry in entry_points(group="pyinstaller40") if entry.value.startswith("freezekit."))
    folders = [Path(folder) for folder in entry.load()()]
    assert [folder for folder in folders if (folder / "hook-freezekit.py").is_file()] == folders[:1]


def test_the_version_is_the_one_that_is_installed() -> None:
    """It is a literal: a frozen program has no metadata to read it from."""
    assert run_python("import freezekit; print(freezekit.__version__)").strip() == distribution("freezekit").version
