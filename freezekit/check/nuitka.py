"""Programs compiled by Nuitka: how they are known. Their modules are machine code, which nothing here reads."""

from __future__ import annotations

_MARK = b"nuitka_module_loader"
_CHUNK = 1 << 20


def is_nuitka_program(path: str) -> bool:
    """Return whether a program has the part that Nuitka compiles into each, which loads its modules."""
    with open(path, "rb") as file:
        before = b""
        while chunk := file.read(_CHUNK):
            if _MARK in before + chunk:
                return True
            before = chunk[-len(_MARK) :]
    return False
