"""What questions and actions answer: plain frozen data."""

from __future__ import annotations

from enum import Enum

from freezekit.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from freezekit.manifest import Revision


class State(Enum):
    """What a database is, seen from the scripts of this program."""

    NEW = "new"
    """No file, or nothing in it."""
    CURRENT = "current"
    """At head; nothing is pending."""
    BEHIND = "behind"
    """Written by an older program; revisions are pending."""
    AHEAD = "ahead"
    """Written by a newer program, as it names a revision that these scripts do not have."""
    UNVERSIONED = "unversioned"
    """It has tables, but no version."""
    FOREIGN = "foreign"
    """Not ours; no database of this kind, or another application's."""


@record
class Status:
    """Where a database stands.

    Attributes:
        state: What it is.
        current: The revisions the database says it is at.
        heads: The newest revisions of the scripts.
        pending: Ids of the revisions it lacks, parents first.
        reason: For FOREIGN, why; otherwise empty.
        tables: For UNVERSIONED, the tables found; otherwise empty.
        leftovers: Tables that plain Alembic left half-made in an SQLite file when it was stopped; such a database is
            not upgraded any further.
    """

    state: State
    current: tuple[str, ...]
    heads: tuple[str, ...]
    pending: tuple[str, ...]
    reason: str = ""
    tables: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()


@record
class Plan:
    """What an upgrade would do; iterating yields the revisions, in the order in which they would run.

    Attributes:
        state: What the database is now.
        revisions: The revisions that would run; empty when there is nothing to do.
    """

    state: State
    revisions: tuple[Revision, ...]

    def __iter__(self) -> Iterator[Revision]:
        return iter(self.revisions)

    def __len__(self) -> int:
        return len(self.revisions)


@record
class Report:
    """What an upgrade did.

    Attributes:
        applied: Ids of the revisions that were applied, in order; empty when there was nothing to do.
        backup: The copy of the database as it was before, or None when none was made.
        state_before: What the database was before.
        seconds: How long the whole call took.
        heads: The revisions the database is at now; of a rehearsal, those it would be at.
        dangling: How many rows of an SQLite file refer to a row that is not there since this upgrade.
        rehearsed: Whether all this happened to a private copy, and the database was left alone.
        fits: Of a rehearsal, whether there is room for the backup and the journal of the real upgrade; otherwise None.
    """

    applied: tuple[str, ...]
    backup: str | None
    state_before: State
    seconds: float
    heads: tuple[str, ...]
    dangling: int = 0
    rehearsed: bool = False
    fits: bool | None = None


@record
class Progress:
    """How far an upgrade is; given to ``on_progress`` before and while each phase and revision runs, and at the end.

    Attributes:
        revision: Id of the revision that is about to run or running; None before the first and after the last.
        index: How many revisions are done.
        total: How many will run.
        doc: First line of the revision's docstring.
        phase: ``"backup"``, ``"migrate"``, ``"check"``, ``"commit"``, and ``"done"`` once it is permanent.
        fraction: Share of the whole that is done, 0.0 to 1.0; an estimate, as nobody knows how long a revision takes.
    """

    revision: str | None
    index: int
    total: int
    doc: str
    phase: str = "migrate"
    fraction: float = 0.0


@record
class Backup:
    """How the copy made before the first change is kept.

    Attributes:
        keep: How many backups of one database are kept, the newest ones; at least 1.
        folder: Where they are put; None means beside the database. Databases of one name may share a folder.
    """

    keep: int = 1
    folder: str | os.PathLike[str] | None = None


@record
class BackupFile:
    """A backup of one database, as it lies on disk.

    Attributes:
        path: The file.
        revisions: The revisions it is at; empty for a database without any.
        size: Bytes.
        time: When it was made, in seconds since the epoch.
        replaced: True for what ``restore`` kept when it put a backup in its place; no upgrade ever removes it.
    """

    path: str
    revisions: tuple[str, ...]
    size: int
    time: float
    replaced: bool = False


@record
class Space:
    """Room that is needed on one volume.

    Attributes:
        folder: A folder on it.
        needed: Bytes that are needed there.
        free: Bytes that are free there; None where the volume does not say.
    """

    folder: str
    needed: int
    free: int | None

    @property
    def fits(self) -> bool:
        """Whether there is room enough, as far as the volume says."""
        return self.free is None or self.needed <= self.free
