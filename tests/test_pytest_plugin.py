"""What applications use in their own test suites: the fixtures, and the one-line test of a history."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest
from histories import Project

from freezekit import InvalidMigrations, MigrationsNotFound
from freezekit.check import upgrade_from, validate
from freezekit.check.frozen import freeze
from freezekit.errors import FreezekitError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]
# By the module's name, whether or not this environment knows the entry point.
PLUGIN = ("-p", "no:freezekit", "-p", "freezekit.check.pytest_plugin", "-p", "no:cacheprovider")
# Stands for a freezer: leaves one program, and counts how often it ran.
BUILD = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "app").touch(0o755)
with open("built", "a") as file:
    file.write("x")
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two revisions: a table, and a column that it gets later."""
    project = Project(tmp_path)
    project.revision("0001", None, "op.execute('CREATE TABLE note (title TEXT)')")
    project.revision("0002", "0001", "op.execute('ALTER TABLE note ADD COLUMN pinned INTEGER DEFAULT 0')")
    return project


def location(project: Project) -> str:
    return str(project.migrations)


def test_a_sound_history_is_valid(project: Project) -> None:
    """The manifest comes with the digest of the schema after each revision."""
    manifest = validate(location(project))
    assert manifest.heads == ("0002",)
    assert sorted(manifest.fingerprints) == ["0001", "0002"]


def test_a_second_head_is_refused_unless_it_is_meant(project: Project) -> None:
    project.revision("0003", "0001")
    with pytest.raises(InvalidMigrations, match="2 heads, not 1: 0002, 0003"):
        validate(location(project))
    assert validate(location(project), heads=2).heads == ("0002", "0003")


def test_a_history_that_differs_from_run_to_run_is_refused_unless_it_is_meant(project: Project) -> None:
    project.revision("0003", "0002", "op.execute('INSERT INTO note (title) VALUES (random())')")
    with pytest.raises(InvalidMigrations, match="two runs of its revisions differ in note"):
        validate(location(project))
    assert validate(location(project), repeatable=False).heads == ("0003",)


def test_a_revision_that_cannot_run_is_refused_with_its_reason(project: Project) -> None:
    project.revision("0003", "0002", "op.execute('no SQL at all')")
    with pytest.raises(InvalidMigrations, match="in revision 0003"):
        validate(location(project))


def test_a_history_that_is_nowhere_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(MigrationsNotFound):
        validate(str(tmp_path / "nowhere"))


def test_rows_are_compared_before_and_after_an_upgrade(project: Project, tmp_path: Path) -> None:
    upgraded = upgrade_from(location(project), "0001", "INSERT INTO note VALUES ('x')", tmp_path / "a.db")
    assert upgraded.before["note"] == ({"title": "x"},)
    assert upgraded.after["note"] == ({"title": "x", "pinned": 0},)
    assert upgraded.report.applied == ("0002",)
    assert not upgraded.lost


def test_rows_that_an_upgrade_loses_are_counted(project: Project, tmp_path: Path) -> None:
    project.revision("0003", "0002", "op.execute('DELETE FROM note')")
    insert = "INSERT INTO note VALUES ('x'), ('y')"
    upgraded = upgrade_from(location(project), "0001", lambda connection: connection.execute(insert), tmp_path / "a.db")
    assert upgraded.lost == {"note": 2}


def test_a_build_that_fails_says_what_the_freezer_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such module')"]
    with pytest.raises(FreezekitError, match="no such module"):
        freeze(command, dist=tmp_path / "dist")


def test_what_is_neither_spec_nor_setup_script_nor_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.spec file"):
        freeze("app.toml", dist=tmp_path / "dist")


@pytest.mark.parametrize("names", [(), ("one", "two")], ids=["none", "several"])
def test_a_program_that_is_not_evident_has_to_be_named(tmp_path: Path, names: tuple[str, ...]) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    for name in names:
        (dist / name).touch(0o755)
    command = [sys.executable, "-c", ""]
    with pytest.raises(UsageError, match="Name it"):
        freeze(command, dist=dist)
    with pytest.raises(UsageError, match="no nothing"):
        freeze(command, "nothing", dist=dist)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_an_application_is_frozen_once_per_session(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """However many tests, and workers of pytest-xdist, ask for it."""
    pytester.makepyfile(build=BUILD)
    pytester.makepyfile(
        """
        import sys, pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(frozen_bundle, number):
            bundle = frozen_bundle([sys.executable, "build.py", "{dist}"])
            assert bundle.executable.name == "app"
            assert callable(bundle.smoke)
        """
    )
    pytester.runpytest_subprocess(*PLUGIN, *workers).assert_outcomes(passed=4)
    assert (pytester.path / "built").read_text() == "x"


def test_a_failed_build_fails_every_test_that_needs_it_and_is_not_repeated(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(build="open('built', 'a').write('x'); raise SystemExit('this is why')")
    pytester.makepyfile(
        """
        import sys, pytest

        @pytest.mark.parametrize("number", range(2))
        def test_it(frozen_bundle, number):
            frozen_bundle([sys.executable, "build.py", "{dist}"])
        """
    )
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*this is why*"])
    assert (pytester.path / "built").read_text() == "x"


def test_smoke_raises_what_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(build=BUILD)
    pytester.makepyfile(
        """
        import sys, pytest
        from freezekit import SmokeTestFailed

        def test_it(frozen_bundle):
            with pytest.raises(SmokeTestFailed, match="start"):
                frozen_bundle([sys.executable, "build.py", "{dist}"]).smoke()
        """
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)


def test_the_configured_history_is_proved_in_one_line(pytester: pytest.Pytester) -> None:
    """Of the project that pytest runs in, whose packages need not be installed; a broken one fails that test."""
    project = Project(pytester.path / "src" / "app")
    project.revision("0001", None, "from app.words import TABLE; op.execute(f'CREATE TABLE {TABLE} (title TEXT)')")
    (pytester.path / "src" / "app" / "__init__.py").touch()
    (pytester.path / "src" / "app" / "words.py").write_text("TABLE = 'note'\n")
    location = f"app:{project.migrations.relative_to(pytester.path / 'src' / 'app').as_posix()}"
    pytester.makepyprojecttoml(f"[tool.freezekit]\nscript_location = '{location}'\n[tool.pytest.ini_options]\n")
    pytester.makepyfile(
        """
        def test_migrations(migrations):
            (manifest,) = migrations.validate()
            assert manifest.heads == ("0001",)
        """
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)
    project.revision("0002", "0001", "op.execute('no SQL at all')")
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*InvalidMigrations*", "*in revision 0002*"])


def test_a_project_that_configures_no_history_is_told_how(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_migrations(migrations): migrations.validate()")
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UsageError*script_location*"])


def test_each_upgrade_of_a_test_has_a_file_of_its_own(pytester: pytest.Pytester, project: Project) -> None:
    pytester.makepyfile(
        f"""
        def test_it(upgrade_from):
            for _ in range(2):
                upgraded = upgrade_from({location(project)!r}, "0001", "INSERT INTO note VALUES ('x')")
                assert upgraded.after["note"] == ({{"title": "x", "pinned": 0}},)
        """
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)


def test_a_suite_that_does_not_use_it_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert not {"alembic", "sqlalchemy", "click", "rich", "filelock"} & set(sys.modules)
            assert "freezekit.build.snapshot" not in sys.modules
        """
    )
    pytester.runpytest_subprocess(*PLUGIN, "-p", "no:xdist").assert_outcomes(passed=1)


@pytest.mark.skipif(
    not any(entry.name == "freezekit" for entry in entry_points(group="pytest11")),
    reason="installed before there was a plugin",
)
def test_pytest_finds_the_plugin_by_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(frozen_bundle, migrations, upgrade_from): pass")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
