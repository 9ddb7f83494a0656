"""What README.md and docs/tutorial.md show of windows, word by word; only what they install is installed already."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bundles import PROJECT, clean_environment
from documents import DOCS, INSTALLING, TUTORIAL, blocks, run_page, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screen import Person

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="away from the source tree there is no documentation")


@contextlib.contextmanager
def running(code: str, folder: Path, person: Person, path: str = os.defpath) -> Iterator[None]:
    """Run commands whose last one shows a window, and close it after.

    Args:
        code: The commands.
        folder: Where they run; its parent is the home of the user.
        person: Who sees the window.
        path: Where programs are found. Nothing else of this Python is in their environment.
    """
    environment = {**clean_environment(folder.parent), **person.environment, "PATH": path}
    command = ["bash", "-euo", "pipefail", "-c", code]
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True) as shell:
        try:
            yield
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
    person.finds_nothing()


@contextlib.contextmanager
def followed_tutorial(folder: Path, person: Person) -> Iterator[None]:
    """Follow the page in an empty folder; its last command shows a window, which is closed after."""
    *before, last = (block for block in blocks(PROJECT / TUTORIAL) if not block.code.startswith(INSTALLING))
    run_page(before, folder)
    with running(last.code, folder, person):
        yield


def test_the_tutorial_ends_with_a_frozen_window(person: Person, tmp_path: Path) -> None:
    """It opens a document that release 1.0 wrote, shows its note, and says what was upgraded."""
    pytest.importorskip("PySide6")
    folder = tmp_path / "empty"
    folder.mkdir()
    with followed_tutorial(folder, person):
        person.finds("frame", "older.notes")
        person.finds("list item", "Buy milk")
        person.finds("label", "Upgraded to 0002")
        assert (folder / "older.notes.0001.bak").is_file()


def test_the_commands_of_the_readme_show_and_freeze_the_window(person: Person, tmp_path: Path) -> None:
    """In a copy of what of the source tree they use."""
    pytest.importorskip("PySide6")
    folder = tmp_path / "tree"
    shutil.copytree(PROJECT / "sample_app", folder / "sample_app", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup_freeze.py"):
        shutil.copy(PROJECT / name, folder)
    _install, show, freeze = shown("README.md", "pip install -e").splitlines()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with running(show, folder, person, path):
        person.finds("button", "New Document…")
    subprocess.run(["bash", "-c", freeze], cwd=folder, env={**os.environ, "PATH": path}, check=True)
    with running("build/sample_app-cx/sample_app", folder, person):
        person.finds("button", "New Document…")
