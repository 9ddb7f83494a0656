"""A window with a file that can be dragged elsewhere, and says when it may be dropped: ``drag_source.py FILE``."""

from __future__ import annotations

import sys

from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QDrag, QMouseEvent
from PySide6.QtWidgets import QApplication, QLabel


class File(QLabel):
    """The file."""

    def mouseMoveEvent(self, _event: QMouseEvent) -> None:
        drag = QDrag(self)
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(sys.argv[1])])
        drag.setMimeData(data)
        drag.actionChanged.connect(lambda _action: self.setText("Drop me"))
        drag.exec(Qt.DropAction.CopyAction)


if __name__ == "__main__":
    application = QApplication([])
    label = File("Drag me")
    label.setGeometry(1000, 100, 200, 200)
    label.show()
    application.exec()
