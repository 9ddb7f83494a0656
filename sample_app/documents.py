"""Open, fill and export documents; freezekit brings each one up to date first.

SQLAlchemy is imported by the functions that read or write notes, so that nothing here delays the start of the program.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import sqlite3
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import freezekit
from sample_app.words import count_words, slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from sqlalchemy import Table
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement

    from sample_app.models import Note, Notebook, Tag

MIGRATIONS = "sample_app:migrations"


class DocumentError(Exception):
    """The request cannot be carried out; nothing was changed."""

    exit_code = 1


class ReadOnlyDocument(DocumentError):
    """The document is of an older version, and cannot be written; nothing was changed."""


@cache
def migrations() -> freezekit.Migrations:
    """Return the history of the document format, wherever this program keeps it."""
    # The build hooks read the literal in this call; a constant's name would tell them nothing.
    return freezekit.locate("sample_app:migrations")


def status(path: Path) -> freezekit.Status:
    """Return where a document stands; nothing is changed or created."""
    return migrations().status(path)


def create(path: Path) -> freezekit.Report:
    """Create an empty document.

    Raises:
        DocumentError: The file exists, or its folder does not.
    """
    _refuse_target(path)
    return migrations().create(path)


def open_document(path: Path, **how: Any) -> freezekit.Report:
    """Bring a document up to date, if it is not.

    Args:
        path: The document.
        how: What ``Migrations.upgrade`` takes, such as ``on_progress``, ``cancel`` and ``timeout``.

    Raises:
        DocumentError: There is no such file.
        ReadOnlyDocument: It is old, and it or its folder is read-only.
        FreezekitError: It cannot be brought up to date; it is as it was.
    """
    _require_file(path)
    if not is_writable(path) and status(path).state is freezekit.State.BEHIND:
        raise ReadOnlyDocument(f"{path} is of an older version, and read-only.")
    return migrations().upgrade(path, **how)


def is_writable(path: Path) -> bool:
    """Return whether a document can be changed: SQLite writes beside it, too."""
    return os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)


def contents(path: Path) -> dict[str, Any]:
    """Return what a current document holds, as plain data that JSON can express."""
    import sqlalchemy as sa

    from sample_app.models import Notebook, Tag

    with _session(path) as session:
        notebooks = session.scalars(sa.select(Notebook).order_by(Notebook.position, Notebook.id))
        return {
            "notebooks": [_notebook_data(notebook) for notebook in notebooks],
            "tags": list(session.scalars(sa.select(Tag.name).order_by(Tag.name))),
        }


def add(  # noqa: PLR0913 - one argument for each thing a note has
    path: Path,
    *,
    notebook: str,
    title: str,
    body: str | None = None,
    tags: Iterable[str] = (),
    written_on: date | None = None,
    attach: Iterable[Path] = (),
) -> freezekit.Report:
    """Add a note, with its notebook and tags where they are new; the document is brought up to date first.

    Raises:
        DocumentError: There is no such document or attachment, or a name is empty or too long.
        FreezekitError: The document cannot be brought up to date; it is as it was.
    """
    from sample_app.models import Attachment, Note

    tags = list(dict.fromkeys(tags))
    _require_names(notebook=(notebook, 80), title=(title, 200), **{f"tag {tag!r}": (tag, 40) for tag in tags})
    files = [(file.name, _read(file)) for file in attach]
    report = open_document(path)
    with _session(path) as session:
        book = _notebook(session, notebook)
        note = Note(title=title, body=body, written_on=written_on, word_count=count_words(body))
        note.slug = slug(title, {other.slug for other in book.notes})
        note.tags = [_tag(session, tag) for tag in tags]
        note.attachments = [
            Attachment(
                file_name=name, media_type=mimetypes.guess_type(name)[0], byte_count=len(content), content=content
            )
            for name, content in files
        ]
        book.notes.append(note)
        session.commit()
    return report


def export(path: Path, target: Path, tag: str) -> int:
    """Save the notes that have a tag, and what belongs to them, to a new document of the current version.

    The document itself is only read: an old one is brought up to date in a copy. The target appears when complete.

    Returns:
        How many notes were saved; at least one.

    Raises:
        DocumentError: The document does not exist, no note in it has the tag, or the target exists.
        FreezekitError: The document cannot be read by this program.
    """
    _require_file(path)
    _refuse_target(target)
    with TemporaryDirectory(prefix=".export-", dir=target.parent) as scratch:
        source = current_copy(path, Path(scratch, "source.notes"))
        subset = Path(scratch, "subset.notes")
        count = _copy_tagged(source, subset, tag)
        if not count:
            raise DocumentError(f"No note in {path} has the tag {tag!r}.")
        _refuse_target(target)
        subset.rename(target)
    return count


def current_copy(path: Path, copy: Path, **how: Any) -> Path:
    """Return the document if it is current, else an up-to-date copy of it; the document is only read.

    Args:
        path: The document.
        copy: The file to make if there is need.
        how: What ``Migrations.upgrade`` takes.

    Raises:
        DocumentError: It is empty.
        FreezekitError: It cannot be read by this program; the copy is not there, or incomplete.
    """
    state = status(path).state
    if state is freezekit.State.CURRENT:
        return path
    if state is freezekit.State.NEW:
        raise DocumentError(f"{path} is empty.")
    if state is not freezekit.State.BEHIND:
        migrations().upgrade(path)  # refused, with the reason
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    migrations().upgrade(copy, **{"backup": None, **how})
    return copy


def _copy_tagged(source: Path, target: Path, tag: str) -> int:
    """Copy the notes that have the tag, their notebooks, tags and attachments; return how many notes."""
    import sqlalchemy as sa

    from sample_app.models import Base

    with _session(source) as session:
        chosen = _chosen(tag)
        rows = {
            table: [dict(row) for row in session.execute(sa.select(table).where(chosen[table.name])).mappings()]
            for table in Base.metadata.sorted_tables
        }
    notes = len(rows[Base.metadata.tables["note"]])
    if notes:
        migrations().upgrade(target)
        _replace_rows(target, rows)
    return notes


def _chosen(tag: str) -> dict[str, ColumnElement[bool]]:
    """Return for each table the condition that picks the rows belonging to the notes with the tag."""
    import sqlalchemy as sa

    from sample_app.models import Attachment, Note, Notebook, Tag, note_tag

    tagged = sa.select(note_tag.c.note_id).join(Tag).where(Tag.name == tag).scalar_subquery()
    return {
        "notebook": Notebook.id.in_(sa.select(Note.notebook_id).where(Note.id.in_(tagged))),
        "note": Note.id.in_(tagged),
        "tag": Tag.id.in_(sa.select(note_tag.c.tag_id).where(note_tag.c.note_id.in_(tagged))),
        "note_tag": note_tag.c.note_id.in_(tagged),
        "attachment": Attachment.note_id.in_(tagged),
    }


def _replace_rows(path: Path, rows: dict[Table, list[dict[str, Any]]]) -> None:
    """Fill a fresh document with these rows and no others: not with the starter tags either."""
    with _session(path) as session:
        for table in reversed(rows):
            session.execute(table.delete())
        for table, values in rows.items():
            if values:
                session.execute(table.insert(), values)
        session.commit()


@contextmanager
def _session(path: Path) -> Iterator[Session]:
    """Open a session on a current document; what the database refuses becomes a DocumentError."""
    import sqlalchemy as sa
    from sqlalchemy.orm import Session

    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=sa.NullPool)
    sa.event.listen(engine, "connect", _enforce_foreign_keys)
    try:
        with Session(engine) as session:
            yield session
    except sa.exc.DBAPIError as error:
        raise DocumentError(f"{path} cannot be read or written: {error.orig}") from error


def _enforce_foreign_keys(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")


def _notebook(session: Session, name: str) -> Notebook:
    """Return the notebook of this name, new at the end if there is none."""
    import sqlalchemy as sa

    from sample_app.models import Notebook

    notebook = session.scalar(sa.select(Notebook).where(Notebook.name == name))
    if notebook is None:
        last = session.scalar(sa.select(sa.func.max(Notebook.position))) or 0
        notebook = Notebook(name=name, position=last + 1)
        session.add(notebook)
    return notebook


def _tag(session: Session, name: str) -> Tag:
    """Return the tag of this name, new if there is none."""
    import sqlalchemy as sa

    from sample_app.models import Tag

    return session.scalar(sa.select(Tag).where(Tag.name == name)) or Tag(name=name)


def _notebook_data(notebook: Notebook) -> dict[str, Any]:
    return {"name": notebook.name, "colour": notebook.colour, "notes": [_note_data(note) for note in notebook.notes]}


def _note_data(note: Note) -> dict[str, Any]:
    return {
        "title": note.title,
        "slug": note.slug,
        "body": note.body,
        "written_on": note.written_on and note.written_on.isoformat(),
        "pinned": note.pinned,
        "word_count": note.word_count,
        "tags": [tag.name for tag in note.tags],
        "attachments": [
            {
                "file_name": attachment.file_name,
                "media_type": attachment.media_type,
                "byte_count": attachment.byte_count,
                "sha256": None if attachment.content is None else hashlib.sha256(attachment.content).hexdigest(),
            }
            for attachment in note.attachments
        ],
    }


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise DocumentError(f"There is no document {path}.")


def _refuse_target(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise DocumentError(f"{path} exists already.")
    if not path.parent.is_dir():
        raise DocumentError(f"There is no folder {path.parent}.")


def _require_names(**names: tuple[str, int]) -> None:
    for what, (name, longest) in names.items():
        if not name.strip():
            raise DocumentError(f"The {what} must not be empty.")
        if len(name) > longest:
            raise DocumentError(f"The {what} must not be longer than {longest} characters.")


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise DocumentError(f"There is no file {path} to attach.")
    return path.read_bytes()
