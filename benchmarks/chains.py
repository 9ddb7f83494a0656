"""Projects with histories of a given length, as applications have them: tables that come, grow and are rebuilt."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import alembic

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER = '''"""{title}

Revision ID: {revision}
Revises: {shown}
Create Date: 2026-01-{day:02} 09:{minute:02}:00.000000

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = {revision!r}
down_revision: Union[str, Sequence[str], None] = {down!r}
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    """Upgrade schema."""
{upgrade}

def downgrade() -> None:
    """Downgrade schema."""
    raise NotImplementedError
'''
_CREATE = """\
    op.create_table(
        {table!r},
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("{parent}_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("amount", sa.Numeric(precision=10, scale=2), nullable=True),
        sa.Column("is_done", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["{parent}_id"], ["{parent}.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_{table}_name"),
    )
"""
_ADD = '    op.add_column({table!r}, sa.Column("extra_{number}", sa.String(length=40), nullable=True))\n'
_INDEX = '    op.create_index("ix_{table}_{number}", {table!r}, ["created_at", "name"])\n'
_ROWS = """\
    rows = sa.table({table!r}, sa.column("name", sa.String), sa.column("body", sa.Text))
    op.bulk_insert(rows, [{{"name": f"entry {{number}}", "body": "text " * 20}} for number in range(5)])
"""
_REBUILD = """\
    with op.batch_alter_table({table!r}) as batch_op:
        batch_op.alter_column("name", existing_type=sa.String(length=120), type_=sa.String(length=200))
        batch_op.create_check_constraint("ck_{table}_amount", "amount >= 0")
"""
# Ten revisions make two tables, "order" after "customer"; every fifth time one of them is rebuilt. The last only adds
# a column, so that one pending revision is the same work in a chain of any length.
_STEPS = (
    ("customer", _CREATE),
    ("customer", _ADD),
    ("customer", _INDEX),
    ("order", _CREATE),
    ("order", _ADD),
    ("customer", _ROWS),
    ("order", _ADD),
    ("order", _REBUILD),
    ("order", _INDEX),
    ("customer", _ADD),
)
_REBUILD_EVERY = 5


def revision_id(number: int) -> str:
    """Return the id of one revision, counted from 0; it looks like those that Alembic draws."""
    return hashlib.sha256(b"%d" % number).hexdigest()[:12]


def _body(number: int) -> tuple[str, str]:
    """Return title and body of one revision."""
    block, position = divmod(number, len(_STEPS))
    kind, template = _STEPS[position]
    if template is _REBUILD and block % _REBUILD_EVERY:
        template = _ADD
    parent = f"customer_{block}" if kind == "order" else f"customer_{max(block - 1, 0)}"
    body = template.format(table=f"{kind}_{block}", parent=parent, number=number)
    return f"step {number} for {kind}_{block}", body


def tables_of_last_block(count: int) -> tuple[str, str]:
    """Return the tables that the last ten revisions of a chain make and change."""
    block = (count - 1) // len(_STEPS)
    return f"customer_{block}", f"order_{block}"


def last_statement(count: int) -> str:
    """Return the SQL that the last revision of a chain boils down to: what the bare floor runs."""
    table, _ = tables_of_last_block(count)
    return f"ALTER TABLE {table} ADD COLUMN extra_{count - 1} VARCHAR(40)"


def write_chain(project: Path, package: str, count: int) -> Path:
    """Write a package with a chain of revisions and Alembic's stock env.py.

    Args:
        project: Folder the package is imported from.
        package: Its name; the scripts are in its folder ``migrations``.
        count: Length of the chain, a multiple of ten.

    Returns:
        The folder of ``env.py``.
    """
    folder = project / package / "migrations"
    versions = folder / "versions"
    versions.mkdir(parents=True)
    (project / package / "__init__.py").touch()
    stock = Path(alembic.__file__).parent / "templates" / "generic"
    for name in ("env.py", "script.py.mako"):
        shutil.copyfile(stock / name, folder / name)
    for number in range(count):
        title, body = _body(number)
        revision, down = revision_id(number), revision_id(number - 1) if number else None
        shown, day, minute = down or "", number // 60 + 1, number % 60
        text = _HEADER.format(
            title=title, revision=revision, shown=shown, day=day, minute=minute, down=down, upgrade=body
        )
        (versions / f"{revision}_step_{number}.py").write_text(text, encoding="utf-8")
    return folder


def write_configuration(project: Path, packages: Iterable[str], *, snapshot: bool = True) -> None:
    """Write the pyproject.toml that tells the hooks which chains ship."""
    tables = (
        f'[[tool.freezekit.migrations]]\nscript_location = "{package}:migrations"\nsnapshot = {str(snapshot).lower()}\n'
        for package in packages
    )
    (project / "pyproject.toml").write_text("\n".join(tables), encoding="utf-8")
