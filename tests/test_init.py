"""`freezekit init`, and that the env.py it writes does all that Alembic and freezekit ask of one."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import alembic
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from fresh import PYPROJECT, fresh_project, initialised, run
from sample_data import content

import freezekit
from freezekit.cli import main
from freezekit.config import project_chains

if TYPE_CHECKING:
    from pathlib import Path

# Before, it takes its configuration from alembic.ini alone.
READS_PYPROJECT = tuple(map(int, alembic.__version__.split(".")[:2])) >= (1, 16)
needs_pyproject = pytest.mark.skipif(not READS_PYPROJECT, reason="this Alembic does not read pyproject.toml")
SECOND = """
import sqlalchemy as sa
from alembic import op
revision = "second"
down_revision = {down!r}
def upgrade():
    with op.batch_alter_table("note") as batch:
        batch.drop_constraint("uq_note_title", type_="unique")
        batch.create_check_constraint("long", sa.text("length(title) > 1"))
"""


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def schema(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return "\n".join(sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = fresh_project(tmp_path / "project")
    monkeypatch.chdir(project)
    return project


def test_init_adds_to_pyproject_and_changes_nothing_of_it(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its text stays, its line endings are kept, and the tables that are added name the scripts."""
    assert main(["init", "shop/migrations", "--metadata", "shop.models:Base.metadata"]) == 0
    said = capsys.readouterr().out
    assert [line[:2] for line in said.splitlines()[1:]] == ["1.", "2.", "3."]
    text = (fresh / "pyproject.toml").read_bytes()
    assert text.startswith(PYPROJECT + b"\r\n\r\n[tool.freezekit]\r\n")
    assert text.count(b"\n") == text.count(b"\r\n")
    (chain,) = project_chains(str(fresh))
    assert (chain.script_location, chain.folder) == ("shop:migrations", str(fresh / "shop" / "migrations"))
    lines = (fresh / "shop" / "migrations" / "env.py").read_text().splitlines()
    assert len(lines) == 4
    assert sorted(os.listdir(fresh / "shop" / "migrations")) == ["env.py", "script.py.mako", "versions"]


def test_init_makes_pyproject_where_there_is_none(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fresh / "pyproject.toml").unlink()
    assert main(["init", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["script_location"] == "migrations"
    assert [chain.folder for chain in project_chains(str(fresh))] == [str(fresh / "migrations")]
    assert "None" in (fresh / "migrations" / "env.py").read_text()


def test_a_package_below_src_is_named_as_it_is_imported(fresh: Path) -> None:
    (fresh / "src").mkdir()
    (fresh / "shop").rename(fresh / "src" / "shop")
    assert main(["init", "src/shop/migrations"]) == 0
    (chain,) = project_chains(str(fresh))
    assert (chain.script_location, chain.folder) == ("shop:migrations", str(fresh / "src" / "shop" / "migrations"))
    assert chain.prepend_sys_path == (str(fresh / "src"),)


@pytest.mark.parametrize(
    ("prepare", "arguments", "named"),
    [
        (lambda at: (at / "migrations").mkdir(), [], "migrations exists already"),
        (lambda at: (at / "alembic.ini").touch(), [], "alembic.ini"),
        (lambda at: (at / "pyproject.toml").write_text("[tool.alembic]\n"), [], "[tool.alembic]"),
        (lambda at: (at / "pyproject.toml").write_text("[tool.freezekit]\n"), [], "[tool.freezekit]"),
        (lambda at: (at / "pyproject.toml").write_text("tool.x = 1\n[tool\n"), [], "pyproject.toml"),
        (lambda at: (at / "pyproject.toml").write_text("tool = {x = 1}\n"), [], "pyproject.toml"),
        (lambda at: (at / "pyproject.toml.part").touch(), [], "pyproject.toml.part"),
        (lambda _: None, ["missing/migrations"], "missing"),
        (lambda _: None, ["../elsewhere"], "elsewhere"),
        (lambda _: None, ["a:b"], "a:b"),
        (lambda _: None, ["--metadata", "shop.models.Base"], "module:name"),
        (lambda _: None, ["--metadata", "os:a\nimport b"], "module:name"),
    ],
    ids=[
        "folder",
        "ini",
        "alembic",
        "freezekit",
        "broken",
        "inline",
        "part",
        "missing",
        "outside",
        "name",
        "meta",
        "code",
    ],
)
def test_init_refuses_what_it_would_have_to_replace_or_guess_and_writes_nothing(
    prepare: object, arguments: list[str], named: str, fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(fresh)  # type: ignore[operator]
    before = everything(fresh.parent)
    assert main(["init", *arguments]) in {1, 2}
    assert named in capsys.readouterr().err
    assert everything(fresh.parent) == before
    assert not list(fresh.glob(".freezekit*"))


def test_init_that_fails_at_its_last_step_leaves_nothing(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(fresh)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "pyproject.toml")

    monkeypatch.setattr(os, "replace", full)
    assert main(["init"]) == 1
    assert everything(fresh) == before
    assert not (fresh / "migrations").exists()


@needs_pyproject
def test_a_fresh_project_works_with_plain_alembic(fresh: Path) -> None:
    """Autogenerate names constraints, upgrade and check agree, and --sql needs no database."""
    initialised(fresh)
    (script,) = (fresh / "shop" / "migrations" / "versions").glob("*.py")
    assert "op.f('uq_note_title')" in script.read_text()
    assert "CONSTRAINT uq_note_title" in run(fresh, "alembic", "upgrade", "head", "--sql").stdout
    run(fresh, "alembic", "upgrade", "head")
    assert "No new upgrade operations" in run(fresh, "alembic", "check").stdout
    assert set(content(fresh / "development.db")) == {"alembic_version", "note"}


@needs_pyproject
def test_a_later_change_is_written_as_a_batch(fresh: Path) -> None:
    initialised(fresh)
    run(fresh, "alembic", "upgrade", "head")
    models = fresh / "shop" / "models.py"
    models.write_text(models.read_text() + "    body: Mapped[str | None]\n".replace("str | None", "int"))
    run(fresh, "alembic", "revision", "--autogenerate", "-m", "bodies")
    (script,) = (fresh / "shop" / "migrations" / "versions").glob("*_bodies.py")
    assert "with op.batch_alter_table('note'" in script.read_text()


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_the_environment_upgrades_a_url_and_leaves_logging_alone(driver: str, fresh: Path) -> None:
    """Called in a process of its own kind: by Alembic's functions, with a synchronous or an asynchronous driver."""
    assert main(["init", "shop/migrations"]) == 0
    folder = fresh / "shop" / "migrations"
    (folder / "versions" / "first.py").write_text(
        "from alembic import op\nrevision = 'first'\ndown_revision = None\n"
        "def upgrade():\n    op.execute('CREATE TABLE note (title TEXT, CONSTRAINT uq_note_title UNIQUE (title))')\n"
    )
    (folder / "versions" / "second.py").write_text(SECOND.format(down="first"))
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"{driver}:///{fresh / 'a.db'}")
    before = (logging.getLogger().handlers[:], logging.getLogger("alembic").level)
    command.upgrade(config, "head")
    assert (logging.getLogger().handlers[:], logging.getLogger("alembic").level) == before
    assert "CONSTRAINT ck_note_long CHECK" in schema(fresh / "a.db")
    assert "uq_note_title" not in schema(fresh / "a.db")
    freezekit.locate(str(folder)).upgrade(fresh / "b.db")
    assert content(fresh / "b.db") == content(fresh / "a.db")
    assert schema(fresh / "b.db") == schema(fresh / "a.db")


def test_the_version_table_that_env_py_gives_to_run_is_found(fresh: Path) -> None:
    assert main(["init"]) == 0
    env = fresh / "migrations" / "env.py"
    env.write_text(env.read_text().replace("run(None", 'run(None, version_table="notes_version"'))
    (fresh / "migrations" / "versions" / "first.py").write_text(
        "revision = 'first'\ndown_revision = None\ndef upgrade():\n    pass\n"
    )
    migrations = freezekit.locate(str(fresh / "migrations"))
    assert migrations.manifest.version_table == "notes_version"
    assert migrations.upgrade(fresh / "a.db").applied == ("first",)
    assert migrations.status(fresh / "a.db").state is freezekit.State.CURRENT


def test_the_applications_own_metadata_is_not_changed_and_its_own_convention_is_kept() -> None:
    from freezekit.environment import NAMING_CONVENTION, _named

    plain, own = sa.MetaData(), sa.MetaData(naming_convention={"pk": "%(table_name)s_key"})
    sa.Table("note", plain, sa.Column("id", sa.Integer, primary_key=True))
    before = dict(plain.naming_convention)
    copied, kept = _named([plain, own])  # type: ignore[misc]
    assert kept is own
    assert dict(plain.naming_convention) == before
    assert (list(copied.tables), copied.naming_convention) == (["note"], NAMING_CONVENTION)


def test_without_a_database_one_sentence_says_where_to_name_it(fresh: Path) -> None:
    (fresh / "env.py").write_text("from freezekit.environment import run\nrun()\n")
    (fresh / "versions").mkdir()
    config = Config()
    config.set_main_option("script_location", str(fresh))
    config.set_main_option("path_separator", "os")
    with pytest.raises(freezekit.UsageError, match=r"sqlalchemy\.url in alembic\.ini"):
        command.upgrade(config, "head")
