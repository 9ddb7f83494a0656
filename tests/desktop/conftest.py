"""A screen for each worker, the window of sample_app frozen once per run, and the program in the source tree."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
STOP_SECONDS = 20
MANY_NOTES = 50_000

from bundles import WINDOW_FORMS, Bundle, clean_environment  # noqa: E402
from sample_data import RELEASES  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from screen import Person


# Needed to import these modules: other sessions have none of it, and deselect these tests.
NEEDED = {"test_window.py": ("PySide6",), "test_frozen_window.py": ("PySide6", "jeepney", "Xlib")}
MISSING = {name: [one for one in needed if find_spec(one) is None] for name, needed in NEEDED.items()}
collect_ignore = [name for name, missing in MISSING.items() if missing]


def pytest_report_header() -> list[str]:
    """Say what is left out, to those who run this folder alone."""
    return [f"left out: {name}, without {', '.join(MISSING[name])}" for name in collect_ignore]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.desktop)


class Start(Protocol):
    """Starts the frozen program; it is stopped after the test if it is still there."""

    def __call__(self, *arguments: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]: ...


@pytest.fixture(scope="session")
def screen() -> Iterator[Person]:
    """A screen that nobody else uses."""
    from screen import NoScreen, install_screen
    from screen import screen as new_screen

    with contextlib.ExitStack() as stack:
        try:
            install_screen()
            person = stack.enter_context(new_screen())
        except NoScreen as reason:
            pytest.skip(f"no screen: {reason}")
        yield person


@pytest.fixture(scope="session", params=WINDOW_FORMS)
def window_bundle(request: pytest.FixtureRequest, build_bundle: Callable[[str], Bundle]) -> Bundle:
    """The program with its window, by each freezer in turn."""
    if find_spec("PySide6") is None:
        pytest.skip("PySide6 is not installed")
    return build_bundle(request.param)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a user who has never started the program."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def person(screen: Person) -> Person:
    """Somebody in front of an empty screen."""
    screen.finds_nothing()
    return screen


@pytest.fixture
def start(window_bundle: Bundle, person: Person, home: Path) -> Iterator[Start]:
    """Start the frozen program on the screen, with nothing of this Python in its environment."""
    started: list[subprocess.Popen[bytes]] = []

    def start_program(*arguments: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        command = [*window_bundle.source.prefix, *prefix, window_bundle.executable, *arguments]
        environment = {**clean_environment(home), **person.environment}
        started.append(subprocess.Popen(command, cwd=home, env=environment))
        return started[-1]

    yield start_program
    for process in started:
        process.terminate()
        process.wait(STOP_SECONDS)


@pytest.fixture
def old(home: Path) -> Path:
    """A document of the first release."""
    return Path(shutil.copy(RELEASES[0], home / "old.notes"))


@pytest.fixture
def large(home: Path) -> Path:
    """A document of the first release whose upgrade takes its time."""
    document = Path(shutil.copy(RELEASES[0], home / "large.notes"))
    with contextlib.closing(sqlite3.connect(document)) as connection, connection:
        connection.execute(
            "INSERT INTO note (notebook_id, title, text) WITH number(n) AS "
            f"(SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {MANY_NOTES}) "
            "SELECT 1, 'Note ' || n, 'some words and ' || n FROM number"
        )
    return document


@pytest.fixture
def dragged(person: Person) -> Iterator[Start]:
    """Start another program, whose window has a file that can be dragged."""
    started: list[subprocess.Popen[bytes]] = []

    def start_source(*arguments: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        command = [*prefix, sys.executable, HERE / "drag_source.py", *arguments]
        started.append(subprocess.Popen(command, env={**os.environ, **person.environment, "QT_QPA_PLATFORM": "xcb"}))
        return started[-1]

    yield start_source
    for process in started:
        process.terminate()
        process.wait(STOP_SECONDS)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of its own, of so many bytes; called again, it gets another size and keeps its files."""
    folder = tmp_path / "volume"
    folder.mkdir()

    def of_size(size: int) -> Path:
        options = ["-o", f"remount,size={size}"] if os.path.ismount(folder) else ["-t", "tmpfs", "-o", f"size={size}"]
        done = subprocess.run(["mount", *options, "none", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield of_size
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", folder], check=True)
