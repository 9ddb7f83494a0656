"""Each check of a finished bundle: what makes it speak, and what looks much like that and does not."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from check_inputs import (
    BUILT_WITH,
    EMPTY_DATABASE,
    ENV,
    EXTENSION,
    MANIFEST,
    MODULES,
    SNAPSHOT,
    SQLITE_FILE,
    TREE,
    VERSIONS,
    healthy,
    library,
    restamped,
    revision,
    write,
)

from freezekit.check.checks import RULES, Check
from freezekit.check.run import check
from freezekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Files = dict[str, bytes]
FIRST, SECOND, THIRD = (f"{VERSIONS}/{name}.py" for name in ("0001_first", "v2.0.second", "0003_third"))
NEXT = f"{VERSIONS}/0004_next.py"


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture
def files(scratch: Path) -> Files:
    return healthy(scratch)


def found(folder: Path, files: Mapping[str, bytes], modes: Mapping[str, int] | None = None, **how: Any) -> set[str]:
    """Return the ids of what is found in a bundle with these files."""
    return {one.id for one in check(write(folder, files, modes), **how).findings}


def without(files: Files, *names: str) -> Files:
    return {name: content for name, content in files.items() if name not in names}


def with_(**texts: str) -> Callable[[Files], Files]:
    """Return a change that adds or replaces scripts, which the build has seen so."""
    paths = {"env": f"{TREE}/env.py", "first": FIRST, "second": SECOND, "third": THIRD, "next": NEXT}
    return lambda files: restamped({**files, **{paths[name]: text.encode() for name, text in texts.items()}})


def added(name: str, content: bytes = b"x", *, shipped: bool = False) -> Callable[[Files], Files]:
    return lambda files: restamped({**files, name: content}) if shipped else {**files, name: content}


def removed(*names: str, shipped: bool = False) -> Callable[[Files], Files]:
    return lambda files: restamped(without(files, *names)) if shipped else without(files, *names)


def without_modules(*names: str) -> Callable[[Files], Files]:
    return lambda files: {**files, "lib/library.zip": library([one for one in MODULES if one not in names])}


def with_modules(*names: str) -> Callable[[Files], Files]:
    return lambda files: {**files, "lib/library.zip": library([*MODULES, *names])}


def with_version(name: str, version: str) -> Callable[[Files], Files]:
    return lambda files: {**files, "lib/library.zip": library(versions={**BUILT_WITH, name: version})}


def renamed(old: str, new: str) -> Callable[[Files], Files]:
    return lambda files: {new if name == old else name: content for name, content in files.items()}


def only_library(files: Files) -> Files:
    return {name: content for name, content in files.items() if not name.startswith(TREE)}


def damaged_manifest(files: Files) -> Files:
    return {**files, MANIFEST: files[MANIFEST][:200]}


def rubbish_in_manifest(files: Files) -> Files:
    return restamped(files, built_with=["0.1.0"], fingerprints={"0003": 3})


def newer_manifest(files: Files) -> Files:
    return {**files, MANIFEST: json.dumps({**json.loads(files[MANIFEST]), "format": 2}).encode()}


def without_fingerprints(files: Files) -> Files:
    changed = {**without(files, EXTENSION, SNAPSHOT), "lib/libpython3.11.so": b"PyInit_posix"}
    return restamped(changed, fingerprints={}, snapshot=None, snapshot_sha256=None)


PASSWORD = "url = 'postgresql+asyncpg://app:hunter2@db.example.com/app'\n"
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"

SPEAKS: list[tuple[str, Callable[[Files], Files], set[str]]] = [
    ("no scripts at all", only_library, {"FK101"}),
    ("a revision is missing", removed(THIRD), {"FK102"}),
    ("env.py is missing", removed(f"{TREE}/env.py"), {"FK102"}),
    ("a data file is missing", removed(f"{TREE}/starter.json"), {"FK102"}),
    ("the empty database is missing", removed(SNAPSHOT), {"FK102"}),
    ("a revision in the middle is missing", removed(SECOND), {"FK102", "FK112", "FK114"}),
    ("a revision more", added(NEXT, revision("0004", "0003").encode()), {"FK103"}),
    ("a data file more", added(f"{TREE}/more.json"), {"FK103"}),
    ("an empty database that nobody made", added(f"{TREE}/freezekit.other.db.gz"), {"FK103"}),
    ("a revision was altered", added(SECOND, revision("0002", "0001", "op.drop()").encode()), {"FK104"}),
    ("the empty database was altered", added(SNAPSHOT, EMPTY_DATABASE + b"1"), {"FK104"}),
    ("a revision only compiled", renamed(THIRD, f"{VERSIONS}/0003_third.pyc"), {"FK105"}),
    ("only in __pycache__", renamed(THIRD, f"{VERSIONS}/__pycache__/0003_third.cpython-311.pyc"), {"FK105"}),
    ("no manifest", removed(MANIFEST, SNAPSHOT), {"FK106"}),
    ("half a manifest", damaged_manifest, {"FK107"}),
    ("a manifest of a newer format", newer_manifest, {"FK107"}),
    ("a manifest with rubbish in it", rubbish_in_manifest, {"FK107"}),
    ("no revision", removed(FIRST, SECOND, THIRD, shipped=True), {"FK111"}),
    ("two heads", with_(next=revision("0004", "0002")), {"FK112"}),
    ("a circle", with_(first=revision("0001", "0003")), {"FK113"}),
    ("a circle beside a head", with_(next=revision("0004", "0004")), {"FK113"}),
    ("a parent in no file", with_(next=revision("0004", ("0003", "lost"))), {"FK114"}),
    ("a syntax error", with_(next="revision = '0004'\ndown_revision ="), {"FK115"}),
    ("a syntax error in env.py", with_(env="import"), {"FK115"}),
    ("a script as deep as no parser minds", with_(next=revision("0004", "0003", "+".join("1" * 700))), {"FK115"}),
    ("a script deeper than any", with_(next=revision("0004", "0003", "-" * 9000 + "1")), {"FK115"}),
    ("env.py as deep as no parser minds", with_(env="if a: pass\n" + "elif a: pass\n" * 700), {"FK115"}),
    ("an id twice", with_(next=revision("0003", "0002")), {"FK116"}),
    ("an id that is computed", with_(next="revision = name()\ndown_revision = '0003'"), {"FK117"}),
    ("a module nobody shipped", with_(third=revision("0003", "0002", imports="import inflection")), {"FK131"}),
    ("a module imported late", with_(third=revision("0003", "0002", "import app.words")), {"FK131"}),
    ("only the package is there", without_modules("logging.config"), {"FK131"}),
    ("SQLite's module", removed(EXTENSION), {"FK132"}),
    ("SQLite's dialect", without_modules("sqlalchemy.dialects.sqlite"), {"FK132"}),
    ("a driver in a URL", with_(env=ENV + "URL = 'sqlite+aiosqlite:///app.db'\n"), {"FK132"}),
    ("another Alembic", with_version("alembic", "1.19.0"), {"FK133"}),
    ("another freezekit", with_version("freezekit", "0.2.0"), {"FK133"}),
    ("another SQLAlchemy", with_version("sqlalchemy", "2.0.1"), {"FK133"}),
    ("another Python", renamed(EXTENSION, EXTENSION.replace("311", "312")), {"FK133"}),
    ("a database beside env.py", added(f"{TREE}/dev.db", SQLITE_FILE, shipped=True), {"FK141"}),
    ("a database elsewhere", added("lib/app/dev.sqlite", SQLITE_FILE + b"alembic_version"), {"FK141"}),
    (".env beside env.py", added(f"{TREE}/.env", shipped=True), {"FK142"}),
    (".env.production at the top", added(".env.production"), {"FK142"}),
    ("a private key", added("lib/app/server.pem", KEY), {"FK142"}),
    ("a password in env.py", with_(env=ENV + PASSWORD), {"FK132", "FK142"}),
    ("a freezer", with_modules("PyInstaller.building"), {"FK144"}),
    ("the build room", with_modules("freezekit.build.cargo"), {"FK144"}),
    ("an installer", with_modules("pip._internal"), {"FK145"}),
]
IS_SILENT: list[tuple[str, Callable[[Files], Files]]] = [
    ("nothing is wrong", lambda files: files),
    ("line endings of another system", lambda files: {**files, THIRD: files[THIRD].replace(b"\n", b"\r\n")}),
    ("compiled beside the source", added(f"{VERSIONS}/0003_third.pyc")),
    ("a cache beside the source", added(f"{VERSIONS}/__pycache__/0003_third.cpython-311.pyc")),
    ("what an editor left", added(f"{VERSIONS}/0003_third.py~")),
    ("Alembic's own templates", added("lib/alembic/templates/generic/env.py", b"from alembic import context")),
    ("an env.py of something else", added("lib/other/env.py", b"import os")),
    ("a merge of two branches", with_(third=revision("0003", "0001"), next=revision("0004", ("0002", "0003")))),
    ("a label as dependency", with_(first=revision("0001", None).replace("def", "branch_labels = 'base'\ndef"))),
    ("__init__.py among the revisions", added(f"{VERSIONS}/__init__.py", b"", shipped=True)),
    ("an import in try", with_(third=revision("0003", "0002", "try: import lost\n    except ImportError: pass"))),
    ("an import for types", with_(env=f"from typing import TYPE_CHECKING\nif TYPE_CHECKING: import lost\n{ENV}")),
    ("no SQLite where none is needed", without_fingerprints),
    ("what Python only warns of", with_(third=revision("0003", "0002", "op.execute('\\d' is 1)"))),
    ("an https URL", with_(env=f"{ENV}SEE = 'https://example.com'\n")),
    ("a patch release of Python", lambda files: restamped(files, built_with={**BUILT_WITH, "python": "3.11.99"})),
    ("a freezer that is unknown", lambda files: restamped(files, built_with={"alembic": "1.20.1"})),
    ("versions that are unknown", lambda files: restamped(files, built_with={})),
    ("a database the program brings", added("lib/app/words.db", SQLITE_FILE)),
    ("an example of .env", added(".env.example")),
    ("certificates", added("share/certs.pem", b"-----BEGIN CERTIFICATE-----")),
    ("a password that is none", with_(env=f"{ENV}# postgresql://user:pass@localhost/x, x://u:%(pw)s@h\n")),
    ("a module with such a name", with_modules("piper", "freezekit.builder", "wheels")),
]


@pytest.mark.parametrize(("change", "ids"), [row[1:] for row in SPEAKS], ids=[row[0] for row in SPEAKS])
def test_each_way_to_break_a_bundle_is_found_by_its_name(
    change: Callable[[Files], Files], ids: set[str], files: Files, tmp_path: Path
) -> None:
    """Exactly those checks speak: what else they said would be noise."""
    assert found(tmp_path, change(files)) == ids


@pytest.mark.parametrize("change", [row[1] for row in IS_SILENT], ids=[row[0] for row in IS_SILENT])
def test_what_only_looks_wrong_is_not_found(change: Callable[[Files], Files], files: Files, tmp_path: Path) -> None:
    assert found(tmp_path, change(files)) == set()


def test_every_check_has_a_test(request: pytest.FixtureRequest) -> None:
    """A check that nothing makes speak may as well not exist."""
    spoken = set().union(*(ids for _, _, ids in SPEAKS))
    own = {"FK121", "FK122", "FK123", "FK143", "FK151", "FK152", "FK153"}
    assert spoken | own == {rule.id for rule in RULES}
    source = request.path.read_text(encoding="utf-8")
    assert all(source.count(f'"{one}"') > 1 for one in own)


def test_a_finding_says_file_line_and_what_to_do(files: Files, tmp_path: Path) -> None:
    changed = with_(third=revision("0003", "0002", imports="import inflection"))(files)
    (one,) = check(write(tmp_path, changed)).findings
    assert (one.id, one.level.value, one.file, one.line) == ("FK131", "error", THIRD, 3)
    assert one.message == "versions/0003_third.py imports inflection, which is not in the bundle"
    assert "dependencies" in one.advice


def test_a_file_that_anyone_may_write_is_found(files: Files, tmp_path: Path) -> None:
    """All of them are one finding: what is to be done is the same for all."""
    assert found(tmp_path / "safe", files, {THIRD: 0o664}) == set()
    report = check(write(tmp_path / "open", files, {THIRD: 0o666, "app": 0o757}))
    assert [(one.id, one.message.partition(":")[0]) for one in report.findings] == [
        ("FK143", "anyone may write to 2 files")
    ]


def test_a_tree_of_a_library_does_not_fail_a_bundle_that_has_its_own(files: Files, tmp_path: Path) -> None:
    """Libraries bring migrations of their own, as incomplete as the freezer leaves them: nobody but they can tell."""
    changed = {**files, "lib/lib/alembic/env.py": b"import alembic.lost", "lib/lib/alembic/versions/a.pyc": b""}
    report = check(write(tmp_path / "new", changed), against=str(write(tmp_path / "old", files) / MANIFEST))
    assert [(one.id, one.level.value) for one in report.findings] == [("FK106", "warning")]
    assert not report.is_failure


@pytest.fixture
def project(files: Files, tmp_path: Path) -> Path:
    """The project that the healthy bundle was built from, which lies beside it."""
    write(tmp_path / "bundle", files)
    scripts = {name.removeprefix("lib/"): text for name, text in files.items() if name.startswith(TREE)}
    folder = write(tmp_path / "project", without(scripts, *(n.removeprefix("lib/") for n in (MANIFEST, SNAPSHOT))))
    (folder / "pyproject.toml").write_text('[tool.freezekit]\nscript_location = "app:migrations"\n')
    return folder


STALE: list[tuple[str, str, str | None, set[str]]] = [
    ("nothing changed", "starter.json", "{}", set()),
    ("a revision was added", "versions/0004_next.py", revision("0004", "0003"), {"FK121"}),
    ("a revision was deleted", "versions/0003_third.py", None, {"FK122"}),
    ("a revision was edited", "versions/0003_third.py", revision("0003", "0002", "op.drop()"), {"FK123"}),
    ("line endings", "versions/0003_third.py", revision("0003", "0002").replace("\n", "\r\n"), set()),
    ("a revision was renamed", "versions/0003_other.py", None, set()),
    ("env.py was edited", "env.py", "pass", {"FK123"}),
    ("a data file was added", "more.json", "{}", {"FK123"}),
    ("what an editor left", "env.py~", "", set()),
]


@pytest.mark.parametrize(("name", "text", "ids"), [row[1:] for row in STALE], ids=[row[0] for row in STALE])
def test_a_bundle_is_compared_with_its_source(
    name: str, text: str | None, ids: set[str], project: Path, tmp_path: Path
) -> None:
    path = project / "app" / "migrations" / name
    if text is None and not path.exists():
        (path.parent / "0003_third.py").rename(path)
    elif text is None:
        path.unlink()
    else:
        path.write_bytes(text.encode())
    assert {one.id for one in check(tmp_path / "bundle", str(project)).findings} == ids


def test_nothing_of_the_source_is_run(files: Files, project: Path, tmp_path: Path) -> None:
    (project / "app/migrations/versions/0003_third.py").write_text("revision = exit(3)\ndown_revision = '0002'\n")
    assert found(tmp_path / "bundle", files, source=str(project)) == {"FK122"}


def test_drivers_that_the_source_names_must_be_there(files: Files, project: Path, tmp_path: Path) -> None:
    with (project / "pyproject.toml").open("a") as file:
        file.write('dialects = ["sqlite", "postgresql"]\ndrivers = ["pg8000"]\n')
    (project / "app/migrations").touch()
    report = check(write(tmp_path / "bundle", files), source=str(project))
    messages = " ".join(one.message for one in report.findings if one.id == "FK132")
    assert "pg8000" in messages
    assert "sqlalchemy.dialects.postgresql" in messages
    assert "none of the usual drivers of postgresql" in messages


def test_a_source_without_migrations_is_a_wrong_use(files: Files, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="configures migrations"):
        check(write(tmp_path / "bundle", files), source=str(tmp_path / "empty"))


RELEASES: list[tuple[str, Callable[[Files], Files], set[str]]] = [
    ("the same", lambda files: files, set()),
    ("one more", with_(next=revision("0004", "0003")), set()),
    ("gone", removed(THIRD, shipped=True), {"FK151"}),
    ("edited", with_(third=revision("0003", "0002", "op.drop()")), {"FK152"}),
    ("reused", with_(third=revision("0003", "0001")), {"FK112", "FK153"}),
]


@pytest.mark.parametrize("old", ["bundle", "manifest"])
@pytest.mark.parametrize(("change", "ids"), [row[1:] for row in RELEASES], ids=[row[0] for row in RELEASES])
def test_a_release_is_compared_with_the_one_before(
    change: Callable[[Files], Files], ids: set[str], old: str, files: Files, tmp_path: Path
) -> None:
    """The new release has no manifest here, so what counts is what its scripts are."""
    before = write(tmp_path / "old", files)
    shipped = before / MANIFEST if old == "manifest" else before
    new = without(change(files), MANIFEST, SNAPSHOT)
    assert found(tmp_path / "new", new, against=str(shipped), ignore=["FK106"]) == ids


def test_an_edit_with_a_reason_is_accepted(
    files: Files, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    with (project / "pyproject.toml").open("a") as file:
        file.write('accepted_edits = { "0003" = "it failed on SQLite 3.50" }\n')
    before = write(tmp_path / "old", files)
    edited = without(with_(third=revision("0003", "0002", "op.drop()"))(files), MANIFEST, SNAPSHOT)
    assert found(tmp_path / "new", edited, against=str(before), ignore=["FK106"]) == set()


@pytest.mark.parametrize(
    ("select", "ignore", "ids"),
    [
        (["FK"], [], {"FK102", "FK112", "FK114"}),
        (["FK10"], [], {"FK102"}),
        (["FK11", "FK102"], ["FK114"], {"FK102", "FK112"}),
        (["FK"], ["FK1"], set()),
        (["FK", "FK114"], ["FK11"], {"FK102", "FK114"}),
        (["FK14"], [], set()),
    ],
)
def test_checks_are_chosen_by_prefix(
    select: list[str], ignore: list[str], ids: set[str], files: Files, tmp_path: Path
) -> None:
    """The longer prefix wins, as in ruff."""
    assert found(tmp_path, without(files, SECOND), select=select, ignore=ignore) == ids


@pytest.mark.parametrize("prefix", ["FK9", "", "fk1", "FK102x"])
def test_a_prefix_that_no_check_has_is_refused(prefix: str, files: Files, tmp_path: Path) -> None:
    """A spelling error would silently switch a check off."""
    with pytest.raises(UsageError, match="no check has an id that begins with"):
        found(tmp_path, files, ignore=[prefix])


def test_any_one_shipped_file_that_is_removed_altered_or_added_is_found(files: Files, tmp_path: Path) -> None:
    """Hundreds of random changes of one script or data file, none missed."""
    chance = random.Random(5)
    shipped = sorted(name for name in files if name.startswith(TREE) and name != MANIFEST)
    bundle = write(tmp_path, files)
    for _ in range(400):
        name = chance.choice(shipped)
        path, content = bundle / name, files[name]
        kind = chance.choice(["remove", "alter", "add"])
        if kind == "remove":
            path.unlink()
        elif kind == "alter":
            position = chance.randrange(len(content) + 1)
            path.write_bytes(content[:position] + chance.choice([b"x", b"0", b"'"]) + content[position:])
        else:
            path = path.with_name(f"{chance.randrange(10**6)}{path.suffix}")
            path.write_bytes(content)
        assert check(bundle).is_failure, (kind, name)
        if kind == "add":
            path.unlink()
        else:
            path.write_bytes(content)
    assert not check(bundle).findings


def test_advice_and_title_of_every_check_are_sentences() -> None:
    for one in Check:
        assert one.advice.endswith("."), one
        assert not one.title.endswith("."), one
