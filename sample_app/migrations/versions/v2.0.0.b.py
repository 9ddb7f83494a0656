"""count the words of each note

Revision ID: v2.0.0.b
Revises: v2.0.0.a
Create Date: 2025-03-04 13:47:58.925580

"""

from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa

from sample_app.migrations.text import word_count


# revision identifiers, used by Alembic.
revision: str = "v2.0.0.b"
down_revision: Union[str, Sequence[str], None] = "v2.0.0.a"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None

note = sa.table("note", sa.column("id", sa.Integer), sa.column("body", sa.Text), sa.column("word_count", sa.Integer))


def upgrade() -> None:
    """Add note.word_count and compute it."""
    with op.batch_alter_table("note") as batch_op:
        batch_op.add_column(sa.Column("word_count", sa.Integer(), server_default="0", nullable=False))
    connection = op.get_bind()
    for note_id, body in connection.execute(sa.select(note.c.id, note.c.body)).all():
        connection.execute(note.update().where(note.c.id == note_id).values(word_count=word_count(body)))


def downgrade() -> None:
    """Drop note.word_count."""
    with op.batch_alter_table("note") as batch_op:
        batch_op.drop_column("word_count")
