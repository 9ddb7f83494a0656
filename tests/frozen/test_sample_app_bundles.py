"""Each form of bundle of sample_app, moved elsewhere and with the source tree hidden, on documents of past releases."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest
from bundles import clean_environment
from sample_data import RELEASES, content, expected_head, pending, plain_upgrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from bundles import Bundle

# The command line is the same in every form; starting it often takes its time.
ONE_OF_EACH = ["pyinstaller-onedir", "cx-folder"]


def opened(bundle: Bundle, document: Path, **how: Any) -> dict[str, Any]:
    result = bundle.run("open", document, "--json", **how)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def files(folder: Path) -> dict[str, int]:
    """Every file of a folder and when it was last changed."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
def test_a_document_of_each_release_is_upgraded_as_plain_alembic_would(
    bundle: Bundle, release: Path, tmp_path: Path
) -> None:
    """The content is identical, from another working directory, in a folder with a space and a non-ASCII letter."""
    document = tmp_path / "Zoës notes.notes"
    shutil.copy(release, document)
    found = opened(bundle, document)
    assert tuple(found["applied"]) == tuple(pending(release.stem))
    assert content(document) == content(plain_upgrade(release, tmp_path / "plain.db"))
    assert content(Path(found["backup"])) == content(release)
    assert opened(bundle, document)["applied"] == []


def test_a_new_document_is_at_head(bundle: Bundle, tmp_path: Path) -> None:
    result = bundle.run("new", tmp_path / "new.notes")
    assert result.returncode == 0, result.stderr
    assert content(tmp_path / "new.notes") == content(plain_upgrade(None, tmp_path / "plain.db"))


def test_a_subset_is_saved_as_a_database_of_the_right_version(bundle: Bundle, tmp_path: Path) -> None:
    document = tmp_path / "all.notes"
    shutil.copy(RELEASES[-1], document)
    with closing(sqlite3.connect(document)) as connection:
        (tag,) = connection.execute("SELECT name FROM tag JOIN note_tag ON note_tag.tag_id = tag.id").fetchone()
    result = bundle.run("export", document, tmp_path / "subset.notes", "--tag", tag)
    assert result.returncode == 0, result.stderr
    subset = content(tmp_path / "subset.notes")
    assert subset["alembic_version"] == [(expected_head,)]
    assert 0 < len(subset["note"]) < len(content(document)["note"])


def test_nothing_is_written_into_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    """No compiled file, no log: the folder of the program is the same after an upgrade, and may be read-only."""
    document = tmp_path / "old.notes"
    shutil.copy(RELEASES[0], document)
    before = files(bundle.folder)
    assert opened(bundle, document)["applied"]
    assert files(bundle.folder) == before


def test_a_read_only_bundle_upgrades(bundle: Bundle, tmp_path: Path) -> None:
    document = tmp_path / "old.notes"
    shutil.copy(RELEASES[0], document)
    writable = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    changed = [path for path in bundle.folder.rglob("*") if not path.is_symlink()]
    for path in changed:
        path.chmod(path.stat().st_mode & ~writable)
    try:
        assert opened(bundle, document)["applied"]
    finally:
        for path in changed:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_the_working_directory_decides_nothing(bundle: Bundle, tmp_path: Path) -> None:
    """An alembic.ini, a folder of that name or a package in the working directory is not looked at."""
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = elsewhere\n")
    decoy = tmp_path / "sample_app" / "migrations" / "versions"
    decoy.mkdir(parents=True)
    for name in ("env.py", "versions/evil.py", "../__init__.py"):
        (decoy.parent / name).write_text("raise SystemExit('the decoy ran')\n")
    document = tmp_path / "old.notes"
    shutil.copy(RELEASES[0], document)
    variables = {"PYTHONPATH": str(tmp_path), "RESOURCEPATH": str(tmp_path)}
    assert opened(bundle, document, cwd=tmp_path, env=variables)["applied"]


def test_a_newer_document_is_refused_in_one_sentence(bundle: Bundle, tmp_path: Path) -> None:
    document = tmp_path / "newer.notes"
    shutil.copy(RELEASES[0], document)
    with closing(sqlite3.connect(document)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'future'")
    before = document.read_bytes()
    result = bundle.run("open", document)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "newer version of this program" in result.stderr
    assert document.read_bytes() == before


def test_nothing_is_left_in_the_temporary_folder(bundle: Bundle, tmp_path: Path) -> None:
    """What is extracted, by PyInstaller or from a zip, is gone when the program ends."""
    document = tmp_path / "old.notes"
    shutil.copy(RELEASES[0], document)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert opened(bundle, document, env={"TMPDIR": str(scratch)})["applied"]
    assert os.listdir(scratch) == []


def test_the_bundle_holds_the_scripts_and_nothing_of_the_build(bundle: Bundle) -> None:
    """No module of the build or check rooms, no installer and no freezer is shipped because of freezekit."""
    names = module_names(bundle)
    unwanted = ["freezekit.build", "freezekit.check", "pip", "PyInstaller", "cx_Freeze", "setuptools", "pkg_resources"]
    assert "freezekit.runtime.locate" in names
    assert not [name for name in names if name.startswith(tuple(unwanted))]


def module_names(bundle: Bundle) -> set[str]:
    """The modules inside a bundle, read as the freezer's own tools read it."""
    if bundle.form.startswith("pyinstaller"):
        from PyInstaller.archive.readers import CArchiveReader

        archive = CArchiveReader(str(bundle.executable))
        return set(archive.open_embedded_archive("PYZ.pyz").toc)

    library = bundle.folder / "lib"
    found = {str(path.relative_to(library)) for path in library.rglob("*.pyc")}
    found |= set(ZipFile(library / "library.zip").namelist())
    return {name.removesuffix(".pyc").removesuffix("/__init__").replace("/", ".") for name in found}


def test_what_freezekit_adds_to_a_bundle_is_small(build_bundle: Callable[[str], Bundle]) -> None:
    """Its modules, metadata, manifest and empty database take less than 300 KB; with cx_Freeze it is most.

    The command line and what it needs for many documents ship only where the application imports them, and are
    counted apart: less than 110 KB more.
    """
    library = build_bundle("cx-folder").folder / "lib"
    with ZipFile(library / "library.zip") as archive:
        sizes = {one.filename: one.compress_size for one in archive.infolist() if one.filename.startswith("freezekit")}
        (metadata,) = (archive.read(name).decode() for name in sizes if name.endswith("dist-info/METADATA"))
    asked_for = ("freezekit/cli/", "freezekit/fleets.", "freezekit/runtime/fleet/")
    command_line = [size for name, size in sizes.items() if name.startswith(asked_for)]
    made = [path.stat().st_size for path in (library / "sample_app" / "migrations").glob("freezekit.*")]
    assert (len(sizes) > 20, len(command_line) > 5, len(made)) == (True, True, 2)
    assert sum(sizes.values()) - sum(command_line) + sum(made) < 300_000
    assert sum(command_line) < 110_000
    assert f"\nVersion: {version('freezekit')}\n" in metadata
    assert "#" not in metadata, "the README came along"


@pytest.mark.parametrize("bundle", ONE_OF_EACH, indirect=True)
def test_an_administrator_looks_after_a_document_with_the_shipped_program(bundle: Bundle, tmp_path: Path) -> None:
    """`sample_app db ...` says where it stands, upgrades it, lists the backup and verifies the scripts."""
    document = Path(shutil.copy(RELEASES[0], tmp_path / "old.notes"))
    said = bundle.run("db", "status", document, "--json")
    assert (said.returncode, json.loads(said.stdout)["databases"][0]["state"]) == (10, "behind"), said.stderr
    assert RELEASES[0].read_bytes() == document.read_bytes()
    assert expected_head in bundle.run("db", "plan", document).stdout
    assert "UPDATE alembic_version" in bundle.run("db", "sql", document).stdout
    assert bundle.run("db", "upgrade", document).returncode == 0
    assert content(document) == content(plain_upgrade(RELEASES[0], tmp_path / "plain.db"))
    listed = json.loads(bundle.run("db", "backups", "list", document, "--json").stdout)
    assert len(listed["backups"]) == 1
    assert bundle.run("db", "verify").returncode == 0
    assert bundle.run("db", "status", document).returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")
@pytest.mark.parametrize("bundle", ONE_OF_EACH, indirect=True)
def test_an_administrator_upgrades_many_documents_with_processes_of_the_shipped_program(
    bundle: Bundle, tmp_path: Path
) -> None:
    """`sample_app db upgrade-many` starts the program itself as its workers."""
    for number in range(60):
        shutil.copy(RELEASES[0], tmp_path / f"{number}.notes")
    answer = tmp_path / "answer.jsonl"
    words = ("db", "upgrade-many", f"{tmp_path}/*.notes", "--workers", "2", "--json", "--output", str(answer))
    most = 0
    with bundle.start(*words) as process:
        while process.poll() is None:
            most = max(most, sum(is_run_by(bundle.executable, one) for one in Path("/proc").glob("[0-9]*")))
    assert process.returncode == 0, answer.read_text()
    assert most >= 3
    assert {one["result"] for one in map(json.loads, answer.read_text().splitlines()[:60])} == {"upgraded"}
    assert content(tmp_path / "59.notes") == content(plain_upgrade(RELEASES[0], tmp_path / "plain.db"))


def is_run_by(executable: Path, process: Path) -> bool:
    """Return whether a process, by its folder in /proc, runs a program."""
    try:
        return (process / "exe").readlink() == executable
    except OSError:
        return False


def test_the_shipped_command_line_refuses_what_is_not_for_administrators(bundle: Bundle) -> None:
    """It has no commands about builds, and its advice can be typed."""
    refused = bundle.run("db", "smoke", "x")
    assert (refused.returncode, refused.stderr) == (
        2,
        "sample_app db: No such command 'smoke'. See 'sample_app db --help'.\n",
    )
    assert bundle.run("db", "--help").stdout.startswith("Usage: sample_app db [OPTIONS] COMMAND [ARGS]...\n")


@pytest.mark.skipif(sys.platform == "win32", reason="closes streams as a shell does")
@pytest.mark.parametrize("bundle", ONE_OF_EACH, indirect=True)
def test_an_installers_step_without_a_console_reads_the_answer_from_a_file(bundle: Bundle, tmp_path: Path) -> None:
    """Started with no standard streams at all, the program ends with its exit code and writes what it would print."""
    document, answer = Path(shutil.copy(RELEASES[0], tmp_path / "old.notes")), tmp_path / "answer.json"
    outcomes = {
        ("status", str(document)): 10,
        ("upgrade", str(document)): 0,
        ("upgrade", str(tmp_path / "missing" / "x.notes")): 1,
        ("plan",): 2,
    }
    for arguments, code in outcomes.items():
        command = [*bundle.source.prefix, bundle.executable, "db", *arguments]
        shell = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command, "--json", "--output", answer]
        ended = subprocess.run(shell, cwd=bundle.home, env=clean_environment(bundle.home), check=False, timeout=120)
        assert (arguments, ended.returncode) == (arguments, code)
        assert ("error" in json.loads(answer.read_text(encoding="utf-8"))) == (code in {1, 2})
        assert subprocess.run([*shell[:-3]], cwd=bundle.home, check=False, timeout=120).returncode in {0, code}


@pytest.mark.parametrize("bundle", ["cx-folder"], indirect=True)
def test_a_bundle_that_lost_its_manifest_says_so(bundle: Bundle, tmp_path: Path) -> None:
    """It is not taken for a source tree, and the document stays as it is."""
    folder, document = tmp_path / "bundle", Path(shutil.copy(RELEASES[0], tmp_path / "old.notes"))
    shutil.copytree(bundle.folder, folder, symlinks=True, copy_function=os.link)
    (folder / "lib" / "sample_app" / "migrations" / "freezekit.json").unlink()
    broken = replace(bundle, executable=folder / bundle.executable.name, folder=folder)
    result = broken.run("db", "status", document, "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["type"] == "InvalidMigrations"
    assert "freezekit.json is missing" in result.stdout
    assert document.read_bytes() == RELEASES[0].read_bytes()
