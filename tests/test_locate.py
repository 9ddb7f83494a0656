"""Finding the scripts: one contract over every place they may be, and what is said when they are in none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path
from zipfile import ZipFile

import pytest

import freezekit
from freezekit.runtime.extract import private_copy
from freezekit.tree import FolderTree, ZipTree

HERE = Path(freezekit.__file__).parent.parent
ENV = """\
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """\
from pathlib import Path
from alembic import op

revision = "one"
down_revision = None


def upgrade():
    op.execute(Path(__file__).with_name("create.sql").read_text())
"""
PROGRAM = """\
import json, os, sys
import freezekit
migrations = freezekit.locate({location!r})
report = migrations.upgrade(sys.argv[1])
state = migrations.status(sys.argv[1]).state.value
print(json.dumps([migrations.bundle, report.applied, state, "alembic" in sys.modules]))
"""


def write_scripts(folder: Path) -> Path:
    """A tree with one revision that reads a file beside it."""
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "versions" / "one.py").write_text(REVISION)
    (folder / "versions" / "create.sql").write_text("CREATE TABLE one (x)")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one package that holds the scripts, in a folder with a space, a percent sign and an umlaut."""
    root = tmp_path / "Zoë's 100% project"
    write_scripts(root / "application" / "migrations")
    (root / "application" / "__init__.py").write_text("")
    return root


def run(program: str, *paths: Path, cwd: Path, executable: str = sys.executable) -> list[object]:
    """Run a program in a process of its own, with folders or archives on its path."""
    result = subprocess.run(
        [executable, "-c", program, "made.db"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: list[object] = json.loads(result.stdout)
    return found


def in_a_package(project: Path) -> tuple[str, list[Path]]:
    return "application:migrations", [project]


def in_a_package_without_init(project: Path) -> tuple[str, list[Path]]:
    (project / "application" / "__init__.py").unlink()
    return "application:migrations", [project]


def in_a_nested_folder(project: Path) -> tuple[str, list[Path]]:
    (project / "application" / "data").mkdir()
    (project / "application" / "migrations").rename(project / "application" / "data" / "migrations")
    return "application:data/migrations", [project]


def in_a_subpackage(project: Path) -> tuple[str, list[Path]]:
    (project / "top").mkdir()
    (project / "application").rename(project / "top" / "application")
    return "top.application:migrations", [project]


def in_an_absolute_folder(project: Path) -> tuple[str, list[Path]]:
    return str(project / "application" / "migrations"), []


def in_a_relative_folder_of_the_path(project: Path) -> tuple[str, list[Path]]:
    return "application/migrations", [project]


def in_a_zip(project: Path) -> tuple[str, list[Path]]:
    archive = shutil.make_archive(str(project / "library"), "zip", project)
    shutil.rmtree(project / "application")
    return "application:migrations", [Path(archive)]


@pytest.mark.parametrize(
    "place",
    [
        in_a_package,
        in_a_package_without_init,
        in_a_nested_folder,
        in_a_subpackage,
        in_an_absolute_folder,
        in_a_relative_folder_of_the_path,
        in_a_zip,
    ],
    ids=lambda function: function.__name__,
)
def test_scripts_are_found_and_run_wherever_they_are(project: Path, tmp_path: Path, place: object) -> None:
    """The same tree runs from a package, a folder and a zip, from any working directory; none is written into."""
    location, paths = place(project)  # type: ignore[operator]
    before = sorted(path for path in tmp_path.rglob("*"))
    away = tmp_path / "away"
    away.mkdir()
    program = PROGRAM.format(location=location)
    assert run(program, *paths, HERE, cwd=away) == ["source", ["one"], "current", True]
    assert sorted(path for path in tmp_path.rglob("*") if away not in (path, *path.parents)) == before


def test_a_zipapp_runs_its_own_scripts(project: Path, tmp_path: Path) -> None:
    """A program that is one archive finds the scripts inside itself; the copy they ran from is gone afterwards."""
    (project / "__main__.py").write_text(PROGRAM.format(location="application:migrations"))
    shutil.copytree(HERE / "freezekit", project / "freezekit", ignore=shutil.ignore_patterns("__pycache__"))
    archive = tmp_path / "program.pyz"
    zipapp.create_archive(project, archive)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = subprocess.run(
        [sys.executable, archive, tmp_path / "made.db"],
        env={**os.environ, "TMPDIR": str(scratch)},
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == ["zipapp", ["one"], "current", True]
    assert list(scratch.iterdir()) == []


def test_a_relative_folder_is_found_from_the_working_directory_of_a_source_tree(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert freezekit.locate("application/migrations").heads == ("one",)


def test_what_is_nowhere_is_reported_with_every_place_in_order(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each place says why it was passed over, and the message tells what to do."""
    (project / "application" / "migrations" / "env.py").unlink()
    archive = tmp_path / "library.zip"
    with ZipFile(archive, "w") as file:
        file.writestr("unrelated.txt", "")
    monkeypatch.setattr(sys, "path", [str(project), str(archive)])
    with pytest.raises(freezekit.MigrationsNotFound, match="spelling") as caught:
        freezekit.locate("application:migrations")
    error = caught.value
    assert (error.script_location, error.bundle) == ("application:migrations", "source")
    assert error.searched[0] == f"{project}/application/migrations (the folder is there, but no env.py in it)"
    assert error.searched[1] == f"{archive}/application/migrations (not in that archive)"
    assert all(place in str(error) for place in error.searched)


@pytest.mark.parametrize("location", ["", "  ", "application:../outside", "application:/etc"])
def test_a_location_that_makes_no_sense_is_a_usage_error(location: str) -> None:
    with pytest.raises(freezekit.UsageError):
        freezekit.locate(location)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda scripts: (scripts / "versions" / "one.py").unlink(), "holds no revision"),
        (lambda scripts: shutil.rmtree(scripts / "versions"), "holds no revision"),
        (lambda scripts: (scripts / "versions" / "one.py").write_text("revision = ("), "one.py:1"),
    ],
    ids=["no script", "no versions", "broken script"],
)
def test_an_empty_or_broken_set_of_scripts_is_never_a_success(
    project: Path, tmp_path: Path, damage: object, words: str
) -> None:
    """Where plain Alembic does nothing and says nothing, each use of the scripts is refused by name."""
    scripts = project / "application" / "migrations"
    damage(scripts)  # type: ignore[operator]
    migrations = freezekit.locate(scripts)
    for use in (migrations.status, migrations.upgrade, migrations.plan, migrations.sql):
        with pytest.raises(freezekit.InvalidMigrations, match=words):
            use(tmp_path / "made.db")
    assert not (tmp_path / "made.db").exists()


def forget_revisions(manifest: Path) -> None:
    """Let a manifest list the scripts as files that are no revisions."""
    found = json.loads(manifest.read_text())
    found["files"] |= {row["file"]: row["sha256"] for row in found["revisions"]}
    manifest.write_text(json.dumps({**found, "revisions": [], "heads": []}))


@pytest.fixture
def shipped(project: Path) -> Path:
    """A tree with the manifest that a build leaves beside env.py."""
    scripts = project / "application" / "migrations"
    (scripts / "freezekit.json").write_text(freezekit.locate(scripts).manifest.to_json())
    return scripts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda scripts: (scripts / "versions" / "one.py").unlink(), "one.py was shipped but is missing"),
        (lambda scripts: (scripts / "versions" / "create.sql").unlink(), "create.sql was shipped but is missing"),
        (lambda scripts: (scripts / "versions" / "two.py").write_text(""), "two.py was not shipped"),
        (lambda scripts: (scripts / "versions" / "one.py").write_text(REVISION + "#"), "one.py is not the file"),
        (lambda scripts: (scripts / "env.py").write_text(ENV + "#"), "env.py is not the file"),
        (lambda scripts: forget_revisions(scripts / "freezekit.json"), "holds no revision"),
    ],
    ids=["script missing", "data missing", "script added", "script altered", "env.py altered", "no revision listed"],
)
def test_scripts_that_disagree_with_their_manifest_do_not_run(
    shipped: Path, tmp_path: Path, change: object, words: str
) -> None:
    """A file missing, added or altered since the build is named, and the database is not touched."""
    change(shipped)  # type: ignore[operator]
    with pytest.raises(freezekit.InvalidMigrations, match=words):
        freezekit.locate(shipped).upgrade(tmp_path / "made.db")
    assert not (tmp_path / "made.db").exists()


def test_verify_names_every_altered_file(shipped: Path) -> None:
    freezekit.locate(shipped).verify()
    (shipped / "env.py").write_text("")
    (shipped / "versions" / "create.sql").write_text("")
    with pytest.raises(freezekit.InvalidMigrations) as caught:
        freezekit.locate(shipped).verify()
    assert len(caught.value.issues) == 2


def test_the_files_of_other_systems_do_not_disturb(shipped: Path, tmp_path: Path) -> None:
    """What a file manager or an editor leaves beside the scripts is no revision and no reason to refuse."""
    for name in (".DS_Store", "Thumbs.db", "versions/.#one.py", "versions/one.py~"):
        (shipped / name).write_text("")
    assert freezekit.locate(shipped).upgrade(tmp_path / "made.db").applied == ("one",)


def test_the_scripts_of_a_zip_are_copied_to_a_folder_of_this_user_alone(project: Path) -> None:
    archive = shutil.make_archive(str(project / "library"), "zip", project)
    copy = private_copy(ZipTree(archive, "application/migrations"), ["."])
    assert sorted(copy.files()) == sorted(FolderTree(str(project / "application" / "migrations")).files())
    if os.name == "posix":
        assert Path(copy.root).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["../../../evil.py", "versions/../../../../evil.py", "versions\\evil.py"])
def test_a_member_that_leads_out_of_the_scripts_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing outside the private folder is written, and nothing is left behind."""
    archive = tmp_path / "library.zip"
    with ZipFile(archive, "w") as file:
        file.writestr("application/migrations/env.py", "")
        file.writestr(f"application/migrations/{name}", "evil")
    with pytest.raises(freezekit.UnreadableBundle, match="leads out"):
        private_copy(ZipTree(str(archive), "application/migrations"), ["."])
    assert list(tmp_path.iterdir()) == [archive]


def test_a_damaged_archive_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    archive = Path(shutil.make_archive(str(project / "library"), "zip", project))
    content = bytearray(archive.read_bytes())
    start = content.index(b"revision = ") if b"revision = " in content else len(content) // 3
    content[start : start + 20] = b"\0" * 20
    archive.write_bytes(content)
    monkeypatch.setattr(sys, "path", [str(archive)])
    with pytest.raises((freezekit.UnreadableBundle, freezekit.InvalidMigrations)):
        freezekit.locate("application:migrations").upgrade(tmp_path / "made.db")
    assert not (tmp_path / "made.db").exists()
