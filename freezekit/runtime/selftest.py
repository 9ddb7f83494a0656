"""Answer the runner of ``freezekit smoke`` from inside a finished bundle; do nothing at all unless it asks.

The freezers' hooks arrange that a frozen program calls :func:`answer` before its own main script, if a variable is set.
That variable decides neither which scripts run, those of the bundle do, nor which files are touched: it names a request
in a private folder of the same user, and all files are plain names inside that folder. Whatever is not exactly that is
ignored, and the program starts as ever.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VARIABLE = "FREEZEKIT_SELFTEST"
FORMAT = 1
_ASKED = re.compile(r"(?P<token>[0-9a-f]{32}):(?P<path>.+)", re.DOTALL)
_REQUEST = re.compile(r"request-(?P<number>[0-9]{1,6})\.json")
_PLAIN_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,99}")
_MOST_BYTES = 1 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def answer() -> None:
    """Do what a valid request asks, write the answer beside it, and end the process; return if there is none.

    Raises:
        SystemExit: The request was answered.
    """
    request = read_request(os.environ.get(VARIABLE, "")) if getattr(sys, "frozen", False) else None
    if request is None:
        return
    from freezekit.runtime.selfcheck import run

    raise SystemExit(run(**request))


def read_request(asked: str) -> dict[str, Any] | None:
    """Return what the variable asks for, or None if it is not a request of the runner in every respect.

    Args:
        asked: Token and path of the request, with a colon between.

    Returns:
        ``folder``, ``number`` and ``request``.
    """
    match = _ASKED.fullmatch(asked)
    folder, name = os.path.split(match["path"]) if match else ("", "")
    number = _REQUEST.fullmatch(name)
    if match is None or number is None or not os.path.isabs(folder):
        return None
    try:
        if not _is_private(folder):
            return None
        with open(_own_file(folder, name), encoding="utf-8") as file:
            request = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    is_meant = isinstance(request, dict) and (request.get("format"), request.get("token")) == (FORMAT, match["token"])
    return {"folder": folder, "number": int(number["number"]), "request": request} if is_meant else None


def _is_private(folder: str) -> bool:
    """Return whether a folder is no link, belongs to this user, and is closed to all others."""
    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and _is_mine(found) and (os.name == "nt" or not found.st_mode & _OTHERS)


def _is_mine(found: os.stat_result) -> bool:
    return os.name == "nt" or found.st_uid == os.geteuid()


def _own_file(folder: str, name: str) -> str:
    """Return the path of a file that is only in this folder: no link of either kind leads elsewhere.

    Raises:
        ValueError: It is something else.
    """
    path = os.path.join(folder, name)
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or not _is_mine(found):
        raise ValueError(f"{name} is not a file of this folder")
    return path


def scratch_file(folder: str, name: object) -> str:
    """Return the path of a scratch file, which need not exist yet.

    Args:
        folder: The folder of the request.
        name: The file's plain name.

    Raises:
        ValueError: It is no plain name, or the file there is a link.
    """
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the plain name of a file")
    path = os.path.join(folder, name)
    return _own_file(folder, name) if os.path.lexists(path) else path
