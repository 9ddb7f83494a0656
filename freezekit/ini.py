"""Alembic's own configuration, read as Alembic reads it but without it: alembic.ini and ``[tool.alembic]``.

Nothing is resolved here: locations stay as they are written. A section's URL is kept apart, because it belongs to the
developer; what ships is the text that :func:`without_secrets` leaves.
"""

from __future__ import annotations

import configparser
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from freezekit.errors import UsageError
from freezekit.manifest import DEFAULT_SECTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INI_NAME = "alembic.ini"
_LOGGING = re.compile(r"(loggers|handlers|formatters|post_write_hooks|(logger|handler|formatter)_.*)$")
_SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}
_CHAIN_KEYS = {"script_location", "version_locations", "version_table"}
_LOCATION_KEYS = {
    "script_location",
    "version_locations",
    "recursive_version_locations",
    "prepend_sys_path",
    "path_separator",
    "version_path_separator",
}
_SECRET_KEY = re.compile(r"(^|[._-])(url|uri|dsn)$|passw|secret|token|credential|api_?key", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/\s]*:[^/\s]*@")


@dataclass(frozen=True)
class AlembicSection:
    """One section of Alembic's configuration, as it is written.

    Attributes:
        name: Name of the section.
        where: The file it is in, for messages.
        declared: Whether the section itself, not [DEFAULT], says that it is a chain of revisions.
        script_location: Where env.py is, if the section says so.
        version_locations: Where revisions are, if it says so.
        prepend_sys_path: Folders Alembic puts on ``sys.path``.
        recursive: Whether subfolders of version locations count.
        options: Everything else that is no secret and does not depend on where the file lies.
        url: Its ``sqlalchemy.url``.
        ini: The alembic.ini that env.py sees, if there is one.
    """

    name: str = DEFAULT_SECTION
    where: str = ""
    declared: bool = False
    script_location: str | None = None
    version_locations: tuple[str, ...] = ()
    prepend_sys_path: tuple[str, ...] = ()
    recursive: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    ini: str | None = None


def sections_of_ini(path: str) -> dict[str, AlembicSection]:
    """Return every section of an alembic.ini that may be a chain, those of logging left out; none if there is no file.

    Raises:
        UsageError: The file cannot be read or parsed; names it and the line.
    """
    if not os.path.isfile(path):
        return {}
    here = os.path.dirname(os.path.abspath(path)).replace(os.sep, "/")
    parser = configparser.ConfigParser({"here": here.replace("%", "%%")})
    written = configparser.RawConfigParser(default_section="", strict=False)
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
        parser.read_string(text, source=path)
        written.read_string(text, source=path)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    names = [name for name in parser.sections() if not _LOGGING.match(name)]
    return {name: _section(parser, name, path, declared=bool(_CHAIN_KEYS & {*written[name]})) for name in names}


def _section(parser: configparser.ConfigParser, name: str, path: str, *, declared: bool) -> AlembicSection:
    values = dict(_values(parser, name, path))
    raw = dict(parser.items(name, raw=True))
    options = {
        key: value
        for key, value in values.items()
        if key not in _LOCATION_KEYS and key != "here" and "%(here)s" not in raw[key] and not is_secret(key, value)
    }
    separator = _separator(values, path, "path_separator")
    version_separator = separator
    if separator is None and values.get("version_locations"):
        # Only then, as Alembic does: the stock ini of Alembic 1.7 to 1.15 has a comment in the value.
        version_separator = _separator(values, path, "version_path_separator")
    return AlembicSection(
        name=name,
        where=path,
        declared=declared,
        script_location=values.get("script_location") or None,
        version_locations=_split(values.get("version_locations", ""), version_separator, r", *|(?: +)"),
        prepend_sys_path=_split(values.get("prepend_sys_path", ""), separator, r", *|(?: +)|\:"),
        recursive=values.get("recursive_version_locations") == "true",
        options=options,
        url=values.get("sqlalchemy.url"),
        ini=path,
    )


def _values(parser: configparser.ConfigParser, name: str, path: str) -> Iterator[tuple[str, str]]:
    """Yield the interpolated options; one that waits for a value given at run time counts only if it is a location."""
    for key in parser.options(name):
        try:
            yield key, parser.get(name, key)
        except configparser.InterpolationError as error:  # noqa: PERF203 - each option counts on its own
            if key in _LOCATION_KEYS:
                raise UsageError(f"{path}: '{key}' in [{name}] cannot be read: {error}") from error


def _separator(values: Mapping[str, str], path: str, key: str) -> str | None:
    if key not in values:
        return None
    if values[key] not in _SEPARATORS:
        raise UsageError(f"{path}: '{key}' must be one of {', '.join(_SEPARATORS)}, not {values[key]!r}")
    return _SEPARATORS[values[key]]


def _split(value: str, separator: str | None, legacy: str) -> tuple[str, ...]:
    parts = re.split(legacy, value) if separator is None else value.split(separator)
    return tuple(part.strip() for part in parts if part.strip())


def section_of_toml(table: Mapping[str, Any], path: str) -> AlembicSection:
    """Return what ``[tool.alembic]`` of a pyproject.toml says.

    Raises:
        UsageError: A location has the wrong type; names the key and the file.
    """
    here = os.path.dirname(os.path.abspath(path)).replace(os.sep, "/")

    def texts(key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise UsageError(f"{path}: '{key}' in [tool.alembic] must be a list of strings")
        return tuple(one.replace("%(here)s", here).replace("%%", "%") for one in value)

    location, recursive = table.get("script_location"), table.get("recursive_version_locations", False)
    if location is not None and not isinstance(location, str):
        raise UsageError(f"{path}: 'script_location' in [tool.alembic] must be a string")
    if not isinstance(recursive, bool):
        raise UsageError(f"{path}: 'recursive_version_locations' in [tool.alembic] must be true or false")
    return AlembicSection(
        where=path,
        declared=location is not None,
        script_location=location and location.replace("%(here)s", here).replace("%%", "%"),
        version_locations=texts("version_locations"),
        prepend_sys_path=texts("prepend_sys_path"),
        recursive=recursive,
    )


def merged(section: AlembicSection, toml: AlembicSection) -> AlembicSection:
    """Return a section of the ini with ``[tool.alembic]`` behind it: what the ini leaves out comes from there."""
    return replace(
        section,
        where=section.where if section.script_location or not toml.script_location else toml.where,
        script_location=section.script_location or toml.script_location,
        version_locations=section.version_locations or toml.version_locations,
        prepend_sys_path=section.prepend_sys_path or toml.prepend_sys_path,
        recursive=section.recursive or toml.recursive,
    )


def chains(sections: Mapping[str, AlembicSection]) -> tuple[AlembicSection, ...]:
    """Return the sections that are chains: they say so themselves, or there is only [alembic]."""
    located = [section for section in sections.values() if section.script_location]
    declared = tuple(section for section in located if section.declared)
    return declared or tuple(section for section in located if section.name == DEFAULT_SECTION)


def is_secret(key: str, value: str) -> bool:
    """Return whether an option must not leave the developer's machine: a URL of a database, or a password."""
    return bool(_SECRET_KEY.search(key) or _SECRET_VALUE.search(value))


def without_secrets(text: str) -> str:
    """Return the text of an alembic.ini without URLs and passwords, and without what refers to them.

    Comments, order and all other options stay as they are written.
    """
    blocks = list(_blocks(text.splitlines(keepends=True)))
    dropped = {index for index, (key, lines) in enumerate(blocks) if is_secret(key, "".join(lines))}
    while True:
        gone = [f"%({blocks[index][0]})s" for index in dropped if blocks[index][0]]
        more = {i for i, (_, lines) in enumerate(blocks) if any(name in "".join(lines).lower() for name in gone)}
        if more <= dropped:
            return "".join(line for i, (_, lines) in enumerate(blocks) if i not in dropped for line in lines)
        dropped |= more


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option with its continuation lines; whatever is no option, line by line, under an empty key."""
    block: list[str] = []
    key = ""
    for line in lines:
        if block and key and line[:1].isspace() and line.strip():
            block.append(line)
            continue
        if block:
            yield key, block
        option = re.match(r"([^\s#;\[=:][^=:]*?)\s*[=:]", line)
        key, block = (option[1].lower() if option else ""), [line]
    if block:
        yield key, block
