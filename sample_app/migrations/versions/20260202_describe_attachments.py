"""describe attachments

Revision ID: 9f6b2a7d418e
Revises: c40d7be91f35
Create Date: 2026-02-02 09:44:20.731955

"""

from typing import Sequence, Union
import pathlib

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = "9f6b2a7d418e"
down_revision: Union[str, Sequence[str], None] = "c40d7be91f35"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None

# A table of our own: what the operating system knows differs from one to the next.
MEDIA_TYPES = {".gif": "image/gif", ".pdf": "application/pdf", ".png": "image/png", ".txt": "text/plain"}

attachment = sa.table(
    "attachment",
    sa.column("id", sa.Integer),
    sa.column("file_name", sa.String),
    sa.column("content", sa.LargeBinary),
    sa.column("media_type", sa.String),
    sa.column("byte_count", sa.Integer),
)


def upgrade() -> None:
    """Rename attachment.name to file_name, and say what kind of file it is and how big."""
    with op.batch_alter_table("attachment") as batch_op:
        batch_op.alter_column(
            "name", new_column_name="file_name", existing_type=sa.String(120), existing_nullable=False
        )
        batch_op.add_column(sa.Column("media_type", sa.String(80), nullable=True))
        batch_op.add_column(sa.Column("byte_count", sa.Integer(), nullable=True))
    connection = op.get_bind()
    query = sa.select(attachment.c.id, attachment.c.file_name, sa.func.length(attachment.c.content))
    for attachment_id, file_name, byte_count in connection.execute(query).all():
        media_type = MEDIA_TYPES.get(pathlib.PurePath(file_name).suffix.lower())
        values = {"media_type": media_type, "byte_count": byte_count}
        connection.execute(attachment.update().where(attachment.c.id == attachment_id).values(values))


def downgrade() -> None:
    """Forget the descriptions, and rename attachment.file_name to name."""
    with op.batch_alter_table("attachment") as batch_op:
        batch_op.drop_column("byte_count")
        batch_op.drop_column("media_type")
        batch_op.alter_column(
            "file_name", new_column_name="name", existing_type=sa.String(120), existing_nullable=False
        )
