"""An upgrade on a thread of its own, for windows made with Qt: PySide6 or PyQt6.

Which of the two it is decides the program, by importing it. Neither is named by an import statement here, so no
freezer ships one because of this module, and importing this module imports neither.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any

from freezekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_BINDINGS = ("PySide6", "PyQt6")
_running: set[UpgradeRunner] = set()


class UpgradeRunner:
    """One upgrade on a thread of its own; the window stays alive meanwhile, and hears of it by signals.

    The signals are emitted in the thread that made this object, whatever they are connected to. After any number of
    ``progress`` comes exactly one of ``finished`` and ``failed``, and then the signals are gone. What fails while
    nothing is connected to ``failed`` goes to ``sys.excepthook``. A program that quits meanwhile cancels the upgrade
    and waits for its end, so that the database is the old or the new one.

    Args:
        upgrade: ``migrations.upgrade``, or a function of your own that takes ``on_progress`` and ``cancel`` as it does.
        args: Arguments for it, such as the path of the document.
        options: Further ones, such as ``timeout``.

    Attributes:
        progress: Signal with a :class:`freezekit.Progress`.
        finished: Signal with what the function returned: of ``migrations.upgrade`` a :class:`freezekit.Report`.
        failed: Signal with the exception; :class:`~freezekit.errors.UpgradeCancelled` if it was cancelled.

    Raises:
        UsageError: Neither PySide6 nor PyQt6 can be imported.

    Example:
        >>> runner = UpgradeRunner(migrations.upgrade, "old.notes")
        >>> runner.progress.connect(lambda now: bar.setValue(round(now.fraction * 100)))
        >>> runner.finished.connect(window.show_document)
        >>> runner.failed.connect(window.show_error)
        >>> runner.start()
    """

    progress: Any
    finished: Any
    failed: Any

    def __init__(self, upgrade: Callable[..., Any], *args: Any, **options: Any) -> None:
        self._core = _qt_core()
        self._upgrade = functools.partial(upgrade, *args, **options)
        self._cancelled = threading.Event()
        self._news: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="freezekit-upgrade")
        self._signals = _signals(self._core)(self._deliver)
        self.progress, self.finished, self.failed = (
            self._signals.progress,
            self._signals.finished,
            self._signals.failed,
        )

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither ``finished`` nor ``failed`` was emitted yet."""
        return self in _running

    def start(self) -> None:
        """Begin; returns at once.

        Raises:
            RuntimeError: It was started before.
        """
        self._thread.start()
        _running.add(self)
        if (application := self._core.QCoreApplication.instance()) is not None:
            application.aboutToQuit.connect(self._quit)

    def cancel(self) -> None:
        """Ask it to stop, which it does within a second, if it is not just becoming permanent; returns at once."""
        self._cancelled.set()

    def wait(self) -> None:
        """Wait for its end, without running the event loop; the remaining signals are emitted before this returns."""
        if self.is_running:
            self._thread.join()
            self._deliver()

    def _run(self) -> None:
        try:
            result = self._upgrade(on_progress=lambda now: self._tell("progress", now), cancel=self._is_cancelled)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the window hears of it
            self._tell("failed", error)
        else:
            self._tell("finished", result)

    def _is_cancelled(self) -> bool:
        # The interpreter waits for this thread when the main thread has ended.
        return self._cancelled.is_set() or not threading.main_thread().is_alive()

    def _tell(self, name: str, value: object) -> None:
        self._news.put((name, value))
        self._signals.arrived.emit()

    def _deliver(self) -> None:
        """Emit what has arrived, in the thread of this object."""
        while not self._news.empty():
            name, value = self._news.get()
            if name != "progress":
                self._end()
            if isinstance(value, BaseException) and not self._is_heard:
                sys.excepthook(type(value), value, value.__traceback__)
            getattr(self._signals, name).emit(value)

    @property
    def _is_heard(self) -> bool:
        """Whether anything is connected to ``failed``; the two bindings are asked differently."""
        if (from_signal := getattr(self._core.QMetaMethod, "fromSignal", None)) is not None:
            return bool(self._signals.isSignalConnected(from_signal(self.failed)))
        return bool(self._signals.receivers(self.failed))

    def _end(self) -> None:
        """Let everything go in this thread: Qt's objects must not end in another one."""
        self._thread.join()
        del self._upgrade
        _running.discard(self)
        self._signals.deleteLater()
        if (application := self._core.QCoreApplication.instance()) is not None:
            application.aboutToQuit.disconnect(self._quit)

    def _quit(self) -> None:
        self.cancel()
        self.wait()


def _qt_core() -> Any:
    """Return the QtCore of this program: that of its application, else one that is imported, else one that can be."""
    names = [f"{binding}.QtCore" for binding in _BINDINGS]
    imported = [sys.modules[name] for name in names if name in sys.modules]
    for core in imported:
        if core.QCoreApplication.instance() is not None:
            return core
    if imported:
        return imported[0]
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise UsageError(f"An UpgradeRunner needs {' or '.join(_BINDINGS)}, and neither can be imported: install one.")


@functools.cache
def _signals(core: Any) -> Any:
    """Return the class of the object that lives in the window's thread."""
    signal = getattr(core, "Signal", None) or core.pyqtSignal

    class Signals(core.QObject):  # type: ignore[misc]
        progress, finished, failed, arrived = signal(object), signal(object), signal(object), signal()

        def __init__(self, deliver: Callable[[], None]) -> None:
            # The application keeps it: garbage is collected by whichever thread comes first.
            super().__init__(core.QCoreApplication.instance())
            self._deliver = deliver
            self.arrived.connect(self.deliver, core.Qt.ConnectionType.QueuedConnection)

        def deliver(self) -> None:
            self._deliver()

    return Signals
