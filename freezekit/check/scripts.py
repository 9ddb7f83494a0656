"""Checks of the scripts in a bundle: that they are there, that they are the ones, and that they are a history."""

from __future__ import annotations

import hashlib
import posixpath
from typing import TYPE_CHECKING

from freezekit.check.checks import Check
from freezekit.check.findings import Level
from freezekit.check.history import read_history
from freezekit.manifest import digest, snapshot_name
from freezekit.tree import is_shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.check.bundle import Bundle
    from freezekit.check.findings import Finding
    from freezekit.check.history import History
    from freezekit.check.trees import MigrationTree


def check_trees(bundle: Bundle) -> Iterator[Finding]:
    """Find a bundle without migrations, and trees without a manifest that can be used."""
    if not bundle.trees:
        yield Check.FK101.finding("there is no env.py of Alembic and no manifest of freezekit in it")
    has_manifest = any(tree.manifest for tree in bundle.trees)
    for tree in bundle.trees:
        if tree.damage is not None:
            name = tree.path(str(tree.manifest_name))
            yield Check.FK107.finding(f"the manifest of {tree.name} cannot be used: {tree.damage}", name)
        elif tree.manifest is None:
            level = Level.WARNING if has_manifest else None
            message = f"the scripts in {tree.name} have no manifest, so nothing proves that they are complete"
            yield Check.FK106.finding(message, tree.path("env.py"), level=level)


def check_files(bundle: Bundle) -> Iterator[Finding]:
    """Compare every file of every tree with its manifest."""
    for tree in bundle.own_trees:
        if tree.manifest is not None:
            yield from _missing_and_altered(tree)
            yield from _snapshot(tree)
            yield from _extra(tree, [one for one in bundle.trees if (one.layer, one.root) == (tree.layer, tree.root)])
        elif tree.damage is None:
            yield from _only_compiled(tree)


def _missing_and_altered(tree: MigrationTree) -> Iterator[Finding]:
    for name, sha256 in tree.manifest.files.items() if tree.manifest else ():
        content = tree.files.get(name)
        if content is not None:
            if digest(content) != sha256:
                yield Check.FK104.finding(f"{name} is not what the build shipped", tree.path(name))
        elif compiled := _compiled(tree, name):
            yield Check.FK105.finding(f"{name} is there only as {compiled}", tree.path(compiled))
        else:
            yield Check.FK102.finding(f"{name} was shipped and is missing", tree.path(name))


def _compiled(tree: MigrationTree, name: str) -> str | None:
    """Return the compiled file that lies where a script should be."""
    if not name.endswith(".py"):
        return None
    folder, _, file = name.rpartition("/")
    stem = file.removesuffix(".py")
    beside = posixpath.join(folder, f"{stem}.pyc")
    cached = posixpath.join(folder, "__pycache__", f"{stem}.")
    return next((one for one in tree.files if one == beside or one.startswith(cached)), None)


def _only_compiled(tree: MigrationTree) -> Iterator[Finding]:
    for name in sorted(tree.files):
        folder, _, file = name.rpartition("/")
        script = f"{name.removesuffix('c')}"
        is_script = name == "env.pyc" or folder in tree.version_locations
        if file.endswith(".pyc") and is_script and file != "__init__.pyc" and script not in tree.files:
            yield Check.FK105.finding(f"{script} is there only as {name}", tree.path(name))


def _snapshot(tree: MigrationTree) -> Iterator[Finding]:
    name = tree.manifest.snapshot if tree.manifest else None
    if tree.manifest is None or name is None:
        return
    if name not in tree.files:
        yield Check.FK102.finding(f"{name}, the empty database, was shipped and is missing", tree.path(name))
    elif hashlib.sha256(tree.files[name]).hexdigest() != tree.manifest.snapshot_sha256:
        yield Check.FK104.finding(f"{name}, the empty database, is not what the build shipped", tree.path(name))


def _extra(tree: MigrationTree, together: list[MigrationTree]) -> Iterator[Finding]:
    """Find what no manifest of the folder lists; compiled Python and leftovers of editors are nobody's matter."""
    shipped = {name for one in together if one.manifest for name in one.manifest.files}
    shipped |= {str(one.manifest.snapshot) for one in together if one.manifest}
    shipped |= {str(one.manifest_name) for one in together}
    for name in tree.files:
        file = posixpath.basename(name)
        is_ours = file.startswith(snapshot_name().partition(".")[0] + ".") and file.endswith((".json", ".db.gz"))
        is_matter = (is_shipped(file) and "__pycache__/" not in name) or (is_ours and "/" not in name)
        if is_matter and name not in shipped:
            yield Check.FK103.finding(f"{name} is there, but the build did not ship it", tree.path(name))


def history_of(tree: MigrationTree) -> History:
    """Return the history that the scripts of a tree are, whatever its manifest says."""
    scripts = {name: content for name, content in tree.files.items() if tree.is_revision(name)}
    return read_history(scripts, tree.manifest.revisions if tree.manifest else ())


def check_history(bundle: Bundle) -> Iterator[Finding]:
    """Find what keeps the revisions of a tree from being one history with one head."""
    for tree in bundle.own_trees:
        history = history_of(tree)
        yield from _unreadable(tree, history)
        yield from _duplicates(tree, history)
        yield from _parents(tree, history)
        yield from _heads(tree, history)


def _unreadable(tree: MigrationTree, history: History) -> Iterator[Finding]:
    for one in history.problems:
        check = Check.FK117 if "computes" in one.message else Check.FK115
        yield check.finding(f"{one.file} {one.message}", tree.path(one.file), one.line)


def _duplicates(tree: MigrationTree, history: History) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for one in history.revisions:
        if first.setdefault(one.revision, one.file) != one.file:
            message = f"revision {one.revision} is in {one.file} and in {first[one.revision]}"
            yield Check.FK116.finding(message, tree.path(one.file))


def _parents(tree: MigrationTree, history: History) -> Iterator[Finding]:
    if any("computes" in one.message for one in history.problems):
        return
    for one in history.revisions:
        for parent in dict.fromkeys((*one.down_revision, *one.depends_on)):
            if parent not in history.by_id:
                message = f"revision {one.revision} follows {parent}, which is in no script"
                yield Check.FK114.finding(message, tree.path(one.file))


def _heads(tree: MigrationTree, history: History) -> Iterator[Finding]:
    if not history.revisions:
        if not history.problems:
            yield Check.FK111.finding(
                f"{tree.name} holds no revision: an upgrade would do nothing", tree.path("versions")
            )
        return
    circle = sorted(one.revision for one in history.in_order()[1])
    if circle:
        message = f"in {tree.name} these revisions follow each other in a circle: {', '.join(circle)}"
        yield Check.FK113.finding(message, tree.path("versions"))
    if len(history.heads) > 1:
        listed = ", ".join(sorted(history.heads))
        yield Check.FK112.finding(f"{tree.name} has {len(history.heads)} heads: {listed}", tree.path("versions"))
