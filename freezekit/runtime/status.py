"""From what a database says of itself to what it is for this program; and which states an upgrade refuses."""

from __future__ import annotations

from freezekit.errors import DatabaseAhead, DatabaseUnversioned, ForeignDatabase, MigrationFailed
from freezekit.manifest import DEFAULT_VERSION_TABLE
from freezekit.runtime.reports import State, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from freezekit.manifest import Manifest
    from freezekit.runtime.sqlite_file import Contents


def status_of(contents: Contents | None, manifest: Manifest) -> Status:
    """Return what a database is for a program with these scripts.

    Args:
        contents: What was found in it; None when there is no database yet.
        manifest: The scripts.
    """
    if contents is None:
        return Status(State.NEW, (), manifest.heads, manifest.pending(()))
    if manifest.application_id and contents.application_id not in (0, manifest.application_id):
        reason = f"its application_id is {contents.application_id:#x}, not {manifest.application_id:#x}"
        return Status(State.FOREIGN, (), manifest.heads, (), reason=reason)
    if contents.versions is None:
        return _without_version(contents, manifest)
    if contents.versions == manifest.heads:
        return Status(State.CURRENT, contents.versions, manifest.heads, ())
    if manifest.unknown(contents.versions):
        return Status(State.AHEAD, contents.versions, manifest.heads, ())
    pending = manifest.pending(contents.versions)
    state = State.BEHIND if pending else State.CURRENT
    return Status(state, contents.versions, manifest.heads, pending, leftovers=contents.leftovers)


def _without_version(contents: Contents, manifest: Manifest) -> Status:
    everything = manifest.pending(())
    if not contents.tables:
        return Status(State.NEW, (), manifest.heads, everything)
    if contents.has_other_chain and manifest.version_table != DEFAULT_VERSION_TABLE:
        # One database, several chains: the tables are another chain's, and this one has not begun.
        return Status(State.BEHIND, (), manifest.heads, everything)
    return Status(State.UNVERSIONED, (), manifest.heads, (), tables=contents.tables)


def refuse_unusable(status: Status, database: str) -> None:
    """Raise what an upgrade must not go on from.

    Raises:
        DatabaseAhead: It was written by a newer program.
        DatabaseUnversioned: It has tables but no version.
        ForeignDatabase: It is another application's.
        MigrationFailed: Plain Alembic was stopped in the middle of an upgrade of it.
    """
    if status.state is State.AHEAD:
        raise DatabaseAhead(database, status.current, status.heads)
    if status.state is State.UNVERSIONED:
        raise DatabaseUnversioned(database, status.tables)
    if status.state is State.FOREIGN:
        raise ForeignDatabase(database, status.reason)
    if status.leftovers and status.pending:
        tables = ", ".join(status.leftovers)
        reason = f"plain Alembic was stopped while it upgraded this database and left {tables} behind"
        advice = "restore a backup from before that, or let the developers of this program repair it"
        raise MigrationFailed(database, reason, pending=status.pending, advice=advice)
