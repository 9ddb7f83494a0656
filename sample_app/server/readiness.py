"""How a service manager learns that a replica is ready: systemd's protocol, and a file."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def notify(**values: str | int) -> None:
    """Tell systemd, or whoever listens at $NOTIFY_SOCKET, as ``sd_notify(3)`` does; nothing happens without one.

    Args:
        values: ``READY=1``, ``STATUS="..."``, ``EXTEND_TIMEOUT_USEC=...``.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or not hasattr(socket, "AF_UNIX"):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    message = "\n".join(f"{name}={str(value).splitlines()[0]}" for name, value in values.items())
    # A manager that does not listen is no reason to fail.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message.encode(), address)


@contextlib.contextmanager
def ready_file(path: Path | None) -> Iterator[None]:
    """Let a file exist for the duration of a block, for probes that run a command instead of asking a port."""
    if path is not None:
        path.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)
