"""The revisions of a tree of scripts, read from their source without running any of it."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.manifest import Revision, digest
from freezekit.syntax import UNKNOWN, module_namespace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LEGACY_NAME = re.compile(r"([a-f0-9]+)\.py$")
_DEEPEST = 250
_PARENTS = ("down_revision", "depends_on", "branch_labels")


@dataclass(frozen=True)
class Problem:
    """A script that could not be read.

    Attributes:
        file: Its path in the tree.
        line: Line of the error, if there is one.
        message: What is wrong with it, the subject left out.
    """

    file: str
    line: int | None
    message: str


@dataclass(frozen=True)
class History:
    """What the scripts of a tree say.

    Attributes:
        revisions: One for each script that could be read, in the order of the files' names.
        problems: The others.
    """

    revisions: tuple[Revision, ...]
    problems: tuple[Problem, ...]

    @property
    def by_id(self) -> dict[str, Revision]:
        """The revisions by their ids."""
        return {one.revision: one for one in self.revisions}

    @property
    def heads(self) -> tuple[str, ...]:
        """The ids that nothing descends from."""
        parents = {parent for one in self.revisions for parent in one.down_revision}
        return tuple(one for one in self.by_id if one not in parents)

    def in_order(self) -> tuple[list[Revision], list[Revision]]:
        """Return the revisions parents first, and those that follow each other in a circle, with all after them."""
        left, ordered = self.by_id, list[Revision]()
        while ready := [one for one in left.values() if left.keys().isdisjoint((*one.down_revision, *one.depends_on))]:
            ordered += [left.pop(one.revision) for one in ready]
        return ordered, list(left.values())


def read_history(scripts: Mapping[str, bytes], known: Iterable[Revision] = ()) -> History:
    """Return what revision scripts say of themselves.

    Args:
        scripts: Content of each, by path.
        known: Revisions of a manifest; one stands for a script that has its digest and computes its own attributes.
    """
    written = {(one.file, one.sha256): one for one in known}
    read = [_read(name, content, written) for name, content in sorted(scripts.items())]
    revisions = [one for one in read if isinstance(one, Revision)]
    return History(tuple(_with_labels(revisions)), tuple(one for one in read if isinstance(one, Problem)))


def parse(name: str, content: bytes) -> ast.Module | Problem:
    """Return the syntax tree of a script, or what is wrong with it; what Python only warns of is left aside."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(content, name)
    except SyntaxError as error:
        return Problem(name, error.lineno, f"has a syntax error: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Problem(name, None, f"cannot be read: {error}")
    return Problem(name, None, "cannot be read: it is nested too deeply") if _is_too_deep(module) else module


def _is_too_deep(module: ast.Module) -> bool:
    """Return whether what walks the tree, one call or two for each level, would run out of calls."""
    level: list[ast.AST] = [module]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return bool(level)


def _read(name: str, content: bytes, known: Mapping[tuple[str, str], Revision]) -> Revision | Problem:
    module = parse(name, content)
    if isinstance(module, Problem):
        return module
    sha256 = digest(content)
    values = module_namespace(module).values
    legacy = _LEGACY_NAME.search(name)
    revision = values.get("revision", legacy and legacy[1])
    texts = [_texts(values.get(attribute)) for attribute in _PARENTS]
    if not isinstance(revision, str) or None in texts or "*" in values:
        computed = known.get((name, sha256))
        return computed or Problem(name, None, "computes its revision attributes, so only running it could tell them")
    parents, depends_on, labels = (one or () for one in texts)
    doc = (ast.get_docstring(module) or "").strip().partition("\n")[0]
    return Revision(
        revision=revision,
        down_revision=parents,
        depends_on=depends_on,
        branch_labels=labels,
        file=name,
        sha256=sha256,
        doc=doc,
    )


def _texts(value: object) -> tuple[str, ...] | None:
    """Return the texts of an attribute; None where they are not written there."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if value is not UNKNOWN and isinstance(value, tuple) and all(isinstance(one, str) for one in value):
        return value
    return None


def _with_labels(revisions: list[Revision]) -> Iterable[Revision]:
    """Replace branch labels in ``depends_on`` by the revision that carries them."""
    from dataclasses import replace

    labels = {label: one.revision for one in revisions for label in one.branch_labels}
    for one in revisions:
        yield replace(one, depends_on=tuple(labels.get(name, name) for name in one.depends_on))
