"""Upgrade one SQLite file: lock, look again, back up, run, check, commit; in place, or through a private copy."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

from freezekit.errors import FreezekitError, MigrationFailed, NotADatabase, UpgradeCancelled
from freezekit.runtime import sqlite_upgrade
from freezekit.runtime.backup import make_backup
from freezekit.runtime.file_env import checked_versions, refuse_other_version_table, run_on_file
from freezekit.runtime.files import read_only
from freezekit.runtime.guard import GuardedConnection, NeedsCopy
from freezekit.runtime.integrity import damage, dangling_references, new_dangling
from freezekit.runtime.pulse import Pulse
from freezekit.runtime.reports import Report, State, Status
from freezekit.runtime.space import document_size, refuse_too_little_space, space_needed
from freezekit.runtime.sqlite_file import look, read_contents
from freezekit.runtime.status import refuse_unusable, status_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from freezekit.runtime.job import Job


def upgrade_file(job: Job) -> Report:
    """Upgrade an SQLite file, in place if that can be done; see :meth:`freezekit.Migrations.upgrade`."""
    if (refused := read_only(job.path, job.database.name)) is not None:
        return _nothing_to_do(job, refused)
    pulse = Pulse(job.database.name, job.manifest, job.request)
    report = _upgrade_finished(job, pulse)
    if report.applied:
        pulse.done(report.applied)
    return report


def _upgrade_finished(job: Job, pulse: Pulse) -> Report:
    with sqlite_errors_named(job, pulse):
        try:
            report, journal_mode = _upgraded(job, pulse)
        except _CommitFailed as failed:
            report, journal_mode = _settled(job, failed), None
    if journal_mode is not None:
        sqlite_upgrade.set_journal_mode(job.path, journal_mode)
    return report


def _nothing_to_do(job: Job, refused: MigrationFailed) -> Report:
    """Return the report of an upgrade of a file that cannot be written, or raise if there is something to do."""
    status = status_of(look(job.path, job.manifest, job.request.timeout), job.manifest)
    refuse_unusable(status, job.database.name)
    if job.planned(status):
        raise refused
    return Report((), None, status.state, 0.0, status.current)


def rehearse_file(job: Job) -> Report:
    """Upgrade a private copy of an SQLite file and report; see :meth:`freezekit.Migrations.upgrade`."""
    pulse = Pulse(job.database.name, job.manifest, job.request)
    copied = sqlite_upgrade.scratch_copy(job.path, job.request.timeout, _backup_step(pulse))
    with sqlite_errors_named(job, pulse), copied as copy:
        scratch = replace(job, database=replace(job.database, path=copy), request=replace(job.request, backup=None))
        report = _upgrade_finished(scratch, pulse)
        if report.applied:
            pulse.phase("done")
    outside = set(job.manifest.outside_transaction) & set(report.applied)
    by_copy = bool(outside) or document_size(job.path) > sqlite_upgrade.IN_PLACE_BYTES
    fits = all(one.fits for one in space_needed(job.path, job.request.backup, by_copy=by_copy))
    return replace(report, rehearsed=True, fits=fits)


def _upgraded(job: Job, pulse: Pulse) -> tuple[Report, str | None]:
    try:
        return _upgrade_in_place(job, pulse)
    except NeedsCopy:
        return _upgrade_by_copy(job, pulse)


class _CommitFailed(Exception):
    """A commit ended with an error; only the file can say whether it took effect before that."""

    def __init__(self, error: MigrationFailed, report: Report) -> None:
        super().__init__(error, report)
        self.error = error
        self.report = report


@contextlib.contextmanager
def _committing(report: Report) -> Iterator[None]:
    try:
        yield
    except MigrationFailed as error:
        raise _CommitFailed(error, report) from error


def _settled(job: Job, failed: _CommitFailed) -> Report:
    """Return the report of an upgrade that did happen, although syncing its last step failed; or raise why not."""
    try:
        contents = look(job.path, job.manifest)
    except FreezekitError as error:
        reason = f"{failed.error.reason}, and then it could not be read"
        raise MigrationFailed(job.database.name, reason, restored=False) from error
    if contents is None or contents.versions != failed.report.heads:
        raise failed.error
    return failed.report


def _upgrade_in_place(job: Job, pulse: Pulse) -> tuple[Report, str | None]:
    """Run everything as one transaction on the file itself."""
    request = job.request
    with sqlite_upgrade.write_locked(
        job.path,
        request.timeout,
        cancelled=pulse.beat,
        references=job.enforces_references,
        creates=request.creates,
    ) as connection:
        sqlite_upgrade.sweep(job.path)
        status = usable_status(job, connection)
        planned = job.planned(status)
        if not planned:
            return Report((), None, status.state, 0.0, status.current), None
        if set(job.manifest.outside_transaction) & set(planned) or sqlite_upgrade.is_too_large_to_wait(connection):
            raise NeedsCopy
        before = dangling_references(connection)
        backup = _back_up(job, status, pulse, len(planned), connection)
        report = replace(_migrate(job, connection, pulse, before), backup=backup, state_before=status.state)
        pulse.phase("commit")
        with _committing(report):
            sqlite_upgrade.commit(connection, job.path, request.timeout, cancelled=pulse.beat)
    return report, connection.journal_mode


def _upgrade_by_copy(job: Job, pulse: Pulse) -> tuple[Report, str | None]:
    """Run everything on a private copy, and write the result over the file as one transaction."""
    path, request = job.path, job.request
    with sqlite_upgrade.exclusively_locked(
        path, request.timeout, cancelled=pulse.beat, creates=request.creates
    ) as original:
        status = usable_status(job, original)
        planned = job.planned(status)
        if not planned:
            return Report((), None, status.state, 0.0, status.current), None
        before = dangling_references(original)
        backup = _back_up(job, status, pulse, len(planned), original, by_copy=True)
        with sqlite_upgrade.working_copy(original, path, _backup_step(pulse)) as copy:
            with sqlite_upgrade.write_locked(
                copy, 0.0, cancelled=pulse.beat, is_private=True, references=job.enforces_references
            ) as connection:
                report = replace(_migrate(job, connection, pulse, before), backup=backup, state_before=status.state)
                sqlite_upgrade.commit(connection, path, 0.0)
            with _committing(report):
                sqlite_upgrade.write_back(copy, original, path, lambda share: pulse.phase("commit", share))
    return report, connection.journal_mode


def usable_status(job: Job, connection: sqlite3.Connection) -> Status:
    """Return where a file stands, or raise what an upgrade must not go on from."""
    status = status_of(read_contents(connection, job.manifest), job.manifest)
    refuse_unusable(status, job.database.name)
    return status


def _refuse_damaged(job: Job, connection: sqlite3.Connection) -> None:
    """Refuse a file whose structure is broken."""
    if (found := damage(connection)) is not None:
        raise NotADatabase(job.database.name, f"it is damaged ({found})")


def _back_up(  # noqa: PLR0913 - facts of one moment
    job: Job, status: Status, pulse: Pulse, total: int, connection: sqlite3.Connection, *, by_copy: bool = False
) -> str | None:
    """Copy a sound database, or refuse a damaged one and one for which there is no room."""
    pulse.plan(total)
    backup = job.request.backup if status.state is not State.NEW else None
    if backup is None:
        refuse_too_little_space(job.path, None, by_copy=by_copy)
        _refuse_damaged(job, connection)
        return None
    pulse.phase("backup")
    manifest = job.manifest
    syncs_folder = isinstance(connection, GuardedConnection) and connection.syncs_folder
    try:
        return make_backup(
            job.path,
            status.current,
            backup,
            manifest.by_id,
            is_linear=manifest.is_linear,
            source=connection if by_copy else None,
            on_step=_backup_step(pulse),
            cancelled=pulse.beat,
            syncs_folder=syncs_folder,
        )
    except MigrationFailed:
        pulse.refuse_if_cancelled()
        _refuse_damaged(job, connection)
        raise


def _backup_step(pulse: Pulse) -> Callable[[float], object]:
    return lambda share: pulse.phase("backup", share)


def _migrate(job: Job, connection: GuardedConnection, pulse: Pulse, before: Counter[tuple[str, str]]) -> Report:
    """Run env.py, and refuse a result that is not what was asked for."""
    connection.claim(job.manifest.application_id)
    run = job.new_run(pulse.step)
    run_on_file(job, connection, run)
    refuse_other_version_table(run, job)
    reached = checked_versions(run, job, connection)
    pulse.phase("check")
    dangling = new_dangling(before, dangling_references(connection))
    if dangling and _must_not_dangle(job, connection):
        reason = f"{dangling} rows refer to a row that is not there any more"
        raise MigrationFailed(job.database.name, reason, pending=run.applied)
    if (found := damage(connection)) is not None:
        raise MigrationFailed(job.database.name, f"it would be damaged ({found})", pending=run.applied)
    return Report(run.applied, None, State.BEHIND, 0.0, reached, dangling)


def _must_not_dangle(job: Job, connection: GuardedConnection) -> bool:
    """Return whether the project, env.py or the application's engine has references enforced."""
    if job.manifest.foreign_keys == "off" or connection.enforces_references:
        return job.manifest.foreign_keys != "off"
    if job.database.engine is not None:
        with contextlib.suppress(Exception), job.database.engine.connect() as asked:
            return bool(asked.exec_driver_sql("PRAGMA foreign_keys").scalar())
    return False


@contextlib.contextmanager
def sqlite_errors_named(job: Job, pulse: Pulse) -> Iterator[None]:
    """Turn what SQLite says between the steps of an upgrade into an error that names the database."""
    name = job.database.name
    try:
        yield
    except (sqlite3.Error, MigrationFailed, UpgradeCancelled) as error:
        if pulse.failure is not None:
            raise pulse.failure from pulse.failure.__cause__
        is_cancelled = job.request.cancelled()
        if not is_cancelled and _was_interrupted(error):
            # Ctrl-C came while SQLite called us, which passes on no exception but only stops.
            raise KeyboardInterrupt from error
        if isinstance(error, FreezekitError) and not _was_interrupted(error):
            raise
        if is_cancelled:
            raise UpgradeCancelled(name) from error
        if isinstance(error, sqlite3.OperationalError):
            raise MigrationFailed(name, str(error)) from error
        raise NotADatabase(name, f"it is damaged ({error})") from error


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether SQLite stopped a statement because it was told to."""
    while error is not None:
        if isinstance(error, sqlite3.OperationalError) and str(error) == "interrupted":
            return True
        error = error.__cause__
    return False
