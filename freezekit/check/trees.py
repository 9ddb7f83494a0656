"""The trees of migration scripts in a bundle: those with a manifest, and those that only look like one."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from freezekit.errors import UnreadableBundle
from freezekit.manifest import DEFAULT_SECTION, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from freezekit.check.contents import Item

_MANIFEST = re.compile(r"freezekit(?:\.(?P<section>.+))?\.json")
# Alembic and what wraps it bring templates of env.py, which are no migrations of the application.
_TEMPLATES = re.compile(r"(^|/)templates/")


@dataclass(frozen=True)
class MigrationTree:
    """One chain of migrations in a bundle.

    Attributes:
        root: Folder of env.py, below the folder that modules are imported from.
        layer: What the paths of its files have before that: the folder or archive.
        files: Content of every file below it and in its version locations, by path relative to ``root``.
        manifest: What the build wrote down, or None.
        manifest_name: Name of the manifest's file, or None if there is none.
        damage: Why there is a manifest's file but no manifest, or None.
    """

    root: str
    layer: str
    files: Mapping[str, bytes] = field(repr=False)
    manifest: Manifest | None = field(default=None, repr=False)
    manifest_name: str | None = None
    damage: str | None = None

    @property
    def name(self) -> str:
        """What to call it: the script location, as the project writes it, where that is known."""
        if self.manifest is None:
            return self.root
        section = self.manifest.section
        return self.manifest.script_location + (f" [{section}]" if section != DEFAULT_SECTION else "")

    def path(self, name: str) -> str:
        """Return where a file of it is in the bundle."""
        return self.layer + posixpath.normpath(posixpath.join(self.root, name))

    @property
    def version_locations(self) -> tuple[str, ...]:
        """Folders of its revisions, relative to ``root``."""
        return self.manifest.version_locations if self.manifest else ("versions",)

    def is_revision(self, name: str) -> bool:
        """Return whether Alembic would take a file for a revision."""
        folder, _, file = name.rpartition("/")
        if not file.endswith(".py") or file.startswith((".#", "__init__")):
            return False
        recursive = self.manifest is not None and self.manifest.recursive_version_locations
        return any(
            folder == one or (recursive and folder.startswith(f"{one}/"))
            for one in map(_as_folder, self.version_locations)
        )


def _as_folder(location: str) -> str:
    return "" if location == "." else location


def find_trees(items: Sequence[Item]) -> tuple[MigrationTree, ...]:
    """Return every tree of migrations among the files of a bundle.

    A manifest makes a tree, whatever is missing beside it; without one, an ``env.py`` about Alembic does, or the
    template of revisions that Alembic puts beside it.

    Args:
        items: The files.

    Raises:
        UnreadableBundle: A file of a tree is damaged.
    """
    by_folder: dict[tuple[str, str], list[Item]] = {}
    for one in items:
        if one.inside is not None:
            by_folder.setdefault((one.layer, posixpath.dirname(one.inside)), []).append(one)
    found = []
    for (layer, root), beside in sorted(by_folder.items(), key=lambda entry: entry[0]):
        if _TEMPLATES.search(f"{root}/"):
            continue
        manifests = [one for one in beside if _MANIFEST.fullmatch(one.name)]
        found += [_tree(layer, root, items, manifest) for manifest in manifests]
        if not manifests and any(map(_is_environment, beside)):
            found.append(_tree(layer, root, items, None))
    return tuple(found)


def _is_environment(item: Item) -> bool:
    words = {"env.py": b"alembic", "env.pyc": b"alembic", "script.py.mako": b"down_revision"}
    return item.name in words and words[item.name] in item.read()


def _tree(layer: str, root: str, items: Iterable[Item], written: Item | None) -> MigrationTree:
    manifest, damage = None, None
    if written is not None:
        try:
            manifest = sound(Manifest.from_json(written.read(), written.path), written.path)
        except UnreadableBundle as error:
            damage = error.reason
        except RecursionError:
            damage = "it is nested too deeply"
    places = [root]
    if manifest is not None:
        places += [posixpath.normpath(posixpath.join(root, one)) for one in manifest.version_locations]
    files = {
        posixpath.relpath(f"/{one.inside}", f"/{root}"): one.read()
        for one in items
        if one.inside is not None and one.layer == layer and _is_below(one.inside, places)
    }
    return MigrationTree(root, layer, files, manifest, written.name if written else None, damage)


def _is_below(inside: str, places: Iterable[str]) -> bool:
    return any(not place or inside.startswith(f"{place}/") for place in places)


def sound(manifest: Manifest, where: str) -> Manifest:
    """Return a manifest, if its fields are of the types they should be; one that no build wrote may say anything.

    Raises:
        UnreadableBundle: A field is not.
    """
    wrong = [name for name, is_right in _shapes(manifest) if not is_right]
    if wrong:
        raise UnreadableBundle(where, f"its {', '.join(wrong)} cannot be what a build writes")
    return manifest


def _shapes(manifest: Manifest) -> Iterator[tuple[str, bool]]:
    optional = (manifest.driver, manifest.snapshot, manifest.snapshot_sha256, manifest.ini)
    yield (
        "names",
        _are_texts([manifest.script_location, manifest.section, *(one for one in optional if one is not None)]),
    )
    for name in ("files", "built_with", "fingerprints"):
        value = getattr(manifest, name)
        yield name, isinstance(value, dict) and _are_texts(value) and _are_texts(value.values())
    yield "heads", _are_texts([*manifest.heads, *manifest.version_locations])
    for one in manifest.revisions:
        ids = (*one.down_revision, *one.depends_on, *one.branch_labels)
        if not _are_texts([one.revision, one.file, one.sha256, one.doc, *ids]):
            yield "revisions", False


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
