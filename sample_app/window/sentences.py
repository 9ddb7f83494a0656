"""What the window says about a document it cannot open: a plain sentence for each reason, and what to do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import freezekit
from sample_app import documents

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = b"SQLite format 3\0"
_UNCHANGED = "The file was not changed."
# In every version of the document.
_TABLES = {"notebook", "note"}


class Choice(Enum):
    """What the window offers to do instead; the value is the text of the button."""

    NONE = ""
    RETRY = "Try Again"
    COPY = "Open a Temporary Copy"
    RESTORE = "Restore the Backup"


@dataclass(frozen=True)
class Refusal:
    """Why a document is not opened.

    Attributes:
        sentence: The reason, plainly.
        advice: What to do, and what became of the file.
        choice: What the window can do about it.
        details: The exact message, for those who are asked to look into it.
        backup: With ``Choice.RESTORE``, the backup.
    """

    sentence: str
    advice: str = _UNCHANGED
    choice: Choice = Choice.NONE
    details: str = ""
    backup: str = ""


def refusal(error: Exception, path: Path) -> Refusal:  # noqa: C901, PLR0911 - one for each reason
    """Return what to say about an error.

    Args:
        error: What opening, saving or restoring raised.
        path: The document.
    """
    name = f"“{path.name}”"
    match error:
        case freezekit.DatabaseAhead():
            advice = f"Please open it with the newer version. {_UNCHANGED}"
            return Refusal(f"{name} was written by a newer version of this program.", advice, details=str(error))
        case freezekit.DatabaseUnversioned() if _TABLES.isdisjoint(error.tables):
            return Refusal(f"{name} belongs to another program.", details=str(error))
        case freezekit.DatabaseUnversioned():
            sentence = f"{name} does not say which version of this program wrote it."
            advice = f"Somebody has changed it by hand. {_UNCHANGED}"
            return Refusal(sentence, advice, details=str(error))
        case freezekit.ForeignDatabase():
            return Refusal(f"{name} belongs to another program.", details=str(error))
        case freezekit.NotADatabase() if _begins_like_a_document(path):
            return _damaged(name, error, path)
        case freezekit.NotADatabase():
            return Refusal(f"{name} is not a document of this program.", details=str(error))
        case freezekit.DatabaseInUse():
            advice = f"Please close it there, and try again. {_UNCHANGED}"
            return Refusal(f"{name} is being used by another program.", advice, Choice.RETRY, str(error))
        case documents.ReadOnlyDocument():
            advice = f"A temporary copy of it can be brought up to date and looked at. {_UNCHANGED}"
            sentence = f"{name} was written by an older version, and cannot be brought up to date: it is read-only."
            return Refusal(sentence, advice, Choice.COPY, str(error))
        case freezekit.MigrationFailed() if error.disk_full:
            sentence = f"There is too little room on the disk to bring {name} up to date."
            return Refusal(sentence, f"Please make room there, and try again. {_UNCHANGED}", Choice.RETRY, str(error))
        case freezekit.MigrationFailed() if not path.exists():
            return Refusal(f"{name} could not be made.", "Please choose another folder.", details=str(error))
        case freezekit.MigrationFailed():
            advice = "It is as it was before." if error.restored else ""
            return Refusal(f"{name} could not be brought up to date.", advice, details=str(error))
    return Refusal(f"{name} could not be used.", str(error))


def _begins_like_a_document(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_HEADER)) == _HEADER
    except OSError:
        return False


def _damaged(name: str, error: Exception, path: Path) -> Refusal:
    sentence = f"{name} is damaged and cannot be opened."
    backups = documents.migrations().backups(path)
    if not backups:
        return Refusal(sentence, f"There is no backup beside it. {_UNCHANGED}", details=str(error))
    made = time.strftime("%d %B %Y, %H:%M", time.localtime(backups[0].time))
    advice = f"There is a backup of {made}. Restoring it keeps the damaged file beside it."
    return Refusal(sentence, advice, Choice.RESTORE, str(error), backups[0].path)
