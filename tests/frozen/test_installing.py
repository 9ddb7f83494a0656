"""What README.md and docs/ say to install, word by word, in environments of their own; tools/try_it.py as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bundles import PROJECT, copy_of_tree
from documents import INSTALLING, PAGES, blocks, id_of, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.frozen, pytest.mark.skipif(not PAGES, reason="away from the source tree there is no page")]
SHOWN = [one for page in PAGES for one in blocks(page) if one.code.startswith(INSTALLING)]
# Two pages may show the same command.
COMMANDS = {one.code.partition("#")[0].strip(): one for one in SHOWN}
# What an environment has of a distribution: where it lies, and what its extras ask for.
ASKED = """
import json, sys
from importlib import metadata
from packaging.requirements import Requirement
wanted = Requirement(sys.argv[1])
found = metadata.distribution(wanted.name)
extras = [Requirement(one) for one in found.requires or ()]
needed = [one for one in extras if one.marker is None or any(one.marker.evaluate({"extra": x}) for x in wanted.extras)]
versions = {one.name: metadata.version(one.name) for one in needed}
wrong = [str(one) for one in needed if not one.specifier.contains(versions[one.name])]
print(json.dumps({"place": str(found.locate_file("")), "needs": list(versions), "wrong": wrong}))
"""


def run_shell(code: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a block; return what it printed."""
    command = ["bash", "-euc", code]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment in which pip finds freezekit as it would be released from this tree; the rest it downloads."""
    folder = tmp_path_factory.mktemp("released")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "XDG_")) or name == "HOME"}
    return {**kept, "PIP_FIND_LINKS": str(folder), "PIP_QUIET": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.mark.parametrize("command", COMMANDS, ids=[id_of(one) for one in COMMANDS.values()])
def test_a_page_installs_what_it_names(command: str, index: Mapping[str, str], tmp_path: Path) -> None:
    """In an empty environment: the distribution is in it, with all that its extras ask for."""
    environment = tmp_path / ".venv"
    if "-m venv" not in command:
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    programs = environment / "bin"
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.defpath])
    run_shell(command, tmp_path, {**index, "PATH": path})
    (wanted,) = (line.split('"')[1] for line in command.splitlines() if line.startswith("pip install"))
    asked = [programs / "python", "-I", "-c", ASKED, wanted]
    needs_packaging = [programs / "python", "-m", "pip", "install", "packaging"]
    subprocess.run(needs_packaging, env={**index, "PATH": path}, check=True)
    found = json.loads(subprocess.run(asked, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert Path(found["place"]).is_relative_to(environment)
    assert found["wrong"] == []
    if "[" in wanted:
        assert {"alembic", "sqlalchemy"} < {name.lower() for name in found["needs"]}


def test_the_readme_s_one_line_freezes_and_opens_everything(index: Mapping[str, str], tmp_path: Path) -> None:
    """In a copy of the source tree, as a newcomer has it."""
    tree = copy_of_tree(tmp_path / "freezekit")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    environment = {**index, "PATH": path, "TMPDIR": str(tmp_path)}
    code = shown("README.md", "python3 tools/try_it.py")
    assert "6 of 6 documents of past releases were opened by the frozen programs." in run_shell(code, tree, environment)
