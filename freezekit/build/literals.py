"""What an application's source says literally: which migrations it locates, which databases and metadata it names."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freezekit.manifest import DEFAULT_SECTION

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCATE = {"freezekit.locate", "freezekit.runtime.locate.locate"}
_URL = re.compile(r"([a-z][a-z0-9_]*)(?:\+([a-z0-9_]+))?://")
_METADATA = {"metadata", "distribution", "version", "files", "requires"}


@dataclass(frozen=True)
class LocateCall:
    """One call of ``freezekit.locate`` in the application.

    Attributes:
        script_location: What it is called with; None where only running the program can tell.
        section: Its ``section``.
        file: The file it is in.
        line: The line it is on.
    """

    script_location: str | None
    section: str | None
    file: str
    line: int

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.file}:{self.line}"


def locate_calls(module: ast.AST, file: str) -> list[LocateCall]:
    """Return every call of ``freezekit.locate`` in a module, in any spelling of its name.

    The location may be a string, a name that is bound to one once, or a path put together from ``__file__``.

    Args:
        module: The parsed module.
        file: Its absolute path: the value of ``__file__``.
    """
    aliases = _aliases(module)
    values = _Values(module, aliases, file)
    return [
        _locate_call(node, values, file)
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and _dotted(node.func, aliases) in _LOCATE
    ]


def _locate_call(node: ast.Call, values: _Values, file: str) -> LocateCall:
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    location = node.args[0] if node.args else given.get("script_location")
    section = values.of(given["section"]) if "section" in given else DEFAULT_SECTION
    return LocateCall(values.of(location) if location else None, section, file, node.lineno)


def names(module: ast.AST, wanted: str) -> bool:
    """Return whether a module names something: as an attribute, or by importing it."""
    nodes = ast.walk(module)
    return any(wanted == getattr(one, "attr" if isinstance(one, ast.Attribute) else "name", None) for one in nodes)


def _aliases(module: ast.AST) -> dict[str, str]:
    """Return what the imported names of a module stand for."""
    found: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                name = "locate" if alias.name == "*" else alias.name
                found[alias.asname or name] = f"{node.module}.{name}"
    return found


def _dotted(node: ast.AST, aliases: dict[str, str]) -> str:
    """Return the full name an expression stands for, or an empty string."""
    match node:
        case ast.Name(id=name):
            return aliases.get(name, name)
        case ast.Attribute(value=value, attr=attr):
            parent = _dotted(value, aliases)
            return parent and f"{parent}.{attr}"
    return ""


class _Values:
    """Evaluate the few expressions that make up a script location; None for all others."""

    def __init__(self, module: ast.AST, aliases: dict[str, str], file: str) -> None:
        self.aliases = aliases
        self.file = file
        self.bound: dict[str, ast.expr | None] = {}
        for node in ast.walk(module):
            for name, value in _bindings(node):
                self.bound[name] = None if name in self.bound else value

    def of(self, node: ast.expr) -> str | None:  # noqa: PLR0911 - one for each kind of expression
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id="__file__"):
                return self.file
            case ast.Name(id=name):
                value = self.bound.get(name)
                return self.of(value) if value is not None and value is not node else None
            case ast.BinOp(op=ast.Div(), left=left, right=right):
                return self._joined([left, right])
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                parts = [self.of(left), self.of(right)]
                return "".join(part for part in parts if part) if None not in parts else None
            case ast.Attribute(attr="parent", value=value):
                return self._parent(value, 1)
            case ast.Subscript(value=ast.Attribute(attr="parents", value=value), slice=ast.Constant(value=int(n))):
                return self._parent(value, n + 1)
            case ast.Call(func=function, args=arguments, keywords=[]):
                return self._called(function, arguments)
        return None

    def _called(self, function: ast.expr, arguments: list[ast.expr]) -> str | None:
        match _dotted(function, self.aliases), function, arguments:
            case (("str" | "os.fspath" | "os.path.abspath" | "os.path.realpath" | "os.path.normpath"), _, [one]):
                return self.of(one)
            case "os.path.dirname", _, [one]:
                return self._parent(one, 1)
            case (("pathlib.Path" | "pathlib.PurePath" | "os.path.join"), _, [_, *_]):
                return self._joined(arguments)
            case _, ast.Attribute(attr="joinpath", value=value), _:
                return self._joined([value, *arguments])
            case _, ast.Attribute(attr="resolve" | "absolute" | "as_posix", value=value), []:
                return self.of(value)
        return None

    def _joined(self, nodes: list[ast.expr]) -> str | None:
        parts = [self.of(node) for node in nodes]
        return os.path.normpath(os.path.join(*[part for part in parts if part])) if all(parts) else None

    def _parent(self, node: ast.expr, times: int) -> str | None:
        path = self.of(node)
        for _ in range(times):
            path = os.path.dirname(path) if path else path
        return path


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the names a statement binds, with a value where it is plain."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.Assign(targets=targets):
            names = [one for target in targets for one in ast.walk(target)]
            yield from ((one.id, None) for one in names if isinstance(one, ast.Name))
        case ast.For(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)) | ast.arg(arg=name):
            yield name, None


def urls(module: ast.AST) -> set[tuple[str, str]]:
    """Return dialect and driver of everything that begins like a database URL, f-strings included."""
    texts = (node.value for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    matches = (_URL.match(text.strip()) for text in texts)
    return {(match[1], match[2] or "") for match in matches if match}


def entry_point_groups(module: ast.AST) -> set[str]:
    """Return the groups of entry points that a module looks up: ``entry_points(group="...")``, in any spelling."""
    found: set[str] = set()
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Name(id="entry_points") | ast.Attribute(attr="entry_points"), keywords=keywords):
                found |= {k.value.value for k in keywords if k.arg == "group" and _is_text(k.value)}  # type: ignore[attr-defined]
            case ast.Call(
                func=ast.Name(id="iter_entry_points") | ast.Attribute(attr="iter_entry_points"),
                args=[ast.Constant(value=str(group)), *_],
            ):
                found.add(group)
    return found


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def distributions(module: ast.AST) -> set[str]:
    """Return the distributions whose metadata a module asks for by name: ``metadata.version("...")``."""
    aliases = _aliases(module)
    found: set[str] = set()
    for node in ast.walk(module):
        match node:
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
                package, _, called = _dotted(function, aliases).rpartition(".")
                if package in ("importlib.metadata", "importlib_metadata") and called in _METADATA:
                    found.add(name)
    return found
