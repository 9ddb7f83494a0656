"""a slug for each note

Revision ID: c40d7be91f35
Revises: v2.0.1
Create Date: 2026-01-14 15:09:37.246702

"""

from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa

from sample_app.migrations.text import unused


# revision identifiers, used by Alembic.
revision: str = "c40d7be91f35"
down_revision: Union[str, Sequence[str], None] = "v2.0.1"
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None

note = sa.table(
    "note",
    sa.column("id", sa.Integer),
    sa.column("notebook_id", sa.Integer),
    sa.column("title", sa.String),
    sa.column("slug", sa.String),
)


def upgrade() -> None:
    """Add note.slug, unique in its notebook, made from the title."""
    op.add_column("note", sa.Column("slug", sa.String(200), nullable=True))
    fill_slugs(op.get_bind())
    with op.batch_alter_table("note") as batch_op:
        batch_op.alter_column("slug", existing_type=sa.String(200), nullable=False)
        batch_op.create_unique_constraint("uq_note_notebook_id_slug", ["notebook_id", "slug"])


def fill_slugs(connection: sa.Connection) -> None:
    """Number equal slugs within a notebook in the order of the notes."""
    import inflection

    taken: dict[int, set[str]] = {}
    query = sa.select(note.c.id, note.c.notebook_id, note.c.title).order_by(note.c.id)
    for note_id, notebook_id, title in connection.execute(query).all():
        slug = unused(inflection.parameterize(title) or "note", taken.setdefault(notebook_id, set()), "-")
        connection.execute(note.update().where(note.c.id == note_id).values(slug=slug))


def downgrade() -> None:
    """Drop note.slug."""
    with op.batch_alter_table("note") as batch_op:
        batch_op.drop_constraint("uq_note_notebook_id_slug", type_="unique")
        batch_op.drop_column("slug")
