"""The tables of a document, as the current release has them."""

from __future__ import annotations

# SQLAlchemy evaluates the annotations of mapped columns, so the names in them are needed at run time.
from datetime import date  # noqa: TC003

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Base of all tables; every constraint has a name, so that a migration can drop it."""

    metadata = sa.MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )


note_tag = sa.Table(
    "note_tag",
    Base.metadata,
    sa.Column("note_id", sa.ForeignKey("note.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag_id", sa.ForeignKey("tag.id", ondelete="CASCADE"), primary_key=True),
)


class Notebook(Base):
    """A named pile of notes."""

    __tablename__ = "notebook"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), unique=True)
    colour: Mapped[str | None] = mapped_column(sa.String(7))
    position: Mapped[int] = mapped_column(server_default="0")

    notes: Mapped[list[Note]] = relationship(
        back_populates="notebook", cascade="all, delete-orphan", passive_deletes=True, order_by="Note.id"
    )


class Note(Base):
    """A note, in one notebook."""

    __tablename__ = "note"
    __table_args__ = (sa.UniqueConstraint("notebook_id", "slug"), sa.Index(None, "notebook_id", "title"))

    id: Mapped[int] = mapped_column(primary_key=True)
    notebook_id: Mapped[int] = mapped_column(sa.ForeignKey("notebook.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(sa.String(200))
    body: Mapped[str | None] = mapped_column(sa.Text)
    written_on: Mapped[date | None]
    pinned: Mapped[bool] = mapped_column(server_default=sa.false())
    word_count: Mapped[int] = mapped_column(server_default="0")
    slug: Mapped[str] = mapped_column(sa.String(200))

    notebook: Mapped[Notebook] = relationship(back_populates="notes")
    tags: Mapped[list[Tag]] = relationship(secondary=note_tag, order_by="Tag.name", passive_deletes=True)
    attachments: Mapped[list[Attachment]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="Attachment.id"
    )


class Tag(Base):
    """A word that notes are found by."""

    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(40), unique=True)


class Attachment(Base):
    """A file kept with a note; without content, only its name is known."""

    __tablename__ = "attachment"

    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(sa.ForeignKey("note.id", ondelete="CASCADE"), index=True)
    file_name: Mapped[str] = mapped_column(sa.String(120))
    media_type: Mapped[str | None] = mapped_column(sa.String(80))
    byte_count: Mapped[int | None]
    content: Mapped[bytes | None]
