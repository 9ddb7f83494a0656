"""A line above the document that says what happened to it, until it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices, QPalette
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QStyle, QToolButton, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class MessageBar(QFrame):
    """Hidden until it has something to say."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setBackgroundRole(QPalette.ColorRole.ToolTipBase)
        self.setForegroundRole(QPalette.ColorRole.ToolTipText)
        self.setAutoFillBackground(True)
        self._text = QLabel(wordWrap=True, textInteractionFlags=Qt.TextInteractionFlag.TextSelectableByMouse)
        self._details = QLabel(wordWrap=True)
        self._more = QPushButton("What Changed")
        self._more.setCheckable(True)
        self._more.toggled.connect(self._details.setVisible)
        self._show_folder = QPushButton("Show Folder")
        self._show_folder.clicked.connect(self._open_folder)
        self._folder: Path | None = None
        close = QToolButton(autoRaise=True)
        close.setIcon(self.style().standardIcon(QStyle.StandardPixmap.SP_TitleBarCloseButton))
        close.setAccessibleName("Close message")
        close.clicked.connect(self.hide)
        line = QHBoxLayout()
        line.addWidget(self._text, 1)
        for button in (self._more, self._show_folder, close):
            line.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addLayout(line)
        layout.addWidget(self._details)
        self.hide()

    def say(self, text: str, *, details: Sequence[str] = (), folder: Path | None = None) -> None:
        """Show a message.

        Args:
            text: The message.
            details: Lines that are shown when asked for.
            folder: A folder to offer to show.
        """
        self._text.setText(text)
        self._details.setText("\n".join(f"• {line}" for line in details))
        self._more.setVisible(bool(details))
        self._more.setChecked(False)
        self._details.setVisible(False)
        self._folder = folder
        self._show_folder.setVisible(folder is not None)
        self.show()

    def _open_folder(self) -> None:
        if self._folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder)))
