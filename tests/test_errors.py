"""What errors say: a sentence for a user, and what to do."""

from __future__ import annotations

import errno
import pickle

import pytest

from freezekit import ForeignDatabase, FreezekitError, MigrationFailed, NotADatabase
from freezekit.errors import DatabaseAhead, DatabaseInUse, DatabaseUnversioned, UpgradeCancelled

UNUSABLE = "old.notes cannot be used as a database of this program: "
DEVELOPERS = "show this message to the developers of this program."
SAID = {
    "newer": (
        DatabaseAhead("old.notes", ("0009",), ("0002", "0003")),
        (
            "old.notes was written by a newer version of this program (it is at revision 0009; this program knows "
            "revisions up to 0002, 0003). Nothing was changed: open it with the newer version."
        ),
    ),
    "unversioned": (
        DatabaseUnversioned("old.notes", ("note",)),
        (
            "old.notes holds tables (note) but no Alembic version, so it is not known which revision they belong to. "
            "Nothing was changed: adopt() recognises it if its schema is that of one revision; else stamp it with its "
            "revision."
        ),
    ),
    "no database": (
        NotADatabase("old.notes", "it is a folder"),
        UNUSABLE + "it is a folder. Nothing was changed: choose another file, or restore a backup of this one.",
    ),
    "no folder": (
        NotADatabase("old.notes", "its folder does not exist", advice="make the folder, or choose another"),
        UNUSABLE + "its folder does not exist. Nothing was changed: make the folder, or choose another.",
    ),
    "foreign": (
        ForeignDatabase("old.notes", "its application_id is 0x1, not 0x2"),
        UNUSABLE + "its application_id is 0x1, not 0x2. Nothing was changed: open it with the program it belongs to.",
    ),
    "in use": (
        DatabaseInUse("old.notes", 30.0),
        (
            "old.notes is being used by another program (waited 30.0 s). Nothing was changed: close the other program, "
            "or wait until it is done, and try again."
        ),
    ),
    "failed": (
        MigrationFailed("old.notes", "no such table: note\n[SQL: DELETE FROM note]", failed="0002"),
        "The upgrade of old.notes failed in revision 0002: no such table: note. The database is as it was before: "
        + DEVELOPERS,
    ),
    "failed halfway": (
        MigrationFailed("old.notes", "no such table: note", applied=("0001", "0002"), failed="0003", restored=False),
        "The upgrade of old.notes failed in revision 0003: no such table: note. Applied before that and still in "
        "place: 0001, 0002; " + DEVELOPERS,
    ),
    "too little room": (
        MigrationFailed("old.notes", "it needs 2 MB in /, where 1 MB are free", disk_full=True, action="restore"),
        (
            "The restore of old.notes failed: it needs 2 MB in /, where 1 MB are free. The database is as it was "
            "before: make room there and try again."
        ),
    ),
    "not created": (
        MigrationFailed("new.notes", "its folder is read-only", action="creation", advice="choose another folder"),
        "The creation of new.notes failed: its folder is read-only. No file was made: choose another folder.",
    ),
    "cancelled": (UpgradeCancelled("old.notes"), "The upgrade of old.notes was cancelled. Nothing was changed."),
}


@pytest.mark.parametrize(("error", "said"), SAID.values(), ids=SAID)
def test_an_error_says_in_a_sentence_what_to_do(error: FreezekitError, said: str) -> None:
    """Also after the way to another process."""
    assert str(error) == said
    assert str(pickle.loads(pickle.dumps(error))) == said


def test_a_cause_that_tells_of_a_full_disk_changes_what_to_do() -> None:
    """It is known only once the error is raised, and stays known in another process, where the cause is not."""
    error = MigrationFailed("old.notes", "it could not be written")
    error.__cause__ = OSError(errno.ENOSPC, "whatever the system calls it")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one).endswith("The database is as it was before: make room there and try again.")
