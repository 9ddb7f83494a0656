"""Write one document with each past release: ``python -m sample_app.releases.make``.

Plain Alembic brings a new file to the release's last revision, and the statements of that release fill it; neither
freezekit nor the current models take part. It was run once. The files are committed and stay as they are: they stand
for what users have. Written again elsewhere, they hold the same rows.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HERE = Path(__file__).resolve().parent
MIGRATIONS = HERE.parent / "migrations"
HEADS = {"1.0": "0002", "1.1": "e3a95f1786bc", "2.0": "v2.0.1"}

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + b"0 obj\x00\xff\n" * 60


class Note(NamedTuple):
    """A note as any release understands it; ``notebook`` is the position in NOTEBOOKS, from 1."""

    notebook: int
    title: str
    body: str | None
    written_on: str | None
    pinned: int
    tags: tuple[str, ...]
    attachments: tuple[tuple[str, bytes | None], ...] = ()


NOTEBOOKS: tuple[tuple[str | None, str | None], ...] = (
    ("Arbeit", "#1f77b4"),
    ("Küche & Garten", "#2ca02c"),
    ("日記", None),
    (None, "#d62728"),
    ("Arbeit", None),
    ("Empty on purpose", None),
)

NOTES = (
    Note(1, "Kick-off", "Agenda:\n1. Goals\n2. Who does what", "2023-04-03", 1, ("work", "to do")),
    Note(1, "Kick-off", "The same title again, on purpose.", "2023-04-04", 0, ("work",), (("plan.pdf", PDF),)),
    Note(1, "Gehaltsabrechnung März", "Überweisung prüfen; 100 % Zuschlag für Sonntage", "2023-04-11", 0, ("später",)),
    Note(2, "Pflaumenkuchen", "300 g Mehl, Hefe … backen 🥧", None, 1, ("Rezept", "süß"), (("kuchen.png", PNG),)),
    Note(2, "Tomaten 🍅", None, "2023-05-01", 0, ("Garten",), (("seeds.gif", None), ("leer.txt", b""))),
    Note(2, "Crème brûlée", "Sucre, crème, œufs ; four à 95 °C", "2023-05-07", 0, ("Rezept", "süß")),
    Note(3, "月曜日", "今日は雨が降りました。", "2023-06-05", 0, ("日本語",)),
    Note(3, "火曜日", "晴れ。 公園へ行った。", "2023-06-06", 0, ("日本語", "idea")),
    Note(3, "", "A note without a title", None, 0, ()),
    Note(4, "Passport", "Renew before it expires", "2023-07-01", 1, ("to do", "travel"), (("scan.PNG", PNG[:300]),)),
    Note(4, "Packing list", "socks\nsocks\nmore socks 🧦🧦", "2023-07-02", 0, ("travel",)),
    Note(5, "Quotes '\"; DROP TABLE note; --", 'It\'s "only" text: 50% off, C:\\temp\\x', None, 0, ("work", "odd")),
    Note(5, "Zero\twidth\u200bspace", "line one\r\nline two\r\n", "1999-12-31", 0, ("odd",)),
    # written from 1.1 on
    Note(1, "Retrospective", "Everything went well, nearly. " * 12, "2024-02-29", 0, ("work", "idea")),
    Note(2, "Жаркое", "Картофель, лук, соль", "2024-03-08", 0, ("Rezept",)),
    Note(3, "水曜日", None, "2024-03-13", 0, ("日本語", "重要"), (("memo.txt", "覚え書き\n".encode()),)),
    Note(4, "Ελλάδα", "Αθήνα, Δελφοί — τον Μάιο", "2024-04-01", 1, ("travel", "später")),
    Note(5, "👩‍👩‍👧‍👦", "One emoji, seven code points", "2024-05-20", 0, ("odd",)),
    Note(5, "e\u0301 and \u00e9", "Decomposed e\u0301, composed \u00e9", None, 0, ("odd", "idea")),
    # written from 2.0 on
    Note(1, "Kick-off", "A third one", "2025-07-14", 0, ("work", "重要"), (("plan 2.pdf", PDF[:120]),)),
    Note(2, "Ernte", "12 Kürbisse, 3 Eimer Bohnen", "2025-09-28", 0, ("Garten",)),
    Note(3, "木曜日", "한국어도 배우고 싶어요", "2025-10-02", 0, ("日本語",)),
    Note(4, "Visa", None, None, 0, (), (("form.pdf", None),)),
    Note(5, "x" * 200, "The longest title there can be", "2025-12-31", 1, ("odd",), (("noextension", b"\0\1"),)),
)


def make(folder: Path = HERE, *, force: bool = False) -> list[Path]:
    """Write the documents of all past releases.

    Args:
        folder: Where to write them.
        force: Replace those that exist.

    Raises:
        FileExistsError: One of them exists; nothing was written.
    """
    paths = {release: folder / f"{release}.notes" for release in HEADS}
    present = [str(path) for path in paths.values() if path.exists()]
    if present and not force:
        raise FileExistsError(f"Not overwritten without --force: {', '.join(present)}")
    for release, path in paths.items():
        path.unlink(missing_ok=True)
        _upgrade_with_alembic(path, HEADS[release])
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            _WRITERS[release](connection)
    return list(paths.values())


def _upgrade_with_alembic(path: Path, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}".replace("%", "%%"))
    command.upgrade(config, revision)


def _write_1_0(connection: sqlite3.Connection) -> None:
    """Write as release 1.0 did: labels in one column, names not yet required."""
    connection.executemany("INSERT INTO notebook (name, colour) VALUES (?, ?)", NOTEBOOKS)
    for note_id, note in enumerate(NOTES[:13], 1):
        connection.execute(
            "INSERT INTO note (id, notebook_id, title, text, labels, written_on, pinned) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (note_id, note.notebook, note.title, note.body, ", ".join(note.tags) or None, *note[3:5]),
        )
        _attach(connection, note_id, note)


def _write_1_1(connection: sqlite3.Connection) -> None:
    """Write as release 1.1 did: tags in tables of their own, beside the starter tags; text is called body."""
    connection.executemany("INSERT INTO notebook (name, colour) VALUES (?, ?)", NOTEBOOKS)
    for note_id, note in enumerate(NOTES[:19], 1):
        connection.execute(
            "INSERT INTO note (id, notebook_id, title, body, written_on, pinned) VALUES (?, ?, ?, ?, ?, ?)",
            (note_id, *note[:5]),
        )
        _tag(connection, note_id, note.tags)
        _attach(connection, note_id, note)


def _write_2_0(connection: sqlite3.Connection) -> None:
    """Write as release 2.0 did: notebooks named and ordered by the user, words counted."""
    from sample_app.migrations.text import word_count

    names = ["Arbeit", "Küche & Garten", "日記", "Untitled", "Arbeit 2", "Empty on purpose"]
    for position, (name, (_, colour)) in enumerate(zip(names, NOTEBOOKS, strict=True), 1):
        row = (name, colour, 7 - position)
        connection.execute("INSERT INTO notebook (name, colour, position) VALUES (?, ?, ?)", row)
    for note_id, note in enumerate(NOTES, 1):
        connection.execute(
            "INSERT INTO note (id, notebook_id, title, body, written_on, pinned, word_count)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (note_id, *note[:5], word_count(note.body)),
        )
        _tag(connection, note_id, note.tags)
        _attach(connection, note_id, note)
    # The user deleted two notes, and their tags and attachments went with them: real ids have gaps.
    connection.execute("DELETE FROM note WHERE id IN (2, 11)")


def _tag(connection: sqlite3.Connection, note_id: int, tags: Iterable[str]) -> None:
    for name in tags:
        connection.execute("INSERT OR IGNORE INTO tag (name) VALUES (?)", (name,))
        connection.execute("INSERT INTO note_tag SELECT ?, id FROM tag WHERE name = ?", (note_id, name))


def _attach(connection: sqlite3.Connection, note_id: int, note: Note) -> None:
    for name, content in note.attachments:
        connection.execute("INSERT INTO attachment (note_id, name, content) VALUES (?, ?, ?)", (note_id, name, content))


_WRITERS: dict[str, Callable[[sqlite3.Connection], None]] = {"1.0": _write_1_0, "1.1": _write_1_1, "2.0": _write_2_0}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the documents and print their paths."""
    parser = argparse.ArgumentParser(description="Write one document with each past release.")
    parser.add_argument("--target", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    parser.add_argument("--force", action="store_true", help="replace documents that exist")
    arguments = parser.parse_args(argv)
    try:
        for path in make(arguments.target, force=arguments.force):
            print(f"{path}: {path.stat().st_size} bytes")
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
