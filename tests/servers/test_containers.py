"""The image of docs/howto/containers.md, without an engine: what its instructions do, done one after the other.

There is no base image and no root of its own: what ``apt-get`` installs is here already, and ``USER`` is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bundles import clean_environment, copy_of_tree
from documents import DOCS, shown
from private import versions
from sample_data import expected_head

if TYPE_CHECKING:
    from private import Server

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="away from the source tree there is no documentation")
SECONDS = 60
DONE = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}


def instructions(root: Path) -> list[tuple[str, str]]:
    """Return the instructions of the page, with a folder for the root of the image."""
    found = [
        tuple(line.split(" ", 1)) for line in shown("docs/howto/containers.md", "FROM python").splitlines() if line
    ]
    return [(word, re.sub(r"(?<![^\s\"])/(?=\w)", f"{root}/", rest)) for word, rest in found]


def run(command: str, folder: Path) -> None:
    """Run a command where pip installs into an environment of its own."""
    place = folder.parent / "environment"
    if not place.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
    environment = {**os.environ, "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}", "PIP_QUIET": "1"}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def built_image(root: Path) -> dict[str, list[str]]:
    """Do what the instructions say below a folder; return the entry point and its arguments."""
    folder, started = root, {}
    for word, rest in instructions(root):
        assert word in DONE
        if word == "WORKDIR":
            folder = Path(rest)
            folder.mkdir()
        elif word == "COPY" and rest == ". .":
            copy_of_tree(folder)
        elif word == "COPY":
            stage, source, target = rest.split()
            assert stage == "--from=build"
            shutil.move(source, target)
        elif word == "RUN" and not rest.startswith("apt-get"):
            run(rest, folder)
        elif word in ("ENTRYPOINT", "CMD"):
            started[word] = json.loads(rest)
    return started


def test_the_image_of_the_page_serves_an_upgraded_database(postgresql: Server, tmp_path: Path) -> None:
    """It is built, moved, and started with nothing of the build in sight but what was copied."""
    root = tmp_path / "root"
    (root / "opt").mkdir(parents=True)
    (root / "tmp").mkdir()
    started = built_image(root)
    shutil.rmtree(root / "src")
    url, shown_url = postgresql.database(), "postgresql+psycopg://notes@db/notes"
    assert shown_url in started["CMD"]
    command = [*started["ENTRYPOINT"], *(url if word == shown_url else word for word in started["CMD"]), "--port", "0"]
    home = tmp_path / "home"
    home.mkdir()
    with subprocess.Popen(command, cwd=home, env=clean_environment(home), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening at ").rstrip()
        assert process.stdout.readline().startswith("applied: ")
        while not (root / "tmp" / "ready").exists():
            assert process.poll() is None
            time.sleep(0.05)
        with urllib.request.urlopen(f"{address}/readyz", timeout=SECONDS) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert versions(url) == [expected_head]
