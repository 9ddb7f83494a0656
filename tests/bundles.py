"""A built bundle of sample_app, and how the tests run it: as on the machine of a user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT = Path(__file__).resolve().parent.parent
PROGRAM = "sample_app.exe" if sys.platform == "win32" else "sample_app"
# A folder name that users have, and that breaks careless path handling: a space, a non-ASCII letter and a percent sign.
ELSEWHERE = "Programs of Zoë 100%"
BUILD_SECONDS = 300
RUN_SECONDS = 120

FORMS = ("pyinstaller-onedir", "pyinstaller-onefile", "cx-folder", "cx-zip", "cx-zip-scripts")
# With the window: of other tests, in a session that has PySide6.
WINDOW_FORMS = ("cx-window", "pyinstaller-window")


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

    def start(self, *args: str | os.PathLike[str]) -> subprocess.Popen[bytes]:
        """Start the program as ``run`` does, and do not wait for it; what it prints is dropped."""
        return subprocess.Popen(
            [*self.source.prefix, self.executable, *args],
            cwd=self.home,
            env=clean_environment(self.home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

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


def copy_of_tree(target: Path) -> Path:
    """Copy the source tree as somebody who clones it has it, into a folder that may be there already."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        made = {"build", "dist"} if Path(folder) == PROJECT else set()
        return [name for name in names if name.startswith(".") or name == "__pycache__" or name in made]

    return Path(shutil.copytree(PROJECT, target, ignore=left_out, dirs_exist_ok=True))


def clean_environment(home: Path) -> dict[str, str]:
    """Return the few variables that any program may expect."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMPDIR") if name in os.environ}
    return {"HOME": str(home), "LANG": "C.UTF-8", "PATH": os.defpath, **kept}
