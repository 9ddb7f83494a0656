"""The menus and the tool bar of the main window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMessageBox, QStyle

from sample_app import __version__
from sample_app.window import recent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sample_app.window.main_window import MainWindow
    from sample_app.window.opening import Opened

_Icon = QStyle.StandardPixmap


class Menus:
    """Makes the actions of a window, and enables those that can be done now."""

    def __init__(self, window: MainWindow) -> None:
        self._window = window
        self._new = self._action("&New…", window.ask_new, QKeySequence.StandardKey.New, _Icon.SP_FileIcon)
        self._open = self._action("&Open…", window.ask_open, QKeySequence.StandardKey.Open, _Icon.SP_DialogOpenButton)
        self._subset = self._action("Save a &Subset As…", window.ask_subset, "Ctrl+Shift+S", _Icon.SP_DialogSaveButton)
        self._close = self._action("&Close Document", window.close_document, QKeySequence.StandardKey.Close)
        self._add = self._action("&Add a Note…", window.ask_note, "Ctrl+Return", _Icon.SP_FileDialogNewFolder)
        file = window.menuBar().addMenu("&File")
        file.addActions([self._new, self._open])
        self._recent = file.addMenu("Open &Recent")
        file.addActions([self._subset, self._close])
        file.addSeparator()
        file.addAction(self._action("&Quit", window.close, QKeySequence.StandardKey.Quit))
        window.menuBar().addMenu("&Note").addAction(self._add)
        window.menuBar().addMenu("&Help").addAction(self._action("&About Notes", self._about))
        bar = window.addToolBar("Tools")
        bar.setMovable(False)
        bar.setToolButtonStyle(bar.toolButtonStyle().ToolButtonTextBesideIcon)
        bar.addActions([self._new, self._open, self._add, self._subset])

    def show_state(self, opened: Opened | None, documents: Sequence[Path], *, is_busy: bool) -> None:
        """Enable what can be done.

        Args:
            opened: The open document.
            documents: The recent ones.
            is_busy: Whether something is being done.
        """
        for action in (self._new, self._open):
            action.setEnabled(not is_busy)
        for action in (self._close, self._subset):
            action.setEnabled(opened is not None and not is_busy)
        self._add.setEnabled(opened is not None and opened.is_writable and not is_busy)
        self._recent.clear()
        for path in documents:
            action = self._recent.addAction(path.name.replace("&", "&&"))
            action.setToolTip(str(path))
            action.triggered.connect(lambda _checked=False, path=path: self._window.open_document(path))
        self._recent.addSeparator()
        self._recent.addAction("Clear This List", self._forget)
        self._recent.setEnabled(bool(documents) and not is_busy)

    def _action(
        self,
        text: str,
        do: Callable[[], object],
        key: QKeySequence.StandardKey | str | None = None,
        icon: QStyle.StandardPixmap | None = None,
    ) -> QAction:
        action = QAction(text, self._window)
        action.triggered.connect(lambda _checked=False: do())
        if key is not None:
            action.setShortcut(QKeySequence(key))
        if icon is not None:
            action.setIcon(self._window.style().standardIcon(icon))
        return action

    def _forget(self) -> None:
        recent.forget()
        self._recent.setEnabled(False)

    def _about(self) -> None:
        text = f"Notes {__version__}\n\nA small program whose documents outlive its versions."
        QMessageBox.about(self._window, "About Notes", text)
