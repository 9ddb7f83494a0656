"""Every way in which cx_Freeze is started, and every way in which a project says where its migrations are."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest
from projects import CX_SCRIPT, CXFREEZE, Project, Workshop, history, manifests, migrated, program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bundles import Bundle, HiddenSource

pytestmark = pytest.mark.frozen

PACKAGE = {"shop/__init__.py": "", **history("shop/migrations")}
LITERAL = {"app.py": program('"shop:migrations"'), **PACKAGE}
# What freezekit cannot read in the source: only the configuration says where the migrations are.
COMPUTED = {"app.py": program('":".join(["shop", "migrations"])'), **PACKAGE}
# The program is a module that the main script imports late.
LATE = "def main():\n    from shop.start import main\n    main()\n\n\nif __name__ == '__main__':\n    main()\n"
SETUP = (sys.executable, "setup.py", "-q", "build_exe")
BUILD_EXE = "build/exe.*"


def in_package(location: str, *how: str) -> dict[str, str]:
    """Return a package whose module ``start`` locates migrations."""
    return {"app.py": LATE, "shop/start.py": program(location, *how), **PACKAGE}


def setup_script(body: str) -> dict[str, str]:
    return {"setup.py": body}


def by_hand(option: str, to: str = "") -> dict[str, str]:
    """Return the setup script of an author who ships the scripts as ever, and knows nothing of freezekit."""
    options = {option: [(name, to + name) for name in history("shop/migrations")]}
    options |= {"zip_include_packages": ["*"], "zip_exclude_packages": []}
    return setup_script(
        "from cx_Freeze import setup\n"
        f"setup(name='app', executables=['app.py'], options={{'build_exe': {options!r}}})\n"
    )


STARTED = [
    Project("cxfreeze --script", LITERAL),
    Project(
        "pyproject of cx_Freeze",
        {
            **LITERAL,
            "pyproject.toml": "[project]\nname = 'app'\nversion = '1'\n[tool.cxfreeze]\nexecutables = ['app.py']\n",
        },
        (CXFREEZE, "-q", "build"),
        BUILD_EXE,
    ),
    Project(
        "setup of cx_Freeze",
        {**LITERAL, **setup_script("from cx_Freeze import setup\nsetup(name='app', executables=['app.py'])\n")},
        SETUP,
        BUILD_EXE,
    ),
    Project(
        "setup of setuptools with Executable",
        {
            **LITERAL,
            **setup_script(
                "from cx_Freeze import Executable\nfrom setuptools import setup\n"
                "setup(name='app', py_modules=[], executables=[Executable('app.py')])\n"
            ),
        },
        SETUP,
        BUILD_EXE,
    ),
    Project(
        "setup of setuptools that never names cx_Freeze",
        {
            **LITERAL,
            **setup_script("from setuptools import setup\nsetup(name='app', py_modules=[], executables=['app.py'])\n"),
        },
        SETUP,
        BUILD_EXE,
    ),
    Project(
        "Freezer with the explicit options",
        {
            **COMPUTED,
            "freeze.py": "from cx_Freeze import Freezer\nfrom freezekit.build.cx_freeze import build_exe_options\n"
            "options = build_exe_options('shop:migrations')\n"
            "Freezer(['app.py'], target_dir='frozen', silent=True, **options).freeze()\n",
        },
        (sys.executable, "freeze.py"),
    ),
    Project(
        "setup with the explicit options and scripts in the zip",
        {
            **COMPUTED,
            **setup_script(
                "from cx_Freeze import setup\nfrom freezekit.build.cx_freeze import build_exe_options\n"
                "options = build_exe_options('shop:migrations', zip_scripts=True)\n"
                "setup(name='app', executables=['app.py'], options={'build_exe': options})\n"
            ),
        },
        SETUP,
        BUILD_EXE,
    ),
    Project("scripts put into the zip by hand", {**LITERAL, **by_hand("zip_includes")}, SETUP, BUILD_EXE),
    Project("scripts copied by hand", {**LITERAL, **by_hand("include_files", "lib/")}, SETUP, BUILD_EXE),
]

CONFIGURED = [
    Project(
        "tool.freezekit",
        {**COMPUTED, "pyproject.toml": "[tool.freezekit]\nscript_location = 'shop:migrations'\n"},
    ),
    Project(
        "tool.freezekit.migrations",
        {**COMPUTED, "pyproject.toml": "[[tool.freezekit.migrations]]\nscript_location = 'shop/migrations'\n"},
    ),
    Project(
        "tool.alembic",
        {**COMPUTED, "pyproject.toml": "[tool.alembic]\nscript_location = '%(here)s/shop/migrations'\n"},
    ),
    Project("alembic.ini", {**COMPUTED, "alembic.ini": "[alembic]\nscript_location = %(here)s/shop/migrations\n"}),
    Project("literal in a module imported late, by another name", in_package(
        '"shop:migrations"', "from freezekit import locate as find", "find"
    )),
    Project("literal through an alias of the package", in_package(
        '"shop:migrations"', "import freezekit as fk", "fk.locate"
    )),
    Project("folder beside a module of a package", in_package('Path(__file__).parent / "migrations"')),
    Project("folder beside the main script", {
        "app.py": program('Path(__file__).resolve().parent / "migrations"'), **history("migrations")
    }),
    Project("folder by its name", {"app.py": program('"migrations"'), **history("migrations")}),
    Project("folder by its name and an ini", {
        "app.py": program('"db/migrations"'), "alembic.ini": "[alembic]\nscript_location = db/migrations\n",
        **history("db/migrations"),
    }),
    Project(
        "namespace package",
        {name: text for name, text in in_package('"shop:migrations"').items() if name != "shop/__init__.py"},
    ),
    Project("folder beside a module in the zip", in_package('Path(__file__).parent / "migrations"'), (
        *CX_SCRIPT, "--zip-include-packages=*", "--zip-exclude-packages="
    )),
    Project("package in the zip", in_package('"shop:migrations"'), (
        *CX_SCRIPT, "--zip-include-packages=*", "--zip-exclude-packages="
    )),
]  # fmt: skip


def name(project: Project) -> str:
    return project.name


@pytest.fixture(scope="session")
def workshop(run_folder: Path, hidden_source: HiddenSource) -> Workshop:
    return Workshop(run_folder, hidden_source)


def rows(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [body for (body,) in connection.execute("SELECT body FROM note")]


def upgrades(bundle: Bundle, database: Path) -> Mapping[str, Any]:
    """Upgrade a new database, and then the same again; return what the first time printed."""
    first = migrated(bundle, database)
    assert migrated(bundle, database)["applied"] == []
    assert rows(database) == ["second"]
    return first


@pytest.mark.parametrize("project", STARTED, ids=name)
def test_migrations_are_shipped_however_the_freezer_is_started(
    project: Project, workshop: Workshop, tmp_path: Path
) -> None:
    """With nothing written about freezekit, or with the public function, or beside what an author ships by hand."""
    bundle = workshop.freeze(project)
    assert upgrades(bundle, tmp_path / "new.db") == {
        "applied": ["0001", "0002"], "heads": ["0002"], "bundle": "cx_Freeze"
    }  # fmt: skip
    (manifest,) = manifests(bundle.folder).values()
    assert manifest["heads"] == ["0002"]
    files = {*manifest["files"], *(row["file"] for row in manifest["revisions"])}
    assert files == {"env.py", "versions/0001_first.py", "versions/0002-second.one.py"}


@pytest.mark.parametrize("project", CONFIGURED, ids=name)
def test_migrations_are_found_wherever_a_project_names_them(
    project: Project, workshop: Workshop, tmp_path: Path
) -> None:
    """In freezekit's or Alembic's own configuration, or nowhere but in the call of ``locate``."""
    bundle = workshop.freeze(project)
    assert upgrades(bundle, tmp_path / "new.db")["heads"] == ["0002"]
    (manifest,) = manifests(bundle.folder).values()
    assert [one["revision"] for one in manifest["revisions"]] == ["0001", "0002"]


def test_two_programs_of_one_bundle_each_find_their_own(workshop: Workshop, tmp_path: Path) -> None:
    """One freeze may make several programs; what the second one locates is shipped, too."""
    both = {**LITERAL, "other.py": program('"store.room:scripts"'), **history("store/room/scripts")}
    setup = "from cx_Freeze import setup\nsetup(name='both', executables=['app.py', 'other.py'])\n"
    bundle = workshop.freeze(Project("two programs", {**both, **setup_script(setup)}, SETUP, BUILD_EXE))
    other = workshop.bundle(bundle.folder, bundle.form, "other")
    for number, program_of in enumerate((bundle, other)):
        assert upgrades(program_of, tmp_path / f"{number}.db")["applied"] == ["0001", "0002"]
    assert set(manifests(bundle.folder)) == {
        "lib/shop/migrations/freezekit.json", "lib/store/room/scripts/freezekit.json"
    }  # fmt: skip


@pytest.mark.parametrize("excluded", [False, True], ids=["by itself", "as its author wishes"])
def test_the_modules_are_in_the_zip_unless_the_author_keeps_them_out(excluded: bool, workshop: Workshop) -> None:
    """There they are compressed, which is less than half the room."""
    options = ("--zip-exclude-packages=freezekit",) if excluded else ()
    bundle = workshop.freeze(Project(f"modules in the zip: {not excluded}", LITERAL, (*CX_SCRIPT, *options)))
    with ZipFile(bundle.folder / "lib" / "library.zip") as library:
        zipped = "freezekit/manifest.pyc" in library.namelist()
    assert (zipped, (bundle.folder / "lib" / "freezekit" / "manifest.pyc").exists()) == (not excluded, excluded)
