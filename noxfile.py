"""What continuous integration does, one session per question: ``nox``, or ``nox -s tests-3.12 -- -k locate``."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
EXTRAS = "pyinstaller,cx-freeze,cli,sample"
# What a wheel may lack: hooks, py.typed, a module. The rest is the same code as in the source tree.
WHEEL_TESTS = ["packaging", "locate", "upgrade", "create", "cli", "init"]
# What ships inside bundles: all of it on the oldest Python, the core of it on those between.
BETWEEN_TESTS = [f"test_{name}.py" for name in ("locate", "upgrade", "sqlite_safety", "create", "environments")]
SHIPPED_TESTS = [*BETWEEN_TESTS, "test_backup.py", "fleet", "test_scripts.py", "test_records.py"]
# The tests' own files: all a run against the built wheel may see of the repository.
TEST_FILES = ["tests", "sample_app", "setup_freeze.py", "pyproject.toml"]

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "typing", "docs", "tests", "faults", "servers", "frozen", "desktop", "wheel"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


def _offer_pyenv_pythons() -> None:
    """Put pyenv's interpreters on PATH: its shims exist for every version, but run only the selected one."""
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    for version in PYTHONS:
        for folder in sorted(root.glob(f"versions/{version}.*/bin")):
            os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


_offer_pyenv_pythons()


def _install_project(session: nox.Session, group: str, project: str = ".", extras: str = EXTRAS) -> None:
    editable = ["-e"] if project == "." else []
    wanted = [*editable, f"{project}[{extras}]", "--group", str(Path("pyproject.toml:" + group))]
    # Modules are compiled when they are imported, which most of them never are.
    session.install("--quiet", "--no-compile", *wanted)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff; its cache does not notice that a folder became a package."""
    session.install("--quiet", "ruff")
    session.run("ruff", "check", "--no-cache", ".")
    session.run("ruff", "format", "--no-cache", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy --strict."""
    _install_project(session, "dev")
    session.install("--quiet", "-e", ".[desktop]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs; a warning is an error."""
    _install_project(session, "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-q", "docs", "build/docs", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests that need neither bundle nor server: all on the newest Python found, less on the others."""
    found = [version for version in PYTHONS if shutil.which(f"python{version}")]
    names = {found[0]: SHIPPED_TESTS, found[-1]: []}.get(session.python, BETWEEN_TESTS)
    if names and not session.posargs:
        _install_project(session, "shipped", extras="cli,sample")
    else:
        _install_project(session, "test")
    part = [f"tests/{name}" for name in names]
    selected = ["-m", "not frozen and not faults and not servers and not desktop", "-n", "2", "-q"]
    session.run("pytest", *selected, *(session.posargs or part))


@nox.session
def faults(session: nox.Session) -> None:
    """Kill upgrades, fail their system calls, cut their power; ten times as often with ``-- --faults 10``."""
    _install_project(session, "test")
    session.run("pytest", "-m", "faults and not frozen", "-n", "2", "-q", *session.posargs)


@nox.session
def servers(session: nox.Session) -> None:
    """Run the tests on PostgreSQL and MariaDB, once; root on Debian installs what is missing; ``-- --faults 10``."""
    _install_project(session, "test")
    session.run("pytest", "-m", "servers", "-n", "2", "-q", "--durations=10", *session.posargs)


@nox.session
def frozen(session: nox.Session) -> None:
    """Build every form of bundle once and run it."""
    _install_project(session, "test")
    selected = ["-m", "frozen and not desktop and not servers"]
    session.run("pytest", *selected, "-n", "2", "-q", "--durations=10", *session.posargs)


@nox.session
def nuitka(session: nox.Session) -> None:
    """Compile a program with Nuitka, which takes many minutes, and run it; not one of the checks."""
    _install_project(session, "test")
    session.install("--quiet", "nuitka")
    session.run("pytest", "tests/frozen/test_flags_bundles.py", "-k", "nuitka", "-rs", *session.posargs)


@nox.session
def desktop(session: nox.Session) -> None:
    """Use the frozen window of sample_app on a screen of its own; root on Debian installs what is missing for that."""
    extras = "pyinstaller,cx-freeze,cli,sample,desktop"
    wanted = ["-e", f".[{extras}]", "--group", str(Path("pyproject.toml:desktop"))]
    session.install("--quiet", "--no-compile", *wanted)
    session.run("pytest", "-m", "desktop", "-n", "2", "-q", "--durations=10", "tests/desktop", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure freezekit beside plain Alembic; not one of the checks."""
    _install_project(session, "bench")
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Test the built wheel from a folder that holds the tests, and neither freezekit nor hooks."""
    session.install("--quiet", "build")
    # Not session.create_tmp(): it lies inside the source tree.
    with tempfile.TemporaryDirectory() as built:
        session.run("python", "-m", "build", "--wheel", "--outdir", built, ".", silent=True)
        (archive,) = Path(built).glob("*.whl")
        session.install("--quiet", "--force-reinstall", "--no-deps", str(archive))
        _install_project(session, "test", project=str(archive))
        away = Path(built, "away")
        for name in TEST_FILES:
            _copy(Path(name), away / name)
        with session.chdir(away):
            session.run("pytest", "-n", "2", "-q", *(f"tests/test_{name}.py" for name in WHEEL_TESTS))
            chosen = "(onedir or cx-folder) and (each_release or written or administrator)"
            session.run("pytest", "-k", chosen, "-n", "2", "-q", "tests/frozen/test_sample_app_bundles.py")


@nox.session(name="release-check")
def release_check(session: nox.Session) -> None:
    """Build what would be released, and test the wheel on every Python found; not one of the checks."""
    session.install("--quiet", "build", "check-wheel-contents", "twine")
    with tempfile.TemporaryDirectory() as built:
        # The wheel is built from the sdist, so the sdist is whole.
        session.run("python", "-m", "build", "--outdir", built, ".", silent=True)
        (archive,), (source,) = Path(built).glob("*.whl"), Path(built).glob("*.tar.gz")
        session.run("twine", "check", "--strict", str(archive), str(source))
        # PyInstaller finds hooks by names that nobody can import: hook-freezekit.py.
        session.run("check-wheel-contents", "--ignore", "W004", str(archive))
        away = Path(built, "away")
        for name in TEST_FILES:
            _copy(Path(name), away / name)
        tests = session.posargs or [f"tests/test_{name}.py" for name in WHEEL_TESTS]
        for version in filter(lambda one: shutil.which(f"python{one}"), PYTHONS):
            place = Path(built, version)
            session.run(f"python{version}", "-m", "venv", str(place), external=True)
            python = str(place / ("Scripts" if os.name == "nt" else "bin") / "python")
            run = [python, "-m", "pip", "install", "--quiet"]
            session.run(*run, "--upgrade", "pip", external=True)
            group = str(Path("pyproject.toml:test"))
            session.run(*run, f"{archive}[{EXTRAS}]", "--group", group, external=True)
            with session.chdir(away):
                session.run(python, "-m", "pytest", "-n", "2", "-q", *tests, external=True)


def _copy(source: Path, destination: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, destination)
