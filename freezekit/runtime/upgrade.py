"""Upgrade one database, whatever it is: an SQLite file, or something that only SQLAlchemy can reach."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from freezekit.errors import UsageError
from freezekit.runtime.file_upgrade import rehearse_file, upgrade_file

if TYPE_CHECKING:
    from freezekit.runtime.job import Job
    from freezekit.runtime.reports import Report


def upgrade(job: Job, *, rehearse: bool = False) -> Report:
    """Upgrade a database, or a private copy of it, and report; see :meth:`freezekit.Migrations.upgrade`.

    Raises:
        UsageError: A server cannot be copied for a rehearsal.
    """
    started = time.monotonic()
    is_file = job.database.path is not None
    if rehearse and not is_file:
        raise UsageError(f"{job.database.name} is no SQLite file, so there is no private copy to rehearse on.")
    report = (rehearse_file if rehearse else upgrade_file)(job) if is_file else _upgrade_server(job)
    return replace(report, seconds=time.monotonic() - started)


def _upgrade_server(job: Job) -> Report:
    from freezekit.runtime.server_upgrade import upgrade_server

    return upgrade_server(job)
