"""Small bundles for the checks, made from lists of files: laid out as the freezers do, and read by the real readers."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from dataclasses import replace
from functools import cache
from importlib.util import MAGIC_NUMBER
from marshal import dumps
from typing import TYPE_CHECKING

from freezekit.config import Chain
from freezekit.manifest import digest
from freezekit.scripts import read_manifest
from freezekit.tree import FolderTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TREE = "lib/app/migrations"
VERSIONS = f"{TREE}/versions"
MANIFEST = f"{TREE}/freezekit.json"
SNAPSHOT = f"{TREE}/freezekit.db.gz"
SQLITE_FILE = b"SQLite format 3\0" + bytes(84)
EMPTY_DATABASE = gzip.compress(SQLITE_FILE, mtime=0)
BUILT_WITH = {
    "freezekit": "0.1.0",
    "alembic": "1.20.1",
    "sqlalchemy": "2.1.9",
    "python": "3.11.7",
    "sqlite": "3.40.1",
    "freezer": "cx_Freeze 8.7.3",
}
ENV = """\
from logging.config import fileConfig
import os.path

from alembic import context
from sqlalchemy import engine_from_config, pool

try:
    import tracing
except ImportError:
    tracing = None
"""
MODULES = [
    *("alembic.context", "alembic.ddl.sqlite", "alembic.op", "app", "app.models", "logging.__init__", "logging.config"),
    *("os", "posixpath", "sqlalchemy.pool", "sqlalchemy.dialects.sqlite", "sqlite3", "sqlite3.dbapi2", "typing"),
]
EXTENSION = "lib/_sqlite3.cpython-311-x86_64-linux-gnu.so"


def revision(name: str, down: str | tuple[str, ...] | None, body: str = "pass", imports: str = "") -> str:
    """Return a revision script."""
    return (
        f'"""Go to {name}."""\nfrom alembic import op\n{imports}\nrevision = {name!r}\ndown_revision = {down!r}\n\n\n'
        f"def upgrade():\n    {body}\n"
    )


SCRIPTS = {
    f"{TREE}/env.py": ENV,
    f"{TREE}/helper.py": "from app import models\n",
    f"{TREE}/starter.json": "{}",
    f"{TREE}/script.py.mako": "down_revision = ${repr(down_revision)}\n",
    f"{VERSIONS}/0001_first.py": revision("0001", None),
    f"{VERSIONS}/v2.0.second.py": revision("0002", "0001"),
    f"{VERSIONS}/0003_third.py": revision("0003", "0002"),
}


@cache
def package(version: str) -> bytes:
    """Return a compiled package that says its version, as the freezers write it."""
    code = compile(f"from os import path\n__version__ = {version!r}\n", "package.py", "exec", dont_inherit=True)
    return MAGIC_NUMBER + bytes(12) + dumps(code)


def library(modules: Iterable[str] = MODULES, versions: Mapping[str, str] = BUILT_WITH) -> bytes:
    """Return a library.zip with these modules."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("freezekit", "alembic", "sqlalchemy"):
            if name in versions:
                archive.writestr(f"{name}/__init__.pyc", package(versions[name]))
        for name in modules:
            archive.writestr(f"{name.replace('.', '/')}.pyc", b"")
    return buffer.getvalue()


@cache
def _manifest(scratch: Path) -> str:
    write(scratch, {name: text.encode() for name, text in SCRIPTS.items()})
    chain = Chain(script_location="app:migrations", folder=str(scratch / TREE))
    manifest = read_manifest(FolderTree(chain.folder), chain)
    snapshot = {"snapshot": "freezekit.db.gz", "snapshot_sha256": sha256(EMPTY_DATABASE)}
    return replace(manifest, built_with=BUILT_WITH, fingerprints={"0003": "f"}, **snapshot).to_json()


def sha256(content: bytes) -> str:
    """Return the digest of a file that is no text."""
    import hashlib

    return hashlib.sha256(content).hexdigest()


def healthy(scratch: Path) -> dict[str, bytes]:
    """Return the files of a cx_Freeze folder in which all is well.

    Args:
        scratch: A folder in which its scripts may be written.
    """
    return {
        "app": b"\x7fELF PyInit_posix\0PyInit_errno\0",
        "lib/library.zip": library(),
        EXTENSION: b"",
        MANIFEST: _manifest(scratch).encode(),
        SNAPSHOT: EMPTY_DATABASE,
        **{name: text.encode() for name, text in SCRIPTS.items()},
    }


def restamped(files: Mapping[str, bytes], **fields: object) -> dict[str, bytes]:
    """Return the files with a manifest that lists them as they are, as if the build had seen them so."""
    manifest = json.loads(files[MANIFEST])
    inside = {name[len(TREE) + 1 :]: content for name, content in files.items() if name.startswith(f"{TREE}/")}
    ours = {"freezekit.json", "freezekit.db.gz"}
    manifest["files"] = {name: digest(content) for name, content in inside.items() if name not in ours}
    if not any(row["file"] in inside for row in manifest["revisions"]):
        manifest.update(revisions=[], heads=[])
    return {**files, MANIFEST: json.dumps({**manifest, **fields}).encode()}


def write(folder: Path, files: Mapping[str, bytes], modes: Mapping[str, int] | None = None) -> Path:
    """Write a bundle into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.chmod(path, (modes or {}).get(name, 0o755 if name == "app" else 0o644))
    return folder
