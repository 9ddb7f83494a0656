"""Run env.py and the pending revisions with Alembic: the one module of the runtime that imports it.

Alembic builds its revision map by executing every revision file. Here the map comes from the manifest, and only the
revisions that run are read, checked against their digest, compiled in memory and executed; nothing is written beside
them. env.py is executed as it is and gets its database in every way it may ask for one: the URL in the options, a
connection in ``config.attributes``, and, for an SQLite file, any engine of its own that leads to that file.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
from argparse import Namespace
from collections import UserDict
from configparser import DEFAULTSECT
from dataclasses import replace
from functools import lru_cache
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import Revision as AlembicRevision
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Engine, event

from freezekit.errors import (
    EnvironmentIgnoredDatabase,
    FreezekitError,
    InvalidMigrations,
    MigrationFailed,
    NotADatabase,
    UpgradeCancelled,
    UsageError,
)
from freezekit.manifest import digest
from freezekit.runtime.database import shown_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from freezekit.manifest import Manifest, Revision
    from freezekit.tree import FolderTree

_ASK_SECONDS = 0.05


class _Turn:
    """`alembic.context` is one object for the whole process, so threads take turns at running an env.py."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None

    @contextlib.contextmanager
    def taken(self, database: str, cancelled: Callable[[], object] = bool) -> Iterator[None]:
        """Wait until no other thread runs an env.py, and keep them waiting for the duration of a block.

        Args:
            database: Its name, for messages.
            cancelled: Asked now and then while waiting.

        Raises:
            UpgradeCancelled: ``cancelled`` said so.
            UsageError: This thread runs an env.py already, which could not go on afterwards.
        """
        if self._thread == threading.get_ident():
            raise UsageError(
                f"The scripts cannot run for {database} inside another upgrade, that is in its env.py, in a revision "
                "or in on_progress: begin before it, or afterwards."
            )
        while not self._lock.acquire(timeout=_ASK_SECONDS):
            if cancelled():
                raise UpgradeCancelled(database)
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._thread = None
            self._lock.release()


turn = _Turn()


def build_config(
    tree: FolderTree,
    manifest: Manifest,
    url: str | None = None,
    *,
    connect: Callable[[], object] | None = None,
    x_arguments: Mapping[str, str | Sequence[str]] | None = None,
) -> Config:
    """Return a Config that every ``alembic.command`` accepts, wherever the program is and whatever is its directory.

    Args:
        tree: The scripts, in a real folder.
        manifest: What they are.
        url: Goes to ``sqlalchemy.url``; percent signs are escaped here.
        connect: Makes what is in ``config.attributes["connection"]``, once that is asked for.
        x_arguments: What ``context.get_x_argument`` returns, as ``-x name=value`` would give it.
    """
    stdout = sys.stdout if sys.stdout is not None else io.StringIO()
    ini = tree.path(manifest.ini) if manifest.ini else None
    config = Config(ini, ini_section=manifest.section, stdout=stdout)
    if ini is None:
        for name, value in manifest.options.items():
            _set(config, name, value)
    # Alembic puts the folder of the ini there without escaping it.
    defaults = config.file_config[DEFAULTSECT]
    defaults["here"] = config.file_config.defaults()["here"].replace("%", "%%")
    locations = [tree.path(name) for name in manifest.version_locations]
    separator = "newline" if any(os.pathsep in path for path in locations) else "os"
    _set(config, "script_location", tree.root)
    _set(config, "path_separator", separator)
    _set(config, "version_path_separator", separator)
    _set(config, "version_locations", {"os": os.pathsep, "newline": "\n"}[separator].join(locations))
    _set(config, "recursive_version_locations", str(manifest.recursive_version_locations).lower())
    _set(config, "prepend_sys_path", "")
    if url is not None:
        _set(config, "sqlalchemy.url", url)
    if connect is not None:
        config.attributes = _Attributes(connect)
    if x_arguments is not None:
        config.cmd_opts = Namespace(x=list(_as_options(x_arguments)))
    return config


class _Attributes(UserDict[str, Any]):
    """What env.py finds in ``config.attributes``; few ask for the connection, which is made for those that do."""

    def __init__(self, connect: Callable[[], object]) -> None:
        self._connect: Callable[[], object] | None = None
        super().__init__(connection=None)
        self._connect = connect

    def __getitem__(self, name: str) -> Any:
        if name == "connection" and self._connect is not None:
            connect, self._connect = self._connect, None
            self.data[name] = connect()
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "connection":
            self._connect = None
        super().__setitem__(name, value)


def _set(config: Config, name: str, value: str) -> None:
    config.set_main_option(name, value.replace("%", "%%"))


def _as_options(x_arguments: Mapping[str, str | Sequence[str]]) -> Iterator[str]:
    for name, value in x_arguments.items():
        for one in (value,) if isinstance(value, str) else value:
            yield f"{name}={one}"


class _ManifestScript(Script):
    """A revision whose file is executed when it is about to run."""

    def __init__(self, tree: FolderTree, record: Revision, loaded: dict[str, ModuleType]) -> None:
        self._tree = tree
        self._record = record
        self._loaded = loaded
        AlembicRevision.__init__(
            self,
            record.revision,
            record.down_revision,
            branch_labels=record.branch_labels,
            dependencies=record.depends_on,
        )

    @property
    def path(self) -> str:  # type: ignore[override]
        """Where the script is."""
        return self._tree.path(self._record.file)

    @property
    def module(self) -> ModuleType:  # type: ignore[override]
        """The executed script."""
        if self.revision not in self._loaded:
            self._loaded[self.revision] = _execute(self._tree, self._record.file, self._record.sha256)
        return self._loaded[self.revision]

    @property
    def longdoc(self) -> str:
        """The docstring's first line, which the manifest has; the script is not executed for it."""
        return self._record.doc


class ManifestScripts(ScriptDirectory):
    """The scripts of a manifest, as Alembic sees them; none is executed before it runs.

    Args:
        tree: Where they are.
        manifest: What they are.
        ahead: What was made of the same scripts before, for databases at one revision: see :meth:`ahead_of`.
    """

    def __init__(self, tree: FolderTree, manifest: Manifest, ahead: dict[str, ManifestScripts] | None = None) -> None:
        super().__init__(
            tree.root,
            version_locations=[tree.path(name) for name in manifest.version_locations],
            recursive_version_locations=manifest.recursive_version_locations,
        )
        self._tree = tree
        self._manifest = manifest
        self._ahead = {} if ahead is None else ahead
        self._loaded: dict[str, ModuleType] = {}
        self._orders: dict[tuple[tuple[str, ...], str], list[Script]] = {}

    def _load_revisions(self) -> Iterator[Script]:
        return (_ManifestScript(self._tree, record, self._loaded) for record in self._manifest.revisions)

    def run_env(self) -> None:
        """Execute env.py."""
        _execute(self._tree, "env.py", self._manifest.files.get("env.py"))

    def between(self, database: str, current: Sequence[str], revision: str) -> tuple[str, ...]:
        """Return the ids of the revisions an upgrade of a database to a target runs, in order; executes none.

        Raises:
            UsageError: The target is unknown or ambiguous.
            NotADatabase: The revisions the database is at contradict each other.
        """
        if not revision:
            raise UsageError("The target of an upgrade is empty: give 'heads', or a revision.")
        try:
            with self._catch_revision_errors(end=revision):
                steps = self.ahead_of(current, revision).revision_map.iterate_revisions(
                    revision, tuple(current), implicit_base=True
                )
                return tuple(script.revision for script in reversed(list(steps)))
        except (CommandError, AssertionError) as error:  # Alembic only asserts that "" is no target
            if type(error.__cause__) is RevisionError and "overlaps" in str(error):
                raise NotADatabase(database, f"its version table contradicts itself ({error})") from error
            raise UsageError(f"{revision!r} is no target for an upgrade: {error}") from error

    def ahead_of(self, current: Sequence[str], revision: str) -> ManifestScripts:
        """Return what an upgrade needs of the scripts: of a database with one line behind it, not that line.

        Alembic's map of all revisions takes longer to build than one of them to run, so it is made once for all
        databases at the same revision.
        """
        if revision != "heads" or len(current) != 1 or current[0] not in self._manifest.by_id:
            return self
        (here,) = current
        if here not in self._ahead:
            self._ahead[here] = self._without_what_is_behind(here)
        return self._ahead[here]

    def _without_what_is_behind(self, current: str) -> ManifestScripts:
        manifest = self._manifest
        pending = set(manifest.pending((current,)))
        kept = [one for one in manifest.revisions if one.revision in pending]
        if not {*pending, current}.issuperset(id_ for one in kept for id_ in one.down_revision + one.depends_on):
            return self
        here = replace(manifest.by_id[current], down_revision=(), depends_on=())
        return ManifestScripts(self._tree, replace(manifest, revisions=(here, *kept)))

    def steps(self, heads: tuple[str, ...], revision: str) -> list[RevisionStep]:
        """Return what ``alembic upgrade`` would do; each script of it was executed for this upgrade."""
        scripts = self.ahead_of(heads, revision)
        scripts._loaded.clear()  # noqa: SLF001 - of the same class
        return scripts._steps(heads, revision)  # noqa: SLF001 - of the same class

    def _steps(self, heads: tuple[str, ...], revision: str) -> list[RevisionStep]:
        if (heads, revision) not in self._orders:
            steps = self._upgrade_revs(revision, heads)  # type: ignore[arg-type]  # as command.upgrade
            self._orders[heads, revision] = [step.revision for step in steps]
            return steps
        order = self._orders[heads, revision]
        return [RevisionStep.upgrade_from_script(self.revision_map, script) for script in order]

    def stamp(self, connection: Connection, revisions: Sequence[str], version_table: str) -> None:
        """Write into the version table that a database is at these revisions."""
        context = MigrationContext.configure(connection, opts={"version_table": version_table})
        context.stamp(self, tuple(revisions))  # type: ignore[arg-type]
        connection.commit()


def _execute(tree: FolderTree, name: str, sha256: str | None) -> ModuleType:
    """Execute a script in a new module, as Alembic's loader would, without reading or writing compiled files."""
    where = tree.path(name)
    module = ModuleType(re.sub(r"\W", "_", os.path.basename(name)))
    module.__file__ = where
    exec(_compiled(tree, name, sha256, where), module.__dict__)  # noqa: S102 - running scripts is what this is for
    return module


def _compiled(tree: FolderTree, name: str, sha256: str | None, where: str) -> CodeType:
    try:
        return _compiled_once(tree.read(name), sha256, tree.root, where)
    except OSError as error:
        raise InvalidMigrations(tree.root, [f"{where} cannot be read: {error.strerror or error}"]) from error


@lru_cache(maxsize=64)
def _compiled_once(source: bytes, sha256: str | None, root: str, where: str) -> CodeType:
    """Compile a script that is the one that was shipped; one process may upgrade many databases with it."""
    if sha256 is not None and digest(source) != sha256:
        raise InvalidMigrations(root, [f"{where} is not the file that was shipped: its content was altered"])
    try:
        return compile(source, where, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise InvalidMigrations(root, [f"{where}: {error}"]) from error


class Target:
    """The database env.py must use, and how to tell that it does; ``options`` overrule env.py's own."""

    options: Mapping[str, object] = {}

    def url(self, driver: str | None) -> str:
        """Return the URL env.py is given, for the driver it needs or the default one."""
        raise NotImplementedError

    def leads_here(self, url: Any, arguments: Sequence[Any]) -> bool:
        """Return whether an engine with this URL and these connect arguments is for the target."""
        raise NotImplementedError

    def connect(self) -> Any:
        """Return the DBAPI connection an engine for the target is given; None lets it connect by itself."""
        return None

    def is_ours(self, connection: Any) -> bool:
        """Return whether this SQLAlchemy connection is one to the target."""
        raise NotImplementedError

    def configured(self, context: MigrationContext) -> None:
        """Learn with what connection and options env.py will run the revisions."""


class Run:
    """One run of env.py: what it was asked, and what it did.

    Attributes:
        planned: Ids of the revisions that were to run, in order; None until env.py asked for them.
        applied: Ids of those that ran.
        current: The revision that is running, or None.
        elsewhere: What env.py connected to instead of its database, or None.
        version_table: The version table env.py configured, None until it did.
    """

    def __init__(self, scripts: ManifestScripts, revision: str, on_step: Callable[[Run], None]) -> None:
        self.scripts = scripts
        self.revision = revision
        self.planned: tuple[str, ...] | None = None
        self.applied: tuple[str, ...] = ()
        self.current: str | None = None
        self.elsewhere: str | None = None
        self.version_table: str | None = None
        self._on_step = on_step

    def steps(self, heads: tuple[str, ...], _context: MigrationContext) -> Iterator[RevisionStep]:
        """Yield the steps to Alembic; every script is loaded before the first of them runs."""
        steps = self.scripts.steps(heads, self.revision)
        self.planned = tuple(step.revision.revision for step in steps)
        self.applied = ()
        for step in steps:
            self.current = step.revision.revision
            self._on_step(self)
            yield step
            self.applied += (self.current,)
        self.current = None
        self._on_step(self)


def run_env(config: Config, run: Run, target: Target, database: str) -> None:
    """Execute env.py so that it upgrades its database; what it raises is passed on.

    Args:
        config: From :func:`build_config`.
        run: What is to be done; says afterwards what was done.
        target: The database.
        database: Its name, for messages.
    """
    environment = EnvironmentContext(config, run.scripts, fn=run.steps, destination_rev=run.revision)
    # `alembic.context` passes each call on to the instance; a subclass it would not know.
    environment.configure = _checked(environment, run, target, database)  # type: ignore[method-assign]
    with _engines_led(run, target, database), environment:
        run.scripts.run_env()


def _checked(environment: EnvironmentContext, run: Run, target: Target, database: str) -> Callable[..., None]:
    """Return a ``context.configure`` that refuses a connection to another database."""
    configure_as_asked = environment.configure

    def configure(connection: Any = None, *others: Any, **options: Any) -> None:
        if connection is not None and not target.is_ours(connection):
            run.elsewhere = shown_url(connection.engine.url)
            raise EnvironmentIgnoredDatabase(database, run.elsewhere)
        configure_as_asked(connection, *others, **{**options, **target.options})
        run.version_table = environment.get_context().version_table
        target.configured(environment.get_context())

    return configure


@contextlib.contextmanager
def _engines_led(run: Run, target: Target, database: str) -> Iterator[None]:
    """Give this thread's engines for the target its connection, and keep the others from creating a file."""

    def lead(dialect: Any, arguments: list[Any], parameters: dict[str, Any]) -> Any:
        names = [file_name(arguments, parameters)] if dialect.name == "sqlite" else arguments
        if target.leads_here(dialect, names):
            return target.connect()
        if dialect.name == "sqlite" and names[0] != ":memory:" and not os.path.exists(names[0]):
            run.elsewhere = f"{dialect.name}:///{arguments[0]}"
            raise EnvironmentIgnoredDatabase(database, run.elsewhere)
        return None

    before, _led.lead = _led.lead, lead
    try:
        yield
    finally:
        _led.lead = before


class _Led(threading.local):
    """Where the engines of this thread are led to: nowhere, unless it runs an env.py."""

    lead: Callable[[Any, list[Any], dict[str, Any]], Any] | None = None


_led = _Led()


# It stays: a thread of the host that is just connecting fails while a listener is added or removed.
@event.listens_for(Engine, "do_connect")
def _connecting(dialect: Any, _record: object, arguments: list[Any], parameters: dict[str, Any]) -> Any:
    return None if _led.lead is None else _led.lead(dialect, arguments, parameters)


def file_name(arguments: Sequence[Any], parameters: Mapping[str, Any]) -> str:
    """Return the file that sqlite3 would open, or ``:memory:``."""
    name = str(arguments[0]) if arguments else ""
    if parameters.get("uri") and name.startswith("file:"):
        name, _, options = name.removeprefix("file:").partition("?")
        name = "" if "mode=memory" in options else os.fsdecode(unquote_to_bytes(name))
    return name or ":memory:"


def offline_sql(config: Config, scripts: ManifestScripts, name: str, current: Sequence[str], revision: str) -> str:
    """Return what Alembic's ``--sql`` mode prints for an upgrade; connects to nothing.

    Args:
        config: From :func:`build_config`; its output buffer is replaced.
        scripts: The scripts.
        name: Of the database, for messages.
        current: Revisions to start from.
        revision: The target.

    Raises:
        MigrationFailed: env.py or a revision needs a connection.
    """
    config.output_buffer = buffer = io.StringIO()
    run = Run(scripts, revision, lambda _run: None)
    starting = tuple(current) or None
    with EnvironmentContext(
        config, scripts, fn=run.steps, as_sql=True, starting_rev=starting, destination_rev=revision
    ):
        try:
            scripts.run_env()
        except FreezekitError:
            raise
        except Exception as error:
            raise MigrationFailed(name, f"no SQL could be made without the database: {error}") from error
    return buffer.getvalue()
