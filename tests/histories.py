"""Tiny Alembic projects, written for one test each, and plain Alembic to compare with."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import sqlite3
import sys
import warnings
from argparse import Namespace
from contextlib import closing
from pathlib import Path
from textwrap import dedent, indent
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

import freezekit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from freezekit import Migrations

ENV = """
from alembic import context
from sqlalchemy import engine_from_config, pool

config = context.config
section = config.get_section(config.config_ini_section, {})
engine = engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


class Project:
    """A folder with an Alembic history: ``alembic.ini`` if one is written, ``migrations/env.py``, and revisions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.migrations = root / "migrations"
        if not self.migrations.exists():
            self.write("migrations/env.py", ENV)
        (self.migrations / "versions").mkdir(exist_ok=True)

    def write(self, name: str, text: str) -> Path:
        """Write a file; its indentation is removed."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def env(self, text: str) -> None:
        """Replace env.py."""
        self.write("migrations/env.py", text)

    def ini(self, options: str = "", rest: str = "") -> None:
        """Write an alembic.ini with options of its section, and other sections."""
        head = "[alembic]\nscript_location = %(here)s/migrations\n"
        self.write("alembic.ini", head + dedent(options) + "\n" + dedent(rest))

    def revision(  # noqa: PLR0913 - what a revision consists of
        self,
        revision: str,
        down_revision: object = None,
        body: str = "pass",
        *,
        file: str | None = None,
        folder: str = "migrations/versions",
        head: str = "",
        **attributes: object,
    ) -> Path:
        """Write a revision; ``body`` is that of ``upgrade()``, ``head`` comes before the attributes."""
        lines = [f"{name} = {value!r}" for name, value in attributes.items()]
        text = [f'"""{revision}."""', "import sqlalchemy as sa", "from alembic import op", dedent(head)]
        text += [f"revision = {revision!r}", f"down_revision = {down_revision!r}", *lines]
        text += ["def upgrade():", indent(dedent(body).strip(), "    "), "def downgrade():", "    pass", ""]
        return self.write(f"{folder}/{file or f'{revision}_.py'}", "\n".join(text))

    def table(self, revision: str, down_revision: object = None, **options: Any) -> Path:
        """Write a revision that creates a table named after it, with one row."""
        name = "t_" + "".join(letter if letter.isalnum() else "_" for letter in revision)
        body = f"""
            table = op.create_table({name!r}, sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", sa.Text))
            op.bulk_insert(table, [{{"id": 1, "x": {revision!r}}}])
        """
        return self.revision(revision, down_revision, body, **options)

    def line(self) -> Project:
        """Write three revisions in a line: tables with a foreign key, rows, and the rebuild of the parent table."""
        self.revision(
            "a1",
            None,
            """
            op.create_table("book", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
            book = sa.ForeignKey("book.id", ondelete="CASCADE")
            op.create_table("note", sa.Column("id", sa.Integer, primary_key=True), sa.Column("book", sa.Integer, book))
            """,
        )
        self.revision(
            "b2",
            "a1",
            """
            op.execute("INSERT INTO book (id, name) VALUES (1, 'one'), (2, 'two')")
            op.execute("INSERT INTO note (id, book) VALUES (1, 1), (2, 2), (3, 2)")
            """,
        )
        self.revision(
            "c3",
            "b2",
            """
            with op.batch_alter_table("book", recreate="always") as batch:
                batch.alter_column("name", new_column_name="title", nullable=False)
            """,
        )
        return self

    def located(self, **options: Any) -> Migrations:
        """Return the migrations as an application gets them."""
        return freezekit.locate(self.migrations, **options)

    def plain(self, database: Path, *targets: str, **options: Any) -> dict[str, Any]:
        """Upgrade a database with plain Alembic, from a copy of the project; return the dump of the result."""
        copy = self.root.parent / "plain" / self.root.name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.root, copy, symlinks=True)
        with compiling(False):
            plain_upgrade(copy, database, *targets, **options)
        return dump(database)


def plain_upgrade(  # noqa: PLR0913 - what a command line has
    root: Path,
    database: Path,
    *targets: str,
    section: str = "alembic",
    lend: bool = False,
    x_arguments: Mapping[str, str] | None = None,
    driver: str = "",
) -> None:
    """Do what ``alembic upgrade`` does in a project's folder, and leave this process as it was."""
    ini, toml = root / "alembic.ini", root / "pyproject.toml"
    written = {"file_": ini, "toml_file": toml}
    config = Config(**{key: str(path) for key, path in written.items() if path.exists()}, ini_section=section)
    if not (ini.exists() or toml.exists()):
        config.set_main_option("script_location", str(root / "migrations").replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", f"sqlite{driver}:///{database}".replace("%", "%%"))
    if x_arguments is not None:
        config.cmd_opts = Namespace(x=[f"{name}={value}" for name, value in x_arguments.items()])
    with process_of_its_own(root), contextlib.ExitStack() as stack:
        if lend:
            engine = create_engine(f"sqlite:///{database}", poolclass=NullPool)
            config.attributes["connection"] = stack.enter_context(engine.connect())
        warnings.simplefilter("ignore")
        for target in targets or ("heads",):
            command.upgrade(config, target)


@contextlib.contextmanager
def process_of_its_own(folder: Path) -> Iterator[None]:
    """Run something in a folder; what it does to the process ends with it."""
    here, path, argv = Path.cwd(), list(sys.path), list(sys.argv)
    loggers = [logging.root, *(one for one in logging.root.manager.loggerDict.values() if hasattr(one, "handlers"))]
    kept = [(one, one.level, one.disabled, one.handlers[:]) for one in loggers]
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.chdir(here)
        sys.path[:], sys.argv[:] = path, argv
        if sys.version_info >= (3, 13):
            _collect_connections()
        for logger, level, disabled, handlers in kept:
            logger.disabled, logger.handlers[:] = disabled, handlers
            logger.setLevel(level)
        forget_modules(folder)


def _collect_connections() -> None:
    """Forget the pools that an env.py, written for a process of its own, did not dispose of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def forget_modules(folder: Path) -> None:
    """Make Python import a project's modules again: the next project has others of the same names."""

    def is_inside(module: object) -> bool:
        places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", []))]
        return any(place.startswith(str(folder)) for place in places)

    for name in [name for name, module in list(sys.modules.items()) if is_inside(module)]:
        del sys.modules[name]


@contextlib.contextmanager
def project_in(folder: Path) -> Iterator[Project]:
    """Yield an empty project; afterwards nothing may have been compiled into it, or changed in the process."""
    with compiling(True):
        before = Path.cwd(), list(sys.path), list(sys.argv), sys.dont_write_bytecode
        project = Project(folder)
        yield project
        forget_modules(folder)
        assert (Path.cwd(), sys.path, sys.argv, sys.dont_write_bytecode) == before
        assert list(folder.rglob("__pycache__")) == []


@contextlib.contextmanager
def compiling(wanted: bool) -> Iterator[None]:
    """Let Python write compiled files or not, whatever its environment says; Alembic's own commands do."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = not wanted
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def dump(database: Path) -> dict[str, Any]:
    """Return all tables of a database with columns, keys, indexes and rows; the file is only read."""
    found: dict[str, Any] = {}
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            questions = [f'SELECT * FROM "{name}"', f'PRAGMA table_info("{name}")']
            questions += [f'PRAGMA foreign_key_list("{name}")', f'PRAGMA index_list("{name}")']
            found[name] = [sorted(connection.execute(question), key=repr) for question in questions]
    return found


def versions(database: Path, table: str = "alembic_version") -> list[str]:
    """Return the rows of a version table."""
    return [row[0] for row in dump(database)[table][0]]


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
