"""All checks of a bundle in one run: from a path to a report."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from freezekit.check.bundle import open_bundle
from freezekit.check.checks import RULES, Check
from freezekit.check.excess import check_developer_databases, check_packages, check_permissions, check_secrets
from freezekit.check.findings import Graph, Report, in_order, is_selected, require_known
from freezekit.check.needs import check_databases, check_helpers, check_imports, check_versions
from freezekit.check.release import compare, read_manifests
from freezekit.check.scripts import check_files, check_history, check_trees, history_of
from freezekit.check.source import check_source, matched
from freezekit.config import project_chains
from freezekit.errors import UnreadableBundle
from freezekit.manifest import DEFAULT_SECTION, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from freezekit.check.bundle import Bundle
    from freezekit.check.findings import Finding
    from freezekit.check.trees import MigrationTree

ALL = ("FK",)
_CHECKS = (
    check_trees,
    check_files,
    check_history,
    check_helpers,
    check_imports,
    check_versions,
    check_developer_databases,
    check_secrets,
    check_permissions,
    check_packages,
)
_RELEASE = {"removed": Check.FK151, "edited": Check.FK152, "reused": Check.FK153}


def check(
    path: str | os.PathLike[str],
    source: str | None = None,
    against: str | None = None,
    *,
    select: Sequence[str] = ALL,
    ignore: Sequence[str] = (),
) -> Report:
    """Check a finished bundle; runs nothing of it, changes nothing, and needs none of the application's packages.

    Args:
        path: A bundle's folder or program, a zipapp, a macOS application; or a zip, tar or Debian archive, or an
            AppImage, that holds one.
        source: Folder of the project it was built from, to see whether it is stale.
        against: Bundle or manifest of the release before, to see whether shipped revisions are as they were.
        select: Prefixes of the ids of the checks that count.
        ignore: Prefixes of those that do not; the longer prefix wins.

    Returns:
        What was found; no findings if all is well. What is wrong with a bundle is never raised.

    Raises:
        UnreadableBundle: The path is no bundle, or one that is damaged; the same for ``against``.
        UsageError: A prefix is that of no check, or the project's configuration is wrong.

    Example:
        >>> report = check("dist/myapp", source=".")
        >>> [finding.id for finding in report.findings]
        []
    """
    require_known(select, RULES, "select")
    require_known(ignore, RULES, "ignore")
    with open_bundle(path) as bundle:
        found = [finding for one in _CHECKS for finding in one(bundle)]
        chains = matched(bundle, source) if source is not None else []
        found += [*check_databases(bundle, [chain for chain, _ in chains]), *check_source(bundle, chains)]
        if against is not None:
            found += check_release(bundle, against, accepted_edits(source or os.curdir))
        kept = [one for one in found if is_selected(one.id, select, ignore)]
        rules = tuple(rule for rule in RULES if is_selected(rule.id, select, ignore))
        graphs = tuple(map(_graph, bundle.own_trees))
        return Report("check", os.fspath(path), facts(bundle), in_order(kept), rules, graphs)


def accepted_edits(project: str) -> Mapping[str, str]:
    """Return the edits of shipped revisions that a project means, with their reasons."""
    return {name: why for chain in project_chains(project) for name, why in chain.accepted_edits.items()}


def check_release(bundle: Bundle, old: str, accepted: Mapping[str, str]) -> Iterator[Finding]:
    """Find revisions of an older release that are gone, edited or replaced.

    Args:
        bundle: The new release.
        old: Bundle or manifest of the old one.
        accepted: Reasons for edits that are meant, by revision.

    Raises:
        UnreadableBundle: The old release has no manifest, or cannot be read.
    """
    shipped = shipped_manifests(old)
    present = {(one.script_location, one.section): one for one in map(manifest_of, bundle.own_trees)}
    for key, before in shipped.items():
        is_only = len(shipped) == len(present) == 1
        after = present.get(key) or (next(iter(present.values())) if is_only else None)
        if after is None:
            yield Check.FK151.finding(f"the migrations {key[0]} (section {key[1]}) were shipped and are gone")
            continue
        for one in compare(before, after, accepted):
            if one.is_failure:
                yield _RELEASE[one.kind].finding(one.message)


def shipped_manifests(path: str) -> Mapping[tuple[str, str], Manifest]:
    """Return the manifests of a release, by script location and section.

    Args:
        path: A bundle of any kind that can be checked, or a manifest.

    Raises:
        UnreadableBundle: There is none, or it cannot be read.
    """
    if path.endswith(".json"):
        return read_manifests(path)
    with open_bundle(path) as bundle:
        found = [tree.manifest for tree in bundle.trees if tree.manifest is not None]
    if not found:
        raise UnreadableBundle(path, "it holds no manifest of freezekit that can be used")
    return {(one.script_location, one.section): one for one in found}


def manifest_of(tree: MigrationTree) -> Manifest:
    """Return the manifest of a tree, or as much of one as its scripts say."""
    if tree.manifest is not None:
        return tree.manifest
    history = history_of(tree)
    revisions = tuple(itertools.chain(*history.in_order()))
    return Manifest(tree.root, DEFAULT_SECTION, revisions, history.heads, {})


def facts(bundle: Bundle) -> dict[str, str]:
    """Return what a bundle is, in words."""
    found = {"bundle": bundle.kind, "freezer": bundle.freezer, "python": bundle.python or "unknown"}
    found |= dict(bundle.versions)
    found["files"] = str(len(bundle.items))
    found["modules"] = "unknown" if bundle.modules is None else str(len(bundle.modules))
    for tree in bundle.own_trees:
        history = history_of(tree)
        heads = ", ".join(history.heads) or "none"
        found[f"migrations {tree.name}"] = f"{len(history.revisions)} revisions, head {heads}"
    return found


def _graph(tree: MigrationTree) -> Graph:
    history = history_of(tree)
    ordered = itertools.chain(*history.in_order())
    rows = tuple((one.revision, one.down_revision, one.doc or one.file) for one in ordered)
    return Graph(tree.name, rows, history.heads)
