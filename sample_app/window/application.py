"""The program with a window: from the first line to the last."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QMessageBox

from sample_app import __version__
from sample_app.window.main_window import MainWindow

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


def show(file: Path | None = None) -> int:
    """Show the window until it is closed.

    Args:
        file: A document to open.

    Returns:
        The exit code: 0, or 1 where there is no screen, which is said on stderr.
    """
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in _DISPLAYS):
        print("sample_app: there is no screen to show a window on.", file=sys.stderr)
        return 1
    application = QApplication(["sample_app"])
    application.setOrganizationName("freezekit")
    application.setApplicationName("sample_app")
    application.setApplicationDisplayName("Notes")
    application.setApplicationVersion(__version__)
    sys.excepthook = _show_unexpected
    window = MainWindow()
    window.show()
    window.activateWindow()
    if file is not None:
        # Once the event loop runs, so that the window is there before the document is.
        QTimer.singleShot(0, lambda: window.open_document(file.absolute()))
    return application.exec()


def _show_unexpected(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Tell of an error that nobody expected, instead of going on as if nothing were."""
    sys.__excepthook__(kind, error, traceback)
    box = QMessageBox(QMessageBox.Icon.Critical, "Notes", "Something went wrong that should not have.")
    box.setInformativeText(f"{kind.__name__}: {error}")
    box.exec()
