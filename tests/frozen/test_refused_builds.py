"""Builds that fail: a bundle whose migrations cannot work is never made, and one message says which file is wrong."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from projects import CX_SCRIPT, PYINSTALLER, build, history, program, revision, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.frozen

VERSIONS = "shop/migrations/versions"
SECOND = f"{VERSIONS}/0002-second.one.py"
SOUND = {"app.py": program('"shop:migrations"'), "shop/__init__.py": "", **history("shop/migrations")}


@dataclass(frozen=True)
class Broken:
    """A project that may not be frozen.

    Attributes:
        what: What is wrong with it.
        files: The files that differ from a sound project's.
        words: What the message must name.
        removed: Files and folders of the sound project that are gone.
        link: A file that is a link to nothing.
    """

    what: str
    files: Mapping[str, str]
    words: Sequence[str]
    removed: Sequence[str] = ()
    link: str = ""

    def written(self, folder: Path) -> Path:
        write(folder, {**SOUND, **self.files})
        for name in self.removed:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.link:
            (folder / self.link).symlink_to("nowhere")
        return folder


SYNTAX = Broken("a syntax error", {SECOND: "revision = '0002'\n\ndown_revision = = 1\n"}, [f"{SECOND}:3"])
BROKEN = [
    SYNTAX,
    Broken("a syntax error in env.py", {"shop/migrations/env.py": "import (\n"}, ["shop/migrations/env.py:1"]),
    Broken("a syntax error in a helper", {"shop/migrations/tool.py": "\ndef\n"}, ["shop/migrations/tool.py:2"]),
    Broken(
        "two revisions with one id",
        {f"{VERSIONS}/again.py": revision("0002", "0001")},
        ["0002-second.one.py", "again.py", "'0002'"],
    ),
    Broken("a missing down revision", {f"{VERSIONS}/late.py": revision("9", "8")}, ["late.py", "'8'"]),
    Broken("a missing dependency", {f"{VERSIONS}/late.py": revision("9", None, depends_on="8")}, ["late.py", "'8'"]),
    Broken("a circle", {f"{VERSIONS}/0001_first.py": revision("0001", "0002")}, ["0001, 0002", "circle"]),
    Broken("no revision", {}, ["shop/migrations", "no revision"], removed=[VERSIONS]),
    Broken("a script without an id", {f"{VERSIONS}/notes.py": "TEXT = ''\n"}, [f"{VERSIONS}/notes.py"]),
    Broken("no env.py", {}, ["shop/migrations/env.py", "missing"], removed=["shop/migrations/env.py"]),
    Broken("an unreadable file", {}, [f"{VERSIONS}/gone.py", "cannot be read"], link=f"{VERSIONS}/gone.py"),
    Broken("an unreadable helper", {}, ["shop/migrations/data.sql"], link="shop/migrations/data.sql"),
    Broken("a location that is nowhere", {"app.py": program('"shop:migration"')}, ["app.py:9", "'shop:migration'"]),
    Broken("a location that nobody can read", {"app.py": program("sys.argv[2]")}, ["app.py:9", "[tool.freezekit]"]),
    Broken(
        "an unknown key",
        {"pyproject.toml": "[tool.freezekit]\nscript_locations = 'shop:migrations'\n"},
        ["pyproject.toml", "'script_locations'"],
    ),
    Broken(
        "a configured location that is nowhere",
        {"pyproject.toml": "[tool.freezekit]\nscript_location = 'shop:nowhere'\n"},
        ["pyproject.toml", "'shop:nowhere'"],
    ),
    Broken(
        "an ini that cannot be read",
        {"alembic.ini": "[alembic]\nscript_location = shop/migrations\n%\n"},
        ["alembic.ini"],
    ),
]


def refusal(output: str) -> str:
    """Return the one message of freezekit, which is the last thing a build says."""
    assert "Traceback" not in output, output
    assert len(re.findall("error: freezekit: ", output, re.IGNORECASE)) == 1, output
    return re.split("error: freezekit: ", output, flags=re.IGNORECASE)[1]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.what)
def test_cx_freeze_refuses(broken: Broken, tmp_path: Path) -> None:
    """The exit code is not 0, there is one message and no traceback, and it names the file."""
    project = broken.written(tmp_path / "project")
    result = build(project, CX_SCRIPT)
    assert result.returncode != 0
    message = refusal(result.stdout)
    assert [word for word in broken.words if word not in message] == []
    assert not (project / "frozen" / "app").exists()


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    project = write(tmp_path / "project", {**SOUND, **SYNTAX.files, f"{VERSIONS}/late.py": revision("9", "8")})
    message = refusal(build(project, CX_SCRIPT).stdout)
    assert f"{SECOND}:3" in message
    assert "late.py" in message


def test_pyinstaller_refuses(tmp_path: Path) -> None:
    """The hook fails the build; that it fails is not a warning which PyInstaller goes on after."""
    project = SYNTAX.written(tmp_path / "project")
    result = build(project, [PYINSTALLER, "--noconfirm", "--log-level=WARN", "app.py"])
    assert result.returncode != 0
    assert f"{SECOND}:3" in refusal(result.stdout)
    assert not (project / "dist" / "app").exists()
