"""Any env.py, as it is: the database it uses is the one it was given, and the result is plain Alembic's."""

import contextlib
import logging
import logging.config
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from histories import ENV, Project, compiling, dump, files, project_in, versions
from sqlalchemy import URL, create_engine, text
from sqlalchemy.pool import NullPool, StaticPool

from freezekit import EnvironmentIgnoredDatabase, InvalidMigrations, MigrationFailed, State, UpgradeCancelled


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path / "app") as one:
        yield one.line()


@pytest.fixture
def old(project: Project, tmp_path: Path) -> Path:
    """A database at the second of three revisions, alone in a folder, written by plain Alembic."""
    kept = (project.migrations / "env.py").read_text()
    project.env(ENV)
    path = tmp_path / "documents" / "old.db"
    path.parent.mkdir()
    project.plain(path, "b2")
    project.env(kept)
    return path


def assert_as_plain(project: Project, database: Path, tmp_path: Path, **plain: Any) -> None:
    """Upgrade with freezekit in two steps, and compare with plain Alembic after each."""
    migrations = project.located()
    arguments = {"x_arguments": plain["x_arguments"]} if "x_arguments" in plain else {}
    expected = tmp_path / "plain.db"
    assert migrations.upgrade(database, "b2", **arguments).applied == ("a1", "b2")
    assert dump(database) == project.plain(expected, "b2", **plain)
    assert migrations.upgrade(database, **arguments).applied == ("c3",)
    assert dump(database) == project.plain(expected, **plain)
    assert migrations.status(database).state is State.CURRENT


# The stock templates.


@pytest.mark.parametrize("package", [False, True], ids=["folder", "package"])
@pytest.mark.parametrize("template", ["generic", "async", "pyproject", "pyproject_async"])
def test_a_stock_template_needs_no_change(template: str, package: bool, tmp_path: Path) -> None:
    """What ``alembic init`` writes is upgraded as plain Alembic upgrades it, and leaves no ini's logging behind."""
    if "async" in template:
        pytest.importorskip("greenlet")
    root = tmp_path / "app"
    root.mkdir()
    config = Config(root / "alembic.ini", toml_file=root / "pyproject.toml") if _has_toml() else None
    if config is None:
        if template.startswith("pyproject"):
            pytest.skip("this Alembic has no such template")
        config = Config(root / "alembic.ini")
    config.config_args["here"] = str(root)
    config.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    with closing(config.stdout):
        command.init(config, str(root / "migrations"), template=template, package=package)
    for name in ("migrations/env.py", "alembic.ini"):
        assert (root / name).exists()
    stock = (root / "migrations" / "env.py").read_text()
    with project_in(tmp_path / "app") as project:
        project.line().env(stock)
        level = logging.root.level
        driver = "+aiosqlite" if "async" in template else ""
        assert_as_plain(project, tmp_path / "new.db", tmp_path, driver=driver)
        assert logging.root.level == level


def _has_toml() -> bool:
    return hasattr(Config("x"), "toml_file_name")


def test_the_stock_template_for_several_databases_is_refused_by_name(project: Project, tmp_path: Path) -> None:
    """One database is upgraded as one, so an env.py for several is an issue of the tree, not a surprise later."""
    config = Config(tmp_path / "multi" / "alembic.ini")
    (tmp_path / "multi").mkdir()
    with open(os.devnull, "w", encoding="utf-8") as config.stdout:
        command.init(config, str(tmp_path / "multi" / "migrations"), template="multidb")
    project.env((tmp_path / "multi" / "migrations" / "env.py").read_text())
    with pytest.raises(InvalidMigrations, match="several databases") as caught:
        project.located().upgrade(tmp_path / "new.db")
    assert len(caught.value.issues) == 1
    assert not (tmp_path / "new.db").exists()


# Environments that applications wrote themselves.

HEAD = """
import sqlite3
from alembic import context
from sqlalchemy import create_engine, engine_from_config, event, pool

config = context.config
url = config.get_main_option("sqlalchemy.url")

def run(connection, **options):
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()
"""

ENVIRONMENTS = {
    "a connection is required": """
        run(config.attributes["connection"])
    """,
    "a connection is optional": """
        connection = config.attributes.get("connection")
        if connection is None:
            with create_engine(url).connect() as connection:
                run(connection)
        else:
            run(connection)
    """,
    "an engine of its own": """
        with create_engine(url, poolclass=pool.NullPool).connect() as connection:
            run(connection)
    """,
    "an engine with a pool, not disposed of": """
        with create_engine(url, pool_size=5).connect() as connection:
            run(connection)
    """,
    "engine.begin()": """
        with create_engine(url).begin() as connection:
            run(connection)
    """,
    "the begin event of SQLAlchemy's documentation": """
        engine = create_engine(url)
        @event.listens_for(engine, "connect")
        def do_connect(dbapi_connection, record):
            dbapi_connection.isolation_level = None
        @event.listens_for(engine, "begin")
        def do_begin(connection):
            connection.exec_driver_sql("BEGIN")
        with engine.connect() as connection:
            run(connection)
    """,
    "the begin event with BEGIN IMMEDIATE": """
        engine = create_engine(url)
        @event.listens_for(engine, "begin")
        def do_begin(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        with engine.begin() as connection:
            run(connection)
    """,
    "a listener that sets pragmas": """
        engine = create_engine(url)
        @event.listens_for(engine, "connect")
        def set_pragmas(dbapi_connection, record):
            cursor = dbapi_connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute("PRAGMA busy_timeout=5000")
            cursor.close()
        with engine.connect() as connection:
            run(connection)
    """,
    "a transaction for each revision": """
        with create_engine(url).connect() as connection:
            run(connection, transaction_per_migration=True)
    """,
    "transactional_ddl off": """
        with create_engine(url).connect() as connection:
            run(connection, transactional_ddl=False)
    """,
    "autocommit": """
        with create_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            run(connection)
    """,
    "an engine in autocommit": """
        with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            run(connection)
    """,
    "a commit of its own": """
        with create_engine(url).connect() as connection:
            context.configure(connection=connection, render_as_batch=True)
            context.run_migrations()
            connection.commit()
    """,
    "settings read before the migrations": """
        with create_engine(url).connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
            connection.commit()
            run(connection)
    """,
    "a question before the migrations, left open": """
        with create_engine(url).connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
            connection.rollback()
            run(connection)
    """,
    "two connections, one after the other": """
        engine = create_engine(url)
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        with engine.connect() as connection:
            run(connection)
        engine.dispose()
    """,
    "foreign keys switched off around it": """
        with create_engine(url).connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.commit()
            run(connection)
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")
    """,
    "options of sqlalchemy beside the url": """
        config.set_main_option("sqlalchemy.echo", "false")
        section = config.get_section(config.config_ini_section, {})
        with engine_from_config(section, prefix="sqlalchemy.").connect() as connection:
            run(connection)
    """,
    "the url put together again": """
        from sqlalchemy.engine import make_url
        with create_engine(make_url(url).set(query={"timeout": "5"})).connect() as connection:
            run(connection)
    """,
    "an engine is expected where the connection is": """
        connectable = config.attributes.get("connection", None)
        if connectable is None:
            connectable = create_engine(url)
        with connectable.connect() as connection:
            run(connection)
    """,
    "a file: uri": """
        with create_engine("sqlite:///file:" + url[len("sqlite:///"):] + "?uri=true").connect() as connection:
            run(connection)
    """,
    "a connection is required, and begun": """
        connection = config.attributes["connection"]
        with connection.begin():
            run(connection)
    """,
    "a savepoint around it": """
        with create_engine(url).connect() as connection:
            with connection.begin():
                with connection.begin_nested():
                    run(connection)
    """,
    "write-ahead logging switched on": """
        with create_engine(url).connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.commit()
            run(connection)
    """,
    "the heads asked for before": """
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory
        engine = create_engine(url)
        with engine.connect() as connection:
            heads = MigrationContext.configure(connection).get_current_heads()
            assert ScriptDirectory.from_config(config).get_heads() == ["c3"]
        with engine.begin() as connection:
            run(connection)
    """,
    "questions to context.script": """
        assert context.script.get_current_head() == "c3"
        assert context.get_head_revision() == "c3"
        assert [s.revision for s in context.script.walk_revisions()] == ["c3", "b2", "a1"]
        assert context.get_revision_argument() in ("b2", ("c3",))
        assert context.script.get_revision("c3").module.down_revision == "b2"
        with create_engine(url).connect() as connection:
            run(connection)
    """,
    "a listener that adds functions": """
        engine = create_engine(url)
        @event.listens_for(engine, "connect")
        def c(d, r):
            d.create_function("host_fn", 1, lambda x: x)
            d.execute("PRAGMA case_sensitive_like = ON")
            d.row_factory = None
            d.text_factory = str
            d.create_collation("nocase2", lambda a, b: 0)
        with engine.connect() as connection:
            run(connection)
    """,
    "a session": """
        from sqlalchemy.orm import Session
        engine = create_engine(url)
        with Session(engine) as session:
            run(session.connection())
            session.commit()
    """,
    "a pool of one connection with arguments": """
        import logging
        logger = logging.getLogger("alembic.env")
        def run_online():
            section = config.get_section(config.config_ini_section)
            section["sqlalchemy.url"] = url
            arguments = {"timeout": 15, "check_same_thread": False, "isolation_level": None}
            engine = engine_from_config(section, poolclass=pool.StaticPool, connect_args=arguments)
            with engine.connect() as connection:
                run(connection)
        run_online()
    """,
    "positional arguments of configure": """
        with create_engine(url).connect() as connection:
            context.configure(connection, None, target_metadata=None)
            with context.begin_transaction():
                context.run_migrations()
    """,
    "an asynchronous engine": """
        import asyncio
        from sqlalchemy.ext.asyncio import create_async_engine
        async def main():
            engine = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
            async with engine.connect() as connection:
                await connection.run_sync(run)
            await engine.dispose()
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_an_environment_works_as_with_plain_alembic(env: str, project: Project, tmp_path: Path) -> None:
    """Tables, keys and rows, after a partial and after the whole upgrade, are plain Alembic's."""
    if "asynchronous" in env:
        pytest.importorskip("greenlet")
    project.env(HEAD + dedented(ENVIRONMENTS[env]))
    assert_as_plain(project, tmp_path / "new.db", tmp_path, lend="required" in env)


def dedented(source: str) -> str:
    from textwrap import dedent

    return dedent(source)


def test_env_py_reads_the_version_as_it_is_at_that_moment(project: Project, old: Path, tmp_path: Path) -> None:
    """Before and after, and what env.py changed itself, through this very connection."""
    asked = "print(*context.get_context().get_current_heads())\n    "
    changed = "connection.exec_driver_sql(\"UPDATE alembic_version SET version_num = 'a1'\")\n    "
    run = "with context.begin_transaction():\n        context.run_migrations()\n    "
    configured = "context.configure(connection=connection)\n    "
    start = ENV.partition(configured)[0] + configured
    project.env(start + asked + changed + asked + changed.replace("'a1'", "'b2'") + run + asked)
    said = StringIO()
    with contextlib.redirect_stdout(said):
        assert project.located().upgrade(old).applied == ("c3",)
    assert said.getvalue().split() == ["b2", "a1", "c3"]
    new = tmp_path / "new.db"
    project.env(start + asked + run + asked)
    with contextlib.redirect_stdout(said):
        project.located().upgrade(new)
    assert said.getvalue().split() == ["b2", "a1", "c3", "c3"]


def test_children_survive_a_listener_that_enforces_foreign_keys(project: Project, old: Path) -> None:
    """Rebuilding a parent table loses no row, though plain Alembic deletes the children here."""
    listener = """
        engine = create_engine(url)
        @event.listens_for(engine, "connect")
        def enforce(dbapi_connection, record):
            dbapi_connection.execute("PRAGMA foreign_keys=ON")
        with engine.connect() as connection:
            run(connection)
    """
    project.env(HEAD + dedented(listener))
    children = dump(old)["note"][0]
    project.located().upgrade(old)
    assert dump(old)["note"][0] == children
    assert len(children) == 3


@pytest.mark.parametrize("name", ["dbPath", "tenant"])
def test_x_arguments_reach_env_py(name: str, project: Project, tmp_path: Path) -> None:
    """``x_arguments`` is what ``-x name=value`` is on the command line."""
    project.env(
        HEAD
        + f"given = context.get_x_argument(as_dictionary=True)[{name!r}]\n"
        + f"assert context.get_x_argument() == [{name!r} + '=' + given]\n"
        + "with create_engine('sqlite:///' + given).connect() as connection:\n    run(connection)\n"
    )
    ours, plain = tmp_path / "ours.db", tmp_path / "plain.db"
    project.located().upgrade(ours, x_arguments={name: str(ours)})
    assert dump(ours) == project.plain(plain, x_arguments={name: str(plain)})


def test_x_arguments_may_repeat_and_may_be_left_out(project: Project, tmp_path: Path) -> None:
    """A list gives one option several times; without any, env.py sees an empty list as on the command line."""
    project.env(ENV + "\nimport json\nprint(json.dumps(context.get_x_argument()))\n")
    program = (
        "import sys, freezekit; found = freezekit.locate(sys.argv[1]);"
        "found.upgrade(sys.argv[2], 'a1', x_arguments={'tag': ['one', 'two'], 'last': 'x=y'});"
        "found.upgrade(sys.argv[2])"
    )
    assert run_python(program, project.migrations, tmp_path / "new.db") == '["tag=one", "tag=two", "last=x=y"]\n[]\n'


def run_python(program: str, *arguments: object, cwd: Path | None = None) -> str:
    """Run a program in a process of its own, warnings being errors; return what it printed."""
    command_line = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    result = subprocess.run(command_line, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


# Environments that go elsewhere, or nowhere.

ELSEWHERE = {
    "an existing file": "sqlite:///{folder}/other.db",
    "a missing file": "sqlite:///{folder}/missing.db",
    "a missing file of an asynchronous engine": "sqlite+aiosqlite:///{folder}/missing.db",
    "a missing file by its uri": "sqlite:///file:{folder}/missing.db?uri=true",
    "memory": "sqlite://",
    "memory by name": "sqlite:///:memory:",
}


@pytest.mark.parametrize("quiet", [False, True], ids=["errors leave", "errors are swallowed"])
@pytest.mark.parametrize("url", ELSEWHERE)
def test_an_env_py_that_connects_elsewhere_changes_nothing(url: str, quiet: bool, project: Project, old: Path) -> None:
    """Neither the database, nor the one env.py wanted, nor a new file: the error says where env.py went."""
    if "asynchronous" in url:
        pytest.importorskip("greenlet")
    with closing(sqlite3.connect(old.parent / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
    wanted = ELSEWHERE[url].format(folder=old.parent)
    body = f"with create_engine({wanted!r}, poolclass=pool.NullPool).connect() as connection:\n    run(connection)\n"
    if "aiosqlite" in wanted:
        body = (
            "import asyncio\nfrom sqlalchemy.ext.asyncio import create_async_engine\n"
            "async def main():\n"
            f"    async with create_async_engine({wanted!r}).connect() as connection:\n"
            "        await connection.run_sync(run)\n"
            "asyncio.run(main())\n"
        )
    project.env(HEAD + (f"try:\n{indented(body)}except Exception:\n    pass\n" if quiet else body))
    before = files(old.parent)
    with pytest.raises(EnvironmentIgnoredDatabase) as caught:
        project.located().upgrade(old, backup=None)
    assert files(old.parent) == before
    assert caught.value.database == str(old)
    assert caught.value.connected
    assert caught.value.connected in str(caught.value)


def indented(source: str) -> str:
    from textwrap import indent

    return indent(source, "    ")


NOWHERE = {
    "empty": "",
    "only configures": "context.configure(connection=config.attributes['connection'])",
    "a guard that is never true": "if __name__ == '__main__':\n    run(config.attributes['connection'])",
    "offline only": "if context.is_offline_mode():\n    run(None)",
}


@pytest.mark.parametrize("env", NOWHERE)
def test_an_env_py_that_runs_nothing_is_an_error(env: str, project: Project, old: Path) -> None:
    """Plain Alembic ends without an error here; a program must not go on with the old schema."""
    project.env(HEAD + NOWHERE[env])
    before = files(old.parent)
    with pytest.raises(EnvironmentIgnoredDatabase, match="never ran the migrations") as caught:
        project.located().upgrade(old, backup=None)
    assert caught.value.connected is None
    assert files(old.parent) == before


FAILURES = {
    "sys.exit": ("import sys\nsys.exit(3)", SystemExit),
    "sys.exit after the migrations": ("run(config.attributes['connection'])\nraise SystemExit(0)", SystemExit),
    "an error": ("raise LookupError('no settings')", LookupError),
    "a missing module": ("import module_that_is_not_there", ModuleNotFoundError),
    "a transaction that is never committed": (
        "with create_engine(url).connect() as c:\n    c.exec_driver_sql('SELECT 1')\n    run(c)",
        None,
    ),
    "a rollback": (
        "c = config.attributes['connection']\nrun(c)\nc.exec_driver_sql('DELETE FROM book')\nc.rollback()",
        None,
    ),
}


@pytest.mark.parametrize("env", FAILURES)
def test_an_env_py_that_fails_leaves_the_database_as_it_was(env: str, project: Project, old: Path) -> None:
    """Also after the last revision, and also by ``sys.exit``: the program goes on, the file is the same."""
    source, cause = FAILURES[env]
    project.env(HEAD + source)
    before = files(old.parent)
    with pytest.raises(MigrationFailed) as caught:
        project.located().upgrade(old, backup=None)
    assert caught.value.restored
    assert cause is None or isinstance(caught.value.__cause__, cause)
    assert files(old.parent) == before


@pytest.mark.parametrize("shape", ["printed", "every one"])
def test_an_env_py_that_swallows_errors_does_not_hide_a_failed_revision(
    shape: str, project: Project, old: Path
) -> None:
    """Plain Alembic exits with 0 and the wrong heads; here it is an error with the revision's name."""
    project.revision("d4", "c3", "op.execute('INSERT INTO nowhere VALUES (1)')")
    source = {
        "printed": "try:\n    run(config.attributes['connection'])\nexcept Exception as error:\n    print(error)\n",
        "every one": "try:\n    run(config.attributes['connection'])\nexcept BaseException:\n    pass\n",
    }
    project.env(HEAD + source[shape])
    before = files(old.parent)
    with pytest.raises(MigrationFailed) as caught:
        project.located().upgrade(old, backup=None)
    assert caught.value.failed == "d4"
    assert caught.value.restored
    assert files(old.parent) == before


PRIVATE_WAYS = {
    "an engine with a creator": """
        def creator():
            return sqlite3.connect(url[10:], timeout=0)
        with create_engine("sqlite://", creator=creator, poolclass=pool.NullPool).connect() as connection:
            run(connection)
    """,
    "a connection of sqlite3": """
        raw = sqlite3.connect(url[10:], timeout=0)
        try:
            with create_engine("sqlite://", creator=lambda: raw, poolclass=pool.StaticPool).connect() as connection:
                run(connection)
        finally:
            raw.close()
    """,
    "a thread": """
        from concurrent.futures import ThreadPoolExecutor
        def work():
            with create_engine(url, poolclass=pool.NullPool, connect_args={"timeout": 0}).connect() as connection:
                run(connection)
        with ThreadPoolExecutor() as executor:
            executor.submit(work).result()
    """,
}


@pytest.mark.parametrize("env", PRIVATE_WAYS)
def test_an_env_py_that_opens_the_file_past_sqlalchemy_is_refused(env: str, project: Project, old: Path) -> None:
    """A connection that cannot be held in the upgrade's one transaction is refused before anything is changed."""
    project.env(HEAD + dedented(PRIVATE_WAYS[env]))
    before = files(old.parent)
    with pytest.raises(EnvironmentIgnoredDatabase):
        project.located().upgrade(old, backup=None)
    assert files(old.parent) == before


# The host's process.

DISTURBANCES = {
    "chdir": "import os\nos.chdir(os.path.dirname(os.path.abspath(__file__)))",
    "sys.path": "import sys, os\nsys.path.insert(0, os.path.dirname(__file__))\nsys.path.append('.')",
    "sys.path replaced": "import sys\nsys.path = ['x', *sys.path]",
    "sys.argv": "import sys\nsys.argv[:] = ['alembic', 'upgrade']",
    "sys.argv replaced": "import sys\nsys.argv = ['alembic', 'upgrade']",
    "dont_write_bytecode": "import sys\nsys.dont_write_bytecode = False",
    "basicConfig": "import logging\nlogging.basicConfig(level=logging.DEBUG)",
    "basicConfig with force": "import logging\nlogging.basicConfig(level=logging.DEBUG, force=True)",
    "fileConfig": "from logging.config import fileConfig\nfileConfig(config.config_file_name)",
    "fileConfig of a module": "import logging.config\nlogging.config.fileConfig(config.config_file_name)",
    "dictConfig": "import logging.config\nlogging.config.dictConfig({'version': 1, 'root': {'level': 'DEBUG'}})",
    "dictConfig of the application": "import sys\nsys.modules['logging_of_the_application'].configure()",
    "levels": "import logging\nlogging.getLogger('host').setLevel(1)\nlogging.getLogger().setLevel(2)",
    "disable": "import logging\nlogging.disable(logging.CRITICAL)",
    "a handler": "import logging, sys\nlogging.getLogger().addHandler(logging.StreamHandler(sys.stderr))",
    "removed handlers": "import logging\nlogging.getLogger().handlers.clear()",
    "a disabled logger": "import logging\nlogging.getLogger('host').disabled = True",
    "a filter": "import logging\nlogging.getLogger('host').addFilter(lambda record: False)",
}

LOGGING_INI = """
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys =
[logger_root]
level = DEBUG
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
"""


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
@pytest.mark.parametrize("env", DISTURBANCES)
def test_the_process_is_as_before(  # noqa: PLR0913, PLR0917 - fixtures
    env: str, fails: bool, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host_log: Path
) -> None:
    """Directory, ``sys.path``, ``sys.argv`` and logging; the host's log file still gets what the host logs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "logging_of_the_application", _application_logging())
    project.ini(rest=LOGGING_INI)
    project.env(HEAD + DISTURBANCES[env] + "\nrun(config.attributes['connection'])\n" + "1 / 0" * fails)
    before = process_state()
    if fails:
        with pytest.raises(MigrationFailed, match="ZeroDivisionError"):
            project.located().upgrade(tmp_path / "new.db")
    else:
        project.located().upgrade(tmp_path / "new.db")
    assert process_state() == before
    logging.getLogger("host").warning("still here")
    assert host_log.read_text() == "still here\n"


def _application_logging() -> Any:
    """An application's own module that has imported ``dictConfig`` by name."""
    from types import ModuleType

    module = ModuleType("logging_of_the_application")
    source = "from logging.config import dictConfig\ndef configure():\n    dictConfig({'version': 1})\n"
    exec(source, module.__dict__)
    return module


@pytest.fixture
def host_log(tmp_path: Path) -> Iterator[Path]:
    """A host that logs into a file, written anew at each start."""
    path = tmp_path / "host.log"
    handler = logging.FileHandler(path, mode="w")
    logger = logging.getLogger("host")
    logger.addHandler(handler)
    yield path
    logger.removeHandler(handler)
    handler.close()
    logging.disable(logging.NOTSET)


def process_state() -> dict[str, Any]:
    """Return what an env.py written for the alembic command changes."""
    loggers = [logging.getLogger(name) for name in (None, "host", "alembic", "sqlalchemy")]
    return {
        "folder": Path.cwd(),
        "path": (id(sys.path), list(sys.path)),
        "argv": (id(sys.argv), list(sys.argv)),
        "bytecode": sys.dont_write_bytecode,
        "disable": logging.root.manager.disable,
        "loggers": [(one.level, one.disabled, one.propagate, one.handlers[:], one.filters[:]) for one in loggers],
        "configuring": (logging.config.fileConfig, logging.config.dictConfig),
    }


@pytest.mark.parametrize("ini", [False, True], ids=["without an ini", "with an ini"])
def test_an_unconditional_file_config_does_no_harm(ini: bool, project: Project, tmp_path: Path) -> None:
    """Older templates call ``fileConfig`` without asking whether there is an ini."""
    if ini:
        project.ini(rest=LOGGING_INI)
    project.env(
        "from logging.config import fileConfig\nfrom alembic import context\n"
        "fileConfig(context.config.config_file_name)\n" + ENV
    )
    assert project.located().upgrade(tmp_path / "new.db").applied == ("a1", "b2", "c3")


def test_upgrading_writes_nothing_into_the_tree(project: Project, tmp_path: Path) -> None:
    """Not even where env.py switches compiled files on; ``status``, ``plan``, ``sql`` and ``verify`` neither."""
    project.write("migrations/helpers.py", "answer = 42\n")
    project.ini("prepend_sys_path = .")
    project.env("import migrations.helpers\n" + ENV)
    before = files(project.root)
    migrations = project.located()
    migrations.verify()
    migrations.status(tmp_path / "new.db")
    assert len(migrations.plan(tmp_path / "new.db")) == 3
    assert "CREATE TABLE book" in migrations.sql(tmp_path / "new.db")
    migrations.upgrade(tmp_path / "new.db")
    assert files(project.root) == before


# The version table.

VERSION_TABLES = {
    "literal": ("'my_version'", ""),
    "a name": ("TABLE", ""),
    "an option with a default": ("config.get_main_option('table', 'my_version')", ""),
    "an option that is set": ("config.get_main_option('table')", "table = my_version"),
    "an option of the section": ("config.get_section('alembic')['table']", "table = my_version"),
    "computed": ("'_'.join(['my', 'version'])", ""),
    "from a helper": ("__import__('helpers').table_of('my')", "prepend_sys_path = %(here)s/migrations"),
}


@pytest.mark.parametrize("case", VERSION_TABLES)
def test_the_version_table_is_the_one_env_py_configures(case: str, project: Project, tmp_path: Path) -> None:
    """However env.py says it: the state is read from the table that an upgrade writes."""
    expression, option = VERSION_TABLES[case]
    project.write("migrations/helpers.py", "def table_of(name):\n    return f'{name}_version'\n")
    project.ini(option)
    project.env(
        ENV.replace("config = ", "TABLE = 'my_version'\nconfig = ").replace(
            "connection=connection", f"connection=connection, version_table={expression}"
        )
    )
    database = tmp_path / "new.db"
    migrations = project.located()
    migrations.upgrade(database, "a1")
    assert versions(database, "my_version") == ["a1"]
    assert migrations.manifest.version_table == "my_version"
    assert migrations.status(database).state is State.BEHIND
    migrations.upgrade(database)
    assert migrations.status(database).state is State.CURRENT
    assert dump(database) == project.plain(tmp_path / "plain.db")


# What `db` may be.


def engine_of(path: Path) -> Any:
    return create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)


DATABASES: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "Path": lambda path: path,
    "url text": lambda path: f"sqlite:///{path}",
    "url with its driver": lambda path: f"sqlite+pysqlite:///{path}",
    "URL": lambda path: URL.create("sqlite", database=str(path)),
    "Engine": engine_of,
    "relative": os.path.relpath,
    "relative url": lambda path: f"sqlite:///{os.path.relpath(path)}",
}


@pytest.mark.parametrize("kind", DATABASES)
def test_a_database_may_be_given_as(
    kind: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file whatever names it, also relative to the host's directory while env.py goes to another."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    project.env("import os\nos.chdir('/')\n" + ENV)
    path = tmp_path / "data.db"
    migrations = project.located()
    db = DATABASES[kind](path)
    assert migrations.status(db).state is State.NEW
    assert migrations.upgrade(db).applied == ("a1", "b2", "c3")
    assert migrations.status(db).state is State.CURRENT
    assert dump(path) == project.plain(tmp_path / "plain.db")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("env", ["a connection is required", "an engine of its own", "engine.begin()"])
@pytest.mark.parametrize("given", ["engine", "connection", "connection with its transaction"])
def test_a_database_in_memory_can_be_lent(given: str, env: str, project: Project, tmp_path: Path) -> None:
    """An Engine of one shared connection, or a Connection, is what env.py gets, and stays open."""
    project.env(HEAD + dedented(ENVIRONMENTS[env]))
    engine = create_engine("sqlite://", poolclass=StaticPool)
    migrations = project.located()
    with engine.connect() as connection:
        if given.endswith("transaction"):
            connection.exec_driver_sql("SELECT 1")
        db = engine if given == "engine" else connection
        assert migrations.status(db).state is State.NEW
        assert migrations.upgrade(db).applied == ("a1", "b2", "c3")
        assert migrations.status(db).state is State.CURRENT
        rows = connection.execute(text("SELECT id, title FROM book ORDER BY id")).all()
        if connection.in_transaction():
            connection.commit()
    assert [tuple(row) for row in rows] == [(1, "one"), (2, "two")]
    with closing(engine.raw_connection()) as raw, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        raw.driver_connection.backup(copy)
    engine.dispose()
    assert dump(tmp_path / "copy.db") == project.plain(tmp_path / "plain.db", lend=True)


@pytest.mark.parametrize("given", ["engine", "connection"])
@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///relative.db",
        "sqlite:///file:uri.db?uri=true",
        "sqlite:///file:shared?mode=memory&cache=shared&uri=true",
    ],
)
def test_a_lent_database_may_have_any_url(
    url: str, given: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that env.py makes from the URL it is given leads to the connection that was lent."""
    monkeypatch.chdir(tmp_path)
    engine = create_engine(url, poolclass=StaticPool)
    with engine.connect() as connection:
        db = engine if given == "engine" else connection
        assert project.located().upgrade(db).applied == ("a1", "b2", "c3")
        assert project.located().status(db).state is State.CURRENT
    engine.dispose()


def test_a_lent_transaction_is_its_hosts_to_end(project: Project, old: Path) -> None:
    """What an upgrade did inside the host's transaction goes when the host rolls back."""
    before = dump(old)
    with engine_of(old).connect() as connection:
        with connection.begin() as transaction:
            connection.exec_driver_sql("INSERT INTO book (id, name) VALUES (9, 'nine')")
            assert project.located().upgrade(connection).applied == ("c3",)
            transaction.rollback()
        assert project.located().status(connection).state is State.BEHIND
    assert dump(old) == before


FAILS = 'op.execute("CREATE TABLE half (x)")\nraise RuntimeError("no")'
TAKES_LONG = (
    'op.execute("CREATE TABLE long AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 99999999)'
    ' SELECT count(x) FROM n")'
)


@pytest.mark.parametrize("given", ["engine", "connection", "connection with its transaction"])
def test_a_failed_upgrade_of_a_lent_database_is_undone(given: str, project: Project) -> None:
    """Also inside the host's transaction, which keeps what the host did in it; and the error says so."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    project.located().upgrade(engine, "b2")
    project.revision("d4", "c3", FAILS)
    with engine.connect() as connection:
        if given.endswith("transaction"):
            connection.exec_driver_sql("INSERT INTO book (id, name) VALUES (9, 'nine')")
        with pytest.raises(MigrationFailed, match="The database is as it was before") as caught:
            project.located().upgrade(engine if given == "engine" else connection)
        assert (caught.value.applied, caught.value.failed, caught.value.restored) == ((), "d4", True)
        connection.commit()
        tables = set(connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")))
        assert tables == {"alembic_version", "book", "note"}
        assert len(connection.scalars(text("SELECT id FROM book")).all()) == 2 + given.endswith("transaction")
    assert project.located().status(engine).current == ("b2",)
    engine.dispose()


@pytest.mark.parametrize("given", ["engine", "connection"])
def test_a_long_statement_of_a_lent_database_is_cancelled_within_a_second(given: str, project: Project) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    project.located().upgrade(engine, "b2")
    project.revision("d4", "c3", TAKES_LONG)
    stop_at = time.monotonic() + 1
    with engine.connect() as connection:
        db = engine if given == "engine" else connection
        with pytest.raises(UpgradeCancelled) as caught:
            project.located().upgrade(db, cancel=lambda: time.monotonic() > stop_at)
    assert time.monotonic() < stop_at + 1
    assert (caught.value.applied, caught.value.restored) == ((), True)
    assert project.located().status(engine).current == ("b2",)
    engine.dispose()


NAMES = [
    "with space",
    "100%",
    "%20",
    "what?",
    "a#b",
    "Zoë Übung",
    "semi;colon",
    "plus+at@x",
    "it's",
    "%(here)s",
    "日本",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_may_hold(name: str, project: Project, tmp_path: Path) -> None:
    """What file names of users and folders of applications hold: in the database's path and in the scripts'."""
    folder = tmp_path / name
    folder.mkdir()
    with project_in(folder / "app") as here:
        here.line().ini("prepend_sys_path = .")
        migrations = here.located()
        path = folder / f"{name}.db"
        assert migrations.upgrade(path).applied == ("a1", "b2", "c3")
        assert migrations.status(path).state is State.CURRENT
        assert dump(path) == project.plain(tmp_path / "plain.db")
        with compiling(False):
            command.heads(migrations.alembic_config(path))
    assert sorted(one.name for one in folder.iterdir()) == sorted([f"{name}.db", "app"])


def test_a_program_without_console_can_upgrade_and_ask(project: Project, tmp_path: Path) -> None:
    """In a windowed application ``sys.stdout`` and ``sys.stderr`` are None."""
    program = """
import sys
import time
sys.stdout = sys.stderr = None
import freezekit
from alembic import command
migrations = freezekit.locate(sys.argv[1])
applied = migrations.upgrade(sys.argv[2]).applied
config = migrations.alembic_config(sys.argv[2])
sys.dont_write_bytecode = True
for one in (command.heads, command.history, command.current, command.branches):
    one(config)
sys.stdout = sys.__stdout__
print(applied, migrations.status(sys.argv[2]).state.value)
"""
    project.ini(rest=LOGGING_INI)
    project.env(
        "from logging.config import fileConfig\nfrom alembic import context\n"
        "fileConfig(context.config.config_file_name)\n" + ENV
    )
    answer = run_python(program, project.migrations, tmp_path / "new.db")
    assert answer == "('a1', 'b2', 'c3') current\n"


def test_engines_of_other_threads_are_left_alone(project: Project, tmp_path: Path) -> None:
    """While an upgrade runs, the host's own engines connect to what they name."""
    other = tmp_path / "other.db"
    seen = []

    def ask(_progress: object) -> None:
        from threading import Thread

        def work() -> None:
            with engine_of(other).connect() as connection:
                seen.append(connection.exec_driver_sql("PRAGMA database_list").all()[0][2])

        thread = Thread(target=work)
        thread.start()
        thread.join()

    project.located().upgrade(tmp_path / "new.db", on_progress=ask)
    assert len(seen) >= 4
    assert set(seen) == {str(other)}


def test_engines_of_later_connect_by_themselves(project: Project, tmp_path: Path) -> None:
    """After an upgrade, and after a failed one."""
    project.located().upgrade(tmp_path / "new.db")
    project.env("1 / 0")
    with pytest.raises(MigrationFailed):
        project.located().upgrade(tmp_path / "failed.db")
    with engine_of(tmp_path / "new.db").connect() as connection:
        assert type(connection.connection.dbapi_connection) is sqlite3.Connection
