"""The window in the source tree, on Qt's platform without a screen: each sentence, and what happens meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from PySide6.QtCore import QElapsedTimer, QEvent, QMimeData, QObject, QSettings, QTimer, QUrl
from PySide6.QtWidgets import QApplication, QLabel, QMessageBox, QProgressBar, QProgressDialog, QPushButton
from sample_data import RELEASES, content, damaged, plain_upgrade
from sample_data import expected_head as head
from test_howto import example

import freezekit
from sample_app import cli, documents
from sample_app.window import application as program
from sample_app.window import main_window, opening, recent, task
from sample_app.window.main_window import MainWindow
from sample_app.window.task import ProgressDialog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 30


class Usage(NamedTuple):
    """What a volume says of its room."""

    total: int
    used: int
    free: int


@pytest.fixture(scope="session")
def application() -> QApplication:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QT_QPA_PLATFORM", "offscreen")
        return QApplication([])


@pytest.fixture
def window(application: QApplication, tmp_path: Path) -> Iterator[MainWindow]:
    """The window of somebody who has opened nothing yet."""
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings"))
    shown = MainWindow()
    shown.show()
    yield shown
    shown.close()
    # Now and in this thread, not when and where garbage is collected next.
    shown.deleteLater()
    application.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    return shutil.copy(RELEASES[0], folder / "old.notes")


def until(condition: Callable[[], Any]) -> Any:
    """Let the window work until something is so."""
    deadline = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline
        QApplication.processEvents()
    return answer


def opened(window: MainWindow, path: Path) -> None:
    window.open_document(path)
    until(lambda: not window.is_busy)


def message(window: MainWindow) -> QMessageBox:
    """The message that is shown, once there is one."""
    found: QMessageBox = until(lambda: next((box for box in window.findChildren(QMessageBox) if box.isVisible()), None))
    return found


def press(box: QMessageBox, text: str) -> None:
    (button,) = (button for button in box.findChildren(QPushButton) if button.text() == text)
    button.click()


def says(window: MainWindow, text: str) -> bool:
    return any(text in label.text() for label in window.findChildren(QLabel) if label.isVisible())


def progress(window: MainWindow) -> ProgressDialog | None:
    return next((dialog for dialog in window.findChildren(ProgressDialog) if dialog.isVisible()), None)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'future'")


def unversioned(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE alembic_version")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE moz_places (url TEXT)")


def text(path: Path) -> None:
    path.write_text("Dear diary, this is no database, but long enough to be one. " * 40)


def half_upgraded(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE _alembic_tmp_note (id INTEGER)")


def missing(path: Path) -> None:
    path.unlink()


SENTENCES = {
    "newer": (newer, "“old.notes” was written by a newer version of this program."),
    "unversioned": (unversioned, "“old.notes” does not say which version of this program wrote it."),
    "foreign": (foreign, "“old.notes” belongs to another program."),
    "text": (text, "“old.notes” is not a document of this program."),
    "damaged": (damaged, "“old.notes” is damaged and cannot be opened."),
    "half upgraded": (half_upgraded, "“old.notes” could not be brought up to date."),
    "missing": (missing, "“old.notes” could not be used."),
}


@pytest.mark.parametrize(("spoil", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_what_cannot_be_opened_gets_its_own_sentence_and_is_left_alone(
    spoil: Callable[[Path], None], sentence: str, window: MainWindow, old: Path
) -> None:
    """The document that was open before stays open; there is nothing to choose."""
    before = shutil.copy(RELEASES[2], old.with_name("before.notes"))
    opened(window, before)
    spoil(old)
    files = {path.name: path.read_bytes() for path in old.parent.iterdir()}
    window.open_document(old)
    box = message(window)
    assert box.text() == sentence
    assert "Traceback" not in box.informativeText()
    assert [button.text() for button in box.findChildren(QPushButton) if "OK" in button.text()] != []
    box.close()
    assert {path.name: path.read_bytes() for path in old.parent.iterdir()} == files
    assert window.windowTitle() == "before.notes — Notes"


def test_a_document_in_use_can_be_tried_again(window: MainWindow, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN IMMEDIATE")
        window.open_document(old)
        box = message(window)
    assert box.text() == "“old.notes” is being used by another program."
    assert content(old) == content(RELEASES[0])
    press(box, "Try Again")
    until(lambda: window.windowTitle() == "old.notes — Notes")


def test_too_little_room_is_said_and_can_be_tried_again(
    window: MainWindow, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _folder: Usage(10**9, 10**9 - 5, 5))
        window.open_document(old)
        box = message(window)
    assert box.text() == "There is too little room on the disk to bring “old.notes” up to date."
    assert old.read_bytes() == before
    press(box, "Try Again")
    until(lambda: window.windowTitle() == "old.notes — Notes")


def test_a_damaged_document_is_replaced_by_its_backup_if_wanted(window: MainWindow, old: Path) -> None:
    """What is replaced is kept."""
    opened(window, old)
    window.close_document()
    damaged(old)
    broken = old.read_bytes()
    window.open_document(old)
    box = message(window)
    assert box.text() == "“old.notes” is damaged and cannot be opened."
    assert "There is a backup of" in box.informativeText()
    press(box, "Restore the Backup")
    until(lambda: window.windowTitle() == "old.notes — Notes")
    assert content(old)["alembic_version"] == [(head,)]
    assert broken in [path.read_bytes() for path in old.parent.glob("*~replaced.bak")]


def test_an_old_document_that_is_read_only_is_opened_as_a_temporary_copy(
    window: MainWindow, old: Path, read_only: Callable[[Path], None]
) -> None:
    """The copy cannot be written in, and goes when the document is closed."""
    files = {path.name: path.read_bytes() for path in old.parent.iterdir()}
    read_only(old.parent)
    window.open_document(old)
    box = message(window)
    assert box.text().endswith(
        "“old.notes” was written by an older version, and cannot be brought up to date: it is read-only."
    )
    press(box, "Open a Temporary Copy")
    until(lambda: window.windowTitle() == "old.notes (temporary copy) — Notes")
    assert says(window, "This is a temporary copy of a read-only document.")
    copy = window._opened.file
    assert content(copy)["alembic_version"] == [(head,)]
    assert not window._menus._add.isEnabled()
    window.close_document()
    assert not copy.parent.exists()
    assert {path.name: path.read_bytes() for path in old.parent.iterdir()} == files


def test_a_current_document_that_is_read_only_is_shown(
    window: MainWindow, old: Path, read_only: Callable[[Path], None]
) -> None:
    shutil.copy(plain_upgrade(None, old.with_name("current.notes")), old)
    read_only(old.parent)
    opened(window, old)
    assert says(window, "This document is read-only.")
    assert not window._menus._add.isEnabled()


def test_the_window_works_on_during_an_upgrade_and_shows_a_dialog_after_half_a_second(
    window: MainWindow, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upgrade waits for another program, which goes on only when the window has done a thousand other things."""
    monkeypatch.setattr(opening, "LOCK_SECONDS", SECONDS)
    ticks: list[None] = []
    timer, waited = QTimer(window, interval=0), QElapsedTimer()
    timer.timeout.connect(lambda: ticks.append(None))
    with closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN IMMEDIATE")
        waited.start()
        window.open_document(old)
        timer.start()
        assert progress(window) is None
        dialog = until(lambda: progress(window))
        assert waited.elapsed() >= task.SHOW_AFTER_MS
        assert task.SHOW_AFTER_MS == 500
        until(lambda: len(ticks) > 1000)
        assert window.is_busy
        assert dialog.windowTitle() == "Opening old.notes"
    until(lambda: not window.is_busy)
    assert progress(window) is None
    assert says(window, "The old version is kept beside it: old.notes.0002.bak")


def test_a_short_upgrade_shows_no_dialog(
    window: MainWindow, old: Path, application: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[QObject] = []

    class Watch(QObject):
        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Show and isinstance(watched, ProgressDialog):
                shown.append(watched)
            return False

    monkeypatch.setattr(task, "SHOW_AFTER_MS", SECONDS * 1000)
    watch = Watch()
    application.installEventFilter(watch)
    opened(window, old)
    application.removeEventFilter(watch)
    assert shown == []


def test_cancel_leaves_the_document_as_it_was(window: MainWindow, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LOCK_SECONDS", SECONDS)
    before = old.read_bytes()
    with closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN IMMEDIATE")
        window.open_document(old)
        dialog = until(lambda: progress(window))
        assert dialog.findChild(QProgressBar) is not None
        next(button for button in dialog.findChildren(QPushButton)).click()
        until(lambda: not window.is_busy)
    assert window.statusBar().currentMessage() == "Cancelled. old.notes was not changed."
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir()] == ["old.notes"]


def test_a_window_that_is_closed_meanwhile_leaves_the_old_document(
    window: MainWindow, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOCK_SECONDS", SECONDS)
    before = old.read_bytes()
    with closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN IMMEDIATE")
        window.open_document(old)
        assert window.is_busy
        window.close()
        assert not window.is_busy
    assert old.read_bytes() == before


def test_recent_documents_are_the_newest_eight_that_are_still_there(window: MainWindow, old: Path) -> None:
    paths = [shutil.copy(RELEASES[2], old.with_name(f"{number}.notes")) for number in range(10)]
    for path in paths:
        opened(window, path)
    opened(window, paths[5])
    paths[9].unlink()
    assert [path.name for path in recent.recent()] == [f"{number}.notes" for number in (5, 8, 7, 6, 4, 3, 2)]
    recent.forget()
    assert recent.recent() == []


def test_what_exists_is_not_replaced_by_a_new_document(
    window: MainWindow, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old.read_bytes()
    monkeypatch.setattr(MainWindow, "_ask_target", lambda _self, _title: old)
    window.ask_new()
    box = message(window)
    assert (box.text(), box.informativeText()) == ("“old.notes” could not be used.", f"{old} exists already.")
    assert old.read_bytes() == before


def test_a_new_document_needs_a_folder_that_can_be_written(
    window: MainWindow, old: Path, read_only: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only(old.parent)
    monkeypatch.setattr(MainWindow, "_ask_target", lambda _self, _title: old.with_name("new.notes"))
    window.ask_new()
    assert message(window).text() == "“new.notes” could not be made."
    assert [path.name for path in old.parent.iterdir()] == ["old.notes"]


@pytest.mark.parametrize(("count", "is_taken"), [(0, False), (1, True), (2, False)])
def test_one_file_can_be_dropped(old: Path, count: int, is_taken: bool) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(old))] * count)
    assert main_window._dropped(SimpleNamespace(mimeData=lambda: data)) == (old if is_taken else None)


def test_without_a_screen_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    assert program.show() == 1
    assert capsys.readouterr().err == "sample_app: there is no screen to show a window on.\n"


@pytest.mark.parametrize("arguments", [[], ["old.notes"]], ids=["nothing", "a file"])
def test_the_program_shows_its_window_for_nothing_or_a_file(arguments: list[str]) -> None:
    shown: list[Path | None] = []
    assert cli.main(arguments, window=lambda file: shown.append(file) or 7) == 7
    assert [path and path.name for path in shown] == (arguments or [None])


def test_a_document_of_the_windows_is_one_of_the_command_line(window: MainWindow, old: Path) -> None:
    opened(window, old)
    assert documents.status(old).pending == ()


def test_saving_that_takes_long_shows_a_dialog_without_a_button_that_would_do_nothing(
    window: MainWindow, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "SHOW_AFTER_MS", 0)
    opened(window, old)
    note = {"notebook": "Arbeit", "title": "Later"}
    with closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN IMMEDIATE")
        window._begin("Adding a note", old, window._show, opening.add_note, window._opened, note)
        dialog = until(lambda: progress(window))
        dialog.reject()
        assert not [button for button in dialog.findChildren(QPushButton) if button.isVisible()]
    until(lambda: not window.is_busy)
    assert any("Later" in row for row in content(old)["note"])


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["finished", "cancelled"])
def test_the_example_for_qt_upgrades_and_cancels(window: MainWindow, old: Path, *, is_cancelled: bool) -> None:
    """The page shows the code that is run here."""
    shown: list[object] = []
    before = old.read_bytes()
    with closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN IMMEDIATE")
        example("With Qt")["open_document"](window, str(old), shown.append, shown.append)
        dialog = window.findChild(QProgressDialog)
        if is_cancelled:
            dialog.canceled.emit()
            until(lambda: shown)
    until(lambda: shown)
    assert isinstance(shown[0], freezekit.UpgradeCancelled if is_cancelled else freezekit.Report)
    assert (old.read_bytes() == before) == is_cancelled
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    assert window.findChild(QProgressDialog) is None
