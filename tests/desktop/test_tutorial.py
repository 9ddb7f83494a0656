"""The end of docs/tutorial.md, followed word by word: a frozen window that opens a document of the first release."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bundles import BUILD_SECONDS, clean_environment
from documents import DOCS, Block, blocks

if TYPE_CHECKING:
    from screen import Person

PAGE = DOCS / "tutorial.md"
# What the other parts of the page need, and this one does not.
PASSED_OVER = (
    "python3 -m venv",
    "pip install",
    "freezekit check",
    "cxfreeze build --script app.py",
    "mkdir elsewhere",
    "cp elsewhere",
)

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="away from the source tree there is no documentation")


def follow(block: Block, folder: Path) -> None:
    """Save a file, or run commands, as the page says."""
    if block.saved:
        path = folder / block.saved
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.code, encoding="utf-8")
    elif block.language == "sh" and not block.code.startswith((*PASSED_OVER, "elsewhere/")):
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = ["bash", "-euo", "pipefail", "-c", block.code]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": programs},
            capture_output=True,
            check=False,
            timeout=BUILD_SECONDS,
        )
        assert done.returncode == 0, done.stderr.decode()


def follow_to_the_window(folder: Path, *, is_frozen: bool = False) -> None:
    """Follow the page in a folder until its window can be opened; the document ``old.notes`` is that of release 1.0."""
    for block in blocks(PAGE):
        if is_frozen or not block.code.startswith("cxfreeze"):
            follow(block, folder)


def test_the_tutorial_ends_with_a_frozen_window(person: Person, tmp_path: Path) -> None:
    """It opens a document that release 1.0 wrote, shows its note, and says what was upgraded."""
    pytest.importorskip("PySide6")
    folder, home = tmp_path / "fresh", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    follow_to_the_window(folder, is_frozen=True)
    document = (folder / "old.notes").rename(home / "older.notes")
    environment = {**clean_environment(home), **person.environment}
    with subprocess.Popen([folder / "dist/window/window", document], cwd=home, env=environment) as program:
        try:
            person.finds("list item", "Buy milk")
            person.finds("label", "Upgraded to 0002")
            assert (home / "older.notes.0001.bak").is_file()
        finally:
            program.terminate()
