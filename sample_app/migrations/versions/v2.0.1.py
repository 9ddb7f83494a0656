"""find notes and attachments faster

Revision ID: v2.0.1
Revises: v2.0.0.b
Create Date: 2025-06-11 07:31:26.418833

"""

from typing import Sequence, Union

from alembic import op


# revision identifiers, used by Alembic.
revision: str = "v2.0.1"
down_revision: Union[str, Sequence[str], None] = "v2.0.0.b"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    """Index the notes of a notebook by title, and attachments by note."""
    op.create_index("ix_note_notebook_id_title", "note", ["notebook_id", "title"])
    op.create_index("ix_attachment_note_id", "attachment", ["note_id"])


def downgrade() -> None:
    """Drop both indexes."""
    op.drop_index("ix_attachment_note_id", "attachment")
    op.drop_index("ix_note_notebook_id_title", "note")
