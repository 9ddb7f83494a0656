"""``freezekit check`` on real bundles: healthy ones have no finding, each way to break one has exactly its own."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from bundles import PROJECT
from sample_data import expected_head, revisions

from freezekit.check.bundle import open_bundle
from freezekit.check.frozen import FrozenBundle
from freezekit.check.run import check
from freezekit.errors import InvalidMigrations, UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bundles import Bundle

MIGRATIONS = "sample_app/migrations"
BROUGHT = """\
import __future__, collections.abc, datetime, email.message, encodings.idna, math, os.path, string
from importlib.metadata import version
"""
NEXT = f'from alembic import op\nrevision = "next"\ndown_revision = "{expected_head}"\n'


def ids(path: Path, **how: str) -> set[str]:
    return {one.id for one in check(path, **how).findings}


def copied(bundle: Bundle, target: Path) -> Path:
    """Return a copy of a bundle whose files are links: replace them, never write into them."""
    shutil.copytree(bundle.folder, target, symlinks=True, copy_function=os.link)
    return target


def replaced(path: Path, content: bytes | str) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def scripts_of(folder: Path) -> Path:
    """Return the folder of env.py in the folder of a bundle."""
    (found,) = (path for path in folder.rglob("migrations") if path.parent.name == "sample_app")
    return found


def test_a_healthy_bundle_has_no_finding(bundle: Bundle) -> None:
    """Also compared with its source, and with itself as the release before."""
    report = check(bundle.folder, str(PROJECT), str(bundle.folder))
    assert report.findings == ()
    assert (report.graphs[0].heads, len(report.graphs[0].revisions)) == ((expected_head,), len(revisions))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert report.facts["python"] == version
    assert {"freezekit", "alembic", "sqlalchemy"} <= report.facts.keys()


def test_the_program_stands_for_its_bundle(bundle: Bundle) -> None:
    with open_bundle(bundle.executable) as opened:
        assert [tree.root for tree in opened.trees] == [MIGRATIONS]


_MEASURED = """
import sys, time
from freezekit.check.run import check
started = time.perf_counter()
check(sys.argv[1])
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.perf_counter() - started, peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures as Linux does")
def test_a_bundle_is_checked_in_seconds_and_little_memory(bundle: Bundle) -> None:
    """Bundles of 50 to 150 MB: within 3 seconds and 150 MB."""
    command = [sys.executable, "-c", _MEASURED, bundle.folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, result.stdout.split())
    assert seconds < 3
    assert kilobytes < 150 * 1024


BREAKS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a revision deleted": (lambda scripts: (scripts / "versions/v2.0.1.py").unlink(), {"FK102", "FK112", "FK114"}),
    "the head deleted": (
        lambda scripts: (scripts / "versions/20260202_describe_attachments.py").unlink(),
        {"FK102"},
    ),
    "a revision edited": (
        lambda scripts: replaced(path := scripts / "versions/v2.0.1.py", path.read_bytes() + b"# more\n"),
        {"FK104"},
    ),
    "a revision added": (lambda scripts: replaced(scripts / "versions/next.py", NEXT), {"FK103"}),
    "a revision that imports what every interpreter has": (
        lambda scripts: replaced(scripts / "versions/next.py", BROUGHT + NEXT),
        {"FK103"},
    ),
    "a revision that imports what nobody shipped": (
        lambda scripts: replaced(scripts / "versions/next.py", f"import sched, wsgiref.types\n{NEXT}"),
        {"FK103", "FK131"},
    ),
    "env.py deleted": (lambda scripts: (scripts / "env.py").unlink(), {"FK102"}),
    "the manifest deleted": (lambda scripts: (scripts / "freezekit.json").unlink(), {"FK106"}),
    "the empty database emptied": (lambda scripts: replaced(scripts / "freezekit.db.gz", b""), {"FK104"}),
    "everything deleted": (shutil.rmtree, {"FK101"}),
    ".env added": (lambda scripts: replaced(scripts / ".env", "TOKEN=1"), {"FK103", "FK142"}),
    "anyone may write": (
        lambda scripts: (
            replaced(scripts / "env.py", (scripts / "env.py").read_bytes()),
            os.chmod(scripts / "env.py", 0o666),
        ),  # type: ignore[func-returns-value]
        {"FK143"},
    ),
}


@pytest.mark.parametrize("form", ["cx-folder", "pyinstaller-onedir"])
@pytest.mark.parametrize(("change", "expected"), BREAKS.values(), ids=list(BREAKS))
def test_each_way_to_break_a_bundle_is_found(
    form: str,
    change: Callable[[Path], None],
    expected: set[str],
    build_bundle: Callable[[str], Bundle],
    tmp_path: Path,
) -> None:
    folder = copied(build_bundle(form), tmp_path / "broken")
    change(scripts_of(folder))
    assert ids(folder) == expected


@pytest.mark.parametrize("form", ["cx-folder", "cx-zip", "pyinstaller-onedir"])
def test_the_missing_module_of_a_driver_is_found(
    form: str, build_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    folder = copied(build_bundle(form), tmp_path / "broken")
    (module,) = folder.rglob("_sqlite3*.so" if sys.platform != "win32" else "_sqlite3*.pyd")
    module.unlink()
    assert "FK132" in ids(folder)


def test_a_module_that_only_a_migration_imports_is_missed(
    build_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    """With the file and the line of the import."""
    folder = copied(build_bundle("cx-folder"), tmp_path / "broken")
    library = folder / "lib" / "library.zip"
    for path in folder.rglob("inflection*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with ZipFile(library) as old:
        kept = {name: old.read(name) for name in old.namelist() if not name.startswith("inflection")}
    library.unlink()
    with ZipFile(library, "w") as new:
        for name, content in kept.items():
            new.writestr(name, content)
    missing = [one for one in check(folder).findings if one.id == "FK131"]
    assert missing
    assert all("inflection" in one.message and one.line for one in missing)


def test_scripts_inside_library_zip_are_compared_too(build_bundle: Callable[[str], Bundle], tmp_path: Path) -> None:
    folder = copied(build_bundle("cx-zip-scripts"), tmp_path / "broken")
    library = folder / "lib" / "library.zip"
    with ZipFile(library) as old:
        members = {name: old.read(name) for name in old.namelist()}
    library.unlink()
    name = f"{MIGRATIONS}/versions/v2.0.1.py"
    with ZipFile(library, "w") as new:
        for member, content in members.items():
            new.writestr(member, content + b"#" if member == name else content)
    (finding,) = check(folder).findings
    assert (finding.id, finding.file) == ("FK104", f"lib/library.zip/{name}")


def test_a_stale_bundle_is_found(build_bundle: Callable[[str], Bundle], tmp_path: Path) -> None:
    """The bundle is that of the day before: one revision was added since, one edited, one deleted."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "sample_app", project / "sample_app")
    (project / "pyproject.toml").write_text('[tool.freezekit]\nscript_location = "sample_app:migrations"\n')
    bundle = build_bundle("pyinstaller-onefile").folder
    assert ids(bundle, source=str(project)) == set()
    versions = project / MIGRATIONS / "versions"
    replaced(versions / "next.py", NEXT)
    replaced(versions / "v2.0.1.py", (versions / "v2.0.1.py").read_bytes() + b"# more\n")
    (versions / "0001_create_tables.py").unlink()
    assert ids(bundle, source=str(project)) == {"FK121", "FK122", "FK123"}


def test_any_one_script_that_is_removed_altered_or_added_is_found(
    build_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    chance = random.Random(11)
    folder = copied(build_bundle("cx-folder"), tmp_path / "broken")
    scripts = scripts_of(folder)
    names = [path for path in scripts.rglob("*") if path.is_file() and path.suffix not in {".pyc", ".json", ".db"}]
    for number in range(60):
        path = chance.choice(names)
        content, kind = path.read_bytes(), ("remove", "alter", "add")[number % 3]
        changed = path if kind != "add" else path.with_name(f"x{number}{path.suffix}")
        if kind == "remove":
            path.unlink()
        else:
            position = chance.randrange(len(content) + 1)
            replaced(changed, content[:position] + b"x" + content[position:] if kind == "alter" else content)
        assert check(folder, select=["FK10"]).is_failure, (kind, path)
        changed.unlink(missing_ok=True)
        if kind != "add":
            path.write_bytes(content)


@pytest.mark.parametrize("form", ["pyinstaller-onefile", "cx-folder"])
@pytest.mark.parametrize("container", ["zip", "tar.gz"])
def test_a_real_bundle_is_read_inside_an_archive(
    form: str, container: str, build_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    folder = build_bundle(form).folder
    archive = tmp_path / f"app.{container}"
    if container == "zip":
        with ZipFile(archive, "w", ZIP_DEFLATED, compresslevel=1) as packed:
            for path in sorted(folder.rglob("*")):
                packed.write(path, f"app/{path.relative_to(folder)}")
    else:
        with tarfile.open(archive, "w:gz", compresslevel=1) as packed_tar:
            packed_tar.add(folder, "app")
    assert check(archive).findings == ()


def test_a_damaged_program_is_never_a_traceback(build_bundle: Callable[[str], Bundle], tmp_path: Path) -> None:
    """Cut off, or with bits turned in the tables of contents at its end, it has findings or is refused."""
    chance = random.Random(3)
    content = build_bundle("pyinstaller-onefile").executable.read_bytes()
    path = tmp_path / "app"
    for number in range(40):
        tail = chance.randrange(1, 30_000)
        position = len(content) - tail
        damaged = content[:position] if number % 4 == 0 else bytearray(content)
        if isinstance(damaged, bytearray):
            damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(UnreadableBundle):
            check(path)


def test_a_test_suite_checks_its_bundle_in_one_line(bundle: Bundle, tmp_path: Path) -> None:
    """Every form of bundle is found from its program; what is wrong is an error that names all of it."""
    assert not FrozenBundle(bundle.executable).check().is_failure
    if bundle.form == "cx-folder":
        broken = tmp_path / "broken"
        shutil.copytree(bundle.folder, broken)
        (revision,) = broken.rglob("versions/0002*.py")
        revision.unlink()
        with pytest.raises(InvalidMigrations, match=r"FK1\d\d .*0002"):
            FrozenBundle(broken / bundle.executable.name).check()
