"""Freeze sample_app with both freezers and open documents of its past releases with each bundle.

Needs Python >= 3.10 with pip and venv; everything else is installed below the project, in .venv-try. The bundles and
the documents go to a temporary folder, which is kept, so that they can be tried by hand.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from environment import PROJECT, SetUpError, install, require_binutils, run, say, step, virtual_environment

EXTRAS = "pyinstaller,cx-freeze,sample"
SUFFIX = ".exe" if sys.platform == "win32" else ""
PROGRAM = f"sample_app{SUFFIX}"
# A folder name that a user's machine may well have, and that breaks careless path handling.
ELSEWHERE = "Programs of Zoë 100%"
SHOWN_LINES = 8


def main() -> int:
    """Do the whole demonstration; 1 if a document could not be opened."""
    try:
        with step("Preparing .venv-try (Alembic, SQLAlchemy, PyInstaller, cx_Freeze)"):
            require_binutils()
            programs = virtual_environment(".venv-try")
            install(programs, "--editable", f".[{EXTRAS}]")
        work = Path(tempfile.mkdtemp(prefix="freezekit-"))
        bundles = [_freeze_with_pyinstaller(programs, work), _freeze_with_cx_freeze(programs, work)]
    except SetUpError as problem:
        say(str(problem))
        return 1
    documents = sorted((PROJECT / "sample_app" / "releases").glob("*.notes"))
    opened = [_open_copy(bundle, document, work) for bundle in bundles for document in documents]
    say()
    say(f"{opened.count(True)} of {len(opened)} documents of past releases were opened by the frozen programs.")
    say(f"Bundles and documents are in {work}")
    return 0 if opened and all(opened) else 1


def _freeze_with_pyinstaller(programs: Path, work: Path) -> Path:
    with step("Freezing sample_app with PyInstaller; the author wrote no option about migrations"):
        command = [str(programs / "pyinstaller"), "--noconfirm", "--name", "sample_app"]
        for option in ("distpath", "workpath", "specpath"):
            command += [f"--{option}", str(work / "PyInstaller build" / option)]
        run([*command, "sample_app/__main__.py"], quiet=True)
    return _move_elsewhere(work / "PyInstaller build" / "distpath" / "sample_app", work, "PyInstaller")


def _freeze_with_cx_freeze(programs: Path, work: Path) -> Path:
    with step("Freezing sample_app with cx_Freeze; setup_freeze.py takes its options from freezekit"):
        bundle = work / "cx_Freeze build"
        run([str(programs / "python"), "setup_freeze.py", "--target", str(bundle)], quiet=True)
    return _move_elsewhere(bundle, work, "cx_Freeze")


def _move_elsewhere(bundle: Path, work: Path, freezer: str) -> Path:
    destination = work / ELSEWHERE / freezer
    destination.parent.mkdir(exist_ok=True)
    shutil.move(bundle, destination)
    files = [path for path in destination.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    say(f"    {len(files)} files, {size / 1e6:.1f} MB, moved to {destination}")
    return destination


def _open_copy(bundle: Path, document: Path, work: Path) -> bool:
    """Open a copy of one document with one bundle and show what the program says and what happened to the file."""
    folder = work / "Documents" / bundle.name
    folder.mkdir(parents=True, exist_ok=True)
    copy = Path(shutil.copy(document, folder))
    before = _revisions(copy)
    say()
    say(f"==> {bundle.name} bundle, document of release {document.stem}")
    say(f'    $ cd "{folder}" && env -i "{bundle / PROGRAM}" open {copy.name}')
    started = time.monotonic()
    result = subprocess.run(
        [str(bundle / PROGRAM), "open", copy.name],
        cwd=folder,
        env=_clean_environment(),
        check=False,
        capture_output=True,
        timeout=120,
    )
    seconds = time.monotonic() - started
    lines = (result.stdout + result.stderr).decode("utf-8", errors="replace").splitlines()
    for line in lines[:SHOWN_LINES]:
        say(f"    | {line}")
    if len(lines) > SHOWN_LINES:
        say(f"    | ... {len(lines) - SHOWN_LINES} more lines")
    say(f"    exit code {result.returncode}, {seconds:.2f} s; revision {before} -> {_revisions(copy)}")
    return result.returncode == 0


def _clean_environment() -> dict[str, str]:
    """Nothing of Python, of the virtual environment or of this project; Windows cannot start without SYSTEMROOT."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMPDIR") if name in os.environ}
    return {"LANG": "C.UTF-8", **kept}


def _revisions(document: Path) -> str:
    with closing(sqlite3.connect(document)) as connection:
        return ", ".join(row[0] for row in connection.execute("SELECT version_num FROM alembic_version ORDER BY 1"))


if __name__ == "__main__":
    sys.exit(main())
