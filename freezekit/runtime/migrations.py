"""One located tree of migration scripts: the object an application holds."""

from __future__ import annotations

import sys
import time
from functools import cached_property

from freezekit.errors import DatabaseInUse, InvalidMigrations, NotADatabase, UsageError
from freezekit.manifest import Manifest, digest, manifest_name
from freezekit.runtime.database import database_of, name_of_file
from freezekit.runtime.reports import Backup, Plan, Report, State, Status
from freezekit.runtime.status import refuse_unusable, status_of
from freezekit.tree import FolderTree, revision_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    import sqlite3
    import threading
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal, overload

    from alembic.config import Config

    from freezekit.config import Chain
    from freezekit.runtime.database import Database, DatabaseLike
    from freezekit.runtime.job import Scripts
    from freezekit.runtime.reports import BackupFile, Progress
    from freezekit.tree import Tree

ALL_HEADS = "heads"
_ONE_BACKUP = Backup()


class Migrations:
    """A located tree of migration scripts; made by :func:`freezekit.locate`.

    Questions (``status``, ``plan``, ``sql``, ``verify``) change nothing. The scripts are read when first needed.

    Attributes:
        script_location: What was located, as it was given.
        section: Section of alembic.ini the chain belongs to.
        bundle: Kind of program it was found in: ``"PyInstaller"``, ``"cx_Freeze"``, ``"Nuitka"``, ``"py2exe"``,
            ``"py2app"``, ``"zipapp"`` or ``"source"``.
    """

    def __init__(self, tree: Tree, *, script_location: str, section: str, bundle: str) -> None:
        self._tree = tree
        self.script_location = script_location
        self.section = section
        self.bundle = bundle
        self._copy: FolderTree | None = None

    def __repr__(self) -> str:
        return f"<Migrations {self.script_location!r} in {self._tree.root} ({self.bundle})>"

    @property
    def root(self) -> str:
        """Folder of ``env.py``; inside an archive, the archive's path and the folder in it."""
        return self._tree.root

    @cached_property
    def manifest(self) -> Manifest:
        """What was shipped; in a source tree, the same computed from the scripts.

        Raises:
            InvalidMigrations: The scripts cannot be used: none, a broken chain, a file missing or too much.
            UnreadableBundle: The shipped manifest is damaged or of a newer format.
        """
        manifest = self._read_manifest()
        if manifest.version_table is None:
            from dataclasses import replace

            from freezekit.runtime.replay import probed_version_table

            manifest = replace(manifest, version_table=probed_version_table(self._scripts_of(manifest)))
        return manifest

    @property
    def heads(self) -> tuple[str, ...]:
        """The newest revisions of the scripts; several where branches end separately."""
        return self.manifest.heads

    def status(self, db: DatabaseLike) -> Status:
        """Return where a database stands; takes no lock, changes nothing, creates no file.

        For an SQLite file neither Alembic nor SQLAlchemy is imported.

        Args:
            db: A path, a URL, an ``Engine`` or a ``Connection``.

        Returns:
            State, current revisions, heads and pending revisions. A file that is no database at all is FOREIGN.

        Raises:
            DatabaseInUse: Another program kept the file locked.
            MigrationFailed: The system lacks room for temporary files, or handles, to look at it.
            UsageError: ``db`` is no database.

        Example:
            >>> migrations.status("old.notes").state
            <State.BEHIND: 'behind'>
        """
        try:
            return self._status(database_of(db))
        except NotADatabase as error:
            return Status(State.FOREIGN, (), self.heads, (), reason=error.reason)

    def plan(self, db: DatabaseLike, revision: str = ALL_HEADS) -> Plan:
        """Return the revisions that :meth:`upgrade` would run, in order; runs and changes nothing.

        Args:
            db: As for :meth:`status`.
            revision: Any target of ``alembic upgrade``.

        Raises:
            DatabaseAhead, DatabaseUnversioned, ForeignDatabase, NotADatabase: As :meth:`upgrade` would.
            UsageError: The target is unknown.
        """
        from freezekit.runtime.job import Job, Request

        database = database_of(db)
        status = self._usable_status(database)
        ids = Job(self.scripts, database, Request(revision)).planned(status)
        return Plan(status.state, tuple(self.manifest.by_id[one] for one in ids))

    def sql(
        self,
        db: DatabaseLike,
        revision: str = ALL_HEADS,
        *,
        x_arguments: Mapping[str, str | Sequence[str]] | None = None,
    ) -> str:
        """Return the SQL that :meth:`upgrade` would run; the database is not changed.

        For an SQLite file the upgrade runs on a private copy, so that table rebuilds and data migrations are shown as
        they will happen. For other databases it is what Alembic's ``--sql`` mode prints.

        Args:
            db: As for :meth:`status`.
            revision: Any target of ``alembic upgrade``.
            x_arguments: As for :meth:`upgrade`.

        Returns:
            Statements, each ended by a semicolon; empty when there is nothing to do.
        """
        from freezekit.runtime.environment import ManifestScripts, build_config, offline_sql, turn
        from freezekit.runtime.host import undisturbed
        from freezekit.runtime.job import Job, Request
        from freezekit.runtime.replay import file_sql

        database = database_of(db)
        status = self._usable_status(database)
        scripts = self.scripts
        if database.path is not None:
            job = Job(scripts, database, Request(revision, x_arguments=x_arguments))
            return "".join(f"{one.strip().rstrip(';').rstrip()};\n" for one in file_sql(job))
        if not Job(scripts, database, Request(revision)).planned(status):
            return ""
        url = _url_of(database)
        config = build_config(scripts.tree, scripts.manifest, url, x_arguments=x_arguments)
        with turn.taken(database.name), undisturbed(scripts.prepend_sys_path):
            return offline_sql(
                config, ManifestScripts(scripts.tree, scripts.manifest), database.name, status.current, revision
            )

    def upgrade(  # noqa: PLR0913, PLR0917 - the contract
        self,
        db: DatabaseLike,
        revision: str = ALL_HEADS,
        on_progress: Callable[[Progress], object] | None = None,
        cancel: Callable[[], object] | threading.Event | None = None,
        backup: Backup | None = _ONE_BACKUP,
        timeout: float = 30.0,
        x_arguments: Mapping[str, str | Sequence[str]] | None = None,
        *,
        rehearse: bool = False,
    ) -> Report:
        """Upgrade a database, or create it; does nothing at all when nothing is pending.

        An SQLite file is upgraded as one change: it is backed up, all pending revisions run in one transaction that
        env.py cannot end, the result is checked, and only then committed. Whatever fails, the file is as it was. A
        database of a server is locked; on PostgreSQL all is one transaction, and on MySQL and MariaDB an upgrade that
        was stopped halfway is continued by the next.

        env.py runs unmodified. It gets the database as ``sqlalchemy.url``, as ``config.attributes["connection"]``, and
        through any engine of its own that leads to it. Logging, working directory, ``sys.path`` and ``sys.argv`` of
        this process are as before afterwards.

        Args:
            db: A path (created if there is none), a URL, an ``Engine`` or a ``Connection``. What is done on a
                ``Connection`` that has a transaction open is the caller's to commit.
            revision: Any target of ``alembic upgrade``: ``"heads"``, ``"head"``, an id, ``"branch@head"``, ``"+1"``.
            on_progress: Called at the beginning of each phase and revision, five times a second while statements run,
                and once at the end: for an SQLite file from this thread; for other databases, while a statement runs,
                from another one. It is called once at a time, in order, and not after this method returned. What it
                raises stops the upgrade as ``cancel`` does, and is the cause of ``MigrationFailed``.
            cancel: A function or an ``Event``; asked before each revision and while statements run, on a server from
                another thread.
            backup: How the copy made before the first change is kept; None makes none.
            timeout: How long to wait for another program that uses the database, in seconds.
            x_arguments: What env.py gets from ``context.get_x_argument``, such as ``{"dbPath": "..."}``; a value may
                be a list.
            rehearse: Do everything to a private copy of an SQLite file, and leave the file alone.

        Returns:
            What was applied; ``applied`` is empty when there was nothing to do.

        Raises:
            DatabaseAhead: It was written by a newer program; nothing was changed.
            DatabaseUnversioned: It has tables but no version; nothing was changed.
            NotADatabase, ForeignDatabase: It is none of ours; nothing was changed.
            DatabaseInUse: It stayed locked; nothing was changed.
            EnvironmentIgnoredDatabase: env.py connected elsewhere; nothing was changed.
            UpgradeCancelled: ``cancel`` said so; ``restored`` says whether the database is as before.
            InvalidMigrations: A script is missing, altered or broken; an SQLite file was not changed.
            MigrationFailed: A revision failed, or the file or its folder is read-only; ``restored`` says whether the
                database is as before.
            UsageError: The target is unknown, or ``db`` is no database.

        Example:
            >>> report = migrations.upgrade("old.notes")
            >>> report.applied, report.backup
            (('0008', '0009'), '/home/me/old.notes.0007.bak')
        """
        started = time.monotonic()
        database = database_of(db)
        if database.path is not None:
            from freezekit.runtime.sqlite_file import has_leftover_copy

            status = self._status_now(database.path)
            if status is not None:
                refuse_unusable(status, database.name)
                if revision == ALL_HEADS and status.state is State.CURRENT and not has_leftover_copy(database.path):
                    return Report((), None, status.state, time.monotonic() - started, status.current)
        from freezekit.runtime.job import Job, Request
        from freezekit.runtime.upgrade import upgrade

        request = Request(revision, on_progress, cancel, backup, timeout, x_arguments)
        return upgrade(Job(self.scripts, database, request), rehearse=rehearse)

    def alembic_config(
        self, db: DatabaseLike | None = None, *, x_arguments: Mapping[str, str | Sequence[str]] | None = None
    ) -> Config:
        """Return a Config that every function of ``alembic.command`` accepts.

        Its paths are absolute; the working directory is not put on ``sys.path``; it writes to ``sys.stdout``, or
        nowhere if a windowed program has none. Scripts inside a zip, and those of a bundle in which Alembic's loader
        would leave compiled files, are copied to a private folder that is removed when the program ends.

        The commands of Alembic give none of the promises of :meth:`upgrade`: no backup, no lock, no single change.

        Args:
            db: A path or a URL for ``sqlalchemy.url``; an ``Engine`` gives its URL; a ``Connection`` goes to
                ``config.attributes["connection"]`` as well.
            x_arguments: As for :meth:`upgrade`.

        Example:
            >>> from alembic import command
            >>> command.history(migrations.alembic_config("old.notes"))
        """
        from freezekit.runtime.environment import build_config

        url = connection = None
        if db is not None:
            database = database_of(db)
            connection = database.connection
            url = _url_of(database, self.manifest.driver)
        manifest = self.manifest
        tree = self._copied_tree(manifest) if self._is_written_into else self._real_tree_of(manifest)
        config = build_config(tree, manifest, url, x_arguments=x_arguments)
        if connection is not None:
            config.attributes["connection"] = connection
        return config

    if TYPE_CHECKING:

        @overload
        def create(self, path: Literal[":memory:"]) -> sqlite3.Connection: ...  # type: ignore[overload-overlap]

        @overload
        def create(self, path: str | os.PathLike[str]) -> Report: ...

    def create(self, path: str | os.PathLike[str]) -> sqlite3.Connection | Report:
        """Create a new SQLite database at head: a copy of the shipped snapshot, or all revisions run once.

        The file appears under its name complete and on disk, or not at all. What exists is never replaced.

        Args:
            path: The new file, or ``":memory:"`` for a database in memory.

        Returns:
            What was done; for ``":memory:"`` an open ``sqlite3.Connection``, which may be used by any thread.

        Raises:
            UsageError: There is something at that path; nothing was changed.
            NotADatabase: Its folder does not exist.
            InvalidMigrations: The snapshot or a script was altered since it was shipped; no file was made.
            MigrationFailed: Its folder is read-only, the volume is full, or a revision failed; no file was made.

        Example:
            >>> migrations.create("new.notes").heads
            ('0009',)
        """
        from freezekit.runtime.create import create_file, create_in_memory

        started = time.monotonic()
        manifest, name = self.manifest, name_of_file(path)
        if name == ":memory:":
            return create_in_memory(self._tree, manifest, self._replay)
        create_file(self._tree, manifest, name, self._replay)
        everything = manifest.pending(())
        return Report(everything, None, State.NEW, time.monotonic() - started, manifest.heads)

    def adopt(self, db: str | os.PathLike[str], *, timeout: float = 30.0) -> Status:
        """Stamp a database that has tables but no version, if its schema is that of exactly one revision.

        Compares the schema's meaning, not its spelling, with the schema after each revision, which the build records.
        Only the version table is written, under the write lock that the schema is read under.

        Args:
            db: An SQLite file.
            timeout: How long to wait for another program that uses it, in seconds.

        Returns:
            Its status afterwards, usually BEHIND; of a database that has a version already, its status.

        Raises:
            DatabaseUnversioned: The schema is that of no revision, or of several; nothing was changed.
            MigrationFailed: It is read-only, or the volume is full; nothing was changed.
            UsageError: It is no SQLite file.
            DatabaseAhead, ForeignDatabase, NotADatabase, DatabaseInUse: As for :meth:`upgrade`.
        """
        from freezekit.runtime.adopt import adopt

        database = database_of(db)
        if database.path is None:
            raise UsageError(f"{database.name} is no SQLite file: stamp it with the revision its schema is at.")
        status = self._status(database)
        if status.state is State.UNVERSIONED:
            adopt(self.scripts, database, timeout)
            status = self._status(database)
        refuse_unusable(status, database.name)
        return status

    def backups(self, db: DatabaseLike, folder: str | os.PathLike[str] | None = None) -> tuple[BackupFile, ...]:
        """Return the backups of an SQLite file, newest first; what :meth:`restore` kept is among them.

        Args:
            db: The file, which need not be there any more.
            folder: What ``Backup(folder=...)`` said; None means beside the file.
        """
        from freezekit.runtime import restore

        return restore.backups(db, folder, self.manifest)

    def restore(self, backup: str | os.PathLike[str], db: DatabaseLike, *, timeout: float = 30.0) -> str | None:
        """Put a backup in place of an SQLite file that is older, newer, damaged or missing, as one change.

        The backup is checked, and what it replaces is kept in a file of its own, before anything is changed.

        Args:
            backup: A copy made by an upgrade, or kept by an earlier ``restore``. It stays where it is.
            db: The file; a link is followed.
            timeout: How long to wait until nobody else uses the file, in seconds.

        Returns:
            Path of what was replaced, beside the file; None if there was nothing.

        Raises:
            NotADatabase: The backup is damaged or no backup; nothing was changed.
            DatabaseAhead, DatabaseUnversioned, ForeignDatabase: The backup is not of these scripts, or the file is
                another application's; nothing was changed.
            DatabaseInUse: Another program uses the file: it has to be closed; nothing was changed.
            MigrationFailed: There is too little room, or a volume is failing; the file is as it was.
            UsageError: ``db`` is no file, or is the backup itself.

        Example:
            >>> migrations.restore("old.notes.0007.bak", "old.notes")
            '/home/me/old.notes.0009~replaced.bak'
        """
        from freezekit.runtime.restore import restore

        return restore(name_of_file(backup), db, self.manifest, timeout)

    def prune(self, db: DatabaseLike, keep: int, folder: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
        """Remove the older backups of an SQLite file; never what :meth:`restore` kept.

        Args:
            db: The file, which need not be there any more.
            keep: How many stay, at least 1. Each is read: damaged ones stay too and do not count.
            folder: As for :meth:`backups`.

        Returns:
            Paths of those removed, newest first.
        """
        from freezekit.runtime.restore import prune

        return prune(db, keep, folder, self.manifest)

    def verify(self) -> None:
        """Compare every shipped file with the manifest; returns if all is well. In a source tree, read every script.

        Raises:
            InvalidMigrations: A file is missing, altered or too much; ``issues`` names each.
        """
        from freezekit.runtime.create import read_snapshot

        issues = []
        for name, sha256 in self.manifest.files.items():
            try:
                content = self._tree.read(name)
            except OSError as error:
                issues.append(f"{self._tree.path(name)} cannot be read: {error.strerror or 'it is missing'}")
                continue
            if digest(content) != sha256:
                issues.append(f"{self._tree.path(name)} was altered since it was shipped")
        try:
            read_snapshot(self._tree, self.manifest)
        except InvalidMigrations as error:
            issues += error.issues
        if issues:
            raise InvalidMigrations(self._tree.root, issues)

    @cached_property
    def _chain(self) -> Chain:
        """What the project's configuration says; in a bundle without a manifest, what lies beside env.py."""
        from freezekit.config import Chain, chain_of

        folder = self._tree.root
        if self.bundle == "source" and isinstance(self._tree, FolderTree):
            return chain_of(folder, self.section, self.script_location)
        return Chain(script_location=self.script_location, folder=folder, section=self.section)

    def _computed_manifest(self) -> Manifest:
        from freezekit.runtime.host import undisturbed

        try:
            from freezekit.scripts import read_manifest
        except ImportError as error:
            missing = self._tree.path(manifest_name(self.section))
            issue = f"{missing} is missing: it is shipped beside env.py for each chain that the build knows"
            raise InvalidMigrations(self._tree.root, [issue]) from error

        with undisturbed(self._chain.prepend_sys_path):
            return read_manifest(self._tree, self._chain)

    def _read_manifest(self) -> Manifest:
        name = manifest_name(self.section)
        try:
            text = self._tree.read(name)
        except OSError:
            return self._computed_manifest()
        manifest = Manifest.from_json(text, self._tree.path(name))
        self._refuse_incomplete(manifest)
        return manifest

    def _refuse_incomplete(self, manifest: Manifest) -> None:
        """Compare the names of the files with those that were shipped; their content is checked when they run."""
        shipped, locations = set(manifest.files), manifest.version_locations
        folders = (".", *(folder for folder in locations if folder.startswith("..")))
        there = {name for folder in folders for name in self._tree.files(folder)}
        added = there - shipped
        if added:
            added &= set(revision_files(self._tree, locations, manifest.recursive_version_locations))
        issues = [f"{self._tree.path(name)} was shipped but is missing" for name in sorted(shipped - there)]
        issues += [f"{self._tree.path(name)} was not shipped with this program" for name in sorted(added)]
        issues += [] if manifest.revisions else [f"{self._tree.root} holds no revision"]
        if issues:
            raise InvalidMigrations(self._tree.root, issues)

    def _replay(self, path: str) -> None:
        from freezekit.runtime.replay import replay

        replay(self.scripts, path, lambda _connection, _revisions: None)

    @cached_property
    def scripts(self) -> Scripts:
        """The scripts as real files, for what runs them, and what was worked out about them before."""
        return self._scripts_of(self.manifest)

    def _scripts_of(self, manifest: Manifest) -> Scripts:
        from freezekit.runtime.job import Scripts

        prepend = self._chain.prepend_sys_path if self.bundle == "source" else ()
        return Scripts(self._real_tree_of(manifest), manifest, prepend)

    def _real_tree_of(self, manifest: Manifest) -> FolderTree:
        return self._tree if isinstance(self._tree, FolderTree) else self._copied_tree(manifest)

    def _copied_tree(self, manifest: Manifest) -> FolderTree:
        from freezekit.runtime.extract import private_copy

        if self._copy is None:
            self._copy = private_copy(self._tree, (".", *manifest.version_locations))
        return self._copy

    @property
    def _is_written_into(self) -> bool:
        """Whether Alembic's own loader would leave compiled files in the bundle."""
        return self.bundle != "source" and not sys.dont_write_bytecode

    def _status(self, database: Database) -> Status:
        manifest = self.manifest
        if database.path is not None:
            from freezekit.runtime.sqlite_file import look

            return status_of(look(database.path, manifest), manifest)
        from freezekit.runtime.borrowed import sqlalchemy_contents

        return database.connected(lambda connection: status_of(sqlalchemy_contents(connection, manifest), manifest))

    def _status_now(self, path: str) -> Status | None:
        """Return where a file stands, or None while another program keeps it to itself: the upgrade waits for that."""
        from freezekit.runtime.sqlite_file import look

        try:
            return status_of(look(path, self.manifest, timeout=0.0), self.manifest)
        except DatabaseInUse:
            return None

    def _usable_status(self, database: Database) -> Status:
        status = self._status(database)
        refuse_unusable(status, database.name)
        return status


def _url_of(database: Database, driver: str | None = None) -> str:
    if database.path is not None:
        return database.file_url(driver)
    return database.url.render_as_string(hide_password=False) if database.url is not None else ""
