"""What README.md says of programs frozen without freezekit, by real freezers that do not know it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from bundles import clean_environment
from documents import PAGES, shown
from histories import Project
from projects import stock_env

pytestmark = [pytest.mark.frozen, pytest.mark.skipif(not PAGES, reason="away from the source tree there is no README")]
PROGRAM = """
import sys

import myapp
from alembic import command
from alembic.config import Config

config = Config()
config.set_main_option("script_location", "myapp:migrations")
config.set_main_option("sqlalchemy.url", "sqlite:///" + sys.argv[1])
command.upgrade(config, "head")
"""
WITH_SCRIPTS = '[tool.cxfreeze.build_exe]\ninclude_files = [["myapp/migrations", "lib/myapp/migrations"]]\n'
WITH_IMPORTS = f'{WITH_SCRIPTS}includes = ["logging.config"]\n'
ONLY_ENV = '[tool.cxfreeze.build_exe]\ninclude_files = [["myapp/migrations/env.py", "lib/myapp/migrations/env.py"]]\n'
ONLY_ENV += 'includes = ["logging.config", "sqlalchemy.dialects.sqlite"]\n'


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has all that this one has, but freezekit."""
    place = tmp_path_factory.mktemp("without") / "environment"
    venv.create(place, symlinks=True)
    variables = {"base": str(place), "platbase": str(place)}
    packages = Path(sysconfig.get_path("purelib", vars=variables))
    for one in Path(sysconfig.get_path("purelib")).iterdir():
        if "freezekit" not in one.name.lower():
            (packages / one.name).symlink_to(one)
    return Path(sysconfig.get_path("scripts", vars=variables))


def said_by(command: list[str], program: str, settings: str, programs: Path, folder: Path) -> tuple[int, str]:
    """Freeze a program in a folder; return its exit code and what it says, with paths from the bundle on."""
    project = Project(folder / "project" / "myapp")
    project.revision("0001", None, 'op.create_table("note", sa.Column("id", sa.Integer))')
    project.write("__init__.py", "")
    project.write("migrations/env.py", stock_env())
    project.write("migrations/script.py.mako", "")
    root = project.root.parent
    (root / "app.py").write_text(PROGRAM)
    (root / "pyproject.toml").write_text(settings)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    build = [programs / "python", "-m", *command]
    subprocess.run(build, cwd=root, env={**os.environ, "PATH": path}, capture_output=True, check=True)
    home = folder / "home"
    home.mkdir()
    shutil.move(root / program, home / "bundle")
    started = [home / "bundle" / "app", home / "database"]
    ran = subprocess.run(
        started, cwd=home, env=clean_environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    return ran.returncode, re.sub(r"/\S*/bundle/", "…/", ran.stdout + ran.stderr)


PYINSTALLER = (["PyInstaller", "--noconfirm", "app.py"], "dist/app", "")
CX_FREEZE = ["cx_Freeze", "--script", "app.py", "--target-dir", "frozen"]


@pytest.mark.parametrize(
    ("line", "command", "program", "settings"),
    [
        pytest.param(0, *PYINSTALLER, id="PyInstaller"),
        pytest.param(1, CX_FREEZE, "frozen", "", id="cx_Freeze"),
        pytest.param(2, CX_FREEZE, "frozen", WITH_SCRIPTS, id="cx_Freeze, with the scripts"),
        pytest.param(3, CX_FREEZE, "frozen", WITH_IMPORTS, id="cx_Freeze, with the scripts and their imports"),
    ],
)
def test_without_freezekit_frozen_programs_say_what_the_readme_quotes(  # noqa: PLR0913, PLR0917 - one build
    line: int, command: list[str], program: str, settings: str, programs: Path, tmp_path: Path
) -> None:
    """Line by line; what stands behind the message, apart by spaces, is about it."""
    quoted = re.split(r"\s{3,}", shown("README.md", "alembic.util.exc.CommandError").splitlines()[line])[0]
    code, said = said_by(command, program, settings, programs, tmp_path)
    assert code != 0
    assert [one for one in said.splitlines() if one.startswith(quoted)], said


def test_without_freezekit_a_program_can_do_nothing_and_say_nothing(programs: Path, tmp_path: Path) -> None:
    """The worst of them, which README.md names after the others: env.py is in the bundle, its revisions are not."""
    assert said_by(CX_FREEZE, "frozen", ONLY_ENV, programs, tmp_path) == (0, "")
