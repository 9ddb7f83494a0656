"""Versions inside a bundle: of its Python, of a package, and what its interpreter brings."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.check.contents import Item

_PYTHON = re.compile(
    r"(?:^|/)(?:libpython3\.(\d+)|python3(\d+)\.dll$|python3\.(\d+)/)|\.(?:cpython-|cp)3(\d+)-|Versions/3\.(\d+)/Python$"
)
_INTERPRETER = re.compile(r"(^|/)(libpython3[^/]*\.(so[.\d]*|dylib)|python3\d+\.dll|Python)$")
_INITIALISER = re.compile(rb"PyInit_(\w+)")
_SOURCE_VERSION = re.compile(rb"^__version__\s*(?::\s*\w+\s*)?=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
# A short ASCII text as marshal writes it, in any version of Python: type, length, text.
_MARSHALLED = re.compile(rb"[zZ\xda\xfa](?=(.))", re.DOTALL)
_VERSION = re.compile(rb"\d+(\.\d+)+([-.+]?[a-z]\w*)*")
_LIBRARY = re.compile(r"\.(so|dylib|pyd)(\.|$)")
_BUILTIN_WITHOUT_INITIALISER = {"builtins", "sys", "marshal", "_imp", "_warnings", "_string", "__main__"}
# Every CPython since 3.11 has what it needs to start.
_FROZEN_IN_PYTHON = {
    *(
        "_collections_abc",
        "_sitebuiltins",
        "abc",
        "codecs",
        "genericpath",
        "importlib.machinery",
        "importlib.util",
        "io",
    ),
    *("ntpath", "os", "posixpath", "runpy", "site", "stat", "zipimport"),
}
# Compiled into python3XX.dll, which does not export them.
# fmt: off
_BUILTIN_ON_WINDOWS = {
    "_abc", "_ast", "_bisect", "_blake2", "_codecs", "_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp",
    "_codecs_kr", "_codecs_tw", "_collections", "_contextvars", "_csv", "_datetime", "_functools", "_heapq", "_io",
    "_json", "_locale", "_lsprof", "_md5", "_multibytecodec", "_opcode", "_operator", "_pickle", "_random", "_sha1",
    "_sha2", "_sha256", "_sha3", "_sha512", "_signal", "_sre", "_stat", "_statistics", "_struct", "_symtable",
    "_thread", "_tokenize", "_tracemalloc", "_typing", "_weakref", "_winapi", "array", "atexit", "audioop",
    "binascii", "cmath", "errno", "faulthandler", "gc", "itertools", "math", "mmap", "msvcrt", "nt", "time",
    "winreg", "xxsubtype", "zlib",
}
# Compiled into the program of cx_Freeze by freeze-core, beside modules of packages, whose full names can be seen there.
_FROZEN_IN_CX = {
    "__future__", "__startup__", "_collections_abc", "_frozen_importlib", "_frozen_importlib_external",
    "_sitebuiltins", "abc", "codecs", "collections", "datetime", "email", "encodings", "genericpath", "importlib",
    "io", "ntpath", "os", "posixpath", "runpy", "site", "stat", "string", "struct", "traceback", "warnings",
    "zipimport",
}
# fmt: on
_FROZEN_MARK = b"__startup__"  # cx_Freeze's own; names of modules are in every interpreter
_DOTTED = re.compile(rb"(?<=\0)[a-z_]\w*(?:\.\w+)+(?=\0)")
_READ_AT_MOST = 64 * 1024 * 1024


def python_version(items: Iterable[Item]) -> str | None:
    """Return the version of the Python inside, told by the names of its library and of extension modules."""
    for one in items:
        if found := _PYTHON.search(one.path):
            return f"3.{next(filter(None, found.groups()))}"
    return None


def package_version(code: bytes | None) -> str | None:
    """Return ``__version__`` of a module, source or compiled, without loading it; None where it is not certain."""
    if code is None:
        return None
    if (found := _SOURCE_VERSION.search(code)) is not None:
        return found[1].decode("ascii", "replace")
    if b"__version__" not in code:
        return None
    texts = {code[one.end() + 1 : one.end() + 1 + one[1][0]] for one in _MARSHALLED.finditer(code)}
    versions = {text for text in texts if _VERSION.fullmatch(text)}
    return versions.pop().decode("ascii") if len(versions) == 1 else None


def builtin_modules(items: Iterable[Item], *, brings_library: bool) -> frozenset[str]:
    """Return the modules that need no file in the bundle.

    Args:
        items: The files of the bundle.
        brings_library: Whether the standard library has to be in the bundle, as in all but a zipapp.
    """
    if not brings_library:
        return frozenset({*sys.stdlib_module_names, *_BUILTIN_WITHOUT_INITIALISER})
    found: set[str] = set()
    interpreters = [one for one in items if _INTERPRETER.search(one.path)] or [one for one in items if _is_program(one)]
    for one in interpreters:
        if one.size <= _READ_AT_MOST:
            found |= _compiled_in(one.read())
        if one.name.endswith((".dll", ".exe")):
            found |= _BUILTIN_ON_WINDOWS
    return frozenset({*(found or sys.builtin_module_names), *_BUILTIN_WITHOUT_INITIALISER, *_FROZEN_IN_PYTHON})


def _compiled_in(program: bytes) -> set[str]:
    """Return the modules that an interpreter was compiled with."""
    found = {name.decode("ascii", "replace") for name in _INITIALISER.findall(program)}
    if _FROZEN_MARK in program:
        dotted = {name.decode("ascii", "replace") for name in _DOTTED.findall(program)}
        found |= _FROZEN_IN_CX | {name for name in dotted if name.partition(".")[0] in _FROZEN_IN_CX}
    return found


def _is_program(item: Item) -> bool:
    is_executable = item.name.endswith(".exe") or bool((item.mode or 0) & 0o111)
    return is_executable and item.inside is None and not _LIBRARY.search(item.name)
