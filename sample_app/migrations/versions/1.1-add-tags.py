"""tags in tables of their own

Revision ID: 5d1c0e8f27aa
Revises: 0002
Create Date: 2024-01-15 11:03:59.004127

"""

from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = "5d1c0e8f27aa"
down_revision: Union[str, Sequence[str], None] = "0002"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None

note = sa.table("note", sa.column("id", sa.Integer), sa.column("labels", sa.Text))
tag = sa.table("tag", sa.column("id", sa.Integer), sa.column("name", sa.String))
note_tag = sa.table("note_tag", sa.column("note_id", sa.Integer), sa.column("tag_id", sa.Integer))


def upgrade() -> None:
    """Move the comma-separated labels of each note into tag and note_tag."""
    op.create_table(
        "tag",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tag"),
        sa.UniqueConstraint("name", name="uq_tag_name"),
    )
    op.create_table(
        "note_tag",
        sa.Column("note_id", sa.Integer(), nullable=False),
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["note_id"], ["note.id"], name="fk_note_tag_note", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tag_id"], ["tag.id"], name="fk_note_tag_tag", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("note_id", "tag_id", name="pk_note_tag"),
    )
    move_labels(op.get_bind())
    with op.batch_alter_table("note") as batch_op:
        batch_op.drop_column("labels")


def move_labels(connection: sa.Connection) -> None:
    """Insert the tags in the order in which they first appear, each once, and who has them."""
    ids: dict[str, int] = {}
    links: list[dict[str, int]] = []
    for note_id, labels in connection.execute(sa.select(note.c.id, note.c.labels).order_by(note.c.id)):
        names = dict.fromkeys(filter(None, map(str.strip, (labels or "").split(","))))
        links += [{"note_id": note_id, "tag_id": ids.setdefault(name, len(ids) + 1)} for name in names]
    if links:
        connection.execute(tag.insert(), [{"id": tag_id, "name": name} for name, tag_id in ids.items()])
        connection.execute(note_tag.insert(), links)


def downgrade() -> None:
    """Write the tags of each note back into its labels."""
    op.add_column("note", sa.Column("labels", sa.Text(), nullable=True))
    connection = op.get_bind()
    labels: dict[int, list[str]] = {}
    query = sa.select(note_tag.c.note_id, tag.c.name).join_from(note_tag, tag, note_tag.c.tag_id == tag.c.id)
    for note_id, name in connection.execute(query.order_by(note_tag.c.note_id, tag.c.id)):
        labels.setdefault(note_id, []).append(name)
    for note_id, names in labels.items():
        connection.execute(note.update().where(note.c.id == note_id).values(labels=", ".join(names)))
    op.drop_table("note_tag")
    op.drop_table("tag")
