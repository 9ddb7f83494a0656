"""rename text to body

Revision ID: e3a95f1786bc
Revises: b82f64d01c7a
Create Date: 2024-02-02 08:55:31.660408

"""

from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = "e3a95f1786bc"
down_revision: Union[str, Sequence[str], None] = "b82f64d01c7a"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    """Rename note.text to note.body."""
    with op.batch_alter_table("note") as batch_op:
        batch_op.alter_column("text", new_column_name="body", existing_type=sa.Text(), existing_nullable=True)


def downgrade() -> None:
    """Rename note.body to note.text."""
    with op.batch_alter_table("note") as batch_op:
        batch_op.alter_column("body", new_column_name="text", existing_type=sa.Text(), existing_nullable=True)
