"""What freezing costs: the bundles that are measured inside, and the time and space that freezekit's hooks take."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from measure import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS = Path(__file__).resolve().parent
FREEZERS = ("PyInstaller", "cx_Freeze")
WRITTEN = "app.py"
_NAME = "bench"
_SUFFIX = ".exe" if os.name == "nt" else ""


def write_program(project: Path, location: str | None = None) -> None:
    """Write a program that uses Alembic, or Alembic through freezekit: the difference is what the hooks cost."""
    lines = ["import logging.config", "import sqlite3", "from alembic import command"]
    if location is not None:
        lines += ["import freezekit", f"freezekit.locate({location!r})"]
    (project / WRITTEN).write_text("\n".join(lines), encoding="utf-8")


def freeze(freezer: str, project: Path, target: Path, program: Path = BENCHMARKS / "program.py") -> float:
    """Freeze a program with the chains its project configures.

    Args:
        freezer: One of ``FREEZERS``.
        project: Folder of pyproject.toml and of the chains.
        target: New folder that holds the bundle, and what the freezer leaves behind.
        program: The program; without it, the one that measures.

    Returns:
        How long it took, in seconds.

    Raises:
        SystemExit: The freezer failed; shows what it said.
    """
    scripts = sysconfig.get_path("scripts")
    if freezer == "PyInstaller":
        folders = [f"--distpath={target / 'dist'}", f"--workpath={target / 'work'}", f"--specpath={project}"]
        command = [
            sys.executable,
            "-m",
            "PyInstaller",
            "--noconfirm",
            "--clean",
            f"--name={_NAME}",
            *folders,
            str(program),
        ]
    else:
        options = ["--silent", f"--target-name={_NAME}", f"--target-dir={target / 'dist' / _NAME}"]
        command = [os.path.join(scripts, "cxfreeze"), "--script", str(program), *options]
    path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
    # From a folder of its own PyInstaller keeps no state of other builds.
    environment = {**os.environ, "PATH": path, "PYINSTALLER_CONFIG_DIR": str(target / "state")}
    environment["PYTHONPATH"] = str(BENCHMARKS)  # cx_Freeze does not look beside the program
    target.mkdir(parents=True)

    def build() -> None:
        result = subprocess.run(
            command,
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode:
            raise SystemExit(f"{freezer} failed:\n{result.stdout}")

    return seconds(build)


def executable(target: Path) -> Path:
    """Return the program inside a bundle."""
    return target / "dist" / _NAME / f"{_NAME}{_SUFFIX}"


def scripts_folder(freezer: str, target: Path) -> Path:
    """Return the folder inside a bundle below which packages lie."""
    return target / "dist" / _NAME / ("_internal" if freezer == "PyInstaller" else "lib")


def module_bytes(freezer: str, target: Path) -> int:
    """Return how much room the modules of freezekit take in a bundle."""
    if freezer == "PyInstaller":
        from PyInstaller.archive.readers import CArchiveReader

        modules = CArchiveReader(str(executable(target))).open_embedded_archive("PYZ.pyz").toc
        return sum(entry[2] for name, entry in modules.items() if name.partition(".")[0] == "freezekit")
    library = scripts_folder(freezer, target)
    files = sum(path.stat().st_size for path in library.glob("freezekit/**/*") if path.is_file())
    with ZipFile(library / "library.zip") as archive:
        return files + sum(one.compress_size for one in archive.infolist() if one.filename.startswith("freezekit"))


def data_bytes() -> int:
    """Return the size of what is made for sample_app: its manifest and its empty database."""
    with tempfile.TemporaryDirectory() as folder:
        return sum(os.path.getsize(path) for path in written(BENCHMARKS.parent, "sample_app:migrations", folder))


def written(project: Path, location: str, folder: str | Path) -> list[str]:
    """Write manifest and empty database of a chain below a folder, as a build does; return their paths."""
    from freezekit.build.cargo import load_explicitly

    cargo = load_explicitly(location, "alembic", str(project), "no freezer")
    files = [path for shipment in cargo.shipments for path, _ in shipment.written(str(folder))]
    return [path for path in files if os.path.basename(path).startswith("freezekit.")]


def direct_seconds(project: Path, location: str, folder: Path) -> Callable[[], float]:
    """Return what measures the work of a hook by itself: reading, following imports, writing the manifest."""
    from freezekit.build.cargo import load_explicitly
    from freezekit.build.imports import resolve

    def work() -> None:
        cargo = load_explicitly(location, "alembic", str(project), "no freezer")
        resolve(cargo.imports, [*sys.path, *cargo.search])
        with tempfile.TemporaryDirectory(dir=folder) as made:
            for shipment in cargo.shipments:
                shipment.written(made)

    return lambda: seconds(work)
