"""Checks of a bundle against the project it was built from: a bundle that is stale ships another release's scripts."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.check.checks import Check
from freezekit.check.history import read_history
from freezekit.check.scripts import history_of
from freezekit.config import chain_of, find_folder, project_chains
from freezekit.errors import UsageError
from freezekit.manifest import digest
from freezekit.tree import FolderTree, revision_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from freezekit.check.bundle import Bundle
    from freezekit.check.findings import Finding
    from freezekit.check.history import History
    from freezekit.check.trees import MigrationTree
    from freezekit.config import Chain


@dataclass(frozen=True)
class Source:
    """One chain of a project, as its files are now.

    Attributes:
        chain: What the project says about it.
        folder: Where its scripts are, as it is shown.
        history: The revisions.
        files: Digest of every file below env.py's folder that is no revision.
    """

    chain: Chain
    folder: str
    history: History
    files: dict[str, str]

    def path(self, name: str) -> str:
        """Return where a file of it is."""
        return posixpath.normpath(posixpath.join(self.folder.replace(os.sep, "/"), name))


def read_source(chain: Chain, tree: MigrationTree | None) -> Source:
    """Read the scripts of a project as they are now, without running them.

    Args:
        chain: What the project says about them.
        tree: The same chain in the bundle, if it is there.

    Raises:
        UsageError: A script cannot be read.
    """
    folder = FolderTree(chain.folder)
    locations = [os.path.relpath(one, chain.folder).replace(os.sep, "/") for one in chain.version_locations]
    names = revision_files(folder, locations or ["versions"], chain.recursive)
    try:
        scripts = {name: folder.read(name) for name in names}
        others = {name: digest(folder.read(name)) for name in folder.files() if name not in scripts}
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
    known = tree.manifest.revisions if tree and tree.manifest else ()
    shown = os.path.relpath(chain.folder)
    shown = chain.folder if shown.startswith(os.pardir) else shown
    return Source(chain, shown, read_history(scripts, known), others)


def matched(bundle: Bundle, project: str) -> list[tuple[Chain, MigrationTree | None]]:
    """Return every chain of a project with its tree in a bundle: of the same name, else of the same folder.

    Raises:
        UsageError: The project has no migrations, as far as its configuration and the bundle say.
    """
    chains = list(project_chains(project)) or [chain for tree in bundle.own_trees for chain in _named(tree, project)]
    if not chains:
        raise UsageError(f"Nothing in {project} configures migrations, so there is nothing to compare the bundle with.")
    found = [(chain, next((tree for tree in bundle.own_trees if _is_same(chain, tree)), None)) for chain in chains]
    if len(found) == len(bundle.own_trees) == 1:
        return [(chains[0], bundle.own_trees[0])]
    return found


def _named(tree: MigrationTree, project: str) -> Iterator[Chain]:
    """Yield the chain that a manifest names: a program may locate what no file configures."""
    if tree.manifest is not None:
        folder = find_folder(tree.manifest.script_location, (project,))
        if folder is not None and os.path.isfile(os.path.join(folder, "env.py")):
            yield chain_of(folder, tree.manifest.section, tree.manifest.script_location)


def _is_same(chain: Chain, tree: MigrationTree) -> bool:
    if tree.manifest is None:
        return chain.folder.replace(os.sep, "/").endswith(f"/{tree.root}")
    named = (tree.manifest.script_location, tree.manifest.section)
    return named == (chain.script_location, chain.section)


def check_source(bundle: Bundle, chains: Iterable[tuple[Chain, MigrationTree | None]]) -> Iterator[Finding]:
    """Compare the scripts in a bundle with those of its project.

    Args:
        bundle: The bundle.
        chains: What :func:`matched` found.
    """
    for chain, tree in chains:
        if tree is not None:
            source = read_source(chain, tree)
            yield from _revisions(source, tree)
            yield from _others(source, tree)
        elif bundle.trees:
            message = f"the project's migrations {chain.script_location} (section {chain.section}) are not in it"
            yield Check.FK101.finding(message)


def _revisions(source: Source, tree: MigrationTree) -> Iterator[Finding]:
    ours, theirs = source.history.by_id, history_of(tree).by_id
    for revision, one in ours.items():
        if revision not in theirs:
            message = f"revision {revision} ({one.file}) is in the source, but not in the bundle"
            yield Check.FK121.finding(message, source.path(one.file))
        elif theirs[revision].sha256 != one.sha256:
            message = f"revision {revision} ({one.file}) is not the same in the source and in the bundle"
            yield Check.FK123.finding(message, source.path(one.file))
    for revision, one in theirs.items():
        if revision not in ours:
            message = f"revision {revision} ({one.file}) is in the bundle, but no longer in the source"
            yield Check.FK122.finding(message, tree.path(one.file))


def _others(source: Source, tree: MigrationTree) -> Iterator[Finding]:
    """Compare env.py and what lies beside it; an alembic.ini ships without its URLs, so it always differs."""
    generated = {tree.manifest.ini if tree.manifest else None}
    names = source.files if tree.manifest else [name for name in source.files if name == "env.py"]
    for name in names:
        if name in generated or name.endswith(".ini"):
            continue
        content = tree.files.get(name)
        if content is None:
            yield Check.FK123.finding(f"{name} is in the source, but not in the bundle", source.path(name))
        elif digest(content) != source.files[name]:
            yield Check.FK123.finding(f"{name} is not the same in the source and in the bundle", source.path(name))
