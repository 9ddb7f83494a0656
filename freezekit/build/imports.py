"""What scripts import, read from their source: at the top, inside functions, and inside ``try``.

Freezers follow the imports of modules; migration scripts are shipped as data files, so somebody has to tell them.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TOLERANT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


@dataclass(frozen=True)
class Import:
    """One import that a script does.

    Attributes:
        module: Full name of the module.
        names: Names taken from it, each of which may be a submodule.
        where: File and line.
        is_optional: Whether the script can live without it: it is guarded by ``try``.
    """

    module: str
    names: tuple[str, ...] = ()
    where: str = ""
    is_optional: bool = False


def scan_imports(module: ast.AST, file: str) -> list[Import]:
    """Return every import of a script in the order of its lines.

    Those that only a type checker reads are left out, and relative ones, which can never work in a script that
    Alembic loads.

    Args:
        module: The parsed script.
        file: Its path, for messages.
    """
    scanner = _Scanner(file)
    scanner.visit(module)
    return scanner.found


class _Scanner(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Import] = []
        self.guards = 0

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, (), node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level:
            self._add(node.module, tuple(alias.name for alias in node.names if alias.name != "*"), node.lineno)

    def visit_Try(self, node: ast.Try) -> None:
        guarded = any(_names(handler.type) & _TOLERANT or handler.type is None for handler in node.handlers)
        self.guards += guarded
        for part in (*node.body, *node.handlers):
            self.visit(part)
        self.guards -= guarded
        for part in (*node.orelse, *node.finalbody):
            self.visit(part)

    visit_TryStar = visit_Try  # noqa: N815 - named by ast

    def visit_If(self, node: ast.If) -> None:
        for part in node.orelse if "TYPE_CHECKING" in _names(node.test) else (*node.body, *node.orelse):
            self.visit(part)

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ) if name and not name.startswith("."):
                self._add(name, (), node.lineno)
        self.generic_visit(node)

    def _add(self, module: str, names: tuple[str, ...], line: int) -> None:
        self.found.append(Import(module, names, f"{self.file}:{line}", bool(self.guards)))


def _names(node: ast.AST | None) -> set[str]:
    """Return the last parts of all names in an expression."""
    walked = list(ast.walk(node)) if node is not None else []
    plain = {one.id for one in walked if isinstance(one, ast.Name)}
    return plain | {one.attr for one in walked if isinstance(one, ast.Attribute)}


def resolve(imports: Iterable[Import], path: Sequence[str]) -> tuple[list[str], list[Import]]:
    """Return the full names of all modules that exist, submodules taken by name included, and what does not exist.

    Nothing is imported to find that out.

    Args:
        imports: What the scripts import.
        path: Folders to look in.
    """
    modules: dict[str, None] = {}
    missing: list[Import] = []
    for one in imports:
        if not module_exists(one.module, tuple(path)):
            missing.append(one)
            continue
        modules[one.module] = None
        names = [f"{one.module}.{name}" for name in one.names]
        modules.update(dict.fromkeys(name for name in names if module_exists(name, tuple(path))))
    return list(modules), missing


@cache
def module_exists(name: str, path: tuple[str, ...]) -> bool:
    """Return whether a module can be found, without importing it or its parents."""
    top, *rest = name.split(".")
    if not rest and (top in sys.builtin_module_names or top == "__main__"):
        return True
    places: list[str] | None = list(path)
    spec = PathFinder.find_spec(top, places) or _editable(top)
    for depth in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return False
        places = list(spec.submodule_search_locations)
        spec = PathFinder.find_spec(".".join([top, *rest[: depth + 1]]), places)
    return spec is not None


def _editable(top: str) -> importlib.machinery.ModuleSpec | None:
    """Return what other finders know: those of editable installs, for instance."""
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
