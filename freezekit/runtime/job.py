"""What an upgrade is asked to do, and the run of env.py that does it, on whatever database."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from freezekit.errors import EnvironmentIgnoredDatabase, FreezekitError, MigrationFailed, UpgradeCancelled
from freezekit.runtime.environment import ManifestScripts, Run, build_config, run_env, turn
from freezekit.runtime.host import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from freezekit.manifest import Manifest
    from freezekit.runtime.database import Database
    from freezekit.runtime.environment import Target
    from freezekit.runtime.reports import Backup, Progress, Status
    from freezekit.tree import FolderTree


@dataclass(frozen=True)
class Scripts:
    """The scripts an upgrade runs: real files, what they are, and where their modules are imported from."""

    tree: FolderTree
    manifest: Manifest
    prepend_sys_path: tuple[str, ...] = ()
    _planned: dict[tuple[tuple[str, ...], str], tuple[str, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _ahead: dict[str, ManifestScripts] = field(init=False, repr=False, compare=False, default_factory=dict)
    _planning: threading.Lock = field(init=False, repr=False, compare=False, default_factory=threading.Lock)

    def for_alembic(self) -> ManifestScripts:
        """Return the scripts as Alembic sees them; env.py may change what it is given, so each time anew."""
        return ManifestScripts(self.tree, self.manifest, self._ahead)

    def planned(self, database: str, current: tuple[str, ...], revision: str) -> tuple[str, ...]:
        """Return what :meth:`ManifestScripts.between` does, worked out once for all databases at the same revisions."""
        with self._planning:
            found = self._planned.get((current, revision))
            if found is None:
                found = self._planned[current, revision] = self.for_alembic().between(database, current, revision)
            return found


@dataclass(frozen=True)
class Request:
    """What the caller of an upgrade asked for; see :meth:`freezekit.Migrations.upgrade`."""

    revision: str
    on_progress: Callable[[Progress], object] | None = None
    cancel: Callable[[], object] | threading.Event | None = None
    backup: Backup | None = None
    timeout: float = 30.0
    x_arguments: Mapping[str, str | Sequence[str]] | None = None
    creates: bool = True

    def cancelled(self) -> bool:
        """Return whether the caller wants the upgrade to stop."""
        if self.cancel is None:
            return False
        return bool(self.cancel() if callable(self.cancel) else self.cancel.is_set())


@dataclass(frozen=True)
class Job:
    """One upgrade of one database."""

    scripts: Scripts
    database: Database
    request: Request

    @property
    def manifest(self) -> Manifest:
        """What the scripts are."""
        return self.scripts.manifest

    @property
    def path(self) -> str:
        """The SQLite file; only for a database that is one."""
        return self.database.path or ""

    @property
    def enforces_references(self) -> bool:
        """Whether the project wants its revisions to run with enforced foreign keys."""
        return self.manifest.foreign_keys == "on"

    def new_run(self, on_step: Callable[[Run], None] = lambda _run: None) -> Run:
        """Return a run of env.py that is still to be done.

        Args:
            on_step: Called before each revision and after the last.
        """
        return Run(self.scripts.for_alembic(), self.request.revision, on_step)

    def planned(self, status: Status) -> tuple[str, ...]:
        """Return the ids of the revisions that would run, in order.

        Raises:
            UsageError: The target is unknown or ambiguous.
            NotADatabase: The revisions the database is at contradict each other.
        """
        return self.scripts.planned(self.database.name, status.current, self.request.revision)


def execute_env(job: Job, run: Run, target: Target, connect: Callable[[], object] | None) -> None:
    """Run env.py on a database; whatever goes wrong leaves as an error of ours that names the revision.

    Args:
        job: The upgrade.
        run: What is to be done; says afterwards what was done.
        target: The database.
        connect: Makes the connection that env.py may take from ``config.attributes``; None offers it none.
    """
    scripts, request = job.scripts, job.request
    url = target.url(scripts.manifest.driver)
    config = build_config(scripts.tree, scripts.manifest, url, connect=connect, x_arguments=request.x_arguments)
    has_turn = turn.taken(job.database.name, request.cancelled)
    with _failures_named(run, job), has_turn, undisturbed(scripts.prepend_sys_path):
        run_env(config, run, target, job.database.name)


@contextlib.contextmanager
def _failures_named(run: Run, job: Job) -> Iterator[None]:
    name = job.database.name
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, FreezekitError):
            raise
        if run.elsewhere is not None:
            raise EnvironmentIgnoredDatabase(name, run.elsewhere) from error
        if job.request.cancelled():
            raise UpgradeCancelled(name) from error
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        rest = (run.planned or ())[len(run.applied) + bool(run.current) :]
        restored = job.database.path is not None
        applied = () if restored else run.applied
        raise MigrationFailed(
            name, reason, applied=applied, failed=run.current, pending=rest, restored=restored
        ) from error


def check_result(run: Run, job: Job, versions: Sequence[str]) -> None:
    """Refuse a result that is not what was asked for: some env.py swallow errors, or run nothing."""
    name = job.database.name
    if run.planned is None or run.elsewhere is not None:
        raise EnvironmentIgnoredDatabase(name, run.elsewhere)
    missing = job.manifest.unreached(run.planned, versions)
    if missing or run.applied != run.planned:
        restored = job.database.path is not None
        applied = () if restored else tuple(one for one in run.planned if one not in missing)
        reason = "env.py ended without an error, but not all revisions were applied to the database"
        raise MigrationFailed(name, reason, applied=applied, failed=run.current, pending=missing, restored=restored)
