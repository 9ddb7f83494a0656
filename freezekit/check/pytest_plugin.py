"""Fixtures for the test suites of applications; pytest finds them by entry point, and they do nothing until used.

``migrations.validate()`` is the one-line unit test of a history, and :func:`freezekit.check.validate` what it does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from freezekit.check.frozen import FrozenBundle
    from freezekit.check.histories import ProjectMigrations, Upgraded


class Freeze(Protocol):
    """What ``frozen_bundle`` is."""

    def __call__(
        self, what: str | os.PathLike[str] | Sequence[str], executable: str | None = None, **options: Any
    ) -> FrozenBundle:
        """Freeze, or return what was frozen before; see :func:`freezekit.check.frozen.freeze`."""


@pytest.fixture(scope="session")
def frozen_bundle(tmp_path_factory: pytest.TempPathFactory) -> Freeze:
    """Freeze the application once per session, also where several workers of pytest-xdist ask (if filelock is there).

    Example:
        >>> def test_bundle(frozen_bundle):
        ...     frozen_bundle("app.spec").smoke(databases=["tests/1.0.notes"])
    """
    shared = _shared_folder(tmp_path_factory)

    def bundle_of(
        what: str | os.PathLike[str] | Sequence[str], executable: str | None = None, **options: Any
    ) -> FrozenBundle:
        from freezekit.check.frozen import freeze

        asked = os.fspath(what) if isinstance(what, (str, os.PathLike)) else list(what)
        key = hashlib.sha256(json.dumps([asked, executable, options], default=str).encode()).hexdigest()[:16]
        folder = shared / f"frozen-{key}"
        with _locked(folder):
            return _remembered(folder, lambda: freeze(what, executable, dist=folder / "dist", **options))

    return bundle_of


@pytest.fixture
def migrations(pytestconfig: pytest.Config) -> ProjectMigrations:
    """The migrations that the project of the tests configures, in pyproject.toml or alembic.ini of pytest's rootdir.

    Example:
        >>> def test_migrations(migrations):
        ...     migrations.validate()
    """
    from freezekit.check.histories import ProjectMigrations

    return ProjectMigrations(str(pytestconfig.rootpath))


@pytest.fixture
def upgrade_from(tmp_path: Path) -> Callable[..., Upgraded]:
    """Create a database at a revision, insert, upgrade, compare: :func:`freezekit.check.upgrade_from` in a new file.

    Example:
        >>> def test_titles_survive(upgrade_from):
        ...     upgraded = upgrade_from("myapp:migrations", "0001", "INSERT INTO note (title) VALUES ('x')")
        ...     assert upgraded.after["note"][0]["title"] == "x"
    """

    def upgraded(
        script_location: str, revision: str, insert: str | Callable[[sqlite3.Connection], object] = "", **options: Any
    ) -> Upgraded:
        from freezekit.check.histories import upgrade_from as run

        number = len(list(tmp_path.glob("upgraded-*.db")))
        return run(script_location, revision, insert, tmp_path / f"upgraded-{number}.db", **options)

    return upgraded


def _shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this run share; each its own without filelock."""
    base = factory.getbasetemp()
    # A worker of pytest-xdist gets a folder of its own inside the folder of the run.
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ and _filelock() else base


def _filelock() -> Any:
    try:
        import filelock
    except ImportError:
        return None
    return filelock


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    module = _filelock()
    if module is None:
        yield
        return
    with module.FileLock(f"{folder}.lock"):
        yield


def _remembered(folder: Path, build: Callable[[], FrozenBundle]) -> FrozenBundle:
    """Return what an earlier call has built, or fail at once as it failed."""
    from freezekit.check.frozen import FrozenBundle
    from freezekit.errors import FreezekitError

    note = folder / "built.json"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            said = {"executable": str(build().executable)}
        except FreezekitError as error:
            said = {"error": str(error)}
        note.write_text(json.dumps(said), encoding="utf-8")
    said = json.loads(note.read_text(encoding="utf-8"))
    if "error" in said:
        pytest.fail(said["error"], pytrace=False)
    return FrozenBundle(Path(said["executable"]))
