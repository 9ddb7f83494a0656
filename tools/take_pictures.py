"""Take the pictures of the documentation from real windows, frozen by cx_Freeze, on a screen of their own.

Needs what the tests of the window need (see CONTRIBUTING.md), and writes docs/pictures.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

PROJECT = Path(__file__).resolve().parent.parent
PICTURES = PROJECT / "docs" / "pictures"
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "desktop"), str(PROJECT / "tests")]

from PySide6.QtCore import Qt  # noqa: E402
from PySide6.QtGui import QImage  # noqa: E402
from screen import install_screen, screen, until  # noqa: E402
from test_shown_commands import followed_tutorial, running  # noqa: E402

if TYPE_CHECKING:
    from screen import Person

LARGEST = 60_000
BEST_COMPRESSION = 0
COLOURS, OPAQUE = 256, 0xFF000000
# Written as release 1.0 did: in its tables.
NOTES = """
DELETE FROM attachment; DELETE FROM note; DELETE FROM notebook;
INSERT INTO notebook VALUES (1, 'Kitchen', '#2ca02c'), (2, 'Work', '#1f77b4'), (3, 'Journeys', '#d62728');
INSERT INTO note VALUES
  (1, 1, 'Plum cake', '300 g of flour, yeast, 200 ml of milk, two pounds of plums.

Half an hour at 180 degrees.', 'recipe, sweet', '2023-09-02', 1),
  (2, 1, 'Crème brûlée', 'Five yolks, half a litre of cream, vanilla.', 'recipe, sweet', '2023-05-14', 0),
  (3, 1, 'Tomatoes', 'Sow in March, plant out after the frost.', 'garden', '2023-03-01', 0),
  (4, 2, 'Kick-off', '1. Goals
2. Who does what', 'meeting', '2023-04-03', 1),
  (5, 2, 'Invoices of March', NULL, 'to do', '2023-04-11', 0),
  (6, 3, 'Packing list', 'Passport, tickets, a good book.', 'to do', NULL, 0),
  (7, 3, 'Night train to Vienna', 'Leaves at 21:52.', NULL, '2023-07-21', 0);
INSERT INTO attachment VALUES (1, 1, 'cake.png', x'89504e470d0a1a0a');
"""


def main() -> int:
    """Take each picture; 1 if one is too large for a README."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    install_screen()
    with screen() as person, tempfile.TemporaryDirectory() as folder:
        sizes = [*_sample_app(person, Path(folder) / "documents"), _tutorial(person, Path(folder) / "tutorial")]
    return 0 if max(sizes) < LARGEST else 1


def _sample_app(person: Person, folder: Path) -> list[int]:
    program = folder.with_name("program")
    subprocess.run([sys.executable, "setup_freeze.py", "--window", "--target", program], cwd=PROJECT, check=True)
    folder.mkdir()
    _write_documents(folder)
    with running(f"'{program}/sample_app' diary.notes", folder, person):
        return [_upgraded(person), _newer(person, folder)]


def _write_documents(home: Path) -> None:
    for name, change in (
        ("diary", NOTES),
        ("from a friend", "UPDATE alembic_version SET version_num = 'v4.0.0';"),
    ):
        document = shutil.copy(PROJECT / "sample_app" / "releases" / "1.0.notes", home / f"{name}.notes")
        with closing(sqlite3.connect(document)) as connection:
            connection.executescript(change)


def _upgraded(person: Person) -> int:
    person.clicks("check box", "What Changed")
    person.finds("label", "• Rename text to body")
    person.clicks("tree item", "Plum cake")
    person.finds("label", "Attached: cake.png")
    return _save(person, "upgraded")


def _newer(person: Person, home: Path) -> int:
    person.clicks("button", "Close message")
    person.presses("ctrl+o")
    person.finds("dialog", "Open Document")
    person.enters(f"{home}/from a friend.notes")
    person.finds("label", "was written by a newer version")
    return _save(person, "newer")


def _tutorial(person: Person, folder: Path) -> int:
    folder.mkdir()
    with followed_tutorial(folder, person):
        person.finds("label", "Upgraded to 0002")
        return _save(person, "tutorial")


def _save(person: Person, name: str) -> int:
    """Save what is on the screen where the main window is, once nothing changes there; return the size of the file."""
    if person.sees("status bar") is not None:
        person.points_at(person.finds("status bar"))
    (width, height), pixels = until(lambda: _picture_at_rest(person), lambda: f"the window of {name} never rests")
    path = PICTURES / f"{name}.png"
    picture = QImage(pixels, width, height, width * 4, QImage.Format.Format_RGB32)
    colours = [colour | OPAQUE for colour, _ in Counter(memoryview(pixels).cast("I")).most_common(COLOURS)]
    avoid_dithering = Qt.ImageConversionFlag.ThresholdDither | Qt.ImageConversionFlag.AvoidDither
    picture = picture.convertToFormat(QImage.Format.Format_Indexed8, colours, avoid_dithering)
    picture.save(str(path), "PNG", BEST_COMPRESSION)
    size = path.stat().st_size
    print(f"{path.relative_to(PROJECT)}: {width} x {height}, {size} bytes")
    return size


def _picture_at_rest(person: Person) -> tuple[tuple[int, int], bytes] | None:
    """Return the picture of the main window, unless it differs from the one a look ago: what is new is painted late."""
    before = person.picture(person.finds("frame"))
    return before if before == person.picture(person.finds("frame")) else None


if __name__ == "__main__":
    sys.exit(main())
