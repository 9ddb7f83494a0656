"""colours of notebooks, pinned notes

Revision ID: 0002
Revises: 0001
Create Date: 2023-03-20 18:40:02.553190

"""

from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = "0002"
down_revision: Union[str, Sequence[str], None] = "0001"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    """Add notebook.colour and note.pinned."""
    op.add_column("notebook", sa.Column("colour", sa.String(7), nullable=True))
    op.add_column("note", sa.Column("pinned", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Forget colours and pins."""
    with op.batch_alter_table("note") as batch_op:
        batch_op.drop_column("pinned")
    with op.batch_alter_table("notebook") as batch_op:
        batch_op.drop_column("colour")
