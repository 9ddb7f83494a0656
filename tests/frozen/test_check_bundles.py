"""``freezekit check`` on real bundles: healthy ones have no finding, each way to break one has exactly its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from bundles import PROJECT
from edits import MIGRATIONS, copied, replaced
from sample_data import expected_head, revisions

from freezekit.check.bundle import open_bundle
from freezekit.check.frozen import FrozenBundle
from freezekit.check.run import check
from freezekit.errors import InvalidMigrations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bundles import Bundle

BROUGHT = """\
import __future__, collections.abc, datetime, email.message, encodings.idna, math, os.path, string
from importlib.metadata import version
"""
NEXT = f'from alembic import op\nrevision = "next"\ndown_revision = "{expected_head}"\n'


def ids(path: Path, **how: str) -> set[str]:
    return {one.id for one in check(path, **how).findings}


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
import sys
from freezekit.check.run import check
check(sys.argv[1])
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures as Linux does")
def test_a_bundle_is_checked_in_little_memory(bundle: Bundle) -> None:
    """Bundles of 50 to 150 MB."""
    command = [sys.executable, "-c", _MEASURED, bundle.folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 150 * 1024


BREAKS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a revision in the middle deleted": (
        lambda scripts: (scripts / "versions/v2.0.1.py").unlink(),
        {"FK102", "FK112", "FK114"},
    ),
    "a revision that imports what every interpreter has": (
        lambda scripts: replaced(scripts / "versions/next.py", BROUGHT + NEXT),
        {"FK103"},
    ),
    "a revision that imports what nobody shipped": (
        lambda scripts: replaced(scripts / "versions/next.py", f"import sched, wsgiref.types\n{NEXT}"),
        {"FK103", "FK131"},
    ),
    "env.py deleted": (lambda scripts: (scripts / "env.py").unlink(), {"FK102"}),
    "the empty database emptied": (lambda scripts: replaced(scripts / "freezekit.db.gz", b""), {"FK104"}),
}


@pytest.mark.parametrize("form", ["cx-folder", "pyinstaller-onedir"])
@pytest.mark.parametrize(("change", "expected"), BREAKS.values(), ids=list(BREAKS))
def test_what_one_change_breaks_is_all_found(
    form: str,
    change: Callable[[Path], None],
    expected: set[str],
    build_bundle: Callable[[str], Bundle],
    tmp_path: Path,
) -> None:
    """Each finding alone is in test_check_findings.py."""
    copy = copied(build_bundle(form), tmp_path / "broken", PROJECT)
    change(copy.scripts)
    assert ids(copy.folder) == expected


def test_a_module_that_only_a_migration_imports_is_missed(
    build_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    """With the file and the line of the import."""
    copy = copied(build_bundle("cx-zip"), tmp_path / "broken", PROJECT)
    copy.edit_modules(without=["inflection"])
    missing = check(copy.folder).findings
    assert {one.id for one in missing} == {"FK131"}
    assert all("inflection" in one.message and one.line for one in missing)


def test_a_stale_bundle_is_found(build_bundle: Callable[[str], Bundle], tmp_path: Path) -> None:
    """The bundle is that of the day before: one revision was added since, one edited, one deleted."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "sample_app", project / "sample_app", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "pyproject.toml").write_text('[tool.freezekit]\nscript_location = "sample_app:migrations"\n')
    bundle = build_bundle("pyinstaller-onefile").folder
    assert ids(bundle, source=str(project)) == set()
    versions = project / MIGRATIONS / "versions"
    replaced(versions / "next.py", NEXT)
    replaced(versions / "v2.0.1.py", (versions / "v2.0.1.py").read_bytes() + b"# more\n")
    (versions / "0001_create_tables.py").unlink()
    assert ids(bundle, source=str(project)) == {"FK121", "FK122", "FK123"}


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
