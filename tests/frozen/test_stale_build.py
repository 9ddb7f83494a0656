"""PyInstaller's second build in one folder: it begins from the first one's analysis, and may not miss a migration."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from projects import PYINSTALLER, SUFFIX, build, history, manifests, revision, write

import freezekit

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.frozen

PYPROJECT = "[tool.freezekit]\nscript_location = 'shop:migrations'\nsnapshot = false\n"
SPEC = """\
from freezekit.build.pyinstaller import spec_options

a = Analysis(["app.py"], **spec_options("shop:migrations"))
pyz = PYZ(a.pure)
exe = EXE(pyz, a.scripts, exclude_binaries=True, name="app")
coll = COLLECT(exe, a.binaries, a.datas, name="app")
"""
VERSIONS = "shop/migrations/versions"
# The program asks for heads only, which needs neither of the two packages; analysing them takes half a minute.
STUBS = {"alembic/__init__.py": "", "sqlalchemy/__init__.py": ""}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose program prints the heads it was shipped with."""
    heads = "import freezekit\n\nprint(*freezekit.locate('shop:migrations').heads)\n"
    files = {"app.py": heads, "app.spec": SPEC, "pyproject.toml": PYPROJECT, **STUBS, **history("shop/migrations")}
    return write(tmp_path / "project", files)


def built(project: Path, source: str) -> bool:
    """Build once more; return whether PyInstaller repeated its analysis."""
    result = build(project, [PYINSTALLER, "--noconfirm", source])
    assert result.returncode == 0, result.stdout
    return "Processing standard module hook 'hook-freezekit.py'" in result.stdout


def heads(project: Path) -> str:
    """Return what the program in the bundle prints."""
    program = project / "dist" / "app" / f"app{SUFFIX}"
    return subprocess.run([program], cwd=project.parent, capture_output=True, text=True, check=True).stdout.strip()


def scripts(project: Path) -> dict[str, str]:
    """Return the revisions in the bundle."""
    folder = project / "dist" / "app" / "_internal" / VERSIONS
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def edit(project: Path) -> None:
    first = project / VERSIONS / "0001_first.py"
    first.write_text(first.read_text(encoding="utf-8").replace("body TEXT", "body TEXT, edited INT"), encoding="utf-8")


def test_a_bare_command_line_notices_every_change_of_the_migrations(project: Path) -> None:
    """Added, edited or deleted: it is in the next bundle, or not; without a change nothing is analysed again."""
    assert built(project, "app.py")
    assert heads(project) == "0002"
    assert not built(project, "app.py")
    assert not built(project, "app.py")

    write(project, {f"{VERSIONS}/0003.py": revision("0003", "0002")})
    assert built(project, "app.py")
    assert heads(project) == "0003"
    assert set(scripts(project)) == {"0001_first.py", "0002-second.one.py", "0003.py"}
    assert not built(project, "app.py")

    edit(project)
    (project / VERSIONS / "0003.py").unlink()
    assert built(project, "app.py")
    assert heads(project) == "0002"
    assert set(scripts(project)) == {"0001_first.py", "0002-second.one.py"}
    assert "edited INT" in scripts(project)["0001_first.py"]
    assert not built(project, "app.py")


def test_a_spec_file_with_the_helper_notices_every_change_of_the_migrations(project: Path) -> None:
    """The options hold a digest of the migrations, and PyInstaller compares options."""
    assert built(project, "app.spec")
    assert heads(project) == "0002"
    assert not built(project, "app.spec")

    edit(project)
    (project / VERSIONS / "0002-second.one.py").unlink()
    write(project, {f"{VERSIONS}/v2.0.py": revision("2.0", "0001")})
    stale = manifests(project / "dist")
    assert [one["heads"] for one in stale.values()] == [["0002"]]
    assert freezekit.locate(project / "shop" / "migrations").heads == ("2.0",), "so the bundle is known to be stale"

    assert built(project, "app.spec")
    assert heads(project) == "2.0"
    assert set(scripts(project)) == {"0001_first.py", "v2.0.py"}
    assert "edited INT" in scripts(project)["0001_first.py"]
