"""``freezekit flags``: what it prints and lays out for each freezer, and what it refuses."""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from freezekit.build import FREEZERS, NOT_SHIPPED
from freezekit.build import flags as build_flags
from freezekit.cli import main

if TYPE_CHECKING:
    from pathlib import Path

ENV = """\
import colorsys
from importlib.metadata import version
version("mako")
"""
REVISION = "revision = {name!r}\ndown_revision = None\ndef upgrade():\n    pass\n"
CONFIGURED = "[[tool.freezekit.migrations]]\nscript_location = '{}:scripts'\nsection = '{}'\nsnapshot = false\n"
INI = "[{}]\nscript_location = {}/scripts\nsqlalchemy.url = sqlite:///{}.db\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two chains, ``stock`` and ``shop``; the working directory."""
    for name in ("shop", "stock"):
        folder = tmp_path / name / "scripts"
        (folder / "versions").mkdir(parents=True)
        (folder / "env.py").write_text(ENV)
        (folder / "versions" / "one.py").write_text(REVISION.format(name=f"{name}1"))
        (folder / "words.txt").write_text("beside")
        (tmp_path / name / "__init__.py").touch()
    sections = (("shop", "alembic"), ("stock", "stock"))
    (tmp_path / "pyproject.toml").write_text("".join(CONFIGURED.format(*one) for one in sections))
    (tmp_path / "alembic.ini").write_text("".join(INI.format(name, one, one) for one, name in sections))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    """Return the document of the command."""
    assert main(["flags", *args, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def laid_out(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {build_flags.MARK}


SHIPPED = {
    f"{chain}/scripts/{name}"
    for chain, manifest in (("shop", "freezekit.json"), ("stock", "freezekit.stock.json"))
    for name in ("env.py", "versions/one.py", "words.txt", "alembic.ini", manifest)
}


@pytest.mark.parametrize("freezer", FREEZERS)
def test_all_that_ships_is_laid_out_as_in_the_bundle_and_named(
    freezer: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every chain with its manifest, its configuration without the developer's URL, and what the scripts import."""
    found = document(capsys, freezer.upper(), "--folder", "made")["flags"]
    top = {"cx_Freeze": "lib/"}.get(freezer, "")
    assert {one for one in laid_out(project / "made") if "dist-info" not in one} == {top + one for one in SHIPPED}
    assert "sqlite" not in (project / "made" / top / "shop/scripts/alembic.ini").read_text()
    expected = {
        "pyinstaller": {"--add-data=made/shop:shop", "--add-data=made/stock:stock", "--hidden-import=colorsys"}
        | {"--hidden-import=sqlalchemy.dialects.sqlite", "--copy-metadata=mako"}
        | {f"--exclude-module={name}" for name in NOT_SHIPPED},
        "cx_Freeze": {"--include-files=made/lib", f"--excludes={','.join(NOT_SHIPPED)}"},
        "nuitka": {"--include-raw-dir=made/shop=shop", "--include-raw-dir=made/stock=stock"}
        | {"--include-module=colorsys", "--include-distribution-metadata=mako"}
        | {"--include-package=freezekit.runtime", "--include-module=sqlalchemy.dialects.sqlite"},
    }
    assert expected[freezer] <= set(found)
    if freezer == "cx_Freeze":
        (included,) = (one for one in found if one.startswith("--includes="))
        assert {"colorsys", "sqlalchemy.dialects.sqlite"} <= set(included.partition("=")[2].split(","))
        assert "Name: Mako" in next((project / "made/lib").glob("mako-*.dist-info/METADATA")).read_text()


def test_only_the_options_are_printed_one_on_each_line(project: Path) -> None:
    """So that a shell makes one argument of each; what the scripts and the build say goes elsewhere."""
    command = [sys.executable, "-m", "freezekit", "flags", "nuitka"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith("--") and " " not in line for line in done.stdout.splitlines())


def test_the_empty_database_is_among_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the manifest that knows it, unless the project wants none."""
    env = "from freezekit.environment import run\nrun(None)\n"
    (project / "shop/scripts/env.py").write_text(env)
    (project / "pyproject.toml").write_text("[tool.freezekit]\nscript_location = 'shop:scripts'\n")
    (project / "alembic.ini").unlink()
    document(capsys, "pyinstaller")
    made = project / "build/freezekit/shop/scripts"
    assert json.loads((made / "freezekit.json").read_text())["snapshot"] == "freezekit.db.gz"
    (project / "empty.db").write_bytes(gzip.decompress((made / "freezekit.db.gz").read_bytes()))
    with closing(sqlite3.connect(project / "empty.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("shop1",)]


@pytest.mark.parametrize(
    "choice", [["--section", "stock"], ["--migrations", "stock:scripts", "--section", "stock"]], ids=" ".join
)
def test_one_of_several_chains_can_be_chosen(
    choice: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document(capsys, "nuitka", "--folder", "made", *choice)
    assert laid_out(project / "made") == {one for one in SHIPPED if one.startswith("stock")}


def test_each_run_makes_the_folder_anew(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A revision that is gone is not there any more; a run that fails leaves what was there."""
    document(capsys, "nuitka")
    second = project / "shop/scripts/versions/two.py"
    second.write_text(REVISION.format(name="shop2").replace("None", "'shop1'"))
    document(capsys, "nuitka")
    made = project / "build/freezekit"
    assert laid_out(made) == {*SHIPPED, "shop/scripts/versions/two.py"}
    second.write_text("a syntax error")
    assert main(["flags", "nuitka"]) == 1
    assert laid_out(made) == {*SHIPPED, "shop/scripts/versions/two.py"}
    second.unlink()
    document(capsys, "nuitka")
    assert laid_out(made) == SHIPPED
    assert [one.name for one in made.parent.iterdir()] == ["freezekit"]


@pytest.mark.parametrize("folder", ["shop", "pyproject.toml", "."])
def test_nothing_of_the_users_is_replaced(folder: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that was not made by the command is refused, and a file is."""
    before = laid_out(project)
    assert main(["flags", "nuitka", "--folder", folder]) == 2
    assert "was not made by this command" in capsys.readouterr().err
    assert laid_out(project) == before


@pytest.mark.parametrize(("freezer", "folder"), [("pyinstaller", "a:b"), ("cx_Freeze", "a,b"), ("nuitka", "a=b")])
def test_a_folder_that_the_options_cannot_hold_is_refused(
    freezer: str, folder: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["flags", freezer, "--folder", folder]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert not (project / folder).exists()


def test_wrong_usage_of_flags_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown freezer, and a project without migrations; nothing is made."""
    monkeypatch.chdir(tmp_path)
    assert main(["flags", "py2exe"]) == 2
    assert "'nuitka'" in capsys.readouterr().err
    assert main(["flags", "nuitka"]) == 2
    assert "configures no migrations" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
