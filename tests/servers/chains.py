"""Histories for servers: tables, keys, indexes, data migrations that read and branch, renames, a view and a trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from histories import Project

ROWS = 300


def long_chain(project: Project) -> Project:
    """Write a history in which every kind of change happens, and data depends on what was read before."""
    bodies = [
        """
        op.create_table("book", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(80)))
        op.create_table(
            "note",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("book", sa.Integer, sa.ForeignKey("book.id")),
            sa.Column("body", sa.Text),
        )
        """,
        f"""
        book = sa.table("book", sa.column("id"), sa.column("name"))
        note = sa.table("note", sa.column("id"), sa.column("book"), sa.column("body"))
        op.bulk_insert(book, [dict(id=n, name=f"book {{n}}") for n in range(1, 21)])
        op.bulk_insert(note, [dict(id=n, book=n % 20 + 1, body=f"Née {{n}}% 'x'") for n in range(1, {ROWS})])
        """,
        """
        op.create_index("note_book", "note", ["book"])
        op.add_column("note", sa.Column("title", sa.String(40)))
        for row in op.get_bind().execute(sa.text("SELECT id, body FROM note WHERE id % 7 = 0 ORDER BY id")).all():
            op.get_bind().execute(sa.text("UPDATE note SET title = :t WHERE id = :i"), {"t": row.body[:9], "i": row.id})
        op.add_column("note", sa.Column("words", sa.Integer, server_default="0", nullable=False))
        op.execute("UPDATE note SET words = words + 1")
        op.add_column("note", sa.Column("marked", sa.Boolean))
        op.execute("UPDATE note SET words = words + 1 WHERE book > 3")
        """,
        """
        bind = op.get_bind()
        old = bind.execute(sa.text("SELECT id, name FROM book ORDER BY id")).all()
        op.alter_column("book", "name", new_column_name="title", existing_type=sa.String(80))
        op.add_column("book", sa.Column("sort", sa.String(80)))
        for row in old:
            bind.execute(sa.text("UPDATE book SET sort = :s WHERE id = :i"), {"s": row.name.upper(), "i": row.id})
        op.create_unique_constraint("book_sort", "book", ["sort"])
        """,
        """
        bind = op.get_bind()
        if not sa.inspect(bind).has_table("tag"):
            op.create_table("tag", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20)))
            op.execute("INSERT INTO tag (id, name) SELECT id, title FROM book WHERE id < 10")
        count = bind.scalar(sa.text("SELECT COUNT(*) FROM tag"))
        op.add_column("tag", sa.Column("seen", sa.Integer))
        bind.execute(sa.text("UPDATE tag SET seen = :n"), {"n": count})
        op.drop_column("note", "marked")
        """,
        """
        op.execute("CREATE VIEW titles AS SELECT id, title FROM note")
        op.rename_table("tag", "label")
        op.execute("INSERT INTO label (id, name) VALUES (100, 'last')")
        op.create_table("log", sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.DateTime))
        """,
    ]
    for number, body in enumerate(bodies, 1):
        project.revision(f"r{number}", f"r{number - 1}" if number > 1 else None, body)
    return project
