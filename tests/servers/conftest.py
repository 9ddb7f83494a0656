"""Private servers, started once per run by whichever worker needs them first, and empty databases on them."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from sqlalchemy import Engine, create_engine, make_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from chains import long_chain  # noqa: E402
from histories import Project, project_in  # noqa: E402
from private import Server, start_mariadb, start_pgbouncer, start_postgresql, started_once, stop  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A history with every kind of change."""
    with project_in(tmp_path / "app") as one:
        yield long_chain(one)


@pytest.fixture
def engines() -> Iterator[Callable[..., Engine]]:
    """Make engines that are disposed of after the test."""
    with contextlib.ExitStack() as stack:

        def engine_of(url: str, **options: Any) -> Engine:
            engine = create_engine(url, **options)
            stack.callback(engine.dispose)
            return engine

        yield engine_of


@pytest.fixture(scope="session")
def postgresql(server_folder: Path) -> Server:
    """A private PostgreSQL, from a wheel."""
    return Server(make_url(started_once(server_folder, "postgresql", start_postgresql)))


@pytest.fixture(scope="session")
def mariadb(server_folder: Path) -> Server:
    """A private MariaDB, from the system's packages."""
    return Server(make_url(started_once(server_folder, "mariadb", start_mariadb)))


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def server_folder(run_folder: Path) -> Iterator[Path]:
    """A folder with a short name, because that of a socket must be short; the last worker stops the servers."""
    pointer = run_folder / "servers"
    with FileLock(run_folder / "servers.lock"):
        if not pointer.exists():
            pointer.write_text(tempfile.mkdtemp(prefix="fk", dir="/tmp"))
        folder = Path(pointer.read_text())
        (folder / f"user-{os.getpid()}").touch()
    yield folder
    with FileLock(run_folder / "servers.lock"):
        (folder / f"user-{os.getpid()}").unlink()
        if not list(folder.glob("user-*")):
            stop(folder)
            pointer.unlink()


@pytest.fixture(scope="session")
def pgbouncer(postgresql: Server, server_folder: Path) -> Server:
    """The private PostgreSQL through a PgBouncer that shares its connections out by transaction."""
    url = make_url(started_once(server_folder, "pgbouncer", lambda folder: start_pgbouncer(folder, postgresql.url)))
    return Server(url)
