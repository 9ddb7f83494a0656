"""Ship migrations with cx_Freeze: from ``cxfreeze``, from pyproject.toml, from ``setup()``, with nothing to write.

cx_Freeze takes no hooks of other packages, so ours is put beside its own when setuptools begins. Who uses ``Freezer``
directly, or prefers it written down, calls :func:`build_exe_options`.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from freezekit.build import NOT_SHIPPED
from freezekit.errors import FreezekitError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

    from freezekit.build.cargo import Application, Cargo

_log = logging.getLogger(__name__)
_EXCLUDED = [*NOT_SHIPPED, "freezekit._hooks"]
_SELFTEST = "freezekit.runtime.selftest"
_SERVE = "freezekit.runtime.fleet.serve"
# Goes to the end of whichever script starts the program; cx_Freeze calls its `run` with the name of the main script.
_ASK = """

def _freezekit_run(name, run=run):
    from os import environ
{questions}    run(name)


run = _freezekit_run
"""
# What is asked before the main script runs, by the module that answers it.
_QUESTIONS = {
    _SERVE: """\
    import sys
    sys.freezekit_workers = True
    if "FREEZEKIT_WORKER" in environ:
        from freezekit.runtime.fleet.serve import serve
        serve()
""",
    _SELFTEST: """\
    if "FREEZEKIT_SELFTEST" in environ:
        from freezekit.runtime.selftest import answer
        answer()
""",
}


def finalize_distribution(dist: object) -> None:  # noqa: ARG001 - the signature is setuptools'
    """Put the hook beside cx_Freeze's own: an entry point of setuptools, called for every distribution it builds.

    Does nothing unless cx_Freeze is loaded; may be called several times; never raises.
    """
    if "cx_Freeze" not in sys.modules:
        return
    try:
        import cx_Freeze.hooks
    except Exception:  # noqa: BLE001 - setuptools builds other things than bundles, too
        return
    for hook in (load_freezekit, load_freezekit_runtime_selftest, load_freezekit_runtime_fleet_serve):
        setattr(cx_Freeze.hooks, hook.__name__, hook)


def load_freezekit(finder: Any, module: Any) -> None:
    """Ship the migrations of the application that imports freezekit: cx_Freeze's hook for a module.

    The application's modules are not all known yet: they are once its main script is scanned, and cx_Freeze includes
    one more file after that. So the work is done then, again if still more modules mention freezekit.

    Args:
        finder: cx_Freeze's ``ModuleFinder``.
        module: The package freezekit.

    Raises:
        SystemExit: The migrations cannot be shipped; one message says why, and the build fails.
    """
    for name in _EXCLUDED:
        finder.exclude_module(name)
    if module.name not in finder.zip_exclude_packages:
        module.in_file_system = 0  # compressed in the zip it takes less than half the room
    _drop_description(finder)
    shipper = _Shipper(finder, module)
    try:
        include = finder.include_file_as_module
    except AttributeError:
        shipper.ship()
        return

    def include_file_as_module(path: Any, name: str | None = None) -> Any:
        is_last = _starts_a_program(name)
        if is_last:
            shipper.ship()
        included = include(_asking(finder, path, name), name)
        if not is_last:
            shipper.ship()
        return included

    finder.include_file_as_module = include_file_as_module


def _drop_description(finder: Any) -> None:
    """Leave the README out of freezekit's metadata: no program reads it, and it takes as much room as a module."""
    for metadata in finder.cache_path.glob("freezekit-*.dist-info/METADATA"):
        fields, _, _ = metadata.read_text(encoding="utf-8").partition("\n\n")
        metadata.write_text(f"{fields}\n", encoding="utf-8")


def load_freezekit_runtime_selftest(finder: Any, module: Any) -> None:  # noqa: ARG001 - the signature is cx_Freeze's
    """Let the program ask its test of itself before it starts: cx_Freeze's hook for that module.

    Args:
        finder: cx_Freeze's ``ModuleFinder``.
        module: The module ``freezekit.runtime.selftest``.
    """
    include = getattr(finder, "include_file_as_module", None)
    if include is not None:
        finder.include_file_as_module = lambda path, name=None: include(_asking(finder, path, name), name)


def load_freezekit_runtime_fleet_serve(finder: Any, module: Any) -> None:
    """Let the program start itself as a worker of a fleet: cx_Freeze's hook for the module that works.

    Args:
        finder: cx_Freeze's ``ModuleFinder``.
        module: The module ``freezekit.runtime.fleet.serve``.
    """
    load_freezekit_runtime_selftest(finder, module)


def _starts_a_program(name: str | None) -> bool:
    """Return whether a module is the one that cx_Freeze runs first, which then runs the main script."""
    return name is not None and name.startswith("__init__")


def _asking(finder: Any, path: Any, name: str | None) -> Any:
    """Return the script that starts a program, with the questions before the main script that the bundle answers."""
    modules = finder._modules  # noqa: SLF001 - `modules` is cached
    questions = [text for module, text in _QUESTIONS.items() if modules.get(module) is not None]
    folder = os.path.join(str(finder.cache_path), "freezekit")
    if not (questions and _starts_a_program(name)) or os.path.dirname(path) == folder:
        return path
    os.makedirs(folder, exist_ok=True)
    asking = os.path.join(folder, f"{name}.py")
    with open(path, encoding="utf-8") as file, open(asking, "w", encoding="utf-8") as written:
        written.write(file.read() + _ASK.format(questions="".join(questions)))
    return asking


class _Shipper:
    """Ships into one finder, whatever is new each time."""

    def __init__(self, finder: Any, module: Any) -> None:
        self.finder = finder
        self.module = module
        self.known: tuple[str, ...] | None = None

    def ship(self) -> None:
        from freezekit.build.cargo import load, module_naming_freezekit, plugin_imports

        application = self._application()
        naming = tuple(file for file in application.files if module_naming_freezekit(file))
        try:
            if naming != self.known:
                self.known = naming
                cargo = load(application)
                self._include(cargo)
        except FreezekitError as error:
            raise SystemExit(f"error: freezekit: {error}") from error
        self._import(plugin_imports(self._has_metadata))

    def _application(self) -> Application:
        from cx_Freeze import __version__

        from freezekit.build.cargo import Application

        modules = [one for one in list(self.finder._modules.values()) if one is not None and one.file]  # noqa: SLF001 - `modules` is cached
        mains = tuple(os.path.abspath(one.file) for one in modules if one.name.startswith("__main__"))
        # What starts a program is cx_Freeze's, with our questions in it.
        files = (os.path.abspath(one.file) for one in modules if not _starts_a_program(one.name))
        targets = [target.name for _, target in (*self.finder.included_files, *self.finder.zip_includes)]
        return Application(
            projects=tuple(dict.fromkeys([os.getcwd(), *map(os.path.dirname, mains)])),
            roots=tuple(self.finder.path),
            files=tuple(sorted(file for file in files if file.endswith((".py", ".pyw")))),
            mains=mains,
            freezer=f"cx_Freeze {__version__}",
            is_explicit=any(name.startswith("freezekit.") and name.endswith(".json") for name in targets),
        )

    def _include(self, cargo: Cargo) -> None:
        finder = self.finder
        finder.path.extend(folder for folder in cargo.search if folder not in finder.path)
        self._import(cargo.imports)
        if cargo.tests_itself:
            finder.include_module(_SELFTEST)
        for name in cargo.distributions:
            self._include_metadata(name)
        zipped, included = _Included(finder.zip_includes), _Included(finder.included_files)
        for shipment in cargo.shipments:
            is_zipped = zipped.covers(f"{shipment.dest}/env.py")
            for source, dest in (*shipment.files, *shipment.written(str(finder.cache_path / "freezekit"))):
                if is_zipped and zipped.adds(dest):
                    finder.zip_include_files(source, dest)
                elif not is_zipped and included.adds(f"lib/{dest}"):
                    finder.include_files(source, f"lib/{dest}", copy_dependent_files=False)
            count = len(shipment.manifest.revisions)
            _log.info("freezekit: shipping %d revisions of %s to lib/%s", count, shipment.chain.folder, shipment.dest)

    def _import(self, imports: Iterable[Any]) -> None:
        """Include modules, but none that the author of the application excluded."""
        from cx_Freeze.hooks.unused_modules import DEFAULT_EXCLUDES

        from freezekit.build.cargo import report_missing
        from freezekit.build.imports import resolve

        excluded = {name for name, one in self.finder._modules.items() if one is None} - DEFAULT_EXCLUDES  # noqa: SLF001 - not public
        modules, missing = resolve(imports, self.finder.path)
        report_missing(missing)
        for name in modules:
            parts = name.split(".")
            if excluded.isdisjoint(".".join(parts[:count]) for count in range(1, len(parts) + 1)):
                try:
                    self.finder.include_module(name)
                except ImportError as error:
                    _log.warning("freezekit: %s is not in the bundle: %s", name, error)

    def _include_metadata(self, distribution: str) -> None:
        """Include the metadata of a distribution; cx_Freeze knows it by the name of its package."""
        for name, found in self.finder.import_distributions.items():
            if _normal(found.name) == _normal(distribution):
                self.module.update_distribution(name)
        self.module.update_distribution()

    def _has_metadata(self, point: EntryPoint) -> bool:
        folders = self.finder.cache_path.glob("*.dist-info")
        return point.dist is not None and any(
            _normal(folder.name.partition("-")[0]) == _normal(point.dist.name) for folder in folders
        )


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


class _Included:
    """What is included already, by where it lands."""

    def __init__(self, included: Iterable[tuple[Any, Any]]) -> None:
        self._sources = {target.as_posix(): source for source, target in included}

    def covers(self, dest: str) -> bool:
        """Return whether something lands at a path, itself or in a folder above it."""
        if dest in self._sources:
            return True
        parts = dest.split("/")
        folders = ("/".join(parts[:count]) for count in range(1, len(parts)))
        above = ((self._sources[folder], dest[len(folder) + 1 :]) for folder in folders if folder in self._sources)
        return any((source / inside).exists() for source, inside in above)

    def adds(self, dest: str) -> bool:
        """Note that something is to land at a path; return False if something does already."""
        if self.covers(dest):
            return False
        self._sources[dest] = None
        return True


def build_exe_options(
    script_location: str | None = None,
    *,
    project: str | os.PathLike[str] = ".",
    section: str = "alembic",
    zip_scripts: bool = False,
) -> dict[str, list[Any]]:
    """Return options for ``build_exe`` that ship migrations; the hook, if it runs as well, ships nothing twice.

    Writes the manifest into a temporary folder that is removed when the build process ends.

    Args:
        script_location: ``"package:folder"`` or a folder; None for what the project configures.
        project: Folder of pyproject.toml and alembic.ini.
        section: Section of alembic.ini, for one of several chains.
        zip_scripts: Put the scripts into ``library.zip`` instead of ``lib``.

    Returns:
        ``include_files`` or ``zip_includes``, ``includes``, ``packages`` and ``excludes``, to be merged with others.

    Raises:
        SystemExit: The migrations cannot be shipped; one message says why.

    Example:
        >>> setup(executables=["app.py"], options={"build_exe": build_exe_options("myapp:migrations")})
    """
    from cx_Freeze import __version__

    from freezekit.build.cargo import load_explicitly, report_missing
    from freezekit.build.imports import resolve

    try:
        cargo = load_explicitly(script_location, section, os.fspath(project), f"cx_Freeze {__version__}")
    except FreezekitError as error:
        raise SystemExit(f"error: freezekit: {error}") from error
    modules, missing = resolve(cargo.imports, [*sys.path, *cargo.search])
    report_missing(missing)
    files = _laid_out(cargo, "" if zip_scripts else "lib/")
    import cx_Freeze.hooks

    for hook in (load_freezekit_runtime_selftest, load_freezekit_runtime_fleet_serve):
        setattr(cx_Freeze.hooks, hook.__name__, hook)
    if cargo.tests_itself:
        modules.append(_SELFTEST)
    return {
        "zip_includes" if zip_scripts else "include_files": [(source, target) for target, source in files.items()],
        "includes": modules,
        "packages": [],
        "excludes": list(_EXCLUDED),
    }


def _laid_out(cargo: Cargo, prefix: str) -> dict[str, str]:
    """Return the source of every file by its path in the bundle, each path once: chains may share a folder."""
    made = tempfile.mkdtemp(prefix="freezekit-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    files: dict[str, str] = {}
    for shipment in cargo.shipments:
        for source, dest in (*shipment.files, *shipment.written(made)):
            files.setdefault(prefix + dest, source)
    return files
