"""From a tree of scripts to a manifest: what is read without running it, and what is refused, all at once."""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from histories import ENV, Project, project_in

import freezekit
from freezekit import InvalidMigrations, Manifest, UnreadableBundle
from freezekit.config import Chain
from freezekit.manifest import digest, manifest_name
from freezekit.scripts import read_manifest
from freezekit.tree import FolderTree, ZipTree

WHOLE = "def upgrade():\n    pass\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path / "app") as one:
        yield one


def read(project: Project) -> Manifest:
    """Return the manifest of a project's scripts, read from the folder."""
    return read_manifest(FolderTree(str(project.migrations)), Chain("app:migrations", str(project.migrations)))


def issues(project: Project) -> tuple[str, ...]:
    """Return everything that is wrong with a project's scripts."""
    with pytest.raises(InvalidMigrations) as caught:
        read(project)
    assert caught.value.script_location == str(project.migrations)
    for issue in caught.value.issues:
        assert issue in str(caught.value)
    return caught.value.issues


# How revisions say what they are.

WRITTEN = {
    "literals": "revision = 'two'\ndown_revision = 'one'\nbranch_labels = None\ndepends_on = None",
    "annotated": "revision: str = 'two'\ndown_revision: str | None = 'one'\ndepends_on: 'str | None' = None",
    "names": "ID = 'two'\nPARENT = 'one'\nrevision = ID\ndown_revision = PARENT",
    "chained": "x = revision = 'two'\ndown_revision = 'one'",
    "unpacked": "revision, down_revision = 'two', 'one'",
    "f-string": "n = 'o'\nrevision = f'tw{n}'\ndown_revision = f'{n}ne'",
    "added": "revision = 't' + 'wo'\ndown_revision = 'on' 'e'",
    "tuple": "revision = 'two'\ndown_revision = ('one',)",
    "list": "revision = 'two'\ndown_revision = ['one']",
    "conditional": "revision = 'two'\nif revision:\n    down_revision = 'one'\nelse:\n    down_revision = None",
    "a condition in one line": "revision = 'two'\ndown_revision = 'one' if revision == 'two' else None",
    "try": "try:\n    revision = 'two'\nfinally:\n    down_revision = 'one'",
    "imported": "from textwrap import dedent\nrevision = dedent('two')\ndown_revision = 'one'",
    "computed": "revision = '-'.join(['two'])\ndown_revision = str('one')",
    "from its file": "from pathlib import Path\nrevision = Path(__file__).stem\ndown_revision = 'one'",
    "assigned twice": "revision = 'draft'\nrevision = 'two'\ndown_revision = 'one'",
    "augmented": "revision = 't'\nrevision += 'wo'\ndown_revision = 'one'",
    "a walrus": "(revision := 'two')\ndown_revision = 'one'",
    "deleted": "revision = 'two'\ndown_revision = 'one'\ndepends_on = 'nothing'\ndel depends_on",
    "with a statement": "import contextlib\nwith contextlib.nullcontext('two') as revision:\n    down_revision = 'one'",
    "a loop": "for revision in ('one', 'two'):\n    down_revision = 'one'",
    "a star import": "from string import *\nrevision = 'two'\ndown_revision = 'one'",
    "percent": "revision = '%s' % 'two'\ndown_revision = 'one'",
    "format": "revision = '{}'.format('two')\ndown_revision = 'one'",
    "a constant of a class": "class Ids:\n    TWO = 'two'\nrevision = Ids.TWO\ndown_revision = 'one'",
}


@pytest.mark.parametrize("case", WRITTEN)
def test_attributes_are_what_running_the_script_says(case: str, project: Project) -> None:
    """Literals are read; whatever else binds a name is run, alone, as Alembic would run it."""
    project.revision("one")
    project.write("migrations/versions/two.py", f'"""Two.\n\nMore."""\n{WRITTEN[case]}\n{WHOLE}')
    manifest = read(project)
    assert manifest.heads == ("two",)
    assert manifest.by_id["two"].down_revision == ("one",)
    assert manifest.by_id["two"].depends_on == ()
    assert manifest.by_id["two"].doc == "Two."
    assert manifest.by_id["two"].file == "versions/two.py"


@pytest.mark.parametrize("written", ["'x'", "('x',)", "['x']", "{'x'}", "LABEL", "tuple('x')"])
@pytest.mark.parametrize("attribute", ["branch_labels", "depends_on"])
def test_one_or_several_are_written_in_many_ways(attribute: str, written: str, project: Project) -> None:
    if attribute == "depends_on":
        project.revision("x")
    source = f"LABEL = 'x'\nrevision = 'one'\ndown_revision = None\n{attribute} = {written}\n{WHOLE}"
    project.write("migrations/versions/one.py", source)
    assert getattr(read(project).by_id["one"], attribute) == ("x",)


def test_a_script_with_literals_is_not_run(project: Project) -> None:
    """Neither its imports nor its calls matter for where it stands in the history."""
    project.revision("one", head="import a_library_that_is_not_installed\nraise SystemExit(3)")
    assert read(project).heads == ("one",)


def test_an_id_may_be_in_the_name_of_the_file(project: Project) -> None:
    """As in the first releases of Alembic: a file without ``revision``, named after it."""
    project.write("migrations/versions/ab12cd.py", "down_revision = None\n" + WHOLE)
    assert read(project).heads == ("ab12cd",)


def test_the_manifest_names_parents_before_children(project: Project) -> None:
    """Whatever the names of the files: parents and dependencies come first, and labels are resolved."""
    project.revision("a", "c")
    project.revision("b", ("a", "y"))
    project.revision("c")
    project.revision("x", "z", depends_on="label")
    project.revision("y", "x")
    project.revision("z", branch_labels="other")
    project.revision("d", "c", branch_labels=["label"])
    manifest = read(project)
    order = [one.revision for one in manifest.revisions]
    for one in manifest.revisions:
        assert all(order.index(parent) < order.index(one.revision) for parent in one.down_revision + one.depends_on)
    assert manifest.by_id["x"].depends_on == ("d",)
    assert set(manifest.heads) == {"b", "d"}
    assert manifest.pending(("y",)) == ("a", "b")
    assert manifest.pending(("b",)) == ()


def test_every_file_of_the_tree_is_in_the_manifest(project: Project) -> None:
    """Data, stubs and helpers too; compiled Python and leftovers of editors not."""
    project.revision("one")
    for name in ("data/x.sql", "versions/x.json", "helpers.pyi", "README", "versions/sub/deep.txt"):
        project.write(f"migrations/{name}", "x")
    for name in ("helpers.pyc", "versions/.#one.py", "versions/one.py~", "env.py.swp", ".DS_Store", "freezekit.json"):
        project.write(f"migrations/{name}", "x")
    expected = {"env.py", "versions/one_.py", "data/x.sql", "versions/x.json", "helpers.pyi", "README"}
    assert set(read(project).files) == {*expected, "versions/sub/deep.txt"}


def test_a_tree_in_a_zip_has_the_same_manifest(project: Project, tmp_path: Path) -> None:
    """The same files are the same scripts, wherever they are read from."""
    project.line()
    project.write("migrations/data/x.sql", "SELECT 1")
    archive = tmp_path / "library.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in project.migrations.rglob("*"):
            file.write(path, f"app/migrations/{path.relative_to(project.migrations).as_posix()}")
    chain = Chain("app:migrations", str(project.migrations))
    assert read_manifest(ZipTree(str(archive), "app/migrations"), chain) == read(project)


# What is refused.


def _write(name: str, text: str) -> Callable[[Project], None]:
    return lambda project: project.write(f"migrations/{name}", text) and None


def _revision(*arguments: object, **options: object) -> Callable[[Project], None]:
    return lambda project: project.revision(*arguments, **options) and None  # type: ignore[arg-type]


def _folder_for_a_file(project: Project) -> None:
    (project.migrations / "versions" / "data.py").symlink_to(project.root / "gone.py")


def _dangling_link(project: Project) -> None:
    (project.migrations / "data.json").symlink_to(project.root / "gone.json")


def _no_env(project: Project) -> None:
    (project.migrations / "env.py").unlink()


def _no_revision(project: Project) -> None:
    (project.migrations / "versions" / "one_.py").unlink()


def _no_versions(project: Project) -> None:
    _no_revision(project)
    (project.migrations / "versions").rmdir()


def _circle(project: Project) -> None:
    project.revision("two", "three")
    project.revision("three", "two")


def _circle_of_dependencies(project: Project) -> None:
    project.revision("two", "one", depends_on="three")
    project.revision("three", "two")


BROKEN: dict[str, tuple[Callable[[Project], None], str]] = {
    "a syntax error": (_write("versions/two.py", "x = 1\ndef (:\n"), r"two\.py:2: "),
    "a syntax error in env.py": (_write("env.py", "import os\n\nif True\n"), r"env\.py:3: "),
    "a null byte": (_write("versions/two.py", "revision = 'a\0b'\n"), r"two\.py"),
    "an unknown encoding": (_write("versions/two.py", "# coding: klingon\nrevision = 'two'\n"), r"two\.py"),
    "two files, one id": (_revision("one", file="again.py"), "'one' is in two files: .*again.py.*one_.py"),
    "a missing parent": (_revision("two", "zero"), "two_.py: it follows revision 'zero', which is in no file"),
    "a missing parent of a merge": (_revision("two", ("one", "zero")), "'zero', which is in no file"),
    "a missing dependency": (_revision("two", "one", depends_on="zero"), "'zero', which is in no file"),
    "a circle": (_circle, "three, two follow each other in a circle"),
    "a circle of dependencies": (_circle_of_dependencies, "three, two follow each other in a circle"),
    "its own parent": (_revision("two", "two"), "two follow each other in a circle"),
    "no revision": (_no_revision, "holds no revision"),
    "no versions": (_no_versions, "holds no revision"),
    "no env.py": (_no_env, r"env\.py is missing"),
    "a script that is gone": (_folder_for_a_file, r"data\.py cannot be read: No such file"),
    "a data file that cannot be read": (_dangling_link, r"data\.json cannot be read: "),
    "a helper among the revisions": (
        _write("versions/helper.py", "answer = 42\n"),
        r"helper\.py: it has no 'revision'",
    ),
    "no down_revision": (_write("versions/two.py", "revision = 'two'\n"), r"two\.py: it has no 'down_revision'"),
    "an id that is no text": (_write("versions/two.py", "revision = 2\ndown_revision = None\n"), r"two\.py: "),
    "a parent that is no text": (_write("versions/two.py", "revision = 'two'\ndown_revision = 1\n"), r"two\.py: "),
    "a computed id that fails": (_write("versions/two.py", "revision = 1 / 0\n"), r"two\.py: .*ZeroDivisionError"),
    "a computed id that exits": (_write("versions/two.py", "import sys\nrevision = sys.exit(3)\n"), r"two\.py: "),
    "an id with a dash": (_revision("2024-01-02", "one"), "2024-01-02.*'-'"),
    "an id with a plus": (_revision("a+b", "one"), r"a\+b.*'\+'"),
    "an id with an at": (_revision("a@b", "one"), "a@b.*'@'"),
    "one label, two branches": (
        lambda project: [_revision(name, None, branch_labels="x")(project) for name in ("x1", "x2")] and None,
        "'x'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_tree_is_refused_with(case: str, project: Project) -> None:
    """One sentence that names the file, and the line where there is one; the rest of the tree is fine."""
    project.revision("one")
    break_it, expected = BROKEN[case]
    break_it(project)
    (issue,) = issues(project)
    import re

    assert re.search(expected, issue), issue


def test_everything_that_is_wrong_is_said_at_once(project: Project) -> None:
    """A developer repairs a tree in one go."""
    _no_env(project)
    project.revision("two", "zero")
    project.revision("three", "nothing")
    project.write("migrations/versions/broken.py", "def (:\n")
    project.write("migrations/versions/helper.py", "answer = 42\n")
    project.revision("two", "two", file="again.py")
    found = "\n".join(issues(project))
    for part in ("env.py is missing", "'zero'", "'nothing'", "broken.py:1", "helper.py", "is in two files"):
        assert part in found


@pytest.mark.parametrize("question", ["status", "upgrade", "plan"])
def test_a_broken_tree_is_refused_before_any_database_is_touched(
    question: str, project: Project, tmp_path: Path
) -> None:
    """The same error from every question and action, and no file."""
    project.revision("two", "zero")
    with pytest.raises(InvalidMigrations, match="zero"):
        getattr(project.located(), question)(tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


# The manifest as a file.


def test_a_manifest_is_the_same_after_writing_and_reading(project: Project) -> None:
    """Nothing is lost on the way through ``freezekit.json``."""
    project.line()
    project.revision("d4", "c3", branch_labels="Zoë", depends_on="b2")
    manifest = read(project)
    assert Manifest.from_json(manifest.to_json(), "freezekit.json") == manifest
    assert Manifest.from_json(manifest.to_json().encode(), "freezekit.json") == manifest
    assert json.loads(manifest.to_json())["format"] == 1


def test_the_same_tree_gives_the_same_text(project: Project, tmp_path: Path) -> None:
    """Reproducible builds: the order of a folder's entries does not matter."""
    project.line()
    with project_in(tmp_path / "other") as other:
        for path in sorted(project.migrations.rglob("*.py"), reverse=True):
            other.write(f"migrations/{path.relative_to(project.migrations)}", path.read_text())
        assert read(other).to_json() == read(project).to_json()


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_line_endings_do_not_change_a_digest(ending: str, project: Project) -> None:
    """A checkout on Windows holds the same scripts; what the lines say does count."""
    text = project.revision("one").read_text()
    path = project.migrations / "versions" / "one_.py"
    path.write_bytes(text.replace("\n", ending).encode())
    assert read(project).by_id["one"].sha256 == digest(text.encode())
    assert read(project).by_id["one"].sha256 != digest(text.replace("pass", "fail").encode())


def _shipped(project: Project, text: bytes | None = None) -> Path:
    path = project.migrations / manifest_name()
    path.write_bytes(project.line().located().manifest.to_json().encode() if text is None else text)
    return path


UNREADABLE = {
    "empty": b"",
    "truncated": b'{"format": 1, "script_location": "app:mig',
    "not json": b"format: 1\n",
    "not text": bytes(range(256)),
    "a list": b"[]",
    "a number": b"1",
    "no format": b"{}",
    "a newer format": b'{"format": 2}',
    "a format that is text": b'{"format": "1"}',
    "something missing": b'{"format": 1, "script_location": "x"}',
    "a revision that is none": b'{"format": 1, "script_location": "x", "section": "alembic", "revisions": [1],'
    b' "heads": [], "files": {}}',
    "a head that is not named": b'{"format": 1, "script_location": "x", "section": "alembic", "heads": [], "files": {},'
    b' "revisions": [{"revision": "a", "down_revision": [], "file": "a.py", "sha256": "", "doc": ""}]}',
    "a head that has a child": b'{"format": 1, "script_location": "x", "section": "alembic", "heads": ["a", "b"],'
    b' "revisions": [{"revision": "a", "down_revision": [], "file": "a.py", "sha256": "", "doc": ""},'
    b' {"revision": "b", "down_revision": ["a"], "file": "b.py", "sha256": "", "doc": ""}], "files": {}}',
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_damaged_manifest_is_refused_by_name(case: str, project: Project) -> None:
    """The error carries the path; the scripts beside it are not taken instead."""
    path = _shipped(project, UNREADABLE[case])
    with pytest.raises(UnreadableBundle) as caught:
        project.located().heads  # noqa: B018 - reading it is the point
    assert caught.value.path == str(path)
    assert caught.value.reason in str(caught.value)


def test_a_newer_manifest_says_so(project: Project) -> None:
    _shipped(project, UNREADABLE["a newer format"])
    with pytest.raises(UnreadableBundle, match="format is 2"):
        project.located().heads  # noqa: B018 - reading it is the point


ALTERATIONS: dict[str, tuple[Callable[[Project], object], str]] = {
    "a revision is gone": (lambda project: (project.migrations / "versions" / "c3_.py").unlink(), "c3_.py was shipped"),
    "env.py is gone": (_no_env, "env.py was shipped but is missing"),
    "a revision too much": (_revision("d4", "c3"), "d4_.py was not shipped"),
}


@pytest.mark.parametrize("case", ALTERATIONS)
def test_a_shipped_tree_with_other_files_is_refused(case: str, project: Project, tmp_path: Path) -> None:
    """What lies beside the manifest must be what it lists."""
    _shipped(project)
    alter, expected = ALTERATIONS[case]
    alter(project)
    with pytest.raises(InvalidMigrations, match=expected):
        project.located().upgrade(tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("name", ["env.py", "versions/b2_.py"])
def test_an_altered_script_does_not_run(name: str, project: Project, tmp_path: Path) -> None:
    """It is refused by ``verify``, and by the upgrade that would run it; another line ending is no alteration."""
    _shipped(project)
    path = project.migrations / name
    source = path.read_text()
    path.write_bytes(source.replace("\n", "\r\n").encode())
    freezekit.locate(project.migrations).verify()
    path.write_text(source + "print('hello')\n")
    with pytest.raises(InvalidMigrations, match="altered"):
        freezekit.locate(project.migrations).verify()
    with pytest.raises(InvalidMigrations, match="altered"):
        freezekit.locate(project.migrations).upgrade(tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


# What env.py says about itself.

TABLES = {
    "nothing": ("", "alembic_version"),
    "a literal": (", version_table='mine'", "mine"),
    "a name": (", version_table=TABLE", "mine"),
    "an f-string": (", version_table=f'{TABLE}_too'", "mine_too"),
    "an option": (", version_table=config.get_main_option('version_table', 'mine')", "mine"),
}


@pytest.mark.parametrize("case", TABLES)
def test_the_version_table_is_read_from_env_py(case: str, project: Project) -> None:
    """Without running it, where it is written there."""
    project.revision("one")
    option, expected = TABLES[case]
    project.env("TABLE = 'mine'\n" + ENV.replace("connection=connection", "connection=connection" + option))
    assert read(project).version_table == expected


@pytest.mark.parametrize("option", ["version_table=make()", "version_table=os.environ.get('X', 'y')"])
def test_a_version_table_that_only_running_tells_is_left_open(option: str, project: Project) -> None:
    project.revision("one")
    project.env(ENV.replace("connection=connection", f"connection=connection, {option}"))
    assert read(project).version_table is None


GATHERED = {
    "a dict": ("options = {'version_table': 'mine'}", None),
    "a call of dict": ("options = dict(version_table='mine')", None),
    "an item": ("options = {}\noptions['version_table'] = 'mine'", None),
    "other options": ("options = {'compare_type': True}", "alembic_version"),
}


@pytest.mark.parametrize("case", GATHERED)
def test_a_version_table_among_gathered_options_is_left_open(case: str, project: Project, tmp_path: Path) -> None:
    """``**options`` may hold it when env.py names it somewhere; then env.py is asked, by running it."""
    project.revision("one")
    statement, expected = GATHERED[case]
    project.env(f"{statement}\n" + ENV.replace("connection=connection", "connection=connection, **options"))
    assert read(project).version_table == expected
    migrations = project.located()
    migrations.upgrade(tmp_path / "new.db")
    assert migrations.manifest.version_table == (expected or "mine")
    assert migrations.status(tmp_path / "new.db").state is freezekit.State.CURRENT
