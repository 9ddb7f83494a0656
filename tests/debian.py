"""Programs that some tests need, from packages of Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from filelock import FileLock

INSTALL_SECONDS = 600


def install(package: str, program: str) -> None:
    """Install a package of Debian, if its program is not there.

    Raises:
        OSError: The program is missing, and this user or system cannot install it.
        subprocess.SubprocessError: The installation failed.
    """
    if shutil.which(program) is not None:
        return
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise OSError(f"{program} is not installed, and only root on Debian can install {package}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Workers that install at the same time would fail on apt's own lock.
    with FileLock(os.path.join(tempfile.gettempdir(), "tests-install.lock")):
        if shutil.which(program) is not None:
            return
        for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", package]):
            arguments = ["apt-get", *command]
            subprocess.run(arguments, check=True, capture_output=True, timeout=INSTALL_SECONDS, env=environment)
