"""One replica: it answers probes at once, upgrades the database or waits for the replica that does, and serves."""

from __future__ import annotations

import json
import signal
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from sample_app.documents import migrations
from sample_app.server.readiness import notify, ready_file

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit import Progress, Report

_MARGIN = 30  # seconds that systemd waits for the next sign of life


class Replica:
    """What the probes of one replica answer, and what its service manager is told.

    Attributes:
        url: The database.
        state: ``"waiting"``, ``"migrating"`` or ``"ready"``.
        stop: Set when the replica is to end.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.state = "waiting"
        self.stop = threading.Event()
        self._progress: dict[str, Any] = {}
        self._told = 0.0

    def upgrade(self, timeout: float) -> Report:
        """Bring the database up to date; of all replicas that try at once, one does it and the others wait."""
        notify(STATUS="waiting for the database", EXTEND_TIMEOUT_USEC=int((timeout + _MARGIN) * 1_000_000))
        return migrations().upgrade(self.url, timeout=timeout, cancel=self.stop, on_progress=self._on_progress)

    def _on_progress(self, now: Progress) -> None:
        """Keep what the probes answer; five times a second is more often than a manager has to know."""
        self.state = "migrating"
        changed = self._progress.get("revision") != now.revision
        self._progress = {"revision": now.revision, "done": now.index, "total": now.total}
        if changed or time.monotonic() - self._told > 1:
            self._told = time.monotonic()
            status = f"migrating {now.index}/{now.total}: {now.revision or now.phase}"
            notify(STATUS=status, EXTEND_TIMEOUT_USEC=_MARGIN * 1_000_000)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and the document for a path."""
        if path == "/healthz":  # alive: restarting a replica that migrates helps nobody
            return 200, {"state": self.state}
        if path == "/readyz":
            return (200 if self.state == "ready" else 503), {"state": self.state, **self._progress}
        if path == "/notes":
            return (200, {"notes": self._titles()}) if self.state == "ready" else (503, {"state": self.state})
        return 404, {"error": "no such page"}

    def _titles(self) -> list[str]:
        import sqlalchemy as sa

        from sample_app.models import Note

        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return list(connection.scalars(sa.select(Note.title).order_by(Note.id)))


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, replica: Replica, *arguments: Any) -> None:
        self._replica = replica
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer a probe, or with the notes."""
        status, document = self._replica.answer(self.path)
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing for each probe."""


def serve(url: str, *, host: str, port: int, timeout: float, file: Path | None = None) -> None:
    """Serve the notes of a database until SIGTERM; returns then.

    Args:
        url: The database, such as ``postgresql+psycopg://...``.
        host: Address to listen at.
        port: Port to listen at; 0 for any, which is printed.
        timeout: Seconds to wait for another replica that upgrades.
        file: Exists while the replica is ready.

    Raises:
        FreezekitError: The database cannot be brought up to date; errors say what it holds.
    """
    replica = Replica(url)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: replica.stop.set())
    with ThreadingHTTPServer((host, port), partial(_Handler, replica)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"listening at http://{host}:{server.server_port}", flush=True)
        try:
            report = replica.upgrade(timeout)
            print(f"applied: {', '.join(report.applied) or 'nothing'}", flush=True)
            with ready_file(file):
                replica.state = "ready"
                notify(READY=1, STATUS="serving")
                replica.stop.wait()
        finally:
            notify(STOPPING=1)
            server.shutdown()
