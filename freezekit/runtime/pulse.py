"""What the caller of an upgrade hears while it runs, and how it stops it."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from freezekit.errors import FreezekitError, MigrationFailed, UpgradeCancelled
from freezekit.runtime.reports import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from freezekit.manifest import Manifest
    from freezekit.runtime.environment import Run
    from freezekit.runtime.job import Request

_ASK_SECONDS = 0.05
_TELL_SECONDS = 0.2
# Where a phase begins and how much of the whole it is taken to be; a large document's backup takes a while too.
_SHARES = {
    "backup": (0.0, 0.2),
    "migrate": (0.2, 0.7),
    "check": (0.9, 0.05),
    "commit": (0.95, 0.05),
    "done": (1.0, 0.0),
}


class Pulse:
    """Calls ``on_progress`` and asks ``cancel``, not too often; two calls of ``on_progress`` are never at once.

    Attributes:
        failure: What ``on_progress`` raised where that could not be passed on: called by SQLite, or by another thread.
    """

    def __init__(self, database: str, manifest: Manifest, request: Request) -> None:
        self._database = database
        self._manifest = manifest
        self._request = request
        self._now = Progress(None, 0, 0, "", "migrate", 0.0)
        self._ask_at = self._tell_at = 0.0
        self._telling = threading.Lock()
        self.failure: BaseException | None = None

    def plan(self, total: int) -> None:
        """Learn how many revisions will run."""
        self._now = Progress(None, 0, total, "", "migrate", 0.0)

    def phase(self, phase: str, share: float = 0.0) -> None:
        """Begin a phase, or say which share of it is done.

        Raises:
            UpgradeCancelled: The caller wants to stop.
        """
        begins = phase != self._now.phase
        start, size = _SHARES[phase]
        # A second attempt, on a copy, begins anew; what was shown as done does not become less.
        fraction = max(self._now.fraction, start + size * share)
        self._now = Progress(None, self._now.index, self._now.total, "", phase, fraction)
        self._tell(at_once=begins)
        if phase != "done":
            self.refuse_if_cancelled()

    def done(self, applied: Sequence[str]) -> None:
        """Say that the upgrade is permanent.

        Raises:
            MigrationFailed: ``on_progress`` failed; that undoes nothing any more, and the error says so.
        """
        try:
            self.phase("done")
        except FreezekitError as error:
            reason = error.reason if isinstance(error, MigrationFailed) else f"on_progress failed: {error!r}"
            cause = error.__cause__ or error
            raise MigrationFailed(self._database, reason, applied=applied, restored=False) from cause

    def step(self, run: Run) -> None:
        """Say which revision runs now; the signature is that of ``Run``'s ``on_step``.

        Raises:
            UpgradeCancelled: The caller wants to stop.
        """
        done, total = len(run.applied), len(run.planned or ())
        start, size = _SHARES["migrate"]
        fraction = max(self._now.fraction, start + size * done / total if total else 0.0)
        doc = self._manifest.by_id[run.current].doc if run.current else ""
        self._now = Progress(run.current, done, total, doc, "migrate", fraction)
        self.refuse_if_cancelled()
        if run.current is not None:
            self._tell(at_once=True)

    def beat(self) -> bool:
        """Return whether to stop; called by SQLite while statements run, and before each statement on a server."""
        now = time.monotonic()
        if now < self._ask_at:
            return False
        self._ask_at = now + _ASK_SECONDS
        self._tell_and_keep_failure()
        return self.stops()

    @contextlib.contextmanager
    def beating(self, interrupt: Callable[[], object] | None = None) -> Iterator[None]:
        """Tell from another thread too until the block ends, as no driver of a server calls us while it waits.

        Args:
            interrupt: Ends the running statement, for a database of which nobody else does that.

        Raises:
            MigrationFailed: ``on_progress`` failed there; this replaces the error of the statement that it ended.
        """
        if self._request.on_progress is None and (interrupt is None or self._request.cancel is None):
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(
            target=self._beat_until, args=(ended, interrupt), name="freezekit-progress", daemon=True
        )
        thread.start()
        try:
            yield
        except (MigrationFailed, UpgradeCancelled):
            if self.failure is None:
                raise
        finally:
            ended.set()
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _beat_until(self, ended: threading.Event, interrupt: Callable[[], object] | None) -> None:
        while self.failure is None and not ended.wait(_ASK_SECONDS):
            self._tell_and_keep_failure()
            if interrupt is not None and self.stops():
                interrupt()

    def stops(self) -> bool:
        """Return whether the upgrade is to stop: it was cancelled, or ``on_progress`` failed."""
        return self.failure is not None or self._request.cancelled()

    def refuse_if_cancelled(self) -> None:
        """Raise if the caller wants to stop."""
        if self._request.cancelled():
            raise UpgradeCancelled(self._database)
        if self.failure is not None:
            raise self.failure

    def _tell_and_keep_failure(self) -> None:
        try:
            self._tell()
        except BaseException as error:  # noqa: BLE001 - SQLite and threads would only print it
            self.failure = error

    def _tell(self, *, at_once: bool = False) -> None:
        if self._request.on_progress is None or self.failure is not None:
            return
        with self._telling:
            now = time.monotonic()
            if not (at_once or now >= self._tell_at):
                return
            self._tell_at = now + _TELL_SECONDS
            try:
                self._request.on_progress(self._now)
            except FreezekitError:
                raise
            except Exception as error:
                raise MigrationFailed(self._database, f"on_progress failed: {error!r}") from error
