"""create tables

Revision ID: 0001
Revises:
Create Date: 2023-02-06 09:12:44.120331

"""

from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = "0001"
down_revision: Union[str, Sequence[str], None] = None
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    """Create notebooks, their notes and the notes' attachments."""
    op.create_table(
        "notebook",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_notebook"),
    )
    op.create_table(
        "note",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("notebook_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=True),
        sa.Column("written_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(["notebook_id"], ["notebook.id"], name="fk_note_notebook", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_note"),
    )
    op.create_table(
        "attachment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("note_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["note_id"], ["note.id"], name="fk_attachment_note", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_attachment"),
    )


def downgrade() -> None:
    """Drop everything."""
    op.drop_table("attachment")
    op.drop_table("note")
    op.drop_table("notebook")
