"""Programs that some tests need, from packages of Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INSTALL_SECONDS = 600


def install(package: str, program: str) -> None:
    """Install a package of Debian, if its program is not there.

    Raises:
        OSError: The program is missing, and this user or system cannot install it.
        subprocess.SubprocessError: The installation failed.
    """
    install_missing(lambda: [] if shutil.which(program) else [package])


def install_missing(missing: Callable[[], Sequence[str]]) -> None:
    """Install packages of Debian.

    Args:
        missing: Says which, and is asked again when nobody else is installing any more.

    Raises:
        OSError: This user or system cannot install them.
        subprocess.SubprocessError: The installation failed.
    """
    if not (packages := missing()):
        return
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise OSError(f"only root on Debian can install what is missing here: {', '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Workers that install at the same time would fail on apt's own lock.
    with FileLock(os.path.join(tempfile.gettempdir(), "tests-install.lock")):
        if not (packages := missing()):
            return
        for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
            arguments = ["apt-get", *command]
            subprocess.run(arguments, check=True, capture_output=True, timeout=INSTALL_SECONDS, env=environment)
