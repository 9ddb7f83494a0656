"""Read a tree of scripts without running it: from the source of each revision to a manifest.

Alembic learns a revision's parents by executing its file. Here the file is parsed, and only one whose attributes are
not literals is executed, alone, as Alembic would. All that is wrong with a tree is reported at once.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
from types import ModuleType
from typing import TYPE_CHECKING

from freezekit.errors import InvalidMigrations
from freezekit.manifest import DEFAULT_VERSION_TABLE, Manifest, Revision, digest
from freezekit.syntax import UNKNOWN, Namespace, module_namespace
from freezekit.tree import revision_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from freezekit.config import Chain
    from freezekit.tree import Tree

# A file without `revision` may carry it in its name: alembic/script/base.py, `_legacy_rev`.
_LEGACY_NAME = re.compile(r"([a-f0-9]+)\.py$")
_ATTRIBUTES = ("revision", "down_revision", "depends_on", "branch_labels")
# They have a meaning in targets: alembic/script/revision.py, `_revision_illegal_chars`.
_FORBIDDEN_IN_IDS = frozenset("@-+")
_VACUUM = re.compile(r"\s*VACUUM\b", re.IGNORECASE)
_ASYNC_NAMES = {"async_engine_from_config", "create_async_engine", "AsyncEngine"}


def read_manifest(tree: Tree, chain: Chain) -> Manifest:
    """Return the manifest of a tree of scripts, computed from the scripts.

    Args:
        tree: Where the scripts are.
        chain: What the project's configuration says about them.

    Raises:
        InvalidMigrations: Something is wrong with the tree; ``issues`` names everything that is.
    """
    issues: list[str] = []
    locations = _relative_locations(tree, chain)
    files, contents = _read_files(tree, [".", *locations], issues)
    if "env.py" not in files:
        issues.append(f"{tree.path('env.py')} is missing")
    names = revision_files(tree, locations, chain.recursive)
    read = [_read_revision(tree, name, contents[name], issues) for name in names if name in contents]
    revisions = _in_order(_with_labels_resolved([one for one in read if one]), issues, where=tree.root)
    environment = _read_environment(tree, contents.get("env.py", b""), chain.options, issues)
    if issues:
        raise InvalidMigrations(tree.root, issues)
    parents = {parent for one in revisions for parent in one.down_revision}
    return Manifest(
        script_location=chain.script_location,
        section=chain.section,
        revisions=tuple(revisions),
        heads=tuple(one.revision for one in revisions if one.revision not in parents),
        files=files,
        version_locations=tuple(locations),
        recursive_version_locations=chain.recursive,
        version_table=chain.version_table or environment.version_table,
        driver=_driver(chain, environment),
        options=dict(chain.options),
        ini=_relative_ini(tree, chain),
        application_id=chain.application_id,
        foreign_keys=chain.foreign_keys,
        outside_transaction=tuple(one.revision for one in revisions if _runs_vacuum(contents[one.file])),
    )


def _relative_locations(tree: Tree, chain: Chain) -> list[str]:
    if not chain.version_locations:
        return ["versions"]
    return [os.path.relpath(folder, tree.root).replace(os.sep, "/") for folder in chain.version_locations]


def _relative_ini(tree: Tree, chain: Chain) -> str | None:
    return os.path.relpath(chain.ini, tree.root).replace(os.sep, "/") if chain.ini else None


def _driver(chain: Chain, environment: _Environment) -> str | None:
    """Return the driver that the URL must name for env.py: as the project's own does, else as env.py looks."""
    dialect, _, driver = (chain.url or "").partition("://")[0].partition("+")
    if dialect == "sqlite" or not environment.is_async:
        return driver if environment.is_async and driver else None
    return None if environment.names_driver else "aiosqlite"


def _read_files(tree: Tree, folders: Iterable[str], issues: list[str]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the digest of every file and the content of every Python file."""
    digests: dict[str, str] = {}
    sources: dict[str, bytes] = {}
    for name in dict.fromkeys(name for folder in folders for name in tree.files(folder)):
        try:
            content = tree.read(name)
        except OSError as error:
            issues.append(f"{tree.path(name)} cannot be read: {error.strerror or error}")
            continue
        digests[name] = digest(content)
        if name.endswith(".py"):
            sources[name] = content
    return digests, sources


def parse(where: str, content: bytes, issues: list[str]) -> ast.Module | None:
    """Return the syntax tree of a script, or None and one more issue."""
    try:
        return ast.parse(content, where)
    except SyntaxError as error:
        issues.append(f"{where}:{error.lineno}: {error.msg}")
    except ValueError as error:
        issues.append(f"{where}: {error}")
    return None


def _read_revision(tree: Tree, name: str, content: bytes, issues: list[str]) -> Revision | None:
    where = tree.path(name)
    module = parse(where, content, issues)
    if module is None:
        return None
    attributes: Mapping[str, object] = module_namespace(module).values
    if any(attributes.get(attribute) is UNKNOWN for attribute in (*_ATTRIBUTES, "*")):
        try:
            attributes = _executed(where, content)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a script raises, it is named and the tree refused
            issues.append(f"{where}: its revision attributes are no literals, and running it failed: {error!r}")
            return None
    legacy = _LEGACY_NAME.match(posixpath.basename(name))
    revision = attributes.get("revision", legacy and legacy[1])
    if not isinstance(revision, str):
        issues.append(f"{where}: it has no 'revision', so it is no revision; keep helper files out of this folder")
        return None
    if "down_revision" not in attributes:
        issues.append(f"{where}: it has no 'down_revision' (None for the first revision)")
        return None
    try:
        parents, dependencies, labels = (_ids(attributes.get(name)) for name in _ATTRIBUTES[1:])
    except TypeError as error:
        issues.append(f"{where}: one of its attributes is neither text nor several texts nor None ({error})")
        return None
    if forbidden := sorted(set(revision) & _FORBIDDEN_IN_IDS):
        issues.append(f"{where}: its id {revision!r} must not hold {', '.join(map(repr, forbidden))}")
    return Revision(
        revision=revision,
        down_revision=parents,
        depends_on=dependencies,
        branch_labels=labels,
        file=name,
        sha256=digest(content),
        doc=(ast.get_docstring(module) or "").strip().partition("\n")[0],
    )


def _runs_vacuum(content: bytes) -> bool:
    """Return whether a revision's source holds a ``VACUUM`` as SQL; what its downgrade does is left aside."""
    if b"vacuum" not in content.lower():
        return False
    statements = [node for node in ast.parse(content).body if getattr(node, "name", "") != "downgrade"]
    nodes = [node for statement in statements for node in ast.walk(statement)]
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and _VACUUM.match(node.value)
        for node in nodes
        if node not in docstrings
    )


def _executed(where: str, content: bytes) -> Mapping[str, object]:
    module = ModuleType(re.sub(r"\W", "_", os.path.basename(where)))
    module.__file__ = where
    exec(compile(content, where, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - as Alembic does
    return module.__dict__


def _ids(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(one) for one in value)  # type: ignore[attr-defined]


def _with_labels_resolved(revisions: Sequence[Revision]) -> list[Revision]:
    """Replace branch labels in ``depends_on`` by the revision that carries them."""
    from dataclasses import replace

    ids = {one.revision for one in revisions}
    labels = {label: one.revision for one in revisions for label in one.branch_labels}
    return [
        replace(one, depends_on=tuple(d if d in ids else labels.get(d, d) for d in one.depends_on))
        if one.depends_on
        else one
        for one in revisions
    ]


def _in_order(revisions: Sequence[Revision], issues: list[str], where: str) -> list[Revision]:
    """Return the revisions parents first; report duplicates, missing parents, circles and an empty tree."""
    by_id: dict[str, Revision] = {}
    for one in revisions:
        if one.revision in by_id:
            issues.append(f"revision {one.revision!r} is in two files: {by_id[one.revision].file} and {one.file}")
        by_id.setdefault(one.revision, one)
    named: dict[str, Revision] = dict(by_id)
    for one in revisions:
        taken = [label for label in one.branch_labels if named.setdefault(label, one) is not one]
        issues.extend(f"{one.file}: its branch label {name!r} is taken by {named[name].file}" for name in taken)
        issues.extend(
            f"{one.file}: it follows revision {parent!r}, which is in no file"
            for parent in (*one.down_revision, *one.depends_on)
            if parent not in by_id
        )
    if not revisions and not issues:
        issues.append(f"{where} holds no revision")
    ordered = _topological(by_id)
    if not issues and len(ordered) < len(by_id):
        circle = sorted(set(by_id) - {one.revision for one in ordered})
        issues.append(f"the revisions {', '.join(circle)} follow each other in a circle")
    return ordered


def _topological(by_id: Mapping[str, Revision]) -> list[Revision]:
    children: dict[str, list[str]] = {revision: [] for revision in by_id}
    missing: dict[str, int] = {}
    for one in by_id.values():
        parents = {parent for parent in (*one.down_revision, *one.depends_on) if parent in by_id}
        missing[one.revision] = len(parents)
        for parent in parents:
            children[parent].append(one.revision)
    ready = [revision for revision in by_id if not missing[revision]]
    for revision in ready:
        for child in children[revision]:
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    return [by_id[revision] for revision in ready]


# Of Alembic, and of freezekit.environment.
_CONFIGURE = {"configure", "run"}


class _Environment:
    """What env.py says about itself."""

    def __init__(self, version_table: str | None, *, is_async: bool, names_driver: bool) -> None:
        self.version_table = version_table
        self.is_async = is_async
        self.names_driver = names_driver


def _read_environment(tree: Tree, content: bytes, options: Mapping[str, str], issues: list[str]) -> _Environment:
    module = parse(tree.path("env.py"), content, issues) or ast.Module([], [])
    names = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call)]
    keywords = [(_called(call), keyword) for call in calls for keyword in call.keywords]
    if any(called == "run_migrations" and keyword.arg == "engine_name" for called, keyword in keywords):
        issues.append(
            f"{tree.path('env.py')} is written for several databases at once (Alembic's 'multidb' template), and a "
            "database must be upgraded as one: give each database its own env.py and its own locate()"
        )
    namespace = module_namespace(module)
    tables = {
        _option_or_value(keyword.value, namespace, options)
        for called, keyword in keywords
        if called in _CONFIGURE and keyword.arg == "version_table"
    }
    table = DEFAULT_VERSION_TABLE if not tables else tables.pop() if len(tables) == 1 else None
    texts = [node.value for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    if ("configure", None) in [(called, keyword.arg) for called, keyword in keywords]:
        # What is passed on as `**options` may hold it.
        named = [called for called, keyword in keywords if keyword.arg == "version_table"]
        table = None if "version_table" in texts or set(named) - _CONFIGURE else table
    names_driver = any("+aiosqlite" in text for text in texts)
    return _Environment(table, is_async=bool(names & _ASYNC_NAMES), names_driver=names_driver)


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _option_or_value(node: ast.expr, namespace: Namespace, options: Mapping[str, str]) -> str | None:
    """Return a string that is written there, or that ``config.get_main_option("name", "default")`` would return."""
    if isinstance(node, ast.Name) and (assigned := namespace.nodes.get(node.id)) is not None:
        node = assigned
    if isinstance(node, ast.Call) and _called(node) in ("get_main_option", "get_alembic_option") and node.args:
        given = [namespace.evaluate(argument) for argument in node.args]
        given += [namespace.evaluate(keyword.value) for keyword in node.keywords]
        value = options.get(str(given[0]), given[1] if len(given) > 1 else None)
    else:
        value = namespace.evaluate(node)
    return value if isinstance(value, str) else None
