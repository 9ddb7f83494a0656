"""Open a document on a thread of its own: bring it up to date, and read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sample_app import documents

if TYPE_CHECKING:
    from freezekit import Report

LOCK_SECONDS = 3.0
"""How long another program is waited for."""


@dataclass(frozen=True)
class Opened:
    """An open document.

    Attributes:
        path: The document that the user knows.
        file: The file that is read and written: the same, but for a temporary copy.
        contents: What is in it.
        report: What the upgrade did.
        is_writable: Whether notes can be added.
        folder: Of a temporary copy, the folder that goes when the document is closed.
    """

    path: Path
    file: Path
    contents: dict[str, Any]
    report: Report | None = None
    is_writable: bool = True
    folder: TemporaryDirectory[str] | None = None

    @property
    def is_copy(self) -> bool:
        """Whether this is a temporary copy."""
        return self.folder is not None

    @property
    def changes(self) -> list[str]:
        """What the upgrade changed, a line for each revision, oldest first."""
        known = documents.migrations().manifest.by_id
        docs = [known[one].doc for one in self.report.applied] if self.report else []
        return [doc[:1].upper() + doc[1:] for doc in docs]

    def close(self) -> None:
        """Remove what was only temporary."""
        if self.folder is not None:
            self.folder.cleanup()


def open_document(path: Path, **how: Any) -> Opened:
    """Bring a document up to date, and read it.

    Args:
        path: The document.
        how: ``on_progress`` and ``cancel``, as for an upgrade.

    Raises:
        DocumentError: There is no such file; or it is old and read-only.
        FreezekitError: It cannot be brought up to date; it is as it was.
    """
    report = documents.open_document(path, timeout=LOCK_SECONDS, **how)
    return Opened(path, path, documents.contents(path), report, documents.is_writable(path))


def open_copy(path: Path, **how: Any) -> Opened:
    """Bring a temporary copy of a document up to date, and read that; the document is only read.

    Raises:
        FreezekitError: It cannot be brought up to date; the copy is gone.
    """
    folder = TemporaryDirectory(prefix="notes-")
    try:
        file = documents.current_copy(path, Path(folder.name, path.name), **how)
        return Opened(path, file, documents.contents(file), is_writable=False, folder=folder)
    except BaseException:
        folder.cleanup()
        raise


def create_document(path: Path, **_how: Any) -> Opened:
    """Create an empty document, and read it.

    Raises:
        DocumentError: The file exists, or its folder does not.
    """
    documents.create(path)
    return Opened(path, path, documents.contents(path))


def restore_document(path: Path, backup: str, **how: Any) -> Opened:
    """Put a backup in place of a damaged document, and open that.

    Raises:
        FreezekitError: It cannot be put there; nothing was changed.
    """
    documents.migrations().restore(backup, path, timeout=LOCK_SECONDS)
    return open_document(path, **how)


def add_note(opened: Opened, note: dict[str, Any], **_how: Any) -> Opened:
    """Add a note, and read the document again.

    Raises:
        DocumentError: A name is empty or too long.
    """
    documents.add(opened.file, **note)
    return Opened(opened.path, opened.file, documents.contents(opened.file))


def save_subset(opened: Opened, target: Path, tag: str, **_how: Any) -> int:
    """Save the notes that have a tag to a new document; return how many.

    Raises:
        DocumentError: The target exists, or its folder does not.
    """
    return documents.export(opened.file, target, tag)


NOT_STOPPED = (create_document, add_note, save_subset)
"""What does not ask ``cancel``: it is done in a moment."""
