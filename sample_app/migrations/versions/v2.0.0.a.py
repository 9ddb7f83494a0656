"""every notebook has a name of its own, and a position

Revision ID: v2.0.0.a
Revises: e3a95f1786bc
Create Date: 2025-03-03 10:20:15.309114

"""

from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa

from sample_app.migrations.text import unused


# revision identifiers, used by Alembic.
revision: str = "v2.0.0.a"
down_revision: Union[str, Sequence[str], None] = "e3a95f1786bc"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None

notebook = sa.table(
    "notebook", sa.column("id", sa.Integer), sa.column("name", sa.String), sa.column("position", sa.Integer)
)


def upgrade() -> None:
    """Name the nameless, number equal names, then forbid both; keep the order that was shown."""
    with op.batch_alter_table("notebook") as batch_op:
        batch_op.add_column(sa.Column("position", sa.Integer(), server_default="0", nullable=False))
    connection = op.get_bind()
    rows = connection.execute(sa.select(notebook.c.id, notebook.c.name).order_by(notebook.c.id)).all()
    taken: set[str] = set()
    for position, (notebook_id, name) in enumerate(rows, 1):
        values = {"name": unused(name or "Untitled", taken, " "), "position": position}
        connection.execute(notebook.update().where(notebook.c.id == notebook_id).values(values))
    with op.batch_alter_table("notebook") as batch_op:
        batch_op.alter_column("name", existing_type=sa.String(80), nullable=False)
        batch_op.create_unique_constraint("uq_notebook_name", ["name"])


def downgrade() -> None:
    """Allow notebooks without a name again."""
    with op.batch_alter_table("notebook") as batch_op:
        batch_op.drop_constraint("uq_notebook_name", type_="unique")
        batch_op.alter_column("name", existing_type=sa.String(80), nullable=True)
        batch_op.drop_column("position")
