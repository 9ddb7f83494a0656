"""Work that takes its time, off the window's thread, with a dialog if it takes longer than half a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QProgressBar, QVBoxLayout, QWidget

from freezekit.runtime.qt import UpgradeRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit import Progress

SHOW_AFTER_MS = 500
_PHASES = {"backup": "Making a backup", "check": "Checking the result", "commit": "Saving"}
_STEPS = 1000


class Task(QObject):
    """One piece of work on a thread of its own.

    Args:
        parent: The window that waits for it.
        title: What it is, for the dialog.
        work: Called with ``args``, ``on_progress`` and ``cancel``, on the thread.
        can_stop: Whether it does ask ``cancel``, so that the dialog has a button for it.

    Attributes:
        succeeded: Signal with what the work returned.
        failed: Signal with the exception; one of the two is emitted.
    """

    succeeded = Signal(object)
    failed = Signal(object)

    def __init__(
        self, parent: QWidget, title: str, work: Callable[..., Any], *args: Any, can_stop: bool = True
    ) -> None:
        super().__init__(parent)
        self._runner = UpgradeRunner(work, *args)
        self._dialog = ProgressDialog(parent, title, can_stop=can_stop)
        self._dialog.cancelled.connect(self._runner.cancel)
        self._runner.progress.connect(self._dialog.show_progress)
        self._runner.finished.connect(lambda result: self._end(self.succeeded, result))
        self._runner.failed.connect(lambda error: self._end(self.failed, error))
        self._timer = QTimer(self, singleShot=True, interval=SHOW_AFTER_MS, timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._dialog.open)

    def start(self) -> None:
        """Begin; returns at once."""
        self._timer.start()
        self._runner.start()

    def stop(self) -> None:
        """Cancel the work and wait for its end; its signal is emitted before this returns."""
        self._runner.cancel()
        self._runner.wait()

    def _end(self, signal: Any, value: object) -> None:
        self._timer.stop()
        self._dialog.close_for_good()
        self.deleteLater()
        signal.emit(value)


class ProgressDialog(QDialog):
    """What is being done, how far it is, and a way to stop it.

    Attributes:
        cancelled: Signal: the user wants it to stop. The dialog stays until it has.
    """

    cancelled = Signal()

    def __init__(self, parent: QWidget, title: str, *, can_stop: bool) -> None:
        super().__init__(
            parent, Qt.WindowType.Dialog | Qt.WindowType.CustomizeWindowHint | Qt.WindowType.WindowTitleHint
        )
        self.setWindowTitle(title)
        self.setMinimumWidth(420)
        self._is_stopping = False
        self._what = QLabel("Waiting for the document")
        self._bar = QProgressBar(maximum=0)
        self._bar.setAccessibleName("Progress")
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self._buttons.setVisible(can_stop)
        self._buttons.setEnabled(can_stop)
        self._buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self._what)
        layout.addWidget(self._bar)
        layout.addWidget(self._buttons)

    def show_progress(self, now: Progress) -> None:
        """Say how far it is."""
        self._bar.setMaximum(_STEPS)
        self._bar.setValue(round(now.fraction * _STEPS))
        if not self._is_stopping:
            self._what.setText(now.doc or _PHASES.get(now.phase, self._what.text()))

    def reject(self) -> None:
        """Ask for the end, and wait for it: Cancel, Escape, or the cross of the window."""
        if self._buttons.isEnabled():
            self._is_stopping = True
            self._buttons.setEnabled(False)
            self._what.setText("Stopping")
            self.cancelled.emit()

    def close_for_good(self) -> None:
        """Go away; the work has ended."""
        self.done(QDialog.DialogCode.Accepted)
        self.deleteLater()
