"""What scripts import, read from their source: at the top, inside functions, and inside ``try``.

Freezers follow the imports of modules; migration scripts are shipped as data files, so somebody has to tell them.
"""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import sys
from dataclasses import dataclass
from functools import cache
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
        module = _existing(one.module, tuple(path))
        if module is None:
            missing.append(one)
            continue
        names = [f"{module}.{name}" for name in one.names]
        modules.update(dict.fromkeys([module, *(name for name in names if module_exists(name, tuple(path)))]))
    return list(modules), missing


def _existing(name: str, path: tuple[str, ...]) -> str | None:
    """Return a module, or the plain module that makes it up itself: ``os`` makes ``os.path``."""
    while not module_exists(name, path):
        name, _, made_up = name.rpartition(".")
        if not made_up or (name and _folders(name, path) != []):
            return None
    return name or None


@cache
def module_exists(name: str, path: tuple[str, ...]) -> bool:
    """Return whether a module can be found, without importing it or its parents."""
    top, *rest = name.split(".")
    if not rest and (top in sys.builtin_module_names or top == "__main__"):
        return True
    inside = _folders(top, path)
    if inside is None:
        inside = _editable(top)
    for depth in range(2, len(rest) + 2):
        inside = _folders(".".join(name.split(".")[:depth]), inside or [])
    return inside is not None


def _folders(name: str, places: Iterable[str]) -> list[str] | None:
    """Return the folders of a package, none for a plain module; None if there is nothing of that name in the places."""
    portions: list[str] = []
    for place in places:
        finder = pkgutil.get_importer(place)
        spec = finder.find_spec(name, None) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return list(spec.submodule_search_locations or ())
        portions += (spec and spec.submodule_search_locations) or ()
    return portions or None


def _editable(top: str) -> list[str] | None:
    """Return what other finders know: those of editable installs, for instance."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    return list(spec.submodule_search_locations or ()) if spec else None
