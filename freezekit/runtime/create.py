"""A new database at head: a copy of the snapshot that was made while building, or all revisions run once."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from typing import TYPE_CHECKING

from freezekit.errors import InvalidMigrations, UsageError
from freezekit.runtime.files import private_part, publish, sync, write_new

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.manifest import Manifest
    from freezekit.tree import Tree

# What zlib calls gzip's format with its largest window.
_GZIP = 31


def create_file(tree: Tree, manifest: Manifest, path: str, replay: Callable[[str], object]) -> None:
    """Create a file that appears complete or not at all; one that exists is never replaced.

    Args:
        tree: Holds the snapshot.
        manifest: Says whether there is one.
        path: The new file.
        replay: Makes the database at a path by running the revisions, where there is no snapshot.

    Raises:
        UsageError: There is something at that path.
        NotADatabase: Its folder does not exist.
        InvalidMigrations: The snapshot was altered.
        MigrationFailed: Its folder is read-only, the volume is full, or a revision failed.
    """
    if os.path.lexists(path):
        raise UsageError(f"{path} exists; a new database is only made where there is nothing. Nothing was changed.")
    content = read_snapshot(tree, manifest)
    if content is not None:
        write_new(path, content)
        return
    with private_part(path) as part:
        replay(part)
        sync(part)
        publish(part, path)


def create_in_memory(tree: Tree, manifest: Manifest, replay: Callable[[str], object]) -> sqlite3.Connection:
    """Return a connection to a new database in memory, at head."""
    content = read_snapshot(tree, manifest)
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    if content is not None and hasattr(connection, "deserialize"):
        connection.deserialize(content)
        return connection
    with tempfile.TemporaryDirectory(prefix="freezekit-") as folder:
        path = os.path.join(folder, "database")
        create_file(tree, manifest, path, replay)
        with contextlib.closing(sqlite3.connect(path)) as source:
            source.backup(connection)
    return connection


def read_snapshot(tree: Tree, manifest: Manifest) -> bytes | None:
    """Return the shipped empty database, checked and unpacked; None if none was shipped."""
    if manifest.snapshot is None:
        return None
    import hashlib
    import zlib

    try:
        content = tree.read(manifest.snapshot)
    except OSError as error:
        where = tree.path(manifest.snapshot)
        raise InvalidMigrations(tree.root, [f"{where} cannot be read: {error.strerror or error}"]) from error
    if hashlib.sha256(content).hexdigest() != manifest.snapshot_sha256:
        raise InvalidMigrations(tree.root, [f"{tree.path(manifest.snapshot)} was altered since it was shipped"])
    return zlib.decompress(content, _GZIP)
