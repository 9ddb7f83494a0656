"""Everything that one application needs shipped: which chains, and what their scripts import.

Stands between the freezers, which know the modules of the application, and the project, which knows its migrations.
"""

from __future__ import annotations

import ast
import logging
import os
import sys
import sysconfig
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from freezekit.build import literals
from freezekit.build.collect import Shipment, collect, location_path
from freezekit.build.databases import database_imports, dialect_distributions
from freezekit.build.imports import Import, scan_imports
from freezekit.build.snapshot import Snapshot, make_snapshot
from freezekit.config import chain_of, find_folder, project_chains
from freezekit.errors import InvalidMigrations, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from freezekit.build.literals import LocateCall
    from freezekit.config import Chain

_log = logging.getLogger(__name__)
_FREEZEKIT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What a freezer looks for in a module beside its import statements.
_UNUSUAL = (b"ctypes", b"cffi", b"importlib", b"__import__", b"metadata", b"pkg_resources")
_FLEET = "freezekit.runtime.fleet"
_INSTALLED = ("site-packages", "dist-packages")
# A freezer may ask more than once in one build.
_made: dict[object, Snapshot | None] = {}
_BUILD_TOOLS = {"pip", "setuptools", "wheel", "PyInstaller", "_pyinstaller_hooks_contrib", "cx_Freeze", "freezekit"}
_ADVICE = "Name them in pyproject.toml: [tool.freezekit] script_location = 'package:folder'."


@dataclass(frozen=True)
class Application:
    """What a freezer knows of the program it freezes.

    Attributes:
        projects: Folders that may hold pyproject.toml and alembic.ini; the first that configures a chain counts.
        roots: Folders that modules are imported from.
        files: Source files of its modules, the main scripts among them.
        mains: Its main scripts, whose ``__file__`` is at the top of the bundle.
        freezer: Name and version of the freezer.
        is_explicit: Whether its author ships a chain by one of the explicit functions, so that none need be found.
    """

    projects: tuple[str, ...]
    roots: tuple[str, ...]
    files: tuple[str, ...]
    mains: tuple[str, ...]
    freezer: str
    is_explicit: bool = False


@dataclass(frozen=True)
class Cargo:
    """What ships for one application.

    Attributes:
        shipments: The trees of scripts.
        imports: What scripts and databases import.
        distributions: Distributions whose metadata they read.
        search: Folders to look for their modules in, beside those of the freezer.
    """

    shipments: tuple[Shipment, ...]
    imports: tuple[Import, ...]
    distributions: tuple[str, ...]
    search: tuple[str, ...]

    def telling_scripts(self) -> Iterator[str]:
        """Yield the scripts whose analysis may tell more than that of those before: most revisions import the same."""
        imported: dict[str, set[tuple[str, tuple[str, ...]]]] = {}
        for one in self.imports:
            imported.setdefault(one.where.rpartition(":")[0], set()).add((one.module, one.names))
        known: set[tuple[str, tuple[str, ...]]] = set()
        for shipment in self.shipments:
            for script in shipment.scripts:
                own = imported.get(script, set())
                if not own <= known or _mentions(script, _UNUSUAL):
                    yield script
                known |= own

    @property
    def tests_itself(self) -> bool:
        """Whether the finished bundle can test itself: there are migrations, and no chain leaves that out."""
        return bool(self.shipments) and all(shipment.chain.selftest for shipment in self.shipments)


def load(application: Application) -> Cargo:
    """Return what ships for an application: the configured chains, and those its code locates literally.

    Args:
        application: The program being frozen.

    Raises:
        UsageError: The configuration is wrong, or a call of ``locate`` names migrations that are nowhere.
        InvalidMigrations: The scripts of a chain cannot be used.
    """
    modules = [(file, module) for file in application.files if (module := module_naming_freezekit(file))]
    calls = [call for file, module in modules for call in literals.locate_calls(module, file)]
    chains = _chains(application, calls)
    if not chains and not application.is_explicit:
        _log.warning(
            "freezekit is imported, but no migrations are configured or located: none are shipped. %s", _ADVICE
        )
    roots = _all_roots(application, [chain for chain, _ in chains])
    shipments = [collect(chain, dest, roots, application.freezer) for chain, dest in chains]
    urls = {url for _, module in modules for url in literals.urls(module)}
    cargo = pack(shipments, urls, application.projects, application.roots)
    fleets = [Import(_FLEET, where=file) for file, module in modules if literals.names(module, "upgrade_many")]
    return replace(cargo, imports=(*cargo.imports, *fleets[:1]))


def pack(
    shipments: Iterable[Shipment], urls: Iterable[tuple[str, str]], projects: Iterable[str], roots: Iterable[str]
) -> Cargo:
    """Return shipments with everything their scripts import.

    Args:
        shipments: The trees.
        urls: Dialect and driver of the databases the application names.
        projects: Folders that scripts may import from.
        roots: Folders that modules are imported from.

    Raises:
        InvalidMigrations: A helper file has a syntax error.
    """
    shipments = tuple(shipments)
    imports: list[Import] = []
    distributions: set[str] = set()
    prepended = [folder for shipment in shipments for folder in shipment.chain.prepend_sys_path]
    search = tuple(dict.fromkeys([*prepended, *projects]))
    packed = []
    for shipment in shipments:
        chain, named = shipment.chain, set(urls) | _url_of(shipment.chain)
        for script, module, content in _parsed(shipment):
            imports += scan_imports(module, script)
            # Walking a tree takes ten times as long as looking for the word without which there is nothing to find.
            named |= literals.urls(module) if b"://" in content else set()
            distributions |= literals.distributions(module) if b"metadata" in content else set()
            for point in _entry_points(module) if b"entry_points" in content else ():
                imports.append(Import(point.module, where=script, is_optional=True))
                distributions |= {point.dist.name} if point.dist else set()
        distributions |= dialect_distributions(named, chain.dialects)
        is_async = any(one.module.startswith("sqlalchemy.ext.asyncio") for one in imports)
        imports += database_imports(chain.dialects, chain.drivers, named, is_async=is_async)
        packed.append(_with_snapshot(shipment, {dialect for dialect, _ in named}, (*search, *roots)))
    return Cargo(tuple(packed), tuple(dict.fromkeys(imports)), tuple(sorted(distributions)), search)


def load_explicitly(location: str | None, section: str, project: str, freezer: str) -> Cargo:
    """Return what ships for one chain that is named, or for those a project configures; reads no application.

    Args:
        location: ``"package:folder"`` or a folder; None for what the project configures.
        section: Section of alembic.ini.
        project: Folder of pyproject.toml and alembic.ini.
        freezer: Name and version of the freezer.

    Raises:
        UsageError: There is no such folder, or nothing is configured.
        InvalidMigrations: The scripts cannot be used.
    """
    project = os.path.abspath(project)
    application = Application((project,), tuple(sys.path), (), (), freezer, is_explicit=True)
    if location is None:
        cargo = load(application)
        if not cargo.shipments:
            raise UsageError(f"{project} configures no migrations. {_ADVICE}")
        return cargo
    folder = find_folder(location, (project,))
    if folder is None:
        raise UsageError(f"{location!r} is no folder below {project} or of an installed package")
    chain = chain_of(folder, section, location)
    roots = _all_roots(application, [chain])
    return pack([collect(chain, location_path(location, folder, roots), roots, freezer)], (), (project,), roots)


def _with_snapshot(shipment: Shipment, dialects: set[str], roots: tuple[str, ...]) -> Shipment:
    """Add the empty database of a chain, unless its project wants none or is for other databases."""
    chain = shipment.chain
    is_for_sqlite = "sqlite" in chain.dialects and (not dialects or "sqlite" in dialects)
    if not chain.snapshot or not is_for_sqlite:
        return shipment
    key = (chain.folder, chain.section, tuple(shipment.manifest.files.items()))
    if key not in _made:
        _made[key] = make_snapshot(chain, roots)
    return shipment.with_snapshot(_made[key])


def plugin_imports(is_shipped: Callable[[metadata.EntryPoint], bool]) -> list[Import]:
    """Return the modules of Alembic's plugins whose metadata ships: without them ``import alembic`` itself fails.

    Args:
        is_shipped: Whether the metadata of an entry point's distribution may be in the bundle.
    """
    points = metadata.entry_points(group="alembic.plugins")
    return [Import(point.module, where="alembic.plugins") for point in points if is_shipped(point)]


def report_missing(missing: Iterable[Import]) -> None:
    """Warn of every import that was not found; the build goes on, because the script may never get there."""
    for one in missing:
        if not one.is_optional:
            _log.warning("%s needs %r, which is not installed here, so it is not in the bundle", one.where, one.module)


def _chains(application: Application, calls: list[LocateCall]) -> list[tuple[Chain, str]]:
    """Return each chain that ships and its folder in the bundle; a literal call decides where its chain goes."""
    configured = next((found for one in application.projects if (found := project_chains(one))), ())
    wanted: dict[tuple[str, str], Chain] = {}
    named = set()
    computed = []
    for call in calls:
        if call.script_location is None or call.section is None:
            computed.append(call)
        elif (folder := _called_folder(call, application)) is not None:
            same = (one for one in configured if (one.folder, one.section) == (folder, call.section))
            chain = next(same, None) or chain_of(folder, call.section, call.script_location)
            wanted.setdefault((_called_dest(call, folder, application), call.section), chain)
            named.add((folder, call.section))
    for chain in configured:
        if (chain.folder, chain.section) not in named:
            location = chain.script_location if ":" in chain.script_location else chain.folder
            dest = location_path(location, chain.folder, _all_roots(application, [chain]))
            wanted.setdefault((dest, chain.section), chain)
    if computed and not wanted and not application.is_explicit:
        _refuse(computed[0], f"is called with a location that only running the program can tell. {_ADVICE}")
    return [(chain, dest) for (dest, _), chain in wanted.items()]


def _called_folder(call: LocateCall, application: Application) -> str | None:
    folder = find_folder(str(call.script_location), application.projects, application.roots)
    if folder is None:
        reason = "which is no folder of the project or of an installed package"
        _refuse(call, f"names {call.script_location!r}, {reason}.")
    return folder


def _called_dest(call: LocateCall, folder: str, application: Application) -> str:
    location = str(call.script_location)
    if os.path.isabs(location) and call.file in application.mains:
        inside = os.path.relpath(folder, os.path.dirname(call.file))
        if not inside.startswith(os.pardir):
            return inside.replace(os.sep, "/")
    return location_path(location, folder, application.roots)


def _refuse(call: LocateCall, reason: str) -> None:
    """Fail for a call in the application itself; warn for one in an installed package, which may never run."""
    message = f"{call.where}: freezekit.locate() {reason}"
    if not _is_installed(call.file):
        raise UsageError(message)
    _log.warning("%s", message)


def _is_installed(file: str) -> bool:
    stdlib = os.path.join(sysconfig.get_paths()["stdlib"], "")
    return any(part in _INSTALLED for part in file.split(os.sep)) or file.startswith(stdlib)


def _all_roots(application: Application, chains: Iterable[Chain]) -> list[str]:
    prepended = [folder for chain in chains for folder in chain.prepend_sys_path]
    sources = [os.path.join(project, "src") for project in application.projects]
    return [*application.roots, *prepended, *filter(os.path.isdir, sources), *application.projects]


@cache
def module_naming_freezekit(file: str) -> ast.Module | None:
    """Return a module of the application that mentions freezekit, parsed; None for all others."""
    if not file.endswith((".py", ".pyw")) or file.startswith(_FREEZEKIT + os.sep):
        return None
    try:
        with open(file, "rb") as stream:
            content = stream.read()
        return ast.parse(content, file) if b"freezekit" in content else None
    except (OSError, SyntaxError, ValueError):
        return None


def _mentions(file: str, words: Iterable[bytes]) -> bool:
    with open(file, "rb") as stream:
        content = stream.read()
    return any(word in content for word in words)


def _parsed(shipment: Shipment) -> Iterator[tuple[str, ast.Module, bytes]]:
    issues = []
    for script in shipment.scripts:
        with open(script, "rb") as file:
            content = file.read()
        try:
            yield script, ast.parse(content, script), content
        except (SyntaxError, ValueError) as error:
            issues.append(f"{script}:{getattr(error, 'lineno', 1)}: {getattr(error, 'msg', error)}")
    if issues:
        raise InvalidMigrations(shipment.chain.folder, issues)


def _url_of(chain: Chain) -> set[tuple[str, str]]:
    dialect, _, driver = (chain.url or "").partition("://")[0].partition("+")
    return {(dialect, driver)} if dialect else set()


def _entry_points(module: ast.Module) -> Iterator[metadata.EntryPoint]:
    """Yield the entry points that a script looks up, but for those of the tools that only build."""
    for group in sorted(literals.entry_point_groups(module)):
        for point in metadata.entry_points(group=group):
            if point.module.partition(".")[0] not in _BUILD_TOOLS:
                yield point
