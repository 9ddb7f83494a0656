"""What a module's source says its names are, without running it.

Only what is certain counts: a name bound to a literal, to a name bound to one, or to strings put together from those.
Whatever else binds a name (a condition, a loop, an import, a call) makes its value :data:`UNKNOWN`.
"""

from __future__ import annotations

import ast
from typing import Final


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()


class Namespace:
    """The names a module binds at its top level.

    Attributes:
        values: Value of each name, UNKNOWN where only running the module can tell.
        nodes: Expression last assigned to each name by a plain assignment.
    """

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.nodes: dict[str, ast.expr] = {}

    def evaluate(self, node: ast.expr) -> object:  # noqa: PLR0911 - a table
        """Return the value of an expression, or UNKNOWN."""
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self.values.get(node.id, UNKNOWN)
            case ast.Tuple() | ast.List() | ast.Set():
                values = [self.evaluate(element) for element in node.elts]
                return UNKNOWN if UNKNOWN in values else tuple(values)
            case ast.BinOp(op=ast.Add()):
                return self._joined([node.left, node.right])
            case ast.JoinedStr():
                return self._joined(node.values)
            case ast.FormattedValue(conversion=-1, format_spec=None):
                return self.evaluate(node.value)
        return UNKNOWN

    def _joined(self, nodes: list[ast.expr]) -> object:
        values = [self.evaluate(node) for node in nodes]
        return "".join(map(str, values)) if all(isinstance(value, str) for value in values) else UNKNOWN

    def bind(self, node: ast.stmt) -> None:
        """Take over what one statement at the top level binds."""
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._set(name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._set(name, value)
            case ast.AnnAssign(value=None):
                pass
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.values[node.name] = UNKNOWN
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    self.values[alias.asname or alias.name.partition(".")[0]] = UNKNOWN
            case _:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load):
                        self.values[inner.id] = UNKNOWN

    def _set(self, name: str, value: ast.expr) -> None:
        self.values[name] = self.evaluate(value)
        self.nodes[name] = value


def module_namespace(module: ast.Module) -> Namespace:
    """Return the names a module binds at its top level."""
    namespace = Namespace()
    for node in module.body:
        namespace.bind(node)
    return namespace
