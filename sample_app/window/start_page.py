"""What the window shows while no document is open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 520


class StartPage(QWidget):
    """New, Open, and the documents of last time.

    Attributes:
        new_wanted: Signal: the user wants a new document.
        open_wanted: Signal: the user wants to look for a document.
        chosen: Signal with the path of a recent document.
    """

    new_wanted = Signal()
    open_wanted = Signal()
    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        title = QLabel("<h1>Notes</h1>")
        new, opened = QPushButton("New Document…"), QPushButton("Open Document…")
        new.clicked.connect(self.new_wanted)
        opened.clicked.connect(self.open_wanted)
        buttons = QHBoxLayout()
        buttons.addWidget(new)
        buttons.addWidget(opened)
        buttons.addStretch()
        self._list = QListWidget()
        self._list.setMaximumHeight(260)
        self._list.setAccessibleName("Recent documents")
        self._list.itemActivated.connect(self._choose)
        self._list.itemClicked.connect(self._choose)
        self._heading = QLabel("<h3>Recent documents</h3>")
        column = QVBoxLayout()
        column.addWidget(title)
        column.addLayout(buttons)
        column.addWidget(QLabel("or drag a document on this window"))
        column.addSpacing(16)
        column.addWidget(self._heading)
        column.addWidget(self._list)
        narrow = QWidget(maximumWidth=_WIDTH)
        narrow.setLayout(column)
        layout = QVBoxLayout(self)
        layout.addWidget(narrow, 0, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignVCenter)
        narrow.setMinimumWidth(_WIDTH)

    def show_recent(self, paths: Sequence[Path]) -> None:
        """List documents, newest first."""
        self._list.clear()
        for path in paths:
            item = QListWidgetItem(f"{path.name}\n{path.parent}")
            item.setData(Qt.ItemDataRole.UserRole, str(path))
            self._list.addItem(item)
        self._heading.setVisible(bool(paths))
        self._list.setVisible(bool(paths))

    def _choose(self, item: QListWidgetItem) -> None:
        self.chosen.emit(Path(item.data(Qt.ItemDataRole.UserRole)))
