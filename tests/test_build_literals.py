"""What is read from source while freezing: calls of locate, imports, URLs, and metadata that is looked up."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

import pytest

from freezekit.build import literals
from freezekit.build.databases import database_imports
from freezekit.build.imports import Import, resolve, scan_imports

if TYPE_CHECKING:
    from pathlib import Path

FILE = "/project/app/main.py"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import freezekit\nfreezekit.locate('a:b')", "a:b"),
        ("import freezekit as fk\nfk.locate('a:b')", "a:b"),
        ("from freezekit import locate\nlocate('a:b')", "a:b"),
        ("from freezekit import locate as find\ndef f():\n  return find('a:b')", "a:b"),
        ("from freezekit import *\nlocate('a:b')", "a:b"),
        ("from freezekit.runtime.locate import locate\nlocate('a:b')", "a:b"),
        ("import freezekit.runtime.locate\nfreezekit.runtime.locate.locate('a:b')", "a:b"),
        ("def f():\n  import freezekit\n  freezekit.locate(script_location='a:b')", "a:b"),
        ("import freezekit\nWHERE = 'a:b'\nfreezekit.locate(WHERE)", "a:b"),
        ("import freezekit\nWHERE: str = 'a' + ':b'\nfreezekit.locate(WHERE)", "a:b"),
        ("import freezekit\nx = 'a:b'\nx = 'c:d'\nfreezekit.locate(x)", None),
        ("import freezekit\ndef f(x='a:b'):\n  freezekit.locate(x)", None),
        ("import freezekit\nfreezekit.locate(argv[1])", None),
        ("import freezekit\nfreezekit.locate()", None),
    ],
)
def test_a_literal_location_is_found_in_any_spelling(source: str, expected: str | None) -> None:
    (call,) = literals.locate_calls(ast.parse(source), FILE)
    assert (call.script_location, call.section) == (expected, "alembic")


@pytest.mark.parametrize(
    "expression",
    [
        "Path(__file__).parent / 'migrations'",
        "pathlib.Path(__file__).resolve().parent / 'migrations'",
        "Path(__file__).parent.joinpath('migrations')",
        "Path(__file__).parents[1] / 'app' / 'migrations'",
        "str(Path(__file__).parent / 'migrations')",
        "os.path.join(os.path.dirname(os.path.abspath(__file__)), 'migrations')",
        "Path(os.path.dirname(__file__), 'migrations')",
        "HERE / 'migrations'",
    ],
)
def test_a_path_put_together_from_the_modules_own_file_is_a_literal(expression: str) -> None:
    source = (
        "import os, pathlib, freezekit\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"
        f"freezekit.locate({expression})"
    )
    (call,) = literals.locate_calls(ast.parse(source), FILE)
    assert call.script_location == "/project/app/migrations"


def test_a_call_knows_its_section_and_its_line() -> None:
    source = "import freezekit\n\nfreezekit.locate('a:b', section='core')\nfreezekit.locate('a:b', section=name)"
    first, second = literals.locate_calls(ast.parse(source), FILE)
    assert (first.section, first.where) == ("core", "/project/app/main.py:3")
    assert second.section is None


@pytest.mark.parametrize(
    "source", ["def locate(x): ...\nlocate('a:b')", "import other\nother.locate('a:b')", "x.y().z"]
)
def test_a_function_of_the_same_name_is_another_one(source: str) -> None:
    assert literals.locate_calls(ast.parse(source), FILE) == []


def test_urls_are_found_in_strings_and_f_strings() -> None:
    source = "a = 'sqlite+aiosqlite:///x'\nb = f'postgresql+psycopg://{host}'\nc = 'no url'\nd = 'mysql://h'"
    assert literals.urls(ast.parse(source)) == {("sqlite", "aiosqlite"), ("postgresql", "psycopg"), ("mysql", "")}


def test_lookups_of_metadata_are_found() -> None:
    source = """
import importlib.metadata
from importlib import metadata
from importlib.metadata import entry_points, version
entry_points(group="one")
metadata.entry_points(group="two", name="x")
pkg_resources.iter_entry_points("three")
version("Mako")
importlib.metadata.distribution("alembic")
other.version("nothing")
"""
    assert literals.entry_point_groups(ast.parse(source)) == {"one", "two", "three"}
    assert literals.distributions(ast.parse(source)) == {"Mako", "alembic"}


SCRIPT = """\
from __future__ import annotations
import os.path as p, json
from alembic import op, context
from . import never
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import only_for_checkers
else:
    import at_run_time
try:
    import fast
except ImportError:
    import slow
try:
    import certain
finally:
    pass
def upgrade():
    import delayed
    import_module("named.module")
    __import__("builtin_named")
    importlib.import_module(".relative", "x")
"""


def test_every_import_of_a_script_is_found_with_its_line() -> None:
    found = scan_imports(ast.parse(SCRIPT), "r.py")
    assert [(one.module, one.is_optional) for one in found] == [
        ("__future__", False),
        ("os.path", False),
        ("json", False),
        ("alembic", False),
        ("typing", False),
        ("at_run_time", False),
        ("fast", True),
        ("slow", True),
        ("certain", False),
        ("delayed", False),
        ("named.module", False),
        ("builtin_named", False),
    ]
    assert found[3] == Import("alembic", ("op", "context"), "r.py:3")


def test_modules_are_found_without_being_imported(tmp_path: Path) -> None:
    """Packages, namespace packages and plain modules; what a module makes up itself stands for the module."""
    (tmp_path / "zz_pkg" / "inner").mkdir(parents=True)
    (tmp_path / "zz_pkg" / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "zz_pkg" / "inner" / "deep.py").write_text("raise SystemExit")
    (tmp_path / "zz_space" / "part").mkdir(parents=True)
    (tmp_path / "zz_space" / "part" / "leaf.py").touch()
    wanted = [
        Import("zz_pkg", ("inner", "attribute")),
        Import("zz_pkg.inner.deep"),
        Import("zz_space.part", ("leaf",)),
        Import("os.path", ("join",)),
        Import("sys"),
        Import("zz_pkg.nowhere"),
        Import("zz_nowhere"),
    ]
    modules, missing = resolve(wanted, [str(tmp_path), *sys.path])
    assert modules == [
        "zz_pkg",
        "zz_pkg.inner",
        "zz_pkg.inner.deep",
        "zz_space.part",
        "zz_space.part.leaf",
        "os",
        "sys",
    ]
    assert [one.module for one in missing] == ["zz_pkg.nowhere", "zz_nowhere"]
    assert "zz_pkg" not in sys.modules


def names(found: list[Import]) -> set[str]:
    return {one.module for one in found}


def test_sqlite_always_ships() -> None:
    assert names(database_imports([], [], [])) >= {"sqlite3", "_sqlite3", "sqlalchemy.dialects.sqlite"}


def test_a_url_brings_its_dialect_and_driver() -> None:
    found = database_imports([], [], [("postgresql", "asyncpg"), ("mysql", ""), ("https", ""), ("driver", "")])
    wanted = {"sqlalchemy.dialects.postgresql", "asyncpg", "sqlalchemy.dialects.mysql", "MySQLdb"}
    assert wanted <= names(found)
    assert not {name for name in names(found) if "https" in name or "driver" in name}
    assert {one.module: one.is_optional for one in found if one.module in ("asyncpg", "MySQLdb")} == {
        "asyncpg": False,
        "MySQLdb": True,
    }


def test_an_async_environment_brings_what_it_runs_on() -> None:
    assert names(database_imports([], [], [], is_async=True)) >= {"aiosqlite", "greenlet", "sqlalchemy.ext.asyncio"}


def test_configured_drivers_are_modules_or_names_of_sqlalchemy() -> None:
    assert {"mydriver", "MySQLdb"} <= names(database_imports([], ["mydriver", "mysqldb"], []))
