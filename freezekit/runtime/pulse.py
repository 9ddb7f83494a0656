"""What the caller of an upgrade hears while it runs, and how it stops it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from freezekit.errors import FreezekitError, MigrationFailed, UpgradeCancelled
from freezekit.runtime.reports import Progress

if TYPE_CHECKING:
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
    """Calls ``on_progress`` and asks ``cancel``, from the upgrading thread and not too often.

    Attributes:
        failure: What ``on_progress`` raised while SQLite called it, which cannot pass an exception on.
    """

    def __init__(self, database: str, manifest: Manifest, request: Request) -> None:
        self._database = database
        self._manifest = manifest
        self._request = request
        self._now = Progress(None, 0, 0, "", "migrate", 0.0)
        self._ask_at = self._tell_at = 0.0
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
        """Return whether to stop; for SQLite, which calls this while statements run."""
        now = time.monotonic()
        if now < self._ask_at:
            return False
        self._ask_at = now + _ASK_SECONDS
        try:
            self._tell()
        except Exception as error:  # noqa: BLE001 - SQLite would only print it
            self.failure = error
        return self.failure is not None or self._request.cancelled()

    def refuse_if_cancelled(self) -> None:
        """Raise if the caller wants to stop."""
        if self._request.cancelled():
            raise UpgradeCancelled(self._database)

    def _tell(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._request.on_progress is None or not (at_once or now >= self._tell_at):
            return
        self._tell_at = now + _TELL_SECONDS
        try:
            self._request.on_progress(self._now)
        except FreezekitError:
            raise
        except Exception as error:
            raise MigrationFailed(self._database, f"on_progress failed: {error!r}") from error
