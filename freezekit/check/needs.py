"""Checks of what the scripts need: that every import, dialect and driver is in the bundle, in the right version."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from freezekit.build.databases import database_imports
from freezekit.build.imports import Import, scan_imports
from freezekit.build.literals import urls
from freezekit.check.checks import Check
from freezekit.check.history import Problem, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from freezekit.check.bundle import Bundle
    from freezekit.check.findings import Finding
    from freezekit.check.trees import MigrationTree
    from freezekit.config import Chain

_SQLITE_ONLY = "every SQLite database"
_PACKAGES = ("freezekit", "alembic", "sqlalchemy")


def modules_of(tree: MigrationTree) -> Iterator[tuple[str, ast.Module]]:
    """Yield every script of a tree that can be parsed."""
    for name, content in sorted(tree.files.items()):
        if name.endswith(".py"):
            module = parse(name, content)
            if isinstance(module, ast.Module):
                yield name, module


def check_helpers(bundle: Bundle) -> Iterator[Finding]:
    """Find env.py and helper files that cannot be parsed; revisions are the history's matter."""
    for tree in bundle.own_trees:
        for name, content in sorted(tree.files.items()):
            if name.endswith(".py") and not tree.is_revision(name):
                module = parse(name, content)
                if isinstance(module, Problem):
                    yield Check.FK115.finding(f"{name} {module.message}", tree.path(name), module.line)


def check_imports(bundle: Bundle) -> Iterator[Finding]:
    """Find imports of scripts that nothing in the bundle satisfies; those inside ``try`` may fail."""
    for tree in bundle.own_trees:
        for name, module in modules_of(tree):
            for one in scan_imports(module, name):
                line = int(one.where.rpartition(":")[2])
                for missing in () if one.is_optional else _missing(bundle, one):
                    message = f"{name} imports {missing}, which is not in the bundle"
                    yield Check.FK131.finding(message, tree.path(name), line)


def _missing(bundle: Bundle, one: Import) -> Iterator[str]:
    """Yield what is missing of an import: the module; of a folder without code in it, the modules taken from it."""
    if not _exists(bundle, one.module):
        yield one.module
    elif bundle.is_bare_folder(one.module):
        yield from (full for name in one.names if not _exists(bundle, full := f"{one.module}.{name}"))


def _exists(bundle: Bundle, name: str) -> bool:
    """Return whether a module is there, or a plain module that makes it up itself, as ``os`` makes ``os.path``."""
    while not bundle.has_module(name):
        name = name.rpartition(".")[0]
        if not name or bundle.is_package(name):
            return False
    return True


def check_databases(bundle: Bundle, chains: Iterable[Chain] = ()) -> Iterator[Finding]:
    """Find databases that the scripts or the project name, and whose dialect or driver is not in the bundle.

    Args:
        bundle: The bundle.
        chains: What the project says, if it is known.
    """
    chains = tuple(chains)
    for tree in bundle.own_trees:
        modules = [module for _, module in modules_of(tree)]
        named = {url for module in modules for url in urls(module)}
        imported = [one.module for module in modules for one in scan_imports(module, "") if not one.is_optional]
        is_async = any(one.startswith("sqlalchemy.ext.asyncio") for one in imported)
        drivers = {driver for chain in chains for driver in chain.drivers}
        if tree.manifest is not None and tree.manifest.driver:
            drivers.add(tree.manifest.driver)
        dialects = {dialect for chain in chains for dialect in chain.dialects}
        is_for_sqlite = _is_for_sqlite(tree) or "sqlite" in {*dialects, *(dialect for dialect, _ in named)}
        for one in database_imports(sorted(dialects), sorted(drivers), named, is_async=is_async):
            if not one.is_optional and (is_for_sqlite or one.where != _SQLITE_ONLY) and not _exists(bundle, one.module):
                message = f"{one.module} is not in the bundle, and {one.where} needs it"
                yield Check.FK132.finding(message, tree.path("env.py"))
        yield from _without_driver(bundle, tree, dialects | {dialect for dialect, driver in named if not driver})


def _is_for_sqlite(tree: MigrationTree) -> bool:
    return tree.manifest is not None and bool(tree.manifest.snapshot or tree.manifest.fingerprints)


def _without_driver(bundle: Bundle, tree: MigrationTree, dialects: Iterable[str]) -> Iterator[Finding]:
    """Find dialects none of whose usual drivers is there."""
    for dialect in sorted(dialects):
        usual = [one.module for one in database_imports([dialect], (), ()) if one.is_optional]
        usual = [module for module in usual if not module.startswith("alembic.")]
        if usual and not any(_exists(bundle, module) for module in usual):
            message = f"none of the usual drivers of {dialect} is in the bundle: {', '.join(usual)}"
            yield Check.FK132.finding(message, tree.path("env.py"))


def check_versions(bundle: Bundle) -> Iterator[Finding]:
    """Compare the versions inside with those that the scripts were built and tried with."""
    for tree in bundle.own_trees:
        built = tree.manifest.built_with if tree.manifest else {}
        inside = dict(bundle.versions)
        if bundle.python is not None:
            inside["python"] = bundle.python
        for name in (*_PACKAGES, "python"):
            # Freezers bring a patch release of Python of their own.
            wanted = ".".join(built.get(name, "").split(".")[:2]) if name == "python" else built.get(name)
            found = inside.get(name)
            if wanted and found and wanted != found:
                message = f"{name} {found} is in the bundle, but the scripts were shipped with {name} {wanted}"
                yield Check.FK133.finding(message, tree.path(str(tree.manifest_name)))
