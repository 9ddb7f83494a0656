"""The fixture `frozen_bundle` in the test suite of an application, with the real freezers."""

from __future__ import annotations

import pytest
from projects import history, program, write

pytest_plugins = ["pytester"]
PLUGIN = ("-p", "no:freezekit", "-p", "freezekit.check.pytest_plugin", "-p", "no:cacheprovider")
COUNT = "with open('builds', 'a') as file:\n    file.write('x')\n"
SETUP = f"""\
from cx_Freeze import Executable, setup

{COUNT}
setup(name="app", executables=[Executable("app.py")])
"""
SPEC = f"""\
from freezekit.build.pyinstaller import spec_options

{COUNT}
a = Analysis(["app.py"], **spec_options("shop:migrations"))
exe = EXE(PYZ(a.pure), a.scripts, exclude_binaries=True, name="app")
COLLECT(exe, a.binaries, a.datas, name="app")
"""
TESTS = """\
import sqlite3
from contextlib import closing


def test_files(frozen_bundle):
    assert not frozen_bundle({what!r}).check(source=".").is_failure


def test_program(frozen_bundle, tmp_path):
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.executescript(
            "CREATE TABLE note (body TEXT); CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);"
            "INSERT INTO alembic_version VALUES ('0001');"
        )
    databases, skip = [tmp_path / "old.db"], ["twice", "killed"]
    report = frozen_bundle({what!r}).smoke(databases=databases, app_command="{{db}}", skip=skip)
    assert {{phase.name for phase in report.phases if phase.outcome == "passed"}} > {{"releases", "application"}}
"""


@pytest.mark.frozen
@pytest.mark.parametrize(
    ("what", "text", "workers"),
    [("setup.py", SETUP, ("-n", "2")), ("app.spec", SPEC, ())],
    ids=["cx_Freeze", "PyInstaller"],
)
def test_an_application_is_really_frozen_once_and_then_checked_and_smoked(
    what: str, text: str, workers: tuple[str, ...], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its setup script or spec file, also where two workers of pytest-xdist ask for it."""
    monkeypatch.setenv("PYINSTALLER_CONFIG_DIR", str(pytester.path / "cache of PyInstaller"))
    pyproject = "[tool.freezekit]\nscript_location = 'shop:migrations'\n[tool.pytest.ini_options]\n"
    files = {**history("shop/migrations"), "shop/__init__.py": "", "app.py": program("'shop:migrations'")}
    write(pytester.path, {**files, what: text, "pyproject.toml": pyproject})
    pytester.makepyfile(TESTS.format(what=what))
    pytester.runpytest_subprocess(*PLUGIN, *workers).assert_outcomes(passed=2)
    assert (pytester.path / "builds").read_text() == "x"
