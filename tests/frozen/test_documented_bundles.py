"""What README.md and docs/ show of building and testing bundles, as it stands there, with the real freezers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from bundles import BUILD_SECONDS, clean_environment
from documents import PAGES, shown
from sample_data import content
from test_documentation import example  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(not PAGES, reason="away from the source tree there is no documentation")

APP = """\
import sys

import freezekit

if sys.argv[1:2] == ["open"]:
    print(freezekit.locate("myapp:migrations").upgrade(sys.argv[2]))
"""
SETUP = """\
from cx_Freeze import Executable, setup
"""
SPEC_END = """\
exe = EXE(PYZ(a.pure), a.scripts, exclude_binaries=True, name="app")
COLLECT(exe, a.binaries, a.datas, name="app")
"""


def commands(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands as a person does who has this Python's programs in reach."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "-euo", "pipefail", "-c", code]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
    )


def succeeds(code: str, folder: Path) -> None:
    done = commands(code, folder)
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def built(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The project of the examples, frozen as docs/howto/cx_freeze.md shows, with what the examples name beside it."""
    folder = Path(shutil.copytree(example, tmp_path_factory.mktemp("documented") / "project"))
    (folder / "app.py").write_text(APP, encoding="utf-8")
    (folder / "admin.py").write_text(shown("docs/howto/command-line.md", "import sys"), encoding="utf-8")
    both = "[...]=>[Executable('app.py'), Executable('admin.py')]"
    setup = SETUP + shown("docs/howto/cx_freeze.md", "from freezekit.build", programs=both)
    (folder / "setup.py").write_text(setup, encoding="utf-8")
    succeeds(f"{shlex.quote(sys.executable)} setup.py build_exe --build-exe dist/app", folder)
    for copy in ("dist/myapp", "1.0/bundle", "2.0/bundle"):
        shutil.copytree(folder / "dist" / "app", folder / copy)
    for name in ("myapp", "1.0"):
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz", compresslevel=1) as archive:
            archive.add(folder / "dist" / "app", "app")
    return folder


@pytest.mark.parametrize(
    ("page", "start"),
    [
        ("README.md", "freezekit check dist/myapp --source ."),
        ("README.md", "freezekit smoke dist/app/app --from"),
        ("docs/howto/smoke-test.md", "freezekit smoke dist/app/app --from"),
    ],
)
def test_the_commands_of_a_page_find_nothing_wrong_with_a_good_bundle(built: Path, page: str, start: str) -> None:
    succeeds(shown(page, start), built)


def test_a_rule_of_the_page_finds_what_an_upgrade_lost(built: Path, tmp_path: Path) -> None:
    """The rule is that of docs/howto/smoke-test.md; a bundle of another history drops a title."""
    rules = tmp_path / "rules.sql"
    rules.write_text(shown("docs/howto/smoke-test.md", "SELECT title FROM old.note"), encoding="utf-8")
    smoke = shown("docs/howto/smoke-test.md", "freezekit smoke dist/app/app --from").strip()
    only = "--skip twice --skip killed --skip application --skip snapshot"
    succeeds(f"{smoke} {only} --content {shlex.quote(str(rules))}", built)
    rules.write_text("SELECT title FROM main.note", encoding="utf-8")
    done = commands(f"{smoke} {only} --content {shlex.quote(str(rules))}", built)
    assert done.returncode == 1
    assert "content" in done.stdout + done.stderr


def test_commands_about_many_databases_and_bundles_work(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "project", symlinks=True))
    for name in ("newer", "unversioned", "foreign"):
        (folder / f"{name}.notes").unlink()
    succeeds(shown("docs/howto/command-line.md", "freezekit upgrade-many"), folder)
    assert content(folder / "old.notes")["alembic_version"] == [("0002",)]


def test_each_command_of_the_readme_is_one(built: Path, tmp_path: Path) -> None:
    """Every line of the list, in its order; a state that is no success has its own exit code, wrong usage has 2."""
    folder = Path(shutil.copytree(built, tmp_path / "project", symlinks=True))
    for name in ("newer", "foreign"):
        (folder / f"{name}.notes").unlink()
    empty = folder / "empty" / "myapp"
    empty.mkdir(parents=True)
    (empty / "__init__.py").touch()
    (empty / "models.py").write_text(
        "from sqlalchemy.orm import DeclarativeBase\nclass Base(DeclarativeBase):\n    pass\n", encoding="utf-8"
    )
    allowed = {"status": {10, 13}, "upgrade-many": {1}}  # there is an unversioned document
    listed = shown("README.md", "freezekit status *.notes", named="old.notes.0007.bak=>old.notes.0001.bak")
    for line in listed.splitlines():
        name = line.split()[1]
        done = commands(line, empty.parent if name == "init" else folder)
        assert done.returncode in allowed.get(name, {0}), f"{line}\n{done.stdout}{done.stderr}"


def test_the_two_lines_make_a_command_line_of_a_frozen_program(built: Path, tmp_path: Path) -> None:
    document = Path(shutil.copy(built / "tests" / "releases" / "1.0.notes", tmp_path / "old.notes"))
    for words, code, said in (
        (["status", document], 10, "behind"),
        (["upgrade", document], 0, "0002"),
        (["status", document], 0, "current"),
    ):
        command = [built / "dist" / "app" / "admin", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert (done.returncode, said in done.stdout) == (code, True), done.stdout + done.stderr


def test_the_fixture_of_the_page_freezes_the_spec_of_the_page(example: Path, tmp_path: Path) -> None:  # noqa: F811
    """docs/howto/pytest.md with the spec file of docs/howto/pyinstaller.md."""
    folder = Path(shutil.copytree(example, tmp_path / "project"))
    (folder / "app.py").write_text(APP, encoding="utf-8")
    spec = shown("docs/howto/pyinstaller.md", "from freezekit.build") + SPEC_END
    (folder / "app.spec").write_text(spec, encoding="utf-8")
    test = shown("docs/howto/pytest.md", "def test_bundle(frozen_bundle)")
    (folder / "test_bundle.py").write_text(test, encoding="utf-8")
    done = commands(f"{shlex.quote(sys.executable)} -m pytest -q -p no:cacheprovider test_bundle.py", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b1 passed\b", done.stdout)
