"""What a project says about its migrations, in pyproject.toml and alembic.ini.

``[tool.freezekit]`` wins; what it leaves out is as Alembic's own configuration has it, so that a project that works
with Alembic needs nothing new. Imports neither Alembic nor SQLAlchemy nor the project.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from freezekit.errors import UsageError
from freezekit.ini import INI_NAME, AlembicSection, chains, merged, section_of_toml, sections_of_ini
from freezekit.manifest import DEFAULT_SECTION
from freezekit.pyproject import PYPROJECT, freezekit_tables, tool_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Chain:
    """One chain of revisions and what its project says about it.

    Attributes:
        script_location: The location as it is written: ``"package:folder"``, or a folder.
        folder: Absolute source folder that holds env.py.
        section: Section of alembic.ini it belongs to.
        version_locations: Absolute folders of the revisions; none means ``versions`` in ``folder``.
        recursive: Whether subfolders of those count.
        ini: Absolute path of its alembic.ini, if there is one.
        options: Further options of the section, without URLs, passwords and locations.
        prepend_sys_path: Absolute folders that Alembic puts on ``sys.path``.
        url: The developer's ``sqlalchemy.url``: a hint for dialect and driver, never shipped.
        version_table: Name of the version table, if it is configured.
        dialects: Dialects of SQLAlchemy to ship.
        drivers: Driver modules to ship.
        application_id: SQLite's mark of whose file it is.
        foreign_keys: ``"auto"``, ``"on"`` or ``"off"``.
        snapshot: Whether to ship an empty database at head.
        selftest: Whether the finished bundle can test itself.
        accepted_edits: Revisions that were edited after they shipped, each with the reason.
    """

    script_location: str
    folder: str
    section: str = DEFAULT_SECTION
    version_locations: tuple[str, ...] = ()
    recursive: bool = False
    ini: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    prepend_sys_path: tuple[str, ...] = ()
    url: str | None = None
    version_table: str | None = None
    dialects: tuple[str, ...] = ("sqlite",)
    drivers: tuple[str, ...] = ()
    application_id: int | None = None
    foreign_keys: str = "auto"
    snapshot: bool = True
    selftest: bool = True
    accepted_edits: Mapping[str, str] = field(default_factory=dict)


def project_chains(project: str) -> tuple[Chain, ...]:
    """Return the chains a project configures, in the order in which it names them.

    Args:
        project: Folder of pyproject.toml and alembic.ini.

    Returns:
        Those of ``[tool.freezekit]``; else those of ``[tool.alembic]`` and alembic.ini; none if there is neither.

    Raises:
        UsageError: A file cannot be read, a key is unknown or has the wrong type, a folder does not exist.

    Example:
        >>> [chain.script_location for chain in project_chains(".")]
        ['sample_app:migrations']
    """
    project = os.path.abspath(project)
    found = []
    for section, settings in _configured(project, (project,)):
        chain = _chain(section, settings, (project,))
        if chain is None:
            raise UsageError(
                f"{section.where}: script_location {section.script_location!r} ([{section.name}]) is no folder; "
                f"looked below {project}, {os.path.join(project, 'src')} and sys.path"
            )
        found.append(chain)
    return tuple(found)


def chain_of(folder: str, section: str = DEFAULT_SECTION, script_location: str | None = None) -> Chain:
    """Return what the project around a folder of scripts says about it.

    Looks into the folder itself and each folder above it, up to the first with a pyproject.toml or a ``.git``.

    Args:
        folder: The folder that holds env.py.
        section: Section of alembic.ini the chain belongs to.
        script_location: The location as the caller wrote it.

    Returns:
        The chain; one with default settings if no configuration mentions the folder.

    Raises:
        UsageError: A configuration file is wrong, or none has that section for this folder.
    """
    folder = os.path.abspath(folder)
    location = script_location or folder
    above = list(_above(folder))
    candidates: list[Chain] = []
    for project in reversed(above):
        configured = [_chain(one, settings, (project,)) for one, settings in _configured(project, (project,))]
        candidates += [chain for chain in configured if chain is not None and _same(chain.folder, folder)]
    candidates += [chain for near in _near(folder) if (chain := _chain(near, {}, tuple(above), folder))]
    for chain in candidates:
        if chain.section == section:
            return replace(chain, script_location=location)
    if candidates or section != DEFAULT_SECTION:
        known = ", ".join(sorted({chain.section for chain in candidates})) or "none"
        raise UsageError(f"No section [{section}] is configured for the migrations in {folder} (sections: {known})")
    return Chain(location, folder)


def find_folder(location: str, bases: Iterable[str], search: Sequence[str] = ()) -> str | None:
    """Return the source folder that a script location names, without importing anything of it.

    Args:
        location: ``"package:folder"``, or a folder.
        bases: Folders that a relative folder may be relative to.
        search: Folders to look for packages in, before ``sys.path``.

    Returns:
        An absolute path, or None if there is no such folder.
    """
    if os.path.isabs(location) or ":" not in location:
        places = [os.path.join(base, location) for base in bases]
    else:
        package, *folders = location.split(":")
        places = list(_package_places(package.split("."), folders, [*search, *bases]))
    return next((os.path.normpath(place) for place in places if os.path.isdir(place)), None)


def _package_places(package: list[str], folders: list[str], roots: Iterable[str]) -> Iterator[str]:
    sources = [place for root in roots for place in (root, os.path.join(root, "src"))]
    for root in (*sources, *sys.path):
        yield os.path.abspath(os.path.join(root, *package, *folders))
    try:
        spec = importlib.util.find_spec(package[0])
    except (ImportError, ValueError):
        return
    for top in (spec and spec.submodule_search_locations) or ():
        yield os.path.abspath(os.path.join(top, *package[1:], *folders))


def _above(folder: str) -> Iterator[str]:
    """Yield a folder and those above it, up to the first that looks like a project."""
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if parent == folder or any(os.path.exists(os.path.join(folder, name)) for name in (PYPROJECT, ".git")):
            return
        folder = parent


def _configured(project: str, bases: tuple[str, ...]) -> Iterator[tuple[AlembicSection, Mapping[str, Any]]]:
    """Yield each chain of a project: its section as Alembic has it, and what ``[tool.freezekit]`` adds."""
    where = os.path.join(project, PYPROJECT)
    tool = tool_tables(where)
    sections = _alembic_sections(project, tool, where)
    tables = freezekit_tables(tool.get("freezekit", {}), where)
    for settings in tables or [{}]:
        name, location = settings.get("section"), settings.get("script_location")
        if location is None and name is None:
            yield from ((section, settings) for section in chains(sections))
            continue
        base = sections.get(name or DEFAULT_SECTION)
        if location is not None and not (name and base):
            base = _base_of(location, name, base, bases)
        if base is None or not (location or base.script_location):
            raise UsageError(f"{where}: section {name!r} of [tool.freezekit] has no script_location in alembic.ini")
        yield replace(base, script_location=location, where=where) if location else base, settings


def _base_of(
    location: str, name: str | None, base: AlembicSection | None, bases: tuple[str, ...]
) -> AlembicSection | None:
    """Return the section that a location belongs to: the project's, if it means the same folder, or one beside it."""
    folder = find_folder(location, bases)
    if folder and base and base.script_location:
        other = find_folder(base.script_location, bases, _absolute(base.prepend_sys_path, bases))
        if other and _same(folder, other):
            return base
    near = {section.name: section for section in (_near(folder) if folder else ())}
    found = near.get(name or DEFAULT_SECTION)
    return found if found or name not in (None, DEFAULT_SECTION) else AlembicSection()


def _near(folder: str) -> Iterator[AlembicSection]:
    """Yield the sections of an alembic.ini in a folder or beside it, as far as they mean this folder."""
    for place in (folder, os.path.dirname(folder)):
        sections = sections_of_ini(os.path.join(place, INI_NAME))
        meant = [section for section in sections.values() if _means(section, folder, place)]
        declared = [section for section in meant if section.declared]
        yield from declared or [section for section in meant if section.name == DEFAULT_SECTION]


def _means(section: AlembicSection, folder: str, place: str) -> bool:
    """Return whether a section near a folder can be about it: what it names is the folder, or cannot be found."""
    if section.script_location is None:
        return place == folder
    found = find_folder(section.script_location, (place,), _absolute(section.prepend_sys_path, (place,)))
    return found is None or _same(found, folder)


def _alembic_sections(project: str, tool: Mapping[str, Any], where: str) -> dict[str, AlembicSection]:
    ini = os.path.join(project, INI_NAME)
    sections = sections_of_ini(ini)
    table = tool.get("alembic")
    if not isinstance(table, dict):
        return sections
    toml = replace(section_of_toml(table, where), ini=ini if os.path.isfile(ini) else None)
    found = {name: merged(section, toml) for name, section in sections.items()}
    found.setdefault(toml.name, toml)
    return found


def _chain(
    section: AlembicSection, settings: Mapping[str, Any], bases: tuple[str, ...], folder: str | None = None
) -> Chain | None:
    """Return the chain of a section, or None if its folder does not exist."""
    prepend = _absolute(section.prepend_sys_path, bases)
    folder = folder or find_folder(section.script_location or "", bases, prepend)
    if folder is None:
        return None
    near = next((one.ini for one in _near(folder)), None) if section.ini is None else None
    given: dict[str, Any] = {"version_table": section.options.get("version_table"), **settings}
    for key, value in settings.items():
        if key in ("section", "script_location"):
            del given[key]
        elif isinstance(value, list):
            given[key] = tuple(value)
    return Chain(
        script_location=section.script_location or folder,
        folder=folder,
        section=section.name,
        version_locations=tuple(
            find_folder(location, bases, prepend) or os.path.abspath(os.path.join(bases[0], location))
            for location in section.version_locations
        ),
        recursive=section.recursive,
        ini=section.ini or near,
        options=section.options,
        prepend_sys_path=prepend,
        url=section.url,
        **given,
    )


def _absolute(paths: Iterable[str], bases: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(find_folder(path, bases) or os.path.abspath(os.path.join(bases[0], path)) for path in paths)


def _same(one: str, other: str) -> bool:
    return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))
