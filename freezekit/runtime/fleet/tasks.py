"""What a worker does: look at many files, upgrade one database. Nothing here knows of other workers.

Alembic and the scripts are loaded once for each process.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

from freezekit.errors import (
    DatabaseInUse,
    FreezekitError,
    InvalidMigrations,
    NotADatabase,
    UpgradeCancelled,
    UsageError,
)
from freezekit.records import record
from freezekit.runtime.database import database_of
from freezekit.runtime.fleet.records import CURRENT, FAILED, LEFT, UPGRADED, Outcome, Tenant
from freezekit.runtime.locate import locate
from freezekit.runtime.migrations import ALL_HEADS
from freezekit.runtime.reports import Backup, State
from freezekit.runtime.sqlite_file import has_leftover_copy, look
from freezekit.runtime.status import refuse_unusable, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from freezekit.manifest import Manifest
    from freezekit.runtime.fleet.entries import Entry
    from freezekit.runtime.migrations import Migrations
    from freezekit.runtime.reports import Report

_LIBPQ = {"psycopg", "psycopg2", "psycopg_async"}
_located: dict[tuple[str, str, str], Migrations] = {}
is_worker = False
"""Whether this process does nothing but tasks, so that nothing else in it has a file open."""
stopping = threading.Event()
"""Set in a worker that is told to stop: the upgrade it runs is cancelled."""


@record
class Order:
    """What all databases of a fleet have in common.

    Attributes:
        root: Folder of ``env.py``.
        script_location: The same in Alembic's notation, for a worker on another machine.
        section: Section of alembic.ini.
        digest: Of the scripts: workers must have the same.
        backup: See :meth:`freezekit.Migrations.upgrade`.
        timeout: Same.
        x_arguments: Same.
        run: Tells this task from an equal one of another run: a cluster may take equal tasks for one.
    """

    root: str
    script_location: str
    section: str
    digest: str
    backup: Backup | None
    timeout: float
    x_arguments: Mapping[str, str | Sequence[str]]
    run: str

    def scripts(self) -> Migrations:
        """Return the scripts, located once in each process.

        Raises:
            MigrationsNotFound: They are not on this machine.
            InvalidMigrations: Those here are not those of the program that gave the order.
        """
        key = (self.root, self.section, self.digest)
        if key not in _located:
            here = os.path.exists(self.root) or ":" not in self.script_location
            found = locate(self.root if here else self.script_location, section=self.section)
            if digest_of(found.manifest) != self.digest:
                issue = "they are not the scripts of the program that gave this worker its task"
                raise InvalidMigrations(self.root if here else self.script_location, [issue])
            _located[key] = found
        return _located[key]


def order_of(
    migrations: Migrations,
    backup: Backup | None,
    timeout: float,
    x_arguments: Mapping[str, str | Sequence[str]] | None,
) -> Order:
    """Return the order that workers get; in this process the scripts are those given."""
    manifest, root = migrations.manifest, migrations.root
    order = Order(
        root,
        migrations.script_location,
        migrations.section,
        digest_of(manifest),
        backup,
        timeout,
        x_arguments or {},
        os.urandom(8).hex(),
    )
    _located[root, order.section, order.digest] = migrations
    return order


def digest_of(manifest: Manifest) -> str:
    """Return a digest of all that decides what an upgrade does."""
    import hashlib

    facts = (manifest.heads, sorted(manifest.files.items()), manifest.version_table, manifest.application_id)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


@record
class Sifted:
    """What a look at one file found.

    Attributes:
        outcome: What became of it, if there is nothing to do or it cannot be upgraded; else None.
        state: What it is; None where another program kept it locked.
        size: In bytes.
        key: Names the file, whatever path leads to it; empty where there is none.
    """

    outcome: Outcome | None
    state: State | None = None
    size: int = 0
    key: str = ""


def sift(order: Order, files: Sequence[Entry]) -> list[Sifted]:
    """Look at files, without Alembic; changes nothing, and waits for nobody."""
    manifest = order.scripts().manifest
    return [_sifted(one.name, one.path or "", manifest) for one in files]


def _sifted(name: str, path: str, manifest: Manifest) -> Sifted:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else f"it cannot be looked at ({error})"
        return Sifted(Outcome(name, FAILED, error=NotADatabase(name, reason)))
    # The number of a file that was replaced is given to another file soon.
    key = f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}" if found.st_ino else path
    try:
        status = status_of(look(path, manifest, timeout=0.0, alone=is_worker), manifest)
        refuse_unusable(status, name)
    except DatabaseInUse:
        return Sifted(None, None, found.st_size, key)
    except FreezekitError as error:
        return Sifted(Outcome(name, FAILED, error=error), key=key)
    if status.state is not State.CURRENT or has_leftover_copy(path):
        return Sifted(None, status.state, found.st_size, key)
    return Sifted(Outcome(name, CURRENT, status.state, heads=status.current), key=key)


def upgrade(order: Order, entry: Entry, cancel: Callable[[], object] | threading.Event | None = None) -> Outcome:
    """Upgrade one database, and return what became of it, whatever that is."""
    started = time.monotonic()
    try:
        report = _report(order, entry, cancel or stopping)
    except UpgradeCancelled as error:
        return Outcome(entry.name, LEFT, entry.state, error=error, attempts=1)
    except Exception as error:  # noqa: BLE001 - each database fails by itself
        seconds = time.monotonic() - started
        return Outcome(entry.name, FAILED, entry.state, seconds=seconds, error=_portable(error), attempts=1)
    return Outcome(
        entry.name,
        UPGRADED if report.applied else CURRENT,
        report.state_before,
        report.applied,
        report.heads,
        report.backup,
        report.seconds,
        attempts=1,
    )


def _report(order: Order, entry: Entry, cancel: Callable[[], object] | threading.Event) -> Report:
    from freezekit.runtime import upgrade as upgrades
    from freezekit.runtime.job import Job, Request

    target, x_arguments = entry.target, order.x_arguments
    if isinstance(target, Tenant):
        x_arguments = {**x_arguments, **target.x_arguments}
        target = _url_of(target)
    request = Request(ALL_HEADS, None, cancel, order.backup, order.timeout, x_arguments, creates=False)
    return upgrades.upgrade(Job(order.scripts().scripts, database_of(target or entry.path or ""), request))


def _url_of(tenant: Tenant) -> str:
    """Return the URL of a tenant; connections made from it have the tenant's schema as their search path.

    Every driver of libpq passes ``options`` on:
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS.
    """
    if tenant.schema is None:
        return tenant.url
    from sqlalchemy.engine import make_url

    url = make_url(tenant.url)
    driver = url.get_dialect().driver
    if url.get_backend_name() != "postgresql" or driver not in _LIBPQ:
        raise UsageError(f"{tenant} needs PostgreSQL and the driver psycopg or psycopg2, not {url.drivername}.")
    identifier = '"' + tenant.schema.replace('"', '""') + '"'
    escaped = "".join(f"\\{letter}" if letter in "\\ " else letter for letter in identifier)
    options = " ".join(filter(None, [_given_options(url.query.get("options")), f"-csearch_path={escaped}"]))
    return url.update_query_dict({"options": options}).render_as_string(hide_password=False)


def _given_options(found: Any) -> str:
    return " ".join(found) if isinstance(found, tuple) else found or ""


def _portable(error: Exception) -> Exception:
    """Return an error that survives the way to another process: itself, or one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just dumped
    except Exception:  # noqa: BLE001 - whatever a driver's error does when it is copied
        return FreezekitError(f"{type(error).__name__}: {error}")
    return error


def lost(entry: Entry, attempts: int, reason: str) -> Outcome:
    """Return the outcome of a database whose upgrades ended without an answer."""
    from freezekit.errors import MigrationFailed

    # What SQLite left is undone by whoever opens the file next; of a server nothing is known.
    error = MigrationFailed(entry.name, reason, restored=entry.path is not None)
    return Outcome(entry.name, FAILED, entry.state, error=error, attempts=attempts)
