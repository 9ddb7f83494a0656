"""What the fault tests share: a document in each journal mode, and the process whose writing can be made to fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from harness import HERE, Server, Subject, made_subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAYS = ("rollback journal", "write-ahead log", "copy back")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def factor(request: pytest.FixtureRequest) -> int:
    """How many times as many faults as usual."""
    return int(request.config.getoption("--faults"))


@pytest.fixture(scope="session")
def shim(run_folder: Path) -> Path:
    """What stands between a program and its system calls; needs Linux and a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("faults of system calls need Linux and a C compiler")
    shim = run_folder / "shim.so"
    with FileLock(run_folder / "shim.lock"):
        if not shim.exists():
            command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(shim), str(HERE / "shim.c"), "-ldl"]
            subprocess.run(command, check=True)
    return shim


@pytest.fixture(scope="session")
def server(shim: Path) -> Iterator[Server]:
    """The process whose system calls can be made to fail."""
    running = Server(shim)
    yield running
    running.stop()


@pytest.fixture(scope="session", params=WAYS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A document of a past release, for each way of upgrading."""
    return made_subject(request.param, tmp_path_factory.mktemp("subject"))
