"""The main window: one document at a time, and what can be done with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QMainWindow, QMessageBox, QStackedWidget, QVBoxLayout, QWidget

import freezekit
from sample_app.window import opening, recent
from sample_app.window.dialogs import NoteDialog, SubsetDialog
from sample_app.window.document_view import DocumentView
from sample_app.window.menus import Menus
from sample_app.window.message_bar import MessageBar
from sample_app.window.sentences import Choice, Refusal, refusal
from sample_app.window.start_page import StartPage
from sample_app.window.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent

_FILTER = "Notes (*.notes);;All files (*)"


class MainWindow(QMainWindow):
    """A window that shows one document, or the start page."""

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)
        self.resize(900, 600)
        self._opened: opening.Opened | None = None
        self._task: Task | None = None
        self._start, self._view, self._bar = StartPage(), DocumentView(), MessageBar()
        self._pages = QStackedWidget()
        self._pages.addWidget(self._start)
        self._pages.addWidget(self._view)
        central = QWidget()
        column = QVBoxLayout(central)
        column.addWidget(self._bar)
        column.addWidget(self._pages, 1)
        self.setCentralWidget(central)
        self._menus = Menus(self)
        self._start.new_wanted.connect(self.ask_new)
        self._start.open_wanted.connect(self.ask_open)
        self._start.chosen.connect(self.open_document)
        self._show_state()

    def open_document(self, path: Path) -> None:
        """Open a document in place of the one that is shown; what cannot be opened is said, and changes nothing."""
        self._begin(f"Opening {path.name}", path, self._show, opening.open_document, path)

    def open_copy(self, path: Path) -> None:
        """Open an upgraded temporary copy of a document that cannot be written."""
        self._begin(f"Opening {path.name}", path, self._show, opening.open_copy, path)

    def close_document(self) -> None:
        """Show the start page."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None
        self._bar.hide()
        self._show_state()

    def ask_new(self) -> None:
        """Ask where to put a new document, and create it."""
        if (path := self._ask_target("New Document")) is not None:
            self._begin(f"Creating {path.name}", path, self._show, opening.create_document, path)

    def ask_open(self) -> None:
        """Ask for a document, and open it."""
        name, _ = QFileDialog.getOpenFileName(self, "Open Document", str(self._folder()), _FILTER)
        if name:
            self.open_document(Path(name))

    def ask_note(self) -> None:
        """Ask for a note, and add it."""
        dialog = NoteDialog(self, self._view.notebooks())
        if self._opened is not None and dialog.exec():
            note = dialog.note()

            def shown(opened: opening.Opened) -> None:
                self._show(opened, select=note["title"])

            self._begin("Adding a note", self._opened.path, shown, opening.add_note, self._opened, note)

    def ask_subset(self) -> None:
        """Ask for a tag and a file, and save the notes that have the tag."""
        dialog = SubsetDialog(self, self._view.used_tags(), self._view.tag())
        if self._opened is None or not dialog.exec():
            return
        tag, target = dialog.tag(), self._ask_target("Save a Subset As")
        if target is not None:

            def saved(count: int) -> None:
                notes = "1 note" if count == 1 else f"{count} notes"
                self._bar.say(f"Saved {notes} tagged #{tag} as {target}.", folder=target.parent)

            self._begin("Saving", target, saved, opening.save_subset, self._opened, target, tag)

    @property
    def is_busy(self) -> bool:
        """Whether a document is being opened or saved."""
        return self._task is not None

    def _begin(
        self, title: str, path: Path, done: Callable[[Any], object], work: Callable[..., Any], *args: Any
    ) -> None:
        """Do something with a document off this thread; one thing at a time."""
        if self._task is not None:
            return
        self._task = Task(self, title, work, *args, can_stop=work not in opening.NOT_STOPPED)
        self._task.succeeded.connect(lambda result: self._rest(done, result))
        self._task.failed.connect(lambda error: self._rest(self._refuse, error, path))
        self._show_state()
        self._task.start()

    def _rest(self, then: Callable[..., object], *args: object) -> None:
        self._task = None
        self._show_state()
        then(*args)

    def _show(self, opened: opening.Opened, select: str | None = None) -> None:
        if self._opened is not None and self._opened.file != opened.file:
            self._opened.close()
        self._opened = opened
        self._view.show_contents(opened.contents, select=select)
        recent.remember(opened.path)
        self._show_state()
        self._say_what_happened(opened)

    def _say_what_happened(self, opened: opening.Opened) -> None:
        report = opened.report
        if opened.is_copy:
            self._bar.say("This is a temporary copy of a read-only document. It goes when it is closed.")
        elif not opened.is_writable:
            self._bar.say("This document is read-only.")
        elif report is not None and report.backup:
            backup = Path(report.backup)
            text = f"Upgraded from an older version. The old version is kept beside it: {backup.name}"
            self._bar.say(text, details=opened.changes, folder=backup.parent)
        else:
            self._bar.hide()

    def _refuse(self, error: Exception, path: Path) -> None:
        if isinstance(error, freezekit.UpgradeCancelled):
            self.statusBar().showMessage(f"Cancelled. {path.name} was not changed.")
            return
        said = refusal(error, path)
        box = QMessageBox(QMessageBox.Icon.Warning, "Notes", said.sentence, parent=self)
        box.setInformativeText(said.advice)
        box.setDetailedText(said.details)
        if said.choice is Choice.NONE:
            box.setStandardButtons(QMessageBox.StandardButton.Ok)
        else:
            instead = box.addButton(said.choice.value, QMessageBox.ButtonRole.AcceptRole)
            instead.clicked.connect(lambda: self._do_instead(said, path))
            box.addButton(QMessageBox.StandardButton.Cancel)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()

    def _do_instead(self, said: Refusal, path: Path) -> None:
        if said.choice is Choice.RESTORE:
            title = f"Restoring {path.name}"
            self._begin(title, path, self._show, opening.restore_document, path, said.backup)
        elif said.choice is Choice.COPY:
            self.open_copy(path)
        else:
            self.open_document(path)

    def _ask_target(self, title: str) -> Path | None:
        """Ask for a file that does not exist yet; one that does is refused later, with a sentence."""
        dialog = QFileDialog(self, title, str(self._folder()), _FILTER)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("notes")
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)
        dialog.finished.connect(dialog.deleteLater)
        return Path(dialog.selectedFiles()[0]) if dialog.exec() else None

    def _folder(self) -> Path:
        known = [self._opened.path] if self._opened else recent.recent()
        return known[0].parent if known else Path.home()

    def _show_state(self) -> None:
        opened = self._opened
        self._pages.setCurrentWidget(self._start if opened is None else self._view)
        self._pages.setEnabled(not self.is_busy)
        documents = recent.recent()
        self._start.show_recent(documents)
        self._menus.show_state(opened, documents, is_busy=self.is_busy)
        self.statusBar().showMessage("" if opened is None else self._view.summary())
        kind = " (temporary copy)" if opened and opened.is_copy else ""
        self.setWindowTitle(f"{opened.path.name}{kind} — Notes" if opened else "Notes")

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802 - the name is Qt's
        """Accept a file, unless something is being done."""
        if not self.is_busy and _dropped(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802 - the name is Qt's
        """Open the file."""
        if (path := _dropped(event)) is not None:
            event.acceptProposedAction()
            self.open_document(path)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - the name is Qt's
        """Stop what is being done, and wait for its end: the document is then the old or the new one."""
        if self._task is not None:
            self._task.stop()
        if self._opened is not None:
            self._opened.close()
        super().closeEvent(event)


def _dropped(event: QDropEvent) -> Path | None:
    """Return the file that is being dragged, if it is exactly one."""
    paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
    return paths[0] if len(paths) == 1 and paths[0].is_file() else None
