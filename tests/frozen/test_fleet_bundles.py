"""Fleets in frozen programs: the program itself is started as its workers, and does nothing else in them."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from projects import (
    CX_SCRIPT,
    PYINSTALLER,
    Project,
    Workshop,
    history,
    migrated,
    program,
    revision,
    shipped,
    without_site_packages,
)
from sample_data import content

if TYPE_CHECKING:
    from bundles import Bundle, HiddenSource

# Knows nothing of workers, and notes every start: a window would open each time.
APP = """\
import json
import sys
from pathlib import Path

with open(Path(sys.argv[1], "starts"), "a") as starts:
    starts.write("x")

import freezekit

folder, *patterns = sys.argv[1:]
migrations = freezekit.locate("migrations")
report = freezekit.upgrade_many(patterns, migrations, workers=2)
failures = {Path(one.database).name: [one.attempts, str(one.error)] for one in report.failures}
print(json.dumps({"counts": report.counts, "failures": failures, "bundle": migrations.bundle}))
"""
# Waits until two processes of the program run it, so that both have work; dies where it is told to, as if killed.
LAST = """\
path = op.get_bind().exec_driver_sql("PRAGMA database_list").first()[2]
workers = os.path.join(os.path.dirname(path), "workers")
os.makedirs(os.path.join(workers, str(os.getpid())), exist_ok=True)
started, is_at_work = time.monotonic(), os.path.exists(os.path.join(os.path.dirname(path), "starts"))
while is_at_work and len(os.listdir(workers)) < 2 and time.monotonic() - started < 60:
    time.sleep(0.01)
op.execute("CREATE TABLE done (x)")
if os.path.exists(path + ".deadly"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="session")
def workshop(run_folder: Path, hidden_source: HiddenSource) -> Workshop:
    return Workshop(run_folder, hidden_source)


FREEZER = """\
from cx_Freeze import Freezer
from freezekit.build.cx_freeze import build_exe_options
Freezer(["app.py"], target_dir="frozen", silent=True, **build_exe_options("migrations")).freeze()
"""


@pytest.fixture(params=["cx_Freeze", "cx_Freeze, without the self-test", "PyInstaller"])
def fleet(request: pytest.FixtureRequest, workshop: Workshop) -> Bundle:
    """A program that upgrades many documents, frozen with no option; source and site-packages are out of sight."""
    last = revision("0003", "0002", LAST, imports="import os\nimport signal\nimport time")
    files = {"app.py": APP, **history("migrations"), "migrations/versions/0003.py": last}
    command, built = CX_SCRIPT, "frozen"
    if request.param.endswith("self-test"):
        files["pyproject.toml"] = '[tool.freezekit]\nscript_location = "migrations"\nselftest = false\n'
        files["freeze.py"], command = FREEZER, (sys.executable, "freeze.py")
    if request.param == "PyInstaller":
        command, built = (PYINSTALLER, "--noconfirm", "--log-level=WARN", "app.py"), "dist/app"
    return without_site_packages(workshop.freeze(Project(f"fleet with {request.param}", files, command, built)))


def documents(folder: Path) -> list[Path]:
    """Write eight documents at the second revision of the history."""
    paths = [folder / f"document {number}.db" for number in range(8)]
    for path in paths:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE note (body TEXT)")
            connection.execute("INSERT INTO note VALUES ('mine')")
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
            connection.execute("INSERT INTO alembic_version VALUES ('0002')")
    return paths


def test_a_frozen_program_is_its_own_workers(fleet: Bundle, tmp_path: Path) -> None:
    """Two processes share the work; neither runs the main script; one that is killed costs nobody else anything."""
    paths = documents(tmp_path)
    Path(f"{paths[3]}.deadly").touch()
    before = content(paths[3])
    found = migrated(fleet, tmp_path, f"{tmp_path}/*.db")
    assert found["bundle"] == ("PyInstaller" if "PyInstaller" in fleet.form else "cx_Freeze")
    assert found["counts"] == {"upgraded": 7, "current": 0, "failed": 1, "left": 0, "duplicate": 0}
    ((name, (attempts, error)),) = found["failures"].items()
    assert (name, attempts) == (paths[3].name, 2)
    assert "signal 9" in error
    assert content(paths[3]) == before
    assert len(list((tmp_path / "workers").iterdir())) >= 2
    assert (tmp_path / "starts").read_text() == "x"

    Path(f"{paths[3]}.deadly").unlink()
    again = migrated(fleet, tmp_path, f"{tmp_path}/*.db")
    assert again["counts"] == {"upgraded": 1, "current": 7, "failed": 0, "left": 0, "duplicate": 0}
    assert {tuple(content(path)) for path in paths} == {("alembic_version", "done", "note")}


@pytest.mark.skipif("sys.platform == 'win32'", reason="pipes have names elsewhere")
def test_a_variable_set_by_anybody_else_makes_no_worker(fleet: Bundle, tmp_path: Path) -> None:
    documents(tmp_path)
    (tmp_path / "workers" / "another").mkdir(parents=True)
    found = migrated(fleet, tmp_path, f"{tmp_path}/*.db", env={"FREEZEKIT_WORKER": "1:2"})
    assert found["counts"]["upgraded"] == 8


def test_what_is_about_fleets_ships_only_where_it_is_named(fleet: Bundle, workshop: Workshop) -> None:
    names = [name for name, _ in shipped(fleet.folder)]
    assert any("runtime" in name and "fleet" in name for name in names)
    files = {"app.py": program("'migrations'"), **history("migrations")}
    other = workshop.freeze(Project("one document at a time", files))
    assert not [name for name, _ in shipped(other.folder) if "runtime" in name and "fleet" in name]
