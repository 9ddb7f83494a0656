"""The frozen program with its window, used as a person does: with keys and mouse, and by what is on the screen."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sample_data import RELEASES, content, damaged, pending, plain_upgrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Start
    from screen import Person

# What differs from one freezer to the other is what they take along, which the other tests see.
by_one_freezer = pytest.mark.parametrize("window_bundle", ["cx-window"], indirect=True)


def test_an_old_document_opens_and_the_window_says_what_was_upgraded(
    start: Start, person: Person, old: Path, tmp_path: Path
) -> None:
    """As after a double click: the program is started with the file."""
    start(old)
    person.finds("frame", "old.notes — Notes")
    assert person.finds("label", "Upgraded from an older version").name.endswith("beside it: old.notes.0002.bak")
    assert content(old) == content(plain_upgrade(RELEASES[0], tmp_path / "plain.notes"))
    assert content(old.with_name("old.notes.0002.bak")) == content(RELEASES[0])
    person.clicks("check box", "What Changed")
    assert len(person.finds("label", "• Rename text to body").name.splitlines()) == len(pending("1.0"))
    person.clicks("button", "Close message")
    person.misses("label", "Upgraded from an older version")
    person.clicks("tree item", "Pflaumenkuchen")
    person.finds("text", text="300 g Mehl")
    person.finds("label", "Attached: kuchen.png")
    person.presses("Down")
    person.finds("label", "Tomaten")


def test_documents_are_opened_and_found_again_with_keys_alone(start: Start, person: Person, old: Path) -> None:
    """Open asks for a file; the menu and, after the next start, the start page offer it again."""
    program = start()
    person.finds("button", "Open Document…")
    person.presses("ctrl+o")
    person.finds("dialog", "Open Document")
    person.enters(str(old))
    person.finds("tree item", "Kick-off")
    person.presses("ctrl+w")
    person.misses("tree item", "Kick-off")
    person.presses("alt+f")
    person.finds("menu item", "Open Recent")
    person.presses("r")
    person.finds("menu item", "old.notes")
    person.presses("Return")
    person.finds("tree item", "Kick-off")
    person.presses("ctrl+q")
    assert program.wait(20) == 0
    start()
    person.clicks("list item", "old.notes")
    person.finds("tree item", "Kick-off")


@by_one_freezer
def test_a_new_document_gets_a_note(start: Start, person: Person, home: Path) -> None:
    start()
    person.finds("button", "New Document…")
    person.presses("ctrl+n")
    person.finds("dialog", "New Document")
    person.enters(f"{home}/mine")
    person.finds("frame", "mine.notes")
    person.presses("ctrl+Return")
    person.finds("dialog", "Add a Note")
    person.types("Milk")
    person.presses("Tab")
    person.types("Shopping")
    person.presses("Tab")
    person.types("home, later")
    person.presses("Tab")
    person.types("two litres")
    person.clicks("button", "Add")
    person.finds("tree item", "Milk")
    person.finds("status bar", "1 note in 1 notebook")
    (note,) = content(home / "mine.notes")["note"]
    assert {"Milk", "two litres"} <= set(note)


@by_one_freezer
def test_a_subset_is_saved_as_a_new_document(start: Start, person: Person, old: Path, home: Path) -> None:
    start(old)
    person.finds("tree item", "Kick-off")
    person.clicks("button", "Save a Subset As")
    person.finds("dialog", "Save a Subset")
    person.types("R")
    person.finds("combo box", "Rezept")
    person.presses("Return")
    person.finds("dialog", "Save a Subset As")
    person.enters(f"{home}/recipes")
    person.finds("label", "tagged #Rezept")
    titles = {row[2] for row in content(home / "recipes.notes")["note"]}
    assert "Pflaumenkuchen" in titles
    assert titles < {row[2] for row in content(old)["note"]}


def test_a_file_is_dragged_on_the_window(start: Start, person: Person, old: Path, dragged: Start) -> None:
    """From a window of another program, as from a file manager."""
    start()
    person.finds("button", "Open Document…")
    dragged(old)
    person.drags("Drag me", "or drag a document", until_it_says="Drop me")
    person.finds("frame", "old.notes — Notes")


@by_one_freezer
def test_a_newer_document_is_refused_in_one_sentence(start: Start, person: Person, old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'future'")
    before = old.read_bytes()
    start(old)
    person.finds("label", "“old.notes” was written by a newer version of this program.")
    person.presses("Return")
    person.misses("alert")
    person.finds("button", "Open Document…")
    assert old.read_bytes() == before


def without_version(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE alembic_version")


def of_another_program(connection: sqlite3.Connection) -> None:
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    connection.execute("PRAGMA foreign_keys = OFF")
    for (name,) in tables.fetchall():
        connection.execute(f"DROP TABLE {name}")
    connection.execute("CREATE TABLE song (title)")


@by_one_freezer
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_version, "“old.notes” does not say which version of this program wrote it."),
        (of_another_program, "“old.notes” belongs to another program."),
    ],
)
def test_a_document_that_is_none_of_ours_is_refused_in_one_sentence(
    start: Start, person: Person, old: Path, change: Callable[[sqlite3.Connection], None], sentence: str
) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        change(connection)
    before = old.read_bytes()
    start(old)
    person.finds("label", sentence)
    person.presses("Return")
    person.misses("alert")
    person.finds("button", "Open Document…")
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.glob("old*")] == ["old.notes"]


@by_one_freezer
def test_a_damaged_document_is_replaced_by_its_backup(start: Start, person: Person, old: Path) -> None:
    """Only if that is wanted; what is replaced is kept."""
    program = start(old)
    person.finds("tree item", "Kick-off")
    person.presses("ctrl+q")
    assert program.wait(20) == 0
    damaged(old)
    broken = old.read_bytes()
    start(old)
    person.finds("label", "“old.notes” is damaged and cannot be opened.")
    assert old.read_bytes() == broken
    person.clicks("button", "Restore the Backup")
    person.finds("tree item", "Kick-off")
    assert broken in [path.read_bytes() for path in old.parent.glob("*~replaced.bak")]


@by_one_freezer
def test_a_document_is_opened_once_there_is_room(
    start: Start, person: Person, old: Path, volume: Callable[[int], Path]
) -> None:
    """A file system that holds the document and little else."""
    size = old.stat().st_size
    document = Path(shutil.copy(old, volume(size + size // 2)))
    before = document.read_bytes()
    start(document)
    person.finds("label", "There is too little room on the disk to bring “old.notes” up to date.")
    assert [(path.name, path.read_bytes()) for path in document.parent.iterdir()] == [("old.notes", before)]
    volume(size * 10)
    person.clicks("button", "Try Again")
    person.finds("tree item", "Kick-off")


@by_one_freezer
def test_a_document_in_use_is_opened_once_it_is_free(start: Start, person: Person, old: Path) -> None:
    with closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN IMMEDIATE")
        start(old)
        person.finds("label", "“old.notes” is being used by another program.")
    assert content(old) == content(RELEASES[0])
    person.clicks("button", "Try Again")
    person.finds("tree item", "Kick-off")


@by_one_freezer
def test_a_read_only_document_is_opened_as_a_temporary_copy(
    start: Start, person: Person, old: Path, home: Path, read_only: Callable[[Path], None]
) -> None:
    shelf = home / "shelf"
    shelf.mkdir()
    document = old.rename(shelf / "old.notes")
    before = document.read_bytes()
    read_only(shelf)
    start(document)
    person.finds("label", "it is read-only.")
    person.clicks("button", "Open a Temporary Copy")
    person.finds("frame", "old.notes (temporary copy) — Notes")
    person.finds("tree item", "Kick-off")
    assert person.sees("button", "Add a Note", is_enabled=True) is None
    assert (document.read_bytes(), [path.name for path in shelf.iterdir()]) == (before, ["old.notes"])


def test_a_long_upgrade_is_cancelled(start: Start, person: Person, large: Path) -> None:
    """The dialog comes by itself; after Cancel the document is what it was, and the window goes on."""
    before = large.read_bytes()
    start(large)
    person.finds("progress bar")
    person.clicks("button", "Cancel")
    person.finds("status bar", "Cancelled. large.notes was not changed.")
    assert large.read_bytes() == before
    person.clicks("button", "New Document…")
    person.finds("dialog", "New Document")
