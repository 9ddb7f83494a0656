"""tags to begin with

Revision ID: b82f64d01c7a
Revises: 5d1c0e8f27aa
Create Date: 2024-01-22 16:27:10.871265

"""

from typing import Sequence, Union
import json
import pathlib

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = "b82f64d01c7a"
down_revision: Union[str, Sequence[str], None] = "5d1c0e8f27aa"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None

STARTER_TAGS = pathlib.Path(__file__).parent.parent / "data" / "starter_tags.json"

tag = sa.table("tag", sa.column("id", sa.Integer), sa.column("name", sa.String))


def upgrade() -> None:
    """Add the starter tags that the document does not have yet."""
    connection = op.get_bind()
    present = set(connection.scalars(sa.select(tag.c.name)))
    for name in json.loads(STARTER_TAGS.read_text(encoding="utf-8")):
        if name not in present:
            connection.execute(tag.insert().values(name=name))


def downgrade() -> None:
    """Keep the tags: some of them may be in use."""
