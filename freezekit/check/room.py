"""A clean room: a place to run a built program as on the machine of a user who has neither Python nor its sources.

The bundle is copied to a folder with a space and a letter beyond ASCII, and run from another folder, with an empty home
and nothing of this process's environment. Where the system has namespaces, the project and the installed packages are
covered by an empty file system, and the bundle is mounted read-only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.check.nuitka import is_nuitka_program
from freezekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ELSEWHERE = "Programs of Zoë"
_PROJECT_FILES = ("pyproject.toml", "setup.py", "alembic.ini", ".git")
_BESIDE = ("_internal", "lib", "base_library.zip")
_MOST_OUTPUT = 20_000
_POLL_SECONDS = 0.01
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
# First the folders to cover, up to a "--"; then the bundle, and "ro" or "rw"; then the command.
_SCRIPT = (
    'mount=$1; shift; while [ "$1" != -- ]; do "$mount" -t tmpfs none "$1" || exit 126; shift; done; shift; '
    'if [ "$2" = ro ]; then "$mount" --bind "$1" "$1" && "$mount" -o remount,bind,ro "$1" || exit 126; fi; '
    'shift 2; exec "$@"'
)


@dataclass(frozen=True)
class Ended:
    """How a run of a program ended.

    Attributes:
        returncode: Its exit code; None when it had to be stopped.
        output: The end of what it printed, both streams.
        seconds: How long it ran.
    """

    returncode: int | None
    output: str
    seconds: float


@dataclass
class Running:
    """A program that has been started."""

    process: subprocess.Popen[bytes]
    log: Path
    started: float
    home: Path

    def wait(self, timeout: float) -> Ended:
        """Wait for its end; stop it, and all that it started, at the time limit."""
        returncode: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            returncode = self.process.wait(max(0.0, self.started + timeout - time.monotonic()))
        self.kill()
        return Ended(returncode, self.output(), time.monotonic() - self.started)

    def kill(self) -> None:
        """Stop it and all that it started, at once."""
        if sys.platform == "win32":
            if self.process.poll() is None:
                kill = ["taskkill", "/F", "/T", "/PID", str(self.process.pid)]  # a process and its children
                subprocess.run(kill, capture_output=True, check=False)
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            _kill_those_of(self.home)
        self.process.wait()

    def output(self) -> str:
        """Return the end of what it has printed so far."""
        with self.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_OUTPUT))
            content = file.read(_MOST_OUTPUT)
        return content.decode("utf-8", "replace").strip()


@dataclass(frozen=True)
class Room:
    """A clean room with one bundle in it.

    Attributes:
        folder: The temporary folder of the room.
        bundle: The copy of the bundle: a folder that holds nothing else.
        executable: The program in it.
        hidden: Folders that programs cannot see.
        prefix: Command that covers those folders; empty where the system has no namespaces.
    """

    folder: Path
    bundle: Path
    executable: Path
    hidden: tuple[str, ...]
    prefix: tuple[str, ...]

    @property
    def scratch(self) -> Path:
        """A private folder, for the databases that programs are given."""
        return self.folder / "scratch"

    def describe(self) -> dict[str, object]:
        """Return what a report should say of the room."""
        if self.prefix:
            return {"isolation": "namespaces", "hidden": list(self.hidden), "read_only": "mounted read-only"}
        is_root = sys.platform != "win32" and os.geteuid() == 0
        read_only = "not read-only: nothing binds root" if is_root else "permissions"
        return {
            "isolation": "none: sources and packages are only not on any path",
            "hidden": [],
            "read_only": read_only,
        }

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None = None, *, writable: bool = False
    ) -> Running:
        """Start the program.

        Args:
            arguments: Its arguments.
            environment: Variables beside the few that any program may expect.
            writable: Whether it may write into its bundle, so that one can see if it does.
        """
        self._protect(not writable)
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.folder))
        log, surroundings = home.with_name(home.name + ".log"), self._environment(home)
        with log.open("wb") as output:
            # A file, not a pipe: what a program leaves running would keep a pipe open.
            process = subprocess.Popen(
                [*self._command(writable), str(self.executable), *arguments],
                cwd=home / "work",
                env={**surroundings, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, log, time.monotonic(), home)

    def run(self, arguments: Sequence[str], timeout: float, *, writable: bool = False) -> Ended:
        """Run the program to its end, or stop it at the time limit."""
        return self.start(arguments, writable=writable).wait(timeout)

    def tree(self) -> dict[str, tuple[int, int, int]]:
        """Return every path of the bundle with mode, size and time of change."""
        found = {}
        for path in sorted(self.bundle.rglob("*")):
            one = path.lstat()
            is_folder = stat.S_ISDIR(one.st_mode)
            facts = (one.st_mode | _WRITE, 0 if is_folder else one.st_size, 0 if is_folder else one.st_mtime_ns)
            found[path.relative_to(self.bundle).as_posix()] = facts
        return found

    def _command(self, writable: bool) -> tuple[str, ...]:  # noqa: FBT001 - private
        return (*self.prefix, *self.hidden, "--", str(self.bundle), "rw" if writable else "ro") if self.prefix else ()

    def _protect(self, read_only: bool) -> None:  # noqa: FBT001 - private
        """Set the permissions of the bundle, where it cannot be mounted read-only."""
        if not self.prefix:
            for path in (self.bundle, *self.bundle.rglob("*")):
                if not path.is_symlink():
                    mode = path.stat().st_mode
                    path.chmod(mode & ~_WRITE if read_only else mode | stat.S_IWUSR)

    def _environment(self, home: Path) -> dict[str, str]:
        folders = {name: str(home / name) for name in ("work", "tmp", "path")}
        for folder in folders.values():
            os.makedirs(folder, exist_ok=True)
        kept = {name: os.environ[name] for name in ("SYSTEMROOT", "WINDIR", "COMSPEC") if name in os.environ}
        homes = dict.fromkeys(("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"), str(home))
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folders["tmp"])
        return {
            **kept,
            **homes,
            **temporary,
            "PATH": folders["path"],
            "LANG": "C.UTF-8",
            "QT_QPA_PLATFORM": "offscreen",
        }


@contextlib.contextmanager
def clean_room(executable: str | os.PathLike[str], hide: Sequence[str | os.PathLike[str]] = ()) -> Iterator[Room]:
    """Make a clean room with a copy of a bundle; it is gone after the block.

    Args:
        executable: The program of a finished bundle. Its folder is copied where it has ``_internal`` or ``lib`` in it,
            the whole ``.app`` on macOS, otherwise the file alone.
        hide: Folders to hide beside the project and the installed packages.

    Raises:
        UsageError: There is no such file.
    """
    program = Path(os.path.abspath(executable))
    if not program.is_file():
        raise UsageError(f"{executable} is no program: name the executable of a finished bundle.")
    with tempfile.TemporaryDirectory(prefix="freezekit-smoke-", ignore_cleanup_errors=True) as folder:
        place = Path(os.path.realpath(folder))
        whole = bundle_of(program)
        bundle = place / ELSEWHERE / (whole.name if whole != program else program.stem)
        if whole == program:
            bundle.mkdir(parents=True)
            shutil.copy2(program, bundle)
        else:
            shutil.copytree(whole, bundle, symlinks=True)
        (place / "scratch").mkdir(mode=0o700)
        inside = program.relative_to(whole) if whole != program else Path(program.name)
        hidden = _hidden(program, place, hide)
        room = Room(place, bundle, bundle / inside, hidden, _namespaces(hidden, place))
        try:
            yield room
        finally:
            room._protect(False)  # noqa: FBT003, SLF001 - so that it can be removed


def bundle_of(program: Path) -> Path:
    """Return the folder that a program needs, or the program itself where it is one file."""
    for parent in program.parents:
        if parent.suffix == ".app":
            return parent
    folder = program.parent
    has_modules = any((folder / name).exists() for name in _BESIDE)
    return folder if has_modules or (_has_extensions(folder) and is_nuitka_program(str(program))) else program


def _has_extensions(folder: Path) -> bool:
    return any(path.suffix in {".so", ".pyd"} for path in folder.iterdir())


def _hidden(program: Path, place: Path, more: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return the folders to hide: projects, installed packages and what was named, but nothing that the room needs."""
    projects = [project for start in (Path.cwd(), program.parent) if (project := _project_of(start)) is not None]
    ours = str(Path(__file__).resolve().parent.parent)
    installed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sysconfig.get_path("stdlib"), ours]
    named = [*map(str, projects), *installed, *(os.fspath(one) for one in more)]
    wanted = sorted({os.path.realpath(one) for one in named if os.path.isdir(one)})
    needed = (str(place), "/bin", "/usr/bin", "/lib", "/usr/lib", "/dev", "/proc")
    able = [one for one in wanted if not any(_is_in(path, one) for path in needed)]
    return tuple(one for one in able if not any(one != other and _is_in(one, other) for other in able))


def _is_in(path: str, folder: str) -> bool:
    return (path + os.sep).startswith(folder.rstrip(os.sep) + os.sep)


def _project_of(folder: Path) -> Path | None:
    found = (one for one in (folder, *folder.parents) if any((one / name).exists() for name in _PROJECT_FILES))
    return next(found, None)


def _namespaces(hidden: tuple[str, ...], place: Path) -> tuple[str, ...]:
    """Return the command that hides folders, if the system lets this user do it."""
    unshare, mount, shell = shutil.which("unshare"), shutil.which("mount"), shutil.which("sh")
    if not (unshare and mount and shell):
        return ()
    for options in (("--mount",), ("--user", "--map-root-user", "--mount")):
        prefix = (unshare, *options, shell, "-c", _SCRIPT, "sh", mount)
        probe = [*prefix, *hidden, "--", str(place), "ro", shell, "-c", ":"]
        if subprocess.run(probe, capture_output=True, check=False, cwd=place).returncode == 0:
            return prefix
    return ()


def _kill_those_of(home: Path) -> None:
    """Stop what left its process group: every process that has this run's home, where that can be seen."""
    mark = f"HOME={home}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
