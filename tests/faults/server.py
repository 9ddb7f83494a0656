"""Runs upgrades in forked children whose writing can be made to fail; started with the shim of ``shim.c`` loaded.

Reads one JSON object a line (folder, document, scripts; at, action and log for the shim; or a delay after which the
child is killed; or a largest size of files) and prints one a line: how the child ended, and how many calls it made.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

# Everything an upgrade imports is imported once, here.
import alembic.command
import sqlalchemy.dialects.sqlite

import freezekit
import freezekit.runtime.upgrade
from freezekit.runtime import sqlite_upgrade

_ENDED_WELL, _REFUSED, _BROKE = 0, 10, 11


def main() -> None:
    """Answer requests until there are no more."""
    shim = ctypes.CDLL(None)
    shim.fault_calls.restype = ctypes.c_long
    for line in sys.stdin:
        request = json.loads(line)
        started = time.monotonic()
        result = Path(request["folder"] + ".result")
        child = os.fork()
        if not child:
            _work(shim, request, result)
        if request.get("kill_after") is not None:
            time.sleep(request["kill_after"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - started
        told = json.loads(result.read_text()) if result.exists() else {}
        result.unlink(missing_ok=True)
        answer = {"exit": os.waitstatus_to_exitcode(status), "seconds": seconds, **told}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _work(shim: Any, request: dict[str, Any], result: Path) -> None:
    code, told = _BROKE, {}
    try:
        random.seed(0)
        if request.get("in_place_bytes") is not None:
            sqlite_upgrade.IN_PLACE_BYTES = request["in_place_bytes"]
        if request.get("largest_file") is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], resource.RLIM_INFINITY))
        migrations = freezekit.locate(request["scripts"])
        log = request.get("log")
        at, action = request.get("at", -1), request.get("action", 0)
        shim.fault_arm(request["folder"].encode(), ctypes.c_long(at), action, log and log.encode())
        try:
            report = migrations.upgrade(request["document"], timeout=request.get("timeout", 30))
            code, told = _ENDED_WELL, {"applied": report.applied}
        except freezekit.FreezekitError as error:
            code, told = _REFUSED, {"error": type(error).__name__, "message": str(error)}
            told["disk_full"] = getattr(error, "disk_full", False)
        told["calls"] = shim.fault_calls()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        told = {"error": type(error).__name__, "message": repr(error)}
    finally:
        shim.fault_arm(b"", ctypes.c_long(-1), 0, None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        part = result.with_suffix(".part")
        part.write_text(json.dumps(told))
        part.replace(result)  # the kill may come now
        os._exit(code)


if __name__ == "__main__":
    _ = (alembic.command, sqlalchemy.dialects.sqlite)
    main()
