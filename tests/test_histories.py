"""What real histories contain: each of their traps as a small history, upgraded as plain Alembic upgrades it."""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from histories import ENV, Project, dump, files, plain_upgrade, project_in, versions

import freezekit
from freezekit import EnvironmentIgnoredDatabase, MigrationFailed, State, UsageError


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path / "app") as one:
        yield one


def assert_as_plain(project: Project, tmp_path: Path, *targets: str) -> None:
    """Upgrade to one target after the other with freezekit and with plain Alembic; compare after each."""
    migrations = project.located()
    ours, plain = tmp_path / "ours.db", tmp_path / "plain.db"
    for target in targets or ("heads",):
        planned = [one.revision for one in migrations.plan(ours, target)]
        assert list(migrations.upgrade(ours, target).applied) == planned
        assert dump(ours) == project.plain(plain, target)
    state = migrations.status(ours).state
    behind = project.plain(plain) != dump(ours)
    assert state is (State.BEHIND if behind else State.CURRENT)


# File names and files beside the scripts.

FILE_NAMES = [
    "v3.0.0.a.py",
    "0.21.0_release.py",
    "001_x.py",
    "2024-01-02-first.py",
    "my first revision.py",
    "class.py",
    "_private.py",
    "Zoë_1.py",
    "1.py",
    "abc.def.py",
    "a" * 120 + ".py",
]


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_revision_file_may_be_named(name: str, project: Project, tmp_path: Path) -> None:
    """A file need not have the name of a module, nor anything to do with the revision's id."""
    project.table("one", file=name)
    project.table("two", "one", file=f"after {name}")
    assert_as_plain(project, tmp_path, "+1", "heads")


IDS = ["v3.0.0.a", "0.21.0", "001", "2024_01_02", "Zoë", "a b"]


@pytest.mark.parametrize("revision", IDS)
def test_a_revision_may_have_the_id(revision: str, project: Project, tmp_path: Path) -> None:
    """Ids are what projects write, not only twelve hexadecimal digits."""
    project.table(revision)
    project.table("last", revision)
    assert_as_plain(project, tmp_path, revision, "last")


@pytest.mark.parametrize(
    "name", ["__init__.py", ".#a1_.py", "a1_.py~", "a1_.pyi", "README", "a1_.py.orig", "data.json", "notes.txt"]
)
def test_a_file_in_versions_that_is_no_revision_is_passed_over(name: str, project: Project, tmp_path: Path) -> None:
    """What Alembic does not take for a revision is none here either, whatever is in it."""
    project.table("a1")
    project.write(f"migrations/versions/{name}", "this is (no Python\n")
    assert_as_plain(project, tmp_path)


HELPERS = {
    "beside versions": ("migrations/helpers.py", "from migrations.helpers import name"),
    "in a package": ("migrations/tools/names.py", "import migrations.tools.names as names\nname = names.name"),
    "in versions": ("migrations/versions/__init__.py", "from migrations.versions import name"),
    "beside migrations": ("settings.py", "from settings import name"),
    "in upgrade()": (
        "migrations/helpers.py",
        "def name():\n    from migrations.helpers import name\n    return name()",
    ),
}


@pytest.mark.parametrize("case", HELPERS)
def test_a_revision_may_import_a_helper(case: str, project: Project, tmp_path: Path) -> None:
    """By its full name, as ``prepend_sys_path = .`` lets it."""
    file, statement = HELPERS[case]
    project.ini("prepend_sys_path = .")
    project.write("migrations/__init__.py", "")
    project.write(file, "def name():\n    return 'helped'\n")
    project.revision("a1", None, "op.create_table(name(), sa.Column('id', sa.Integer))", head=statement)
    assert_as_plain(project, tmp_path)
    assert "helped" in dump(tmp_path / "ours.db")


def test_env_py_may_import_the_applications_models(project: Project, tmp_path: Path) -> None:
    """Models below ``src``, named by ``prepend_sys_path``, and imported by a data migration too."""
    project.ini("prepend_sys_path = src")
    models = """
        from sqlalchemy import Column, Integer, MetaData, Table, Text
        metadata = MetaData()
        person = Table("person", metadata, Column("id", Integer, primary_key=True), Column("name", Text))
    """
    project.write("src/company/__init__.py", "")
    project.write("src/company/models.py", models)
    env = ENV.replace("connection=connection", "connection=connection, target_metadata=models.metadata")
    project.env("from company import models\n" + env)
    body = """
        models.metadata.create_all(op.get_bind())
        op.get_bind().execute(models.person.insert(), [{"name": "Ada"}, {"name": "Bob"}])
    """
    project.revision("a1", None, body, head="from company import models")
    assert_as_plain(project, tmp_path)
    assert dump(tmp_path / "ours.db")["person"][0] == [(1, "Ada"), (2, "Bob")]


READERS = {
    "sql beside versions": (
        "data/schema.sql",
        "CREATE TABLE loaded (id INTEGER);",
        "op.execute((Path(__file__).parents[1] / 'data' / 'schema.sql').read_text())",
    ),
    "json beside the revision": (
        "versions/a1.json",
        '["loaded"]',
        "[op.create_table(one, sa.Column('id', sa.Integer)) for one in json.loads(Path(__file__).with_name('a1.json').read_text())]",  # noqa: E501
    ),
    "a script of statements": (
        "versions/a1.sql",
        "CREATE TABLE loaded (id INTEGER); INSERT INTO loaded VALUES (1); -- done;",
        "[op.execute(one) for one in Path(__file__).with_suffix('.sql').read_text().split('; ')[:2]]",
    ),
}


@pytest.mark.parametrize("case", READERS)
def test_a_revision_may_read_a_file(case: str, project: Project, tmp_path: Path) -> None:
    """Data files are found relative to ``__file__``, which is the revision's own path."""
    name, content, body = READERS[case]
    project.write(f"migrations/{name}", content)
    project.revision("a1", None, body, head="import json\nfrom pathlib import Path", file="a1.py")
    assert_as_plain(project, tmp_path)
    assert "loaded" in dump(tmp_path / "ours.db")


def test_env_py_may_read_a_lock_file(project: Project, tmp_path: Path) -> None:
    """A file beside env.py that names the head, and that must agree with the scripts."""
    project.table("a1")
    project.write("migrations/CONTRACT_HEAD", "a1\n")
    check = """
        import pathlib
        from alembic import context
        expected = (pathlib.Path(__file__).parent / "CONTRACT_HEAD").read_text().strip()
        assert context.script.get_heads() == [expected]
    """
    env = project.write("migrations/env.py", check)
    env.write_text(env.read_text() + ENV)
    assert_as_plain(project, tmp_path)


def test_a_revision_may_look_for_modules_in_its_own_folder(project: Project, tmp_path: Path) -> None:
    """Data migrations found with ``pkgutil.iter_modules``, which lists real files only."""
    project.ini("prepend_sys_path = .")
    for name in ("first", "second"):
        project.write(f"migrations/steps/{name}.py", f"table = 'step_{name}'\n")
    project.write("migrations/steps/__init__.py", "")
    body = """
        found = [one.name for one in pkgutil.iter_modules([dirname(dirname(__file__)) + "/steps"])]
        beside = [one.name for one in pkgutil.iter_modules([dirname(__file__)])]
        assert beside == ["a1_"], beside
        for name in found:
            op.create_table(importlib.import_module(f"migrations.steps.{name}").table, sa.Column("id", sa.Integer))
    """
    project.revision("a1", None, body, head="import importlib, pkgutil\nfrom os.path import dirname")
    assert_as_plain(project, tmp_path)
    assert {"step_first", "step_second"} <= set(dump(tmp_path / "ours.db"))


def test_a_revision_may_look_up_an_entry_point(project: Project, tmp_path: Path) -> None:
    """Metadata of installed packages is as for any other code."""
    head = "from importlib.metadata import entry_points, version"
    body = """
        (found,) = entry_points(group="console_scripts", name="alembic")
        op.create_table(found.load().__name__ + version("alembic")[0], sa.Column("id", sa.Integer))
    """
    project.revision("a1", None, body, head=head)
    assert_as_plain(project, tmp_path)


def test_a_revision_knows_its_module(project: Project, tmp_path: Path) -> None:
    """``__file__`` and ``__name__`` are strings, and what a module defines it finds again: dataclasses, pickles."""
    head = """
        import enum, typing
        from dataclasses import dataclass
        @dataclass
        class Row:
            name: str
        class Kind(enum.Enum):
            ONE = "one"
        class Pair(typing.NamedTuple):
            left: int
    """
    body = """
        assert __file__.endswith("a1_.py") and isinstance(__name__, str)
        op.create_table(Row(Kind.ONE.value).name, sa.Column("id", sa.Integer))
        assert Pair(1).left == 1
    """
    project.revision("a1", None, body, head=head)
    assert_as_plain(project, tmp_path)


# The shapes of histories.


def merged(project: Project) -> None:
    """A fork and its merge, with a head beside it."""
    project.table("root")
    project.table("left", "root")
    project.table("right", "root")
    project.table("merge", ("left", "right"))
    project.table("side", "left")


def labelled(project: Project) -> None:
    """Two branches with bases and labels of their own."""
    project.table("e1", branch_labels=("expand",))
    project.table("e2", "e1")
    project.table("c1", branch_labels=["contract"])
    project.table("c2", "c1", depends_on="e1")


def expanding(project: Project) -> None:
    """One base, then a label on each of two branches, one of which depends on the other."""
    project.table("root")
    project.table("e1", "root", branch_labels="expand")
    project.table("c1", "root", branch_labels="contract", depends_on=("e1",))
    project.table("e2", "e1")
    project.table("c2", "c1", depends_on=["e2"])


def depending(project: Project) -> None:
    """A head that another one depends on, so that the database at head has fewer rows than there are heads."""
    project.table("a1")
    project.table("a2", "a1")
    project.table("b1", depends_on="a2")


def depending_on_label(project: Project) -> None:
    """A dependency written as a label."""
    project.table("a1", branch_labels=("core",))
    project.table("a2", "a1")
    project.table("b1", depends_on="core")
    project.table("b2", "b1", depends_on=("a2",))


def partial_down(project: Project) -> None:
    """Three bases; a merge of two of them."""
    for name in ("x1", "y1", "z1"):
        project.table(name)
    project.table("xy", ("x1", "y1"))


SHAPES: dict[str, tuple[Callable[[Project], None], tuple[str, ...]]] = {
    "heads": (merged, ("heads",)),
    "one side first": (merged, ("side", "heads")),
    "a merge first": (merged, ("merge", "heads")),
    "by labels": (labelled, ("expand@head", "contract@head")),
    "labels in the other order": (labelled, ("contract@head", "expand@head")),
    "labels of one base": (expanding, ("expand@head", "contract@head")),
    "the dependent label first": (expanding, ("contract@head", "heads")),
    "by steps of a branch": (expanding, ("e1", "expand@+1", "heads")),
    "by ids": (expanding, ("root", "e1", "c1", "e2", "c2")),
    "by short ids": (merged, ("ro", "le", "ri", "me", "si")),
    "by steps": (depending, ("a1", "+1", "heads")),
    "a dependency is applied first": (depending, ("b1",)),
    "the dependency by itself": (depending, ("a2", "b1")),
    "a label as dependency": (depending_on_label, ("b1", "heads")),
    "an id and steps": (expanding, ("e1+1", "heads")),
    "three bases": (partial_down, ("y1", "xy", "heads")),
    "the same target twice": (merged, ("left", "left", "heads", "heads")),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_history_is_climbed_as_with_plain_alembic(case: str, project: Project, tmp_path: Path) -> None:
    """Any shape, any target: what is planned is what is applied, and the rows of the version table are the same."""
    write, targets = SHAPES[case]
    write(project)
    assert_as_plain(project, tmp_path, *targets)


def test_a_database_at_head_may_have_fewer_rows_than_there_are_heads(project: Project, tmp_path: Path) -> None:
    """A head that another one depends on is implied by it: the database is current, not behind."""
    depending(project)
    migrations = project.located()
    migrations.upgrade(tmp_path / "new.db")
    assert set(migrations.heads) == {"a2", "b1"}
    assert versions(tmp_path / "new.db") == ["b1"]
    assert migrations.status(tmp_path / "new.db").state is State.CURRENT
    assert migrations.upgrade(tmp_path / "new.db").applied == ()


def test_a_database_ahead_of_its_target_is_left_alone(project: Project, tmp_path: Path) -> None:
    """An upgrade to what is there already applies nothing, as with plain Alembic."""
    project.line()
    project.located().upgrade(tmp_path / "new.db")
    before = files(tmp_path)
    report = project.located().upgrade(tmp_path / "new.db", "a1")
    assert (report.applied, report.backup) == ((), None)
    assert files(tmp_path) == before


@pytest.mark.parametrize("target", ["nowhere", "head", "x@head", "+9", "", "a", "-1", "expand@nothing"])
def test_a_target_that_leads_nowhere_is_wrong_usage(target: str, project: Project, tmp_path: Path) -> None:
    """Unknown, ambiguous or backwards: the same error before anything is touched."""
    project.table("ab1")
    project.table("ab2", "ab1")
    project.table("ac2", "ab1")
    with pytest.raises(UsageError):
        project.located().upgrade(tmp_path / "new.db", target)
    assert not (tmp_path / "new.db").exists()


# Several chains, several folders.

SEVERAL = """
[DEFAULT]
script_location = %(here)s/migrations
prepend_sys_path = .

[users]
version_locations = %(here)s/migrations/users
version_table = users_version

[orders]
version_locations = %(here)s/migrations/orders
version_table = orders_version
"""
SEVERAL_ENV = ENV.replace(
    "connection=connection", "connection=connection, version_table=config.get_main_option('version_table')"
)


def several(project: Project) -> None:
    """Two sections of one ini with one env.py; their revisions have the same ids."""
    project.write("alembic.ini", SEVERAL)
    project.env(SEVERAL_ENV)
    for chain in ("users", "orders"):
        folder = f"migrations/{chain}"
        project.revision("001", None, f"op.create_table('{chain}', sa.Column('id', sa.Integer))", folder=folder)
        project.revision("002", "001", f"op.execute('INSERT INTO {chain} VALUES (1)')", folder=folder)


@pytest.mark.parametrize("shared", [True, False], ids=["one database", "a database for each"])
def test_each_section_of_an_ini_is_a_chain(shared: bool, project: Project, tmp_path: Path) -> None:
    """One program, several chains: their own folders, version tables and states, also in one database."""
    several(project)
    plain = tmp_path / "plain.db"
    for section in ("users", "orders"):
        ours = tmp_path / ("shared.db" if shared else f"{section}.db")
        migrations = project.located(section=section)
        assert migrations.status(ours).state is (State.BEHIND if shared and section == "orders" else State.NEW)
        assert migrations.upgrade(ours, "001").applied == ("001",)
        assert migrations.status(ours).state is State.BEHIND
        assert migrations.upgrade(ours).applied == ("002",)
        assert migrations.status(ours).state is State.CURRENT
        assert versions(ours, f"{section}_version") == ["002"]
        if not shared:
            plain = tmp_path / f"plain {section}.db"
        assert dump(ours) == project.plain(plain, section=section)


def test_an_unknown_section_is_wrong_usage(project: Project, tmp_path: Path) -> None:
    several(project)
    with pytest.raises(UsageError, match="sections: orders, users"):
        project.located(section="invoices").upgrade(tmp_path / "new.db")


LOCATIONS = {
    "space": ("version_path_separator = space", " "),
    "comma": ("", ", "),
    "legacy space": ("", " "),
    "os": ("version_path_separator = os", ":" if sys.platform != "win32" else ";"),
    "colon": ("version_path_separator = :", ":"),
    "semicolon": ("version_path_separator = ;", ";"),
    "newline": ("version_path_separator = newline", "\n    "),
    "the newer option": ("path_separator = os", ":" if sys.platform != "win32" else ";"),
}


@pytest.mark.parametrize("case", LOCATIONS)
def test_revisions_may_lie_in_several_folders(case: str, project: Project, tmp_path: Path) -> None:
    """Inside the folder of env.py and outside, listed with any of Alembic's separators."""
    option, separator = LOCATIONS[case]
    if (case == "newline" and not _alembic_is(1, 15)) or (case == "the newer option" and not _alembic_is(1, 16)):
        pytest.skip("this Alembic does not know it")
    folders = ["migrations/versions", "plugin/versions", "migrations/more"]
    project.ini(f"{option}\nversion_locations = {separator.join('%(here)s/' + one for one in folders)}")
    project.table("a1", folder=folders[0])
    project.table("b1", folder=folders[1], depends_on="a1", branch_labels="plugin")
    project.table("a2", "a1", folder=folders[2])
    assert_as_plain(project, tmp_path, "plugin@head", "heads")


def _alembic_is(*at_least: int) -> bool:
    import alembic

    return tuple(int(part) for part in alembic.__version__.split(".")[:2]) >= at_least


@pytest.mark.parametrize("recursive", [True, False], ids=["recursive", "not recursive"])
def test_revisions_may_lie_in_subfolders(recursive: bool, project: Project, tmp_path: Path) -> None:
    """Only with ``recursive_version_locations``; without it, a subfolder is of no concern."""
    project.ini(f"recursive_version_locations = {str(recursive).lower()}")
    project.table("a1")
    project.table("a2", "a1", folder="migrations/versions/2024/q1.early")
    assert_as_plain(project, tmp_path)
    assert project.located().heads == ("a2" if recursive else "a1",)


REASSIGNED = {
    "what is configured": "[os.path.join(here, 'versions')]",
    "also a folder of a plugin": "[os.path.join(here, 'versions'), os.path.join(here, 'plugin')]",
}


@pytest.mark.parametrize("case", REASSIGNED)
def test_env_py_may_reassign_version_locations(case: str, project: Project, tmp_path: Path) -> None:
    """The folders the configuration names count; what env.py adds is named there, as the build needs to know it."""
    folders = "%(here)s/migrations/versions, %(here)s/migrations/plugin" if "plugin" in case else ""
    project.ini(f"version_locations = {folders}" if folders else "")
    project.table("a1")
    project.table("p1", folder="migrations/plugin", branch_labels="plugin")
    source = "import os\nfrom alembic import context\nhere = os.path.dirname(os.path.abspath(__file__))\n"
    project.env(f"{source}context.script.version_locations = {REASSIGNED[case]}\n{ENV}")
    assert_as_plain(project, tmp_path)


# Where env.py takes its URL from.

SETTINGS = {
    "environment": "import os\nconfig.set_main_option('sqlalchemy.url', os.environ['FREEZEKIT_TEST_URL'])",
    "environment or the given": "import os\nurl = os.environ.get('NOT_SET_ANYWHERE') or url",
    "settings module": "from settings import URL\nconfig.set_main_option('sqlalchemy.url', URL)",
}
SETTINGS_ENV = """
from alembic import context
from sqlalchemy import create_engine, pool
config = context.config
url = config.get_main_option("sqlalchemy.url")
{source}
engine = create_engine(config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize("case", SETTINGS)
def test_a_url_from_settings_must_lead_to_the_given_database(
    case: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may: then all is well. If it leads elsewhere, that database stays as it is, and so does the given one."""
    project.ini("prepend_sys_path = .")
    project.line().env(SETTINGS_ENV.format(source=SETTINGS[case]))
    settings = tmp_path / "settings.db"
    monkeypatch.setenv("FREEZEKIT_TEST_URL", f"sqlite:///{settings}")
    project.write("settings.py", f"URL = 'sqlite:///{settings}'\n")
    migrations = project.located()
    migrations.upgrade(settings, "b2")
    assert versions(settings) == ["b2"]
    before = files(tmp_path)
    if "given" in case:
        migrations.upgrade(tmp_path / "other.db")
        assert versions(tmp_path / "other.db") == ["c3"]
    else:
        with pytest.raises(EnvironmentIgnoredDatabase, match=r"settings\.db"):
            migrations.upgrade(tmp_path / "other.db")
        assert files(tmp_path) == before


WRONG_HEADS = {
    "the version is set back": "connection.exec_driver_sql(\"UPDATE alembic_version SET version_num = 'a1'\")",
    "the version is deleted": "connection.exec_driver_sql('DELETE FROM alembic_version')",
    "the version table is dropped": "connection.exec_driver_sql('DROP TABLE alembic_version')",
    "a version of nothing": "connection.exec_driver_sql(\"UPDATE alembic_version SET version_num = 'zzz'\")",
}


@pytest.mark.parametrize("case", WRONG_HEADS)
def test_an_env_py_that_ends_with_wrong_heads_has_failed(case: str, project: Project, tmp_path: Path) -> None:
    """Plain Alembic exits with 0 here: the heads are read again after every upgrade."""
    project.line()
    database = tmp_path / "old.db"
    project.plain(database, "b2")
    project.env(ENV + f"    {WRONG_HEADS[case]}\n    connection.commit()\n")
    before = files(tmp_path)
    with pytest.raises(MigrationFailed) as caught:
        project.located().upgrade(database, backup=None)
    assert caught.value.restored
    assert files(tmp_path) == before


# Revisions that end the transaction.

ENDINGS = {
    "nothing": "",
    "bind.commit()": "op.get_bind().commit()",
    "COMMIT": "op.execute('COMMIT')",
    "COMMIT after a row": "op.execute(\"INSERT INTO book VALUES (8, 'x')\"); op.execute('COMMIT')",
    "COMMIT and BEGIN": "op.execute('commit; '); op.execute(' BEGIN')",
    "END TRANSACTION": "op.execute('-- now\\nEND TRANSACTION')",
    "ROLLBACK": "op.execute('ROLLBACK')",
    "driver commit": "op.get_bind().connection.commit()",
    "driver connection": "op.get_bind().connection.driver_connection.commit()",
    "executescript": "op.get_bind().connection.executescript('CREATE TABLE s (x); INSERT INTO s VALUES (1);')",
    "executescript of a cursor": "op.get_bind().connection.cursor().executescript('CREATE TABLE s (x); COMMIT;')",
    "a session": "s = Session(bind=op.get_bind()); s.execute(sa.text('CREATE TABLE s (x)')); s.commit(); s.close()",
    "a session of an engine": "s = Session(op.get_bind().engine); s.execute(sa.text('DELETE FROM book')); s.commit()",
    "another connection": "c = op.get_bind().engine.connect(); c.exec_driver_sql('CREATE TABLE s (x)'); c.commit()",
    "engine.begin()": "with op.get_bind().engine.begin() as c: c.exec_driver_sql('DELETE FROM book')",
    "raw connection": "r = op.get_bind().engine.raw_connection(); r.execute('DELETE FROM book'); r.commit()",
    "an engine of its own": "e = sa.create_engine(op.get_bind().engine.url); c = e.connect(); c.commit(); c.close()",
    "an autocommit block": "with op.get_context().autocommit_block(): op.execute('CREATE TABLE s (x)')",
    "autocommit": "op.get_bind().execution_options(isolation_level='AUTOCOMMIT').exec_driver_sql('DELETE FROM book')",
    "isolation level": "op.get_bind().connection.driver_connection.isolation_level = None",
    "a savepoint": "with op.get_bind().begin_nested(): op.execute('DELETE FROM book')",
    "a savepoint rolled back": "op.execute('SAVEPOINT x'); op.execute('DELETE FROM book'); op.execute('ROLLBACK TO x')",
    "VACUUM": "with op.get_context().autocommit_block(): op.execute('VACUUM')",
    "PRAGMA writable_schema": "op.execute('PRAGMA writable_schema = 1'); op.execute('PRAGMA writable_schema = 0')",
    "PRAGMA journal_mode": "op.execute('PRAGMA journal_mode = WAL')",
    "PRAGMA user_version": "op.execute('PRAGMA user_version = 7')",
    "close": "op.get_bind().connection.driver_connection.close()",
    "invalidate": "op.get_bind().invalidate()",
    "dispose": "op.get_bind().engine.dispose()",
}


@pytest.mark.parametrize("per_migration", [False, True], ids=["one transaction", "one for each"])
@pytest.mark.parametrize("case", ENDINGS)
def test_a_failed_upgrade_leaves_the_file_as_it_was(
    case: str, per_migration: bool, project: Project, tmp_path: Path
) -> None:
    """Whatever a revision did to end the transaction before a later one fails."""
    project.line()
    if per_migration:
        project.env(ENV.replace("connection=connection", "connection=connection, transaction_per_migration=True"))
    database = tmp_path / "documents" / "old.db"
    database.parent.mkdir()
    project.plain(database, "b2")
    head = "from sqlalchemy.orm import Session"
    project.revision("d4", "c3", f"op.execute('CREATE TABLE d (x)')\n{ENDINGS[case] or 'pass'}", head=head)
    project.revision("e5", "d4", "op.execute('INSERT INTO d VALUES (1)')\nraise ArithmeticError('on purpose')")
    before = files(database.parent)
    with pytest.raises(MigrationFailed) as caught:
        project.located().upgrade(database, backup=None)
    assert caught.value.restored
    assert caught.value.failed in ("d4", "e5")
    assert caught.value.applied == ()
    assert files(database.parent) == before


HARMLESS = [
    "nothing",
    "bind.commit()",
    "COMMIT after a row",
    "driver commit",
    "driver connection",
    "executescript",
    "a session",
    "an autocommit block",
    "isolation level",
    "a savepoint",
    "a savepoint rolled back",
    "PRAGMA user_version",
    "a session of an engine",
    "another connection",
    "engine.begin()",
    "raw connection",
]


@pytest.mark.parametrize("case", HARMLESS)
def test_a_revision_that_commits_is_upgraded_as_with_plain_alembic(case: str, project: Project, tmp_path: Path) -> None:
    """What works with plain Alembic works here, the transaction being freezekit's all the same."""
    project.line()
    head = "from sqlalchemy.orm import Session"
    project.revision("d4", "c3", f"op.execute('CREATE TABLE d (x)')\n{ENDINGS[case] or 'pass'}", head=head)
    project.table("e5", "d4")
    if case in ("a session of an engine", "another connection", "engine.begin()", "raw connection"):
        # With plain Alembic the second connection finds the file locked, as soon as the first has written.
        project.located().upgrade(tmp_path / "ours.db")
        assert versions(tmp_path / "ours.db") == ["e5"]
        return
    assert_as_plain(project, tmp_path)


def test_a_data_migration_reads_and_writes_with_a_session(project: Project, tmp_path: Path) -> None:
    """Mapped classes, a session on ``op.get_bind()`` and its commit, between two changes of the schema."""
    project.line()
    head = """
        from sqlalchemy.orm import Session, declarative_base
        Base = declarative_base()
        class Book(Base):
            __tablename__ = "book"
            id = sa.Column(sa.Integer, primary_key=True)
            title = sa.Column(sa.Text)
    """
    body = """
        op.add_column("book", sa.Column("length", sa.Integer))
        session = Session(bind=op.get_bind())
        for book in session.query(Book).order_by(Book.id):
            book.title = book.title.upper()
        session.add(Book(id=7, title="SEVEN"))
        session.commit()
        op.execute("UPDATE book SET length = length(title)")
        with op.batch_alter_table("book") as batch:
            batch.alter_column("length", nullable=False)
    """
    project.revision("d4", "c3", body, head=head)
    assert_as_plain(project, tmp_path, "b2", "heads")


# A history that nobody here wrote.

OPTUNA = "optuna:storages/_rdb/alembic"


@pytest.fixture(scope="module")
def optuna_revisions() -> tuple[str, ...]:
    pytest.importorskip("optuna")
    return tuple(one.revision for one in freezekit.locate(OPTUNA).manifest.revisions)


def _optuna_project(tmp_path: Path) -> Project:
    """A copy of optuna's folder of scripts with its ini, for plain Alembic."""
    import shutil

    import optuna

    source = Path(optuna.__file__).parent / "storages" / "_rdb"
    shutil.copytree(source / "alembic", tmp_path / "copy" / "migrations")
    shutil.copyfile(source / "alembic.ini", tmp_path / "copy" / "alembic.ini")
    ini = tmp_path / "copy" / "alembic.ini"
    ini.write_text(ini.read_text().replace("script_location = alembic", "script_location = %(here)s/migrations"))
    return Project(tmp_path / "copy")


def test_optunas_history_is_upgraded_from_each_of_its_revisions(
    optuna_revisions: tuple[str, ...], tmp_path: Path
) -> None:
    """Files named ``v3.0.0.a.py``, data migrations that import the models, an env.py that wants its ini."""
    project = _optuna_project(tmp_path)
    migrations = freezekit.locate(OPTUNA)
    assert migrations.status(tmp_path / "new.db").pending == optuna_revisions
    for number, (old, following) in enumerate(pairwise([*optuna_revisions, None])):
        ours, plain = tmp_path / f"{number}.db", tmp_path / f"plain{number}.db"
        project.plain(ours, str(old))
        _fill(ours)
        plain.write_bytes(ours.read_bytes())
        report = migrations.upgrade(ours)
        assert report.applied == optuna_revisions[number + 1 :]
        assert (following in report.applied) == (following is not None)
        assert dump(ours) == project.plain(plain)


def _fill(database: Path) -> None:
    """Put a study with trials and values into a database of any of optuna's releases."""
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table.startswith(("alembic", "version")):
                continue
            about = connection.execute(f"PRAGMA table_info({table})").fetchall()
            for row in (1, 2):
                values = [_value(name, kind, row) for _, name, kind, *_ in about]
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)


def _value(name: str, kind: str, row: int) -> Any:
    """Return a value that optuna could have written into a column."""
    if name == "state":
        return "COMPLETE"
    if name == "direction":
        return "MINIMIZE"
    if "json" in name:
        return '{"name": "FloatDistribution", "attributes": {"low": 0.0, "high": 1.0, "step": null, "log": false}}'
    if kind.startswith(("VARCHAR", "TEXT")):
        return f"text {row}"
    if kind.startswith("DATETIME"):
        return "2024-01-02 03:04:05.000000"
    return row / 2 if kind.startswith(("FLOAT", "DOUBLE")) else row


def test_plain_alembic_is_what_these_tests_compare_with(project: Project, tmp_path: Path) -> None:
    """The helper itself: it runs the copy it is given, and leaves nothing of it behind."""
    project.line()
    plain_upgrade(project.root, tmp_path / "direct.db", "a1", "heads")
    assert versions(tmp_path / "direct.db") == ["c3"]
    assert not [name for name in sys.modules if name.startswith("migrations")]
    for compiled in project.root.rglob("__pycache__"):
        for file in compiled.iterdir():
            file.unlink()
        compiled.rmdir()
