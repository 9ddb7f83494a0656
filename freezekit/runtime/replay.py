"""Runs of the scripts that are no upgrade: on new, private or empty databases."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from freezekit.errors import EnvironmentIgnoredDatabase
from freezekit.runtime.database import Database
from freezekit.runtime.file_env import checked_versions, run_on_file
from freezekit.runtime.file_upgrade import sqlite_errors_named, usable_status
from freezekit.runtime.job import Job, Request
from freezekit.runtime.pulse import Pulse
from freezekit.runtime.sqlite_file import read_contents
from freezekit.runtime.sqlite_upgrade import commit, scratch_copy, write_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit.runtime.environment import Run
    from freezekit.runtime.guard import GuardedConnection
    from freezekit.runtime.job import Scripts


def file_sql(job: Job) -> list[str]:
    """Return the SQL that an upgrade of an SQLite file would run, by running it on a private copy."""
    statements: list[str] = []
    pulse = Pulse(job.database.name, job.manifest, job.request)
    with sqlite_errors_named(job, pulse), scratch_copy(job.path, job.request.timeout) as copy:
        scratch = replace(job, database=replace(job.database, path=copy))
        with write_locked(copy, 0.0, is_private=True) as connection:
            if job.planned(usable_status(scratch, connection)):
                connection.record(statements)
                run_on_file(scratch, connection, scratch.new_run())
    return statements


def replay(scripts: Scripts, path: str, on_state: Callable[[GuardedConnection, Sequence[str]], object]) -> None:
    """Make a new database by running every revision once.

    Args:
        scripts: The scripts.
        path: The new file.
        on_state: Called after each revision with the connection and the ids the version table then holds.

    Raises:
        MigrationFailed: A revision failed; no file is left.
    """
    job = Job(scripts, Database(name=path, path=path), Request("heads"))
    with write_locked(path, 0.0, is_private=True) as connection:

        def step(run: Run) -> None:
            if run.applied:
                manifest = replace(job.manifest, version_table=run.version_table)
                on_state(connection, read_contents(connection, manifest).versions or ())

        connection.claim(job.manifest.application_id)
        run = job.new_run(step)
        run_on_file(job, connection, run)
        checked_versions(run, job, connection)
        commit(connection, path, 0.0)


class _Probed(BaseException):
    """Ends env.py once it has said which version table it uses; no ``except Exception`` in it can stop this."""


def probed_version_table(scripts: Scripts) -> str:
    """Return the version table that env.py configures, found by running env.py on an empty scratch database.

    Raises:
        MigrationFailed: env.py fails.
        EnvironmentIgnoredDatabase: It does not use the database it is given.
    """

    def stop(_run: Run) -> None:
        raise _Probed

    with scratch_copy("probe.db") as path:
        job = Job(scripts, Database(name=path, path=path), Request("heads"))
        run = job.new_run(stop)
        with write_locked(path, 0.0, is_private=True) as connection, contextlib.suppress(_Probed):
            run_on_file(job, connection, run)
    if run.version_table is None:
        raise EnvironmentIgnoredDatabase(path, run.elsewhere)
    return run.version_table
