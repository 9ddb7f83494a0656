"""Ship migrations with PyInstaller: ``pyinstaller app.py`` is enough, a spec file may say more.

The hook follows the imports of every script as PyInstaller follows those of the application itself, delayed ones and
binaries included, and ships the scripts as data files.
"""

from __future__ import annotations

import logging
import os
import posixpath
import sys
from typing import TYPE_CHECKING, Any

from freezekit.build import NOT_SHIPPED, stale
from freezekit.build.cargo import Application, load, load_explicitly, plugin_imports, report_missing
from freezekit.build.imports import resolve
from freezekit.errors import FreezekitError
from freezekit.ini import INI_NAME
from freezekit.manifest import DEFAULT_SECTION
from freezekit.pyproject import PYPROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.build.cargo import Cargo

_log = logging.getLogger(__name__)
_HOOK = "hook-freezekit.py"
# hooks/rthooks.dat names it: where it is in a bundle, PyInstaller adds the run-time hook that asks it.
_SELFTEST = "freezekit.runtime.selftest"
EXCLUDED_IMPORTS = [*NOT_SHIPPED, "pip", "setuptools", "PyInstaller", "cx_Freeze"]
if sys.version_info >= (3, 11):
    # Never used there, and PyInstaller would take the copy inside setuptools, and setuptools with it.
    EXCLUDED_IMPORTS.append("tomli")


def hook_dirs() -> list[str]:
    """Return the folders PyInstaller reads hooks from: its entry point ``hook-dirs``, called at every build.

    Beside the folder of the hook, after the first build, there is an empty one whose name changes when the migrations
    do, which makes PyInstaller repeat its analysis. Never raises: PyInstaller would go on without the hook.
    """
    folders = [_hook_folder()]
    try:
        from PyInstaller.configure import get_config

        mark = stale.recall(get_config()["cachedir"])
    except Exception:  # noqa: BLE001 - without the mark a build works, without the hook the bundle does not
        return folders
    return [*folders, mark] if mark else folders


def _hook_folder() -> str:
    """Return the hook's folder: in a wheel inside the package, in a source tree beside it."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    places = [os.path.join(package, "_hooks"), os.path.join(os.path.dirname(package), "hooks")]
    return next((place for place in places if os.path.isfile(os.path.join(place, _HOOK))), places[0])


def hook(hook_api: Any) -> None:
    """Ship the migrations of the application that is being analysed: PyInstaller's ``hook()``.

    Args:
        hook_api: PyInstaller's ``PostGraphAPI``.

    Raises:
        SystemExit: The migrations cannot be shipped; one message says why, and the build fails.
    """
    try:
        _ship(hook_api)
    except FreezekitError as error:
        raise SystemExit(f"ERROR: freezekit: {error}") from error


def _ship(hook_api: Any) -> None:
    from PyInstaller.config import CONF
    from PyInstaller.utils.hooks import copy_metadata

    application = _application(hook_api)
    cargo = load(application)
    path = [*hook_api.module_graph.path, *cargo.search]
    _follow(hook_api, cargo)
    imports = [*cargo.imports, *plugin_imports(lambda point: _is_in(hook_api.module_graph, point.module))]
    modules, missing = resolve(imports, path)
    hook_api.add_imports(*modules, *([_SELFTEST] if cargo.tests_itself else []))
    report_missing(missing)
    present = {entry[0].replace(os.sep, "/") for entry in hook_api.analysis.datas}
    for source, dest in _files(cargo, CONF["workpath"]):
        if dest not in present:
            hook_api.add_datas([(dest.replace("/", os.sep), source, "DATA")])
    for name in cargo.distributions:
        hook_api.add_datas(copy_metadata(name))
    for shipment in cargo.shipments:
        count = len(shipment.manifest.revisions)
        _log.info("freezekit: shipping %d revisions of %s to %s", count, shipment.chain.folder, shipment.dest)
    _leave_note(hook_api.analysis, application, cargo)


def _application(hook_api: Any) -> Application:
    from PyInstaller import __version__
    from PyInstaller.config import CONF
    from PyInstaller.utils.hooks import get_hook_config

    mains = tuple(os.path.abspath(script) for script in hook_api.analysis.inputs)
    nodes = (getattr(node, "filename", None) for node in hook_api.module_graph.nodes())
    files = dict.fromkeys(os.path.abspath(name) for name in nodes if name and name.endswith((".py", ".pyw")))
    projects = dict.fromkeys([CONF["specpath"], os.getcwd(), *map(os.path.dirname, mains)])
    return Application(
        projects=tuple(projects),
        roots=tuple(dict.fromkeys(hook_api.module_graph.path)),
        files=(*mains, *(file for file in files if file not in mains)),
        mains=mains,
        freezer=f"PyInstaller {__version__}",
        is_explicit=bool(get_hook_config(hook_api, "freezekit", "digest")),
    )


def _follow(hook_api: Any, cargo: Cargo) -> None:
    """Let PyInstaller analyse every script; its folders come last on the path, so that they hide no other module."""
    graph = hook_api.module_graph
    graph.path.extend(folder for folder in cargo.search if folder not in graph.path)
    try:
        for script in cargo.telling_scripts():
            graph.add_script(script, caller=hook_api.module)
    except (AttributeError, TypeError) as error:
        _log.warning("add_script is not what it was (%r): only the scripts' own imports are followed", error)


def _is_in(graph: Any, module: str) -> bool:
    return graph.find_node(module.partition(".")[0], create_nspkg=False) is not None


def _files(cargo: Cargo, work: str) -> Iterable[tuple[str, str]]:
    """Yield source and path in the bundle of every file, each path once: chains may share a folder."""
    made = os.path.join(work, "freezekit")
    found: dict[str, str] = {}
    for shipment in cargo.shipments:
        for source, dest in (*shipment.files, *shipment.written(made)):
            found.setdefault(dest, source)
    return [(source, dest) for dest, source in found.items()]


def _leave_note(analysis: Any, application: Application, cargo: Cargo) -> None:
    """Note what was shipped, and enter its state where the next build will look for it."""
    from PyInstaller.config import CONF

    watched = [folder for shipment in cargo.shipments for folder in _folders(shipment.chain)]
    watched += [os.path.join(folder, name) for folder in application.projects for name in (PYPROJECT, INI_NAME)]
    try:
        mark = stale.remember(CONF["cachedir"], CONF["workpath"], watched)
    except OSError as error:
        _log.warning("A later build may not notice new migrations: use --clean (%s)", error)
        return
    entries = [entry for entry in analysis.hookspath if not stale.is_mark(entry[0])]
    ours = next((index for index, entry in enumerate(entries) if entry[0] == _hook_folder()), None)
    if ours is not None:
        analysis.hookspath = [*entries[: ours + 1], (mark, entries[ours][1]), *entries[ours + 1 :]]


def _folders(chain: Any) -> list[str]:
    return [chain.folder, *chain.version_locations, *([chain.ini] if chain.ini else [])]


def spec_options(
    script_location: str | None = None, *, section: str = DEFAULT_SECTION, project: str | None = None
) -> dict[str, Any]:
    """Return options for ``Analysis(...)`` in a spec file that ship migrations; the hook then ships nothing twice.

    A migration that was added, edited or deleted changes them, so PyInstaller repeats its analysis. Writes the
    manifest below the work folder and changes nothing else.

    Args:
        script_location: ``"package:folder"`` or a folder; None for what the project configures.
        section: Section of alembic.ini, for one of several chains.
        project: Folder of pyproject.toml and alembic.ini; the spec file's by default.

    Returns:
        ``datas``, ``hiddenimports`` and ``hooksconfig``.

    Raises:
        SystemExit: The migrations cannot be shipped; one message says why.

    Example:
        >>> options = spec_options("myapp:migrations")
        >>> a = Analysis(["app.py"], **options)
    """
    from PyInstaller import __version__
    from PyInstaller.config import CONF

    folder = os.path.abspath(project or CONF.get("specpath") or os.curdir)
    try:
        cargo = load_explicitly(script_location, section, folder, f"PyInstaller {__version__}")
    except FreezekitError as error:
        raise SystemExit(f"ERROR: freezekit: {error}") from error
    modules, missing = resolve(cargo.imports, [*sys.path, *cargo.search])
    report_missing(missing)
    files = _files(cargo, CONF.get("workpath") or os.path.join(folder, "build"))
    watched = [path for shipment in cargo.shipments for path in _folders(shipment.chain)]
    return {
        "datas": [(source, posixpath.dirname(dest) or ".") for source, dest in files],
        "hiddenimports": [*modules, *([_SELFTEST] if cargo.tests_itself else [])],
        "hooksconfig": {"freezekit": {"digest": stale.state(watched)}},
    }
