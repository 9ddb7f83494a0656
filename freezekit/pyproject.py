"""What pyproject.toml holds for freezekit and for Alembic, each key checked.

Read only when the file mentions one of the two, so that Python 3.10 needs ``tomli`` for nothing else.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

from freezekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PYPROJECT = "pyproject.toml"
_FOREIGN_KEYS = ("auto", "on", "off")


def tool_tables(path: str) -> Mapping[str, Any]:
    """Return ``[tool]`` of a pyproject.toml; nothing if there is no such file, or it says nothing about migrations.

    Raises:
        UsageError: The file cannot be read or parsed; names it.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not re.search(rb"tool[\s\"']*\.[\s\"']*(freezekit|alembic)", content):
        return {}
    try:
        tool = parse_toml(content.decode("utf-8")).get("tool", {})
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return tool if isinstance(tool, dict) else {}


def parse_toml(text: str) -> dict[str, Any]:
    """Return a TOML document; raises ValueError for one that is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise UsageError("Python 3.10 needs the package 'tomli' to read pyproject.toml: install it") from error
    return tomllib.loads(text)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_reasons(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31


_KEYS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "script_location": (_is_text, "a string such as 'package:folder'"),
    "section": (_is_text, "the name of a section of alembic.ini"),
    "version_table": (_is_text, "a string"),
    "dialects": (_is_texts, "a list of strings"),
    "drivers": (_is_texts, "a list of strings"),
    "application_id": (_is_id, "an integer of 32 bits"),
    "foreign_keys": (lambda value: value in _FOREIGN_KEYS, "'auto', 'on' or 'off'"),
    "snapshot": (_is_flag, "true or false"),
    "selftest": (_is_flag, "true or false"),
    "accepted_edits": (_is_reasons, "a table of revision = 'reason'"),
}
_CHECK_KEYS = {"select": (_is_texts, "a list of strings"), "ignore": (_is_texts, "a list of strings")}


def check_settings(project: str) -> dict[str, list[str]]:
    """Return ``[tool.freezekit.check]`` of a project: ``select`` and ``ignore``, as far as they are given.

    Args:
        project: Folder of pyproject.toml.

    Raises:
        UsageError: The file cannot be read, a key is unknown or has the wrong type.
    """
    path = os.path.join(project, PYPROJECT)
    where = f"{path}: [tool.freezekit.check]"
    table = _as_table(tool_tables(path).get("freezekit", {}), f"{path}: [tool.freezekit]")
    check = _as_table(table.get("check", {}), where)
    _validate(check, _CHECK_KEYS, where)
    return check


def freezekit_tables(table: object, where: str) -> list[dict[str, Any]]:
    """Return one table per chain; keys of ``[tool.freezekit]`` itself are the defaults of each.

    Args:
        table: The value of ``[tool.freezekit]``.
        where: Path of the file, for the message.

    Raises:
        UsageError: A key is unknown or has the wrong type; names the key and the file.
    """
    shared = _as_table(table, f"{where}: [tool.freezekit]")
    check = _as_table(shared.pop("check", {}), f"{where}: [tool.freezekit.check]")
    _validate(check, _CHECK_KEYS, f"{where}: [tool.freezekit.check]")
    migrations = shared.pop("migrations", [])
    if not isinstance(migrations, list):
        raise UsageError(f"{where}: 'migrations' must be written [[tool.freezekit.migrations]], once for each chain")
    _validate(shared, _KEYS, f"{where}: [tool.freezekit]")
    for one in migrations:
        where_one = f"{where}: [[tool.freezekit.migrations]]"
        _validate(_as_table(one, where_one), _KEYS, where_one)
    return [{**shared, **one} for one in migrations] or ([shared] if shared else [])


def _as_table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be a table")
    return dict(value)


def _validate(table: Mapping[str, Any], keys: Mapping[str, tuple[Callable[[object], bool], str]], where: str) -> None:
    for key, value in table.items():
        if key not in keys:
            raise UsageError(f"{where} has no key {key!r}; its keys are {', '.join(keys)}")
        is_valid, expected = keys[key]
        if not is_valid(value):
            raise UsageError(f"{where}: {key!r} must be {expected}, not {value!r}")
