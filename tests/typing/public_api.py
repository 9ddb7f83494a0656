"""What a type checker knows of the public interface; checked by ``mypy --strict``, never run."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData
from typing_extensions import assert_type

import freezekit
from freezekit.cli import main
from freezekit.environment import run

migrations = freezekit.locate("sample_app:migrations", section="alembic")
assert_type(migrations, freezekit.Migrations)
assert_type(migrations.heads, tuple[str, ...])
assert_type(migrations.bundle, str)
assert_type(migrations.manifest, freezekit.Manifest)

status = migrations.status(Path("a.notes"))
assert_type(status, freezekit.Status)
assert_type(status.state, freezekit.State)
assert_type(status.pending, tuple[str, ...])

plan = migrations.plan("sqlite:///a.notes")
assert_type(plan, freezekit.Plan)
assert_type([one.doc for one in plan], list[str])
assert_type(migrations.sql("a.notes"), str)


def tell(progress: freezekit.Progress) -> None:
    """Take what an upgrade reports."""
    assert_type(progress.revision, str | None)
    assert_type(progress.fraction, float)


def on_anything(engine: Engine, connection: Connection) -> None:
    """Upgrade whatever is a database."""
    assert_type(migrations.upgrade(engine), freezekit.Report)
    report = migrations.upgrade(
        connection, "head", on_progress=tell, cancel=threading.Event(), timeout=1.5, x_arguments={"a": ["b", "c"]}
    )
    assert_type(report.applied, tuple[str, ...])
    assert_type(report.backup, str | None)


migrations.upgrade("a.notes", backup=freezekit.Backup(keep=2, folder="backups"), cancel=lambda: False, rehearse=True)
migrations.upgrade("a.notes", backup=None)

in_memory = migrations.create(":memory:")
on_disk = migrations.create(Path("new.notes"))
assert_type(in_memory, sqlite3.Connection)
assert_type(on_disk, freezekit.Report)
assert_type(migrations.adopt("a.notes"), freezekit.Status)

assert_type(migrations.backups("a.notes"), tuple[freezekit.BackupFile, ...])
assert_type(migrations.restore("a.notes.0001.bak", "a.notes"), str | None)
assert_type(migrations.prune("a.notes", 1), tuple[str, ...])

try:
    migrations.verify()
except freezekit.MigrationFailed as error:
    assert_type(error.applied, tuple[str, ...])
    assert_type(error.restored, bool)
except freezekit.FreezekitError as error:
    assert_type(error.exit_code, int)

assert_type(main(["status", "a.notes"], migrations=migrations, program="notes db"), int)
run(MetaData(), url="sqlite:///a.db", version_table="versions")

migrations.upgrade()  # type: ignore[call-arg]
migrations.upgrade(1)  # type: ignore[arg-type]
migrations.upgrade("a.notes", backup=2)  # type: ignore[arg-type]
freezekit.locate(b"sample_app")  # type: ignore[arg-type]
