"""What ships where: the layout of the bundle, the manifest, and which chains an application needs."""

from __future__ import annotations

import logging
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from freezekit.build import cargo, cx_freeze, pyinstaller, stale
from freezekit.build.cargo import Application, Cargo, load, load_explicitly
from freezekit.build.collect import bundle_path, collect, location_path
from freezekit.config import chain_of
from freezekit.errors import InvalidMigrations, UsageError
from freezekit.manifest import Manifest, digest

if TYPE_CHECKING:
    from pathlib import Path

ENV = "from alembic import context\nimport app.models\ntry:\n    import maybe_there\nexcept ImportError:\n    pass\n"


@pytest.fixture(autouse=True)
def no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a replay adds has tests of its own, and takes seconds."""
    monkeypatch.setattr(cargo, "make_snapshot", lambda _chain, _roots: None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose package ``app`` has one revision, helpers and data."""
    root = tmp_path / "project"
    folder = root / "app" / "migrations"
    (folder / "versions" / "__pycache__").mkdir(parents=True)
    (root / "app" / "__init__.py").touch()
    (folder / "env.py").write_text(ENV)
    (folder / "helper.py").write_text("import wave\n")
    (folder / "target.lock").write_text("1")
    (folder / "versions" / "__pycache__" / "x.pyc").touch()
    (folder / "versions" / "v1.0.py").write_text("revision = '1'\ndown_revision = None\nimport colorsys\n")
    (root / "main.py").write_text("import freezekit\nfreezekit.locate('app:migrations')\n")
    return root


def application(project: Path, *files: str) -> Application:
    mains = tuple(str(project / file) for file in files or ("main.py",))
    return Application((str(project),), (str(project), *sys.path), mains, mains[:1], "Freezer 1.0")


def layout(loaded: Cargo) -> list[str]:
    return sorted(dest for one in loaded.shipments for dest in (*(dest for _, dest in one.files), *one.generated))


WHOLE = [
    "app/migrations/env.py",
    "app/migrations/freezekit.json",
    "app/migrations/helper.py",
    "app/migrations/target.lock",
    "app/migrations/versions/v1.0.py",
]


def test_a_located_tree_ships_whole_and_as_it_is(project: Path) -> None:
    loaded = load(application(project))
    assert layout(loaded) == WHOLE
    (shipment,) = loaded.shipments
    assert shipment.manifest.heads == ("1",)
    assert shipment.manifest.built_with["freezer"] == "Freezer 1.0"
    assert set(shipment.manifest.files) | {"freezekit.json"} == {os.path.relpath(d, "app/migrations") for d in WHOLE}


def test_the_written_manifest_is_what_the_bundle_reads(project: Path, tmp_path: Path) -> None:
    (shipment,) = load(application(project)).shipments
    ((source, dest),) = shipment.written(str(tmp_path / "work"))
    with open(source, encoding="utf-8") as file:
        assert Manifest.from_json(file.read(), dest) == shipment.manifest


def test_generated_files_keep_their_time_when_nothing_changed(project: Path, tmp_path: Path) -> None:
    (shipment,) = load(application(project)).shipments
    ((source, _),) = shipment.written(str(tmp_path))
    os.utime(source, (1, 1))
    shipment.written(str(tmp_path))
    assert os.stat(source).st_mtime == 1


def test_everything_the_scripts_import_is_needed(project: Path) -> None:
    found = {one.module: one.is_optional for one in load(application(project)).imports}
    needed = {"alembic", "app.models", "wave", "colorsys", "sqlalchemy.dialects.sqlite"}
    assert {name for name, optional in found.items() if not optional} >= needed
    assert found["maybe_there"]


def test_a_url_in_the_application_brings_its_driver(project: Path) -> None:
    (project / "main.py").write_text("import freezekit\nfreezekit.locate('app:migrations')\nu = 'mysql+aiomysql://'\n")
    assert "aiomysql" in {one.module for one in load(application(project)).imports}


def test_a_configured_chain_ships_without_any_call(project: Path) -> None:
    (project / "main.py").write_text("import freezekit\nfreezekit.locate(x)\n")
    (project / "alembic.ini").write_text("[alembic]\nscript_location = app/migrations\n")
    assert layout(load(application(project))) == sorted([*WHOLE, "app/migrations/alembic.ini"])


def test_a_chain_that_is_configured_and_located_ships_once(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        "[tool.freezekit]\nscript_location = 'app:migrations'\napplication_id = 5\n"
    )
    loaded = load(application(project))
    assert layout(loaded) == WHOLE
    assert loaded.shipments[0].manifest.application_id == 5


def test_the_ini_ships_without_its_url(project: Path) -> None:
    text = "[alembic]\nscript_location = app:migrations\nsqlalchemy.url = postgresql://me:pw@host/db\nx = 1\n"
    (project / "alembic.ini").write_text(text)
    (shipment,) = load(application(project)).shipments
    shipped = shipment.generated["app/migrations/alembic.ini"].decode()
    assert shipped == "[alembic]\nscript_location = app:migrations\nx = 1\n"
    assert shipment.manifest.ini == "alembic.ini"
    assert shipment.manifest.files["alembic.ini"] == digest(shipped.encode())
    assert "pw" not in shipment.manifest.to_json()


@pytest.mark.parametrize(
    ("text", "is_generated"), [("[alembic]\nx = 1\n", False), ("[alembic]\nsqlalchemy.url = sqlite://\n", True)]
)
def test_an_ini_inside_the_tree_stays_there(project: Path, text: str, is_generated: bool) -> None:
    (project / "app" / "migrations" / "alembic.ini").write_text(text)
    (shipment,) = load(application(project)).shipments
    assert shipment.manifest.ini == "alembic.ini"
    assert ("app/migrations/alembic.ini" in shipment.generated) == is_generated
    assert layout(load(application(project))) == sorted([*WHOLE, "app/migrations/alembic.ini"])


def test_version_locations_elsewhere_ship_at_their_own_place(project: Path) -> None:
    """Also from another import root: in the bundle there is only one."""
    other = project / "vendor" / "plugins" / "versions"
    other.mkdir(parents=True)
    (other / "p.py").write_text("revision = 'p'\ndown_revision = None\n")
    (project / "alembic.ini").write_text(
        "[alembic]\nscript_location = app:migrations\nprepend_sys_path = vendor\npath_separator = newline\n"
        "version_locations =\n  app:migrations/versions\n  vendor/plugins/versions\n"
    )
    (shipment,) = load(application(project)).shipments
    assert "plugins/versions/p.py" in {dest for _, dest in shipment.files}
    assert shipment.manifest.version_locations == ("versions", "../../plugins/versions")
    assert {one.file for one in shipment.manifest.revisions} == {"versions/v1.0.py", "../../plugins/versions/p.py"}
    assert "../../plugins/versions/p.py" in shipment.manifest.files


def test_several_chains_of_one_ini_have_a_manifest_each(project: Path) -> None:
    (project / "app" / "migrations" / "extra").mkdir()
    (project / "app" / "migrations" / "extra" / "e.py").write_text("revision = 'e'\ndown_revision = None\n")
    (project / "alembic.ini").write_text(
        "[DEFAULT]\nscript_location = app:migrations\n[one]\nversion_locations = app/migrations/versions\n"
        "[two]\nversion_locations = app/migrations/extra\n"
    )
    (project / "main.py").write_text("import freezekit\nfreezekit.locate('app:migrations', section='one')\n")
    one, two = load(application(project)).shipments
    assert (one.manifest.heads, two.manifest.heads) == (("1",), ("e",))
    assert "app/migrations/freezekit.one.json" in one.generated
    assert "app/migrations/freezekit.two.json" in two.generated


@pytest.mark.parametrize(
    ("location", "place"),
    [("app:migrations", "app/migrations"), ("a.b:c/d", "a/b/c/d"), ("migrations", "migrations"), ("a:b:c", "a/b/c")],
)
def test_a_location_goes_where_it_will_be_looked_for(location: str, place: str) -> None:
    assert location_path(location, "/nowhere", []) == place


def test_a_folder_goes_below_what_it_is_imported_from(project: Path) -> None:
    folder = project / "app" / "migrations"
    assert bundle_path(str(folder), [str(project / "app")]) == "app/migrations"
    (project / "app" / "__init__.py").unlink()
    assert bundle_path(str(folder), [str(project), str(project / "app")]) == "migrations"
    with pytest.raises(UsageError, match="lies outside"):
        bundle_path(str(folder), [str(project / "elsewhere")])


def test_a_folder_beside_the_main_script_stays_beside_it(project: Path) -> None:
    """``__file__`` of a main script is at the top of the bundle, whatever package it is in."""
    source = "import freezekit\nfrom pathlib import Path\nfreezekit.locate(Path(__file__).parent / 'migrations')\n"
    for name in ("__main__.py", "other.py"):
        (project / "app" / name).write_text(source)
    main = application(project, "app/__main__.py")
    assert [one.dest for one in load(main).shipments] == ["migrations"]
    module = application(project, "main.py", "app/other.py")
    assert [one.dest for one in load(module).shipments] == ["app/migrations"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import freezekit\n\nfreezekit.locate('app:migratoins')",
            "main.py:3: freezekit.locate() names 'app:migratoins'",
        ),
        ("import freezekit\nfreezekit.locate(x)", "main.py:2: freezekit.locate() is called with a location that only"),
    ],
)
def test_a_call_that_cannot_be_followed_fails_the_build(project: Path, source: str, words: str) -> None:
    (project / "main.py").write_text(source)
    with pytest.raises(UsageError) as caught:
        load(application(project))
    assert words in str(caught.value)


def test_such_a_call_in_an_installed_package_is_a_warning(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    library = project / "site-packages" / "library.py"
    library.parent.mkdir()
    library.write_text("import freezekit\nfreezekit.locate('nowhere:x')")
    assert layout(load(application(project, "main.py", "site-packages/library.py"))) == WHOLE
    assert "'nowhere:x'" in caplog.text


def test_nothing_to_ship_is_said(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    (project / "main.py").write_text("import freezekit")
    assert load(application(project)).shipments == ()
    assert "none are shipped" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("versions/v1.1.py", "def (", "v1.1.py:1: invalid syntax"),
        ("helper.py", "def (", "helper.py:1: invalid syntax"),
        ("versions/v1.1.py", "revision = '1'\ndown_revision = None", "'1' is in two files"),
        ("versions/v1.1.py", "revision = '2'\ndown_revision = '0'", "'0', which is in no file"),
        ("versions/v1.0.py", None, "no revision"),
        ("env.py", None, "env.py is missing"),
    ],
)
def test_a_broken_chain_fails_the_build(project: Path, name: str, text: str | None, words: str) -> None:
    path = project / "app" / "migrations" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InvalidMigrations) as caught:
        load(application(project))
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_fails_the_build(project: Path) -> None:
    (project / "app" / "migrations" / "gone.sql").symlink_to("nowhere")
    with pytest.raises(InvalidMigrations, match=r"gone\.sql cannot be read"):
        load(application(project))


def test_missing_imports_are_warned_of_unless_they_are_optional(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cargo.report_missing(
        one for one in load(application(project)).imports if one.module in ("app.models", "maybe_there")
    )
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "env.py:2 needs 'app.models'" in record.getMessage()


def test_a_chain_may_be_named_explicitly(project: Path) -> None:
    assert layout(load_explicitly("app:migrations", "alembic", str(project), "x")) == WHOLE
    with pytest.raises(UsageError, match="configures no migrations"):
        load_explicitly(None, "alembic", str(project), "x")
    with pytest.raises(UsageError, match="'app:nowhere' is no folder"):
        load_explicitly("app:nowhere", "alembic", str(project), "x")


def test_two_collections_of_one_tree_are_equal(project: Path) -> None:
    chain = chain_of(str(project / "app" / "migrations"))
    assert collect(chain, "x", [], "f") == collect(chain, "x", [], "f")


class TestStaleBuilds:
    """PyInstaller repeats its analysis when the list of hook folders changes."""

    @pytest.fixture(autouse=True)
    def here(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(project)

    def test_nothing_is_recalled_before_the_first_build(self, tmp_path: Path) -> None:
        assert stale.recall(str(tmp_path / "cache")) is None

    def test_the_next_build_sees_what_the_last_one_expected(self, project: Path, tmp_path: Path) -> None:
        mark = stale.remember(str(tmp_path), str(project), [str(project / "app" / "migrations")])
        assert stale.recall(str(tmp_path)) == mark
        assert stale.is_mark(mark)
        assert os.listdir(mark) == []

    @pytest.mark.parametrize("change", ["added", "edited", "deleted", "configured"])
    def test_every_change_is_seen(self, project: Path, tmp_path: Path, change: str) -> None:
        versions = project / "app" / "migrations" / "versions"
        watched = [str(versions.parent), str(project / "pyproject.toml")]
        mark = stale.remember(str(tmp_path), str(project), watched)
        {
            "added": (versions / "new.py").touch,
            "edited": lambda: (versions / "v1.0.py").write_text("x"),
            "deleted": (versions / "v1.0.py").unlink,
            "configured": lambda: (project / "pyproject.toml").write_text("[tool.freezekit]\nsnapshot = false"),
        }[change]()
        assert stale.recall(str(tmp_path)) != mark

    def test_what_does_not_matter_is_not(self, project: Path, tmp_path: Path) -> None:
        (project / "pyproject.toml").write_text("[tool.freezekit]\nsnapshot = false")
        watched = [str(project / "app" / "migrations"), str(project / "pyproject.toml")]
        mark = stale.remember(str(tmp_path), str(project), watched)
        (project / "pyproject.toml").write_text("[project]\nversion = '2'\n[tool.freezekit]\nsnapshot = false")
        (project / "app" / "migrations" / "x.pyc").touch()
        assert stale.recall(str(tmp_path)) == mark

    def test_two_programs_of_one_folder_do_not_take_turns(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.mkdir()
        two.mkdir()
        stale.remember(str(tmp_path), str(one), ["a"])
        mark = stale.remember(str(tmp_path), str(two), ["b"])
        assert stale.remember(str(tmp_path), str(one), ["a"]) == mark


def test_the_hook_is_found_in_a_source_tree_and_in_a_wheel() -> None:
    """One of the two holds, whichever way the package is installed here."""
    assert os.path.isfile(os.path.join(pyinstaller.hook_dirs()[0], "hook-freezekit.py"))


class TestEntryPointOfSetuptools:
    """It is called for every distribution that setuptools builds."""

    def test_without_cx_freeze_it_does_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "cx_Freeze", raising=False)
        cx_freeze.finalize_distribution(object())
        assert "cx_Freeze" not in sys.modules

    def test_with_cx_freeze_it_adds_the_hook_as_often_as_it_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        package, hooks = ModuleType("cx_Freeze"), ModuleType("cx_Freeze.hooks")
        package.hooks = hooks  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cx_Freeze", package)
        monkeypatch.setitem(sys.modules, "cx_Freeze.hooks", hooks)
        cx_freeze.finalize_distribution(object())
        cx_freeze.finalize_distribution(object())
        assert hooks.load_freezekit is cx_freeze.load_freezekit

    def test_a_broken_cx_freeze_is_not_its_problem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cx_Freeze", ModuleType("cx_Freeze"))
        monkeypatch.delitem(sys.modules, "cx_Freeze.hooks", raising=False)
        cx_freeze.finalize_distribution(object())


@pytest.mark.parametrize(
    ("setting", "tests_itself"), [("", True), ("selftest = true\n", True), ("selftest = false\n", False)]
)
def test_a_bundle_tests_itself_unless_its_project_says_no(project: Path, setting: str, tests_itself: bool) -> None:
    configuration = f'[tool.freezekit]\nscript_location = "app:migrations"\n{setting}'
    (project / "pyproject.toml").write_text(configuration)
    assert load(application(project)).tests_itself is tests_itself


def test_a_bundle_without_migrations_has_nothing_to_test() -> None:
    assert not Cargo((), (), (), ()).tests_itself


class Finder:
    """As much of cx_Freeze's finder as starting a program takes."""

    def __init__(self, folder: Path, **modules: object) -> None:
        self.cache_path = folder
        self._modules = {name.replace("_", "."): module for name, module in modules.items()}


def test_a_program_of_cx_freeze_asks_before_its_main_script(tmp_path: Path) -> None:
    """The question comes after whatever script starts the program, which may be the author's own."""
    script = tmp_path / "console.py"
    script.write_text("said = []\n\ndef run(name):\n    said.append(name)\n")
    finder = Finder(tmp_path / "cache", freezekit_runtime_selftest=object())
    asking = cx_freeze._asking(finder, script, "__init__app")
    namespace: dict[str, object] = {}
    with open(asking, encoding="utf-8") as file:
        exec(file.read(), namespace)
    assert callable(namespace["run"])
    namespace["run"]("__main__app")
    assert namespace["said"] == ["__main__app"]
    assert cx_freeze._asking(finder, asking, "__init__app") == asking


@pytest.mark.parametrize(
    ("name", "modules"),
    [("__main__app", {"freezekit_runtime_selftest": object()}), ("__init__app", {}), (None, {})],
    ids=["the main script", "a bundle that does not test itself", "any other file"],
)
def test_what_does_not_start_a_program_that_tests_itself_ships_as_it_is(
    tmp_path: Path, name: str | None, modules: dict[str, object]
) -> None:
    script = tmp_path / "script.py"
    assert cx_freeze._asking(Finder(tmp_path, **modules), script, name) is script
