"""``freezekit flags``: bundles built where no hook of freezekit runs, with the options that it prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bundles import ELSEWHERE, clean_environment
from documents import PAGES, shown
from projects import (
    SCRIPTS,
    Workshop,
    build,
    history,
    migrated,
    plain_upgrade,
    program,
    revision,
    without_site_packages,
    write,
)
from sample_data import content

import freezekit
from freezekit.check.run import check

if TYPE_CHECKING:
    from bundles import HiddenSource

pytestmark = [
    pytest.mark.frozen,
    pytest.mark.skipif(not PAGES, reason="away from the source tree there is no documentation"),
]

INI = """\
[alembic]
script_location = shop/migrations
sqlalchemy.url = sqlite:///developer.db
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
handlers =
"""
# A library, the metadata of another one and a file beside the scripts, none of which any freezer sees.
NEEDS = """\
import colorsys, os
from importlib.metadata import version
with open(os.path.join(os.path.dirname(__file__), os.pardir, "words.txt"), encoding="utf-8") as file:
    words = [file.read(), version("mako") and "mako", str(colorsys.rgb_to_hsv(0, 0, 1)[2])]
op.execute(sa.text("INSERT INTO note VALUES (:words)").bindparams(words=" ".join(words)))
"""
FILES = {
    "app.py": program('":".join(["shop", "migrations"])'),
    "alembic.ini": INI,
    "shop/__init__.py": "",
    **history("shop/migrations"),
    "shop/migrations/words.txt": "beside",
    "shop/migrations/versions/0003.py": revision("0003", "0002", NEEDS),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and a freezekit whose metadata names no hooks: what is first on the path stands for a distribution."""
    found = tmp_path / "no hooks" / f"freezekit-{freezekit.__version__}.dist-info"
    found.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: freezekit\nVersion: {freezekit.__version__}\n"
    (found / "METADATA").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(found.parent))
    return write(tmp_path / "my project", FILES)


def command(freezer: str) -> str:
    """Return the line of the page that freezes with a freezer."""
    lines = shown("docs/howto/command-line.md", "pyinstaller --noconfirm").splitlines()
    return next(line for line in lines if f"freezekit flags {freezer}" in line)


@pytest.mark.parametrize("freezer", ["cx_Freeze", "pyinstaller"])
def test_the_printed_options_ship_migrations_where_no_hook_runs(
    freezer: str, project: Path, tmp_path: Path, hidden_source: HiddenSource
) -> None:
    """The bundle upgrades an old document as plain Alembic does, creates a new one, and has no finding."""
    result = build(project, ["bash", "-euc", command(freezer)])
    assert result.returncode == 0, result.stdout
    assert "freezekit: shipping" not in result.stdout
    findings = check(str(project / "dist" / "app"), str(project)).findings
    # PyInstaller takes setuptools along for a name in Alembic; a hook of freezekit keeps that out.
    assert [one for one in findings if one.id != "FK145"] == []
    old = plain_upgrade(project / "alembic.ini", tmp_path / "old.db", "0001")
    plain = plain_upgrade(project / "alembic.ini", Path(shutil.copy(old, tmp_path / "plain.db")))
    folder = tmp_path / ELSEWHERE
    (project / "dist" / "app").rename(folder)
    shutil.rmtree(project)
    bundle = without_site_packages(Workshop(tmp_path, hidden_source).bundle(folder, freezer))
    assert migrated(bundle, old)["applied"] == ["0002", "0003"]
    assert content(old) == content(plain)
    assert migrated(bundle, tmp_path / "new.db")["heads"] == ["0003"]


def test_without_the_options_the_same_build_ships_nothing(project: Path) -> None:
    """What the other test proves is no work of a hook."""
    result = build(project, ["bash", "-euc", command("cx_Freeze").partition("$")[0]])
    assert result.returncode == 0, result.stdout
    assert {one.id for one in check(str(project / "dist" / "app")).findings} >= {"FK101"}


@pytest.mark.timeout(0)
def test_a_program_that_nuitka_compiled_upgrades_its_document(project: Path, tmp_path: Path) -> None:
    """By the command of docs/howto/nuitka.md; compiled without optimising, for that takes a third of the time."""
    pytest.importorskip("nuitka", reason="compiling takes many minutes: nox -s nuitka")
    path = os.pathsep.join([SCRIPTS, os.environ["PATH"]])
    command = ["bash", "-euc", shown("docs/howto/nuitka.md", "nuitka --standalone")]
    subprocess.run(command, cwd=project, env={**os.environ, "PATH": path, "CFLAGS": "-O0"}, check=True)
    assert check(str(project / "app.dist"), str(project)).findings == ()
    old = plain_upgrade(project / "alembic.ini", tmp_path / "old.db", "0001")
    plain = plain_upgrade(project / "alembic.ini", Path(shutil.copy(old, tmp_path / "plain.db")))
    folder = (project / "app.dist").rename(tmp_path / ELSEWHERE)
    shutil.rmtree(project)
    for database, applied in ((old, ["0002", "0003"]), (old, []), (tmp_path / "new.db", ["0001", "0002", "0003"])):
        started = [folder / "app.bin", database]
        said = subprocess.run(started, cwd="/", env=clean_environment(tmp_path), stdout=subprocess.PIPE, check=True)
        assert json.loads(said.stdout) == {"applied": applied, "heads": ["0003"], "bundle": "Nuitka"}
    assert content(old) == content(plain)
