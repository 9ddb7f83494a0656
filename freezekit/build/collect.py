"""What ships where: one tree of scripts with its manifest, laid out as it will be found in the bundle.

Freezer-independent. Paths in the bundle have forward slashes and are relative to where modules are imported from:
``_MEIPASS`` of PyInstaller, ``lib`` or ``library.zip`` of cx_Freeze.
"""

from __future__ import annotations

import os
import platform
import posixpath
import sqlite3
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

from freezekit.errors import UsageError
from freezekit.ini import without_secrets
from freezekit.manifest import digest, manifest_name, snapshot_name
from freezekit.scripts import read_manifest
from freezekit.tree import FolderTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from freezekit.build.snapshot import Snapshot
    from freezekit.config import Chain
    from freezekit.manifest import Manifest


@dataclass(frozen=True)
class Shipment:
    """One tree of scripts, as it goes into a bundle.

    Attributes:
        chain: What the project says about it.
        dest: Folder of env.py in the bundle.
        files: Absolute source and path in the bundle of every file that ships as it is.
        manifest: What the manifest says.
        made: Content of what else is made for the bundle, by its path there: the ini, the empty database.
    """

    chain: Chain
    dest: str
    files: tuple[tuple[str, str], ...]
    manifest: Manifest
    made: Mapping[str, bytes]

    @property
    def generated(self) -> Mapping[str, bytes]:
        """Content of every file that is made for the bundle, by its path there; the manifest among them."""
        manifest = f"{self.dest}/{manifest_name(self.chain.section)}"
        return {**self.made, manifest: self.manifest.to_json().encode("utf-8")}

    @property
    def scripts(self) -> tuple[str, ...]:
        """The Python files of the tree: env.py, revisions and helpers."""
        return tuple(source for source, _ in self.files if source.endswith(".py"))

    def written(self, folder: str) -> tuple[tuple[str, str], ...]:
        """Write the generated files below a folder, unless they are there already; return them like ``files``."""
        generated = self.generated.items()
        return tuple((_write(os.path.join(folder, *dest.split("/")), content), dest) for dest, content in generated)

    def with_snapshot(self, snapshot: Snapshot | None) -> Shipment:
        """Return the shipment with an empty database in it, and in its manifest what the replay told."""
        if snapshot is None:
            return self
        manifest, made = replace(self.manifest, fingerprints=snapshot.fingerprints), dict(self.made)
        if snapshot.content is not None:
            name = snapshot_name(self.chain.section)
            manifest = replace(manifest, snapshot=name, snapshot_sha256=snapshot.sha256)
            made[f"{self.dest}/{name}"] = snapshot.content
        return replace(self, manifest=manifest, made=made)


def _write(path: str, content: bytes) -> str:
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read() == content:
                return path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return path


def collect(chain: Chain, dest: str, roots: Iterable[str], freezer: str) -> Shipment:
    """Return everything of a chain that ships; reads the scripts, writes nothing.

    Args:
        chain: The chain.
        dest: Folder of env.py in the bundle.
        roots: Folders that modules are imported from.
        freezer: Name and version of the freezer, for the manifest.

    Raises:
        InvalidMigrations: Something is wrong with the scripts; names everything that is.
        UsageError: A version location lies outside of every import root.
    """
    tree = FolderTree(chain.folder)
    manifest = read_manifest(tree, chain)
    moved = _moved(manifest, chain, dest, list(roots))
    files = {moved[name]: tree.path(name) for name in manifest.files}
    manifest = _relocated(manifest, moved, dest)
    made: dict[str, bytes] = {}
    if chain.ini is not None:
        manifest = _with_ini(manifest, chain, dest, made)
    manifest = replace(manifest, built_with=built_with(freezer))
    kept = tuple((source, path) for path, source in sorted(files.items()) if path not in made)
    return Shipment(chain, dest, kept, manifest, made)


def _moved(manifest: Manifest, chain: Chain, dest: str, roots: list[str]) -> dict[str, str]:
    """Return where each file and version location of a manifest goes, by its path relative to env.py's source."""
    moved = {}
    outside = {
        name: bundle_path(folder, roots)
        for name, folder in zip(manifest.version_locations, chain.version_locations, strict=False)
        if name.startswith("..")
    }
    for name in (*manifest.files, *manifest.version_locations):
        place = next((one for one in outside if name == one or name.startswith(one + "/")), None)
        base, inside = (dest, name) if place is None else (outside[place], name[len(place) :].lstrip("/") or ".")
        moved[name] = posixpath.normpath(posixpath.join(base, inside))
    return moved


def _relocated(manifest: Manifest, moved: Mapping[str, str], dest: str) -> Manifest:
    """Return the manifest with all paths relative to env.py's folder in the bundle."""

    def path(name: str) -> str:
        return posixpath.relpath(moved.get(name, posixpath.join(dest, name)), dest)

    return replace(
        manifest,
        revisions=tuple(replace(one, file=path(one.file)) for one in manifest.revisions),
        files={path(name): sha256 for name, sha256 in manifest.files.items()},
        version_locations=tuple(path(name) for name in manifest.version_locations),
    )


def _with_ini(manifest: Manifest, chain: Chain, dest: str, made: dict[str, bytes]) -> Manifest:
    """Add the ini without its secrets: in its own place inside the tree, else beside env.py."""
    ini = str(chain.ini)
    try:
        with open(ini, encoding="utf-8-sig") as file:
            written = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{ini} cannot be read: {error}") from error
    name = os.path.relpath(ini, chain.folder).replace(os.sep, "/")
    if name not in manifest.files:
        name = "alembic.ini" if "alembic.ini" not in manifest.files else "alembic.freezekit.ini"
    text = without_secrets(written)
    if name not in manifest.files or text != written:
        made[f"{dest}/{name}"] = text.encode("utf-8")
        manifest = replace(manifest, files={**manifest.files, name: digest(text.encode("utf-8"))})
    return replace(manifest, ini=name)


def built_with(freezer: str) -> dict[str, str]:
    """Return the versions a bundle is built with."""
    from freezekit import __version__

    return {
        "freezekit": __version__,
        "alembic": metadata.version("alembic"),
        "sqlalchemy": metadata.version("sqlalchemy"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "freezer": freezer,
    }


def location_path(location: str, folder: str, roots: Iterable[str]) -> str:
    """Return where the folder that a script location names goes in the bundle, which is where it is looked for.

    Args:
        location: ``"package:folder"``, or a folder.
        folder: The absolute source folder it stands for.
        roots: Folders that modules are imported from.

    Raises:
        UsageError: The location leads out of its package, or out of every import root.
    """
    if os.path.isabs(location):
        return bundle_path(folder, roots)
    package, colon, inside = location.partition(":")
    path = posixpath.join(package.replace(".", "/"), inside.replace(":", "/")) if colon else location
    path = posixpath.normpath(path.replace(os.sep, "/"))
    if path.startswith("..") or path == ".":
        return bundle_path(folder, roots)
    return path


def bundle_path(folder: str, roots: Iterable[str]) -> str:
    """Return where a source folder goes in the bundle: its path below the folder it would be imported from.

    Raises:
        UsageError: It lies in no package and in none of the roots.
    """
    top = os.path.dirname(folder)
    while os.path.isfile(os.path.join(top, "__init__.py")):
        top = os.path.dirname(top)
    candidates = [top] if top != os.path.dirname(folder) else sorted(roots, key=len, reverse=True)
    for root in candidates:
        inside = os.path.relpath(os.path.realpath(folder), os.path.realpath(root or os.curdir))
        if not inside.startswith(os.pardir) and not os.path.isabs(inside) and inside != os.curdir:
            return inside.replace(os.sep, "/")
    raise UsageError(
        f"{folder} lies outside of every folder that modules are imported from, so it has no place in a bundle: "
        "move it into a package, or give it as 'package:folder'"
    )
