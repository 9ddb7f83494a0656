"""Golden bundles: for each finding a copy of a real bundle of each freezer, broken so that only it is found."""

from __future__ import annotations

import json
import py_compile
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from bundles import PROJECT
from edits import MANIFEST, MIGRATIONS, Copy, copied, replaced
from sample_data import expected_head

from freezekit.check.checks import Check
from freezekit.check.run import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bundles import Bundle

FORMS = ["cx-folder", "pyinstaller-onedir"]
PARENT = "c40d7be91f35"
FIRST, BEFORE_HEAD, HEAD = (
    f"versions/{name}.py" for name in ("0001_create_tables", "20260114_note_slugs", "20260202_describe_attachments")
)
NEXT = "versions/next.py"
SQLITE_FILE = b"SQLite format 3\0" + bytes(84)


def revision(name: str, down: object, imports: str = "") -> str:
    return f"{imports}\nfrom alembic import op\nrevision = {name!r}\ndown_revision = {down!r}\n\ndef upgrade(): pass\n"


def without_revisions(copy: Copy) -> None:
    shutil.rmtree(copy.scripts / "versions")
    copy.restamp()


def only_compiled(copy: Copy) -> None:
    head = copy.scripts / HEAD
    py_compile.compile(str(head), cfile=str(head.with_suffix(".pyc")), doraise=True)
    head.unlink()


def circle(copy: Copy) -> None:
    text = (copy.scripts / FIRST).read_text(encoding="utf-8")
    copy.write(FIRST, re.sub(r"^(down_revision.*=).*$", rf"\1 {expected_head!r}", text, flags=re.MULTILINE))


def without_sqlite(copy: Copy) -> None:
    (module,) = copy.folder.rglob("_sqlite3*.so" if sys.platform != "win32" else "_sqlite3*.pyd")
    module.unlink()


def open_to_all(copy: Copy) -> None:
    path = copy.scripts / "env.py"
    replaced(path, path.read_bytes())
    path.chmod(0o666)


def newer_revision(copy: Copy) -> None:
    replaced(copy.source / NEXT, revision("next", expected_head))


def without_head(copy: Copy) -> None:
    (copy.scripts / HEAD).unlink()
    copy.rebuild_manifest()


def edited_head(copy: Copy) -> None:
    copy.write(HEAD, (copy.scripts / HEAD).read_bytes() + b"# more\n")
    copy.rebuild_manifest()


def head_depends_on_more(copy: Copy) -> None:
    text = (copy.scripts / HEAD).read_text(encoding="utf-8")
    copy.write(HEAD, re.sub(r"^(depends_on.*=).*$", rf"\1 {PARENT!r}", text, flags=re.MULTILINE))
    copy.rebuild_manifest()


BREAKS: dict[str, Callable[[Copy], object]] = {
    "FK101": lambda copy: shutil.rmtree(copy.scripts),
    "FK102": lambda copy: (copy.scripts / HEAD).unlink(),
    "FK103": lambda copy: replaced(copy.scripts / NEXT, revision("next", expected_head)),
    "FK104": lambda copy: replaced(copy.scripts / HEAD, (copy.scripts / HEAD).read_bytes() + b"# more\n"),
    "FK105": only_compiled,
    "FK106": lambda copy: (copy.scripts / MANIFEST).unlink(),
    "FK107": lambda copy: replaced(copy.scripts / MANIFEST, (copy.scripts / MANIFEST).read_bytes()[:-9]),
    "FK111": without_revisions,
    "FK112": lambda copy: copy.write(NEXT, revision("next", PARENT)),
    "FK113": circle,
    "FK114": lambda copy: copy.write(NEXT, revision("next", (expected_head, "lost"))),
    "FK115": lambda copy: copy.write(NEXT, f"revision = 'next'\ndown_revision = {expected_head!r}\ndef upgrade(:"),
    "FK116": lambda copy: copy.write(NEXT, (copy.scripts / HEAD).read_bytes()),
    "FK117": lambda copy: copy.write(NEXT, f"revision = str(1)\ndown_revision = {expected_head!r}\n"),
    "FK121": newer_revision,
    "FK122": lambda copy: (copy.source / HEAD).unlink(),
    "FK123": lambda copy: replaced(copy.source / HEAD, (copy.source / HEAD).read_bytes() + b"# more\n"),
    "FK131": lambda copy: copy.edit_modules(without=["inflection"]),
    "FK132": without_sqlite,
    "FK133": lambda copy: copy.edit_modules(more={"alembic": "__version__ = '1.14.0'\n"}),
    "FK141": lambda copy: copy.write("dev.db", SQLITE_FILE),
    "FK142": lambda copy: copy.write(".env", "TOKEN=1"),
    "FK143": open_to_all,
    "FK144": lambda copy: copy.edit_modules(more={"PyInstaller": ""}),
    "FK145": lambda copy: copy.edit_modules(more={"setuptools": ""}),
    "FK151": without_head,
    "FK152": edited_head,
    "FK153": head_depends_on_more,
}
"""By the id of the finding, what is done to the bundle or to the project beside it."""
COMPARED = {"FK12": "source", "FK15": "against"}


@pytest.fixture
def copy(build_bundle: Callable[[str], Bundle], request: pytest.FixtureRequest, tmp_path: Path) -> Copy:
    """A copy of the healthy bundle of a form, and a copy of its project."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT / MIGRATIONS, project / MIGRATIONS, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "pyproject.toml").write_text('[tool.freezekit]\nscript_location = "sample_app:migrations"\n')
    return copied(build_bundle(request.param), tmp_path / "broken", project)


@pytest.mark.parametrize("copy", FORMS, indirect=True)
@pytest.mark.parametrize("expected", BREAKS)
def test_each_finding_is_made_by_a_real_bundle_that_is_broken_in_one_way(expected: str, copy: Copy) -> None:
    """Exactly that one: what else was said would be noise."""
    against = {"source": str(copy.project), "against": str(copy.bundle.folder)}
    how = {name: against[name] for prefix, name in COMPARED.items() if expected.startswith(prefix)}
    BREAKS[expected](copy)
    assert {one.id for one in check(copy.folder, **how).findings} == {expected}


@pytest.mark.parametrize("copy", FORMS, indirect=True)
def test_a_copy_that_is_not_broken_has_no_finding(copy: Copy) -> None:
    """Neither as it is, nor after its manifest and its archive of modules were written anew, as the breaks do."""
    copy.restamp()
    copy.rebuild_manifest()
    copy.edit_modules(more={"sample_extra": ""})
    assert check(copy.folder, str(copy.project), str(copy.bundle.folder)).findings == ()
    assert json.loads((copy.scripts / MANIFEST).read_bytes())["heads"] == [expected_head]


@pytest.mark.parametrize("copy", ["pyinstaller-onedir"], indirect=True)
def test_a_module_of_the_standard_library_is_not_taken_for_a_part_of_the_interpreter(copy: Copy) -> None:
    """The program of cx_Freeze has some compiled in; PyInstaller's interpreter only has their names."""
    copy.write(NEXT, revision("next", expected_head, "import email.message"))
    copy.edit_modules(without=["email"])
    assert [one.message for one in check(copy.folder).findings] == [
        f"{NEXT} imports email.message, which is not in the bundle"
    ]


def test_every_check_has_a_golden_bundle() -> None:
    assert list(BREAKS) == [one.name for one in Check]
