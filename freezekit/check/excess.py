"""Checks of what should not be in a bundle: databases and secrets of developers, build tools, open permissions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from freezekit.check.checks import Check
from freezekit.check.contents import module_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.check.bundle import Bundle
    from freezekit.check.contents import Item
    from freezekit.check.findings import Finding

_SQLITE = b"SQLite format 3\0"
_DATABASE = re.compile(r"\.(db3?|sqlite3?)(-wal|-journal)?$", re.IGNORECASE)
_SECRET_NAME = re.compile(
    r"(\.env(\.(?!example$|sample$|template$|dist$).+)?|\.netrc|_netrc|\.pypirc|\.pgpass|id_(rsa|dsa|ecdsa|ed25519))$"
)
_KEY_NAME = re.compile(r"\.(pem|key|ppk|p8)$", re.IGNORECASE)
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_PASSWORD = re.compile(rb"\b([a-z][a-z0-9+_]*)://([^\s:/@\"']+):([^\s:/@\"']+)@[\w.\[-]")
# What templates and examples write instead of a password, or take from elsewhere.
_PLACEHOLDER = re.compile(rb"pass|password|passwd|pw|secret|changeme|\*+|x+|[{$%<].*", re.IGNORECASE)
_WRITABLE_BY_OTHERS = 0o002
_SMALL = 1 << 20
_SHOWN = 3
_BUILD_ONLY = ("PyInstaller", "_pyinstaller_hooks_contrib", "cx_Freeze", "nuitka", "freezekit.build", "freezekit.check")
_INSTALLERS = ("pip", "setuptools", "pkg_resources", "wheel")


def _in_trees(bundle: Bundle) -> set[str]:
    return {tree.path(name) for tree in bundle.trees for name in tree.files}


def check_developer_databases(bundle: Bundle) -> Iterator[Finding]:
    """Find databases beside the scripts, and elsewhere those that Alembic has migrated."""
    beside = _in_trees(bundle)
    for one in bundle.items:
        if not (one.path in beside or _DATABASE.search(one.name)):
            continue
        content = one.read()
        is_database = content.startswith(_SQLITE) or (one.path in beside and bool(_DATABASE.search(one.name)))
        if is_database and (one.path in beside or b"alembic_version" in content):
            yield Check.FK141.finding(f"{one.name} is a database, and no program needs it to upgrade another", one.path)


def check_secrets(bundle: Bundle) -> Iterator[Finding]:
    """Find files that are secrets by their names, and private keys; beside the scripts also passwords in URLs."""
    beside = _in_trees(bundle)
    for one in bundle.items:
        if _SECRET_NAME.fullmatch(one.name):
            yield Check.FK142.finding(f"{one.name} usually holds secrets", one.path)
        elif one.size <= _SMALL and (one.path in beside or _KEY_NAME.search(one.name)):
            yield from _secret_inside(one, is_script=one.path in beside)


def _secret_inside(item: Item, *, is_script: bool) -> Iterator[Finding]:
    content = item.read()
    if key := _PRIVATE_KEY.search(content):
        yield Check.FK142.finding(f"{item.name} holds a private key", item.path, _line(content, key.start()))
    for url in _PASSWORD.finditer(content) if is_script else ():
        if not _PLACEHOLDER.fullmatch(url[3]) and url[1] != b"driver":
            dialect = url[1].decode("ascii", "replace")
            message = f"{item.name} holds a password, in a URL that begins with {dialect}://"
            yield Check.FK142.finding(message, item.path, _line(content, url.start()))


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def check_permissions(bundle: Bundle) -> Iterator[Finding]:
    """Find files that any user of a machine may change, and so make another user's program do anything."""
    found = [one for one in bundle.items if (one.mode or 0) & _WRITABLE_BY_OTHERS]
    if found:
        listed = ", ".join(one.path for one in found[:_SHOWN]) + (" …" if len(found) > _SHOWN else "")
        count = "1 file" if len(found) == 1 else f"{len(found)} files"
        yield Check.FK143.finding(f"anyone may write to {count}: {listed}", found[0].path)


def check_packages(bundle: Bundle) -> Iterator[Finding]:
    """Find packages that only build or install programs."""
    for check, packages in ((Check.FK144, _BUILD_ONLY), (Check.FK145, _INSTALLERS)):
        for package in packages:
            if package in (bundle.modules or ()) or (bundle.modules and bundle.is_package(package)):
                yield check.finding(f"{package} is in the bundle", _file_of(bundle, package))


def _file_of(bundle: Bundle, package: str) -> str | None:
    return next((one.path for one in bundle.items if one.inside and module_name(one.inside) == package), None)
