"""Options of a freezer's command line that ship migrations where no hook does: another tool calls it, or it has none.

What ships is laid out in a folder as it will be in the bundle: cx_Freeze can be told no other place for a file, and the
options stay short, whatever the files are called.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from freezekit.build import NOT_SHIPPED
from freezekit.build.cargo import plugin_imports, report_missing
from freezekit.build.imports import Import, resolve
from freezekit.errors import UsageError
from freezekit.runtime.database import name_of_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezekit.build.cargo import Cargo

MARK = "made by freezekit flags"
"""The file that tells a folder made here from any other."""
# Named by a string only, so that no freezer sees it; the hooks look for its use in the application.
_FLEET = Import("freezekit.runtime.fleet")


@dataclass(frozen=True)
class _Load:
    """What the options of any freezer name.

    Attributes:
        folder: Where everything is laid out.
        modules: What scripts and databases import.
        distributions: Distributions whose metadata they read.
        search: Folders to look for their modules in, beside the project's.
    """

    folder: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    search: tuple[str, ...]

    @property
    def tops(self) -> list[tuple[str, str]]:
        """Path and name of what lies at the top of the folder."""
        names = sorted(name for name in os.listdir(self.folder) if name != MARK)
        return [(os.path.join(self.folder, name), name) for name in names]


def freezer_version(freezer: str) -> str:
    """Return name and version of a freezer as a manifest has it; the name alone if it is not installed here."""
    try:
        return f"{freezer} {metadata.version(freezer)}"
    except metadata.PackageNotFoundError:
        return freezer


def flags(freezer: str, cargo: Cargo, folder: str) -> list[str]:
    """Lay out what ships, and return the options that ship it, one for each argument of the freezer.

    Args:
        freezer: One of :data:`freezekit.build.FREEZERS`.
        cargo: What ships.
        folder: Where to lay it out, and what the options call it; what an earlier call has made there is replaced as a
            whole.

    Raises:
        UsageError: There is something else in the folder, or the freezer's options cannot hold its name. Nothing was
            changed.
    """
    options, separators, inside = _FREEZERS[freezer]
    if set(separators) & set(os.path.splitdrive(name_of_file(folder))[1]):
        raise UsageError(f"{folder}: name another folder, without {separators!r}, which separate things for {freezer}.")
    names = {_normal(name) for name in cargo.distributions}
    plugins = plugin_imports(lambda point: point.dist is not None and _normal(point.dist.name) in names)
    modules, missing = resolve([*cargo.imports, _FLEET, *plugins], [*sys.path, *cargo.search])
    report_missing(missing)
    _lay_out(cargo, folder, inside)
    needed = tuple(name for name in modules if name not in sys.builtin_module_names)
    here = os.path.realpath(os.curdir)
    search = tuple(one for one in cargo.search if os.path.realpath(one) != here)
    return list(options(_Load(folder, needed, cargo.distributions, search)))


def _pyinstaller(load: _Load) -> Iterator[str]:
    yield from (f"--add-data={source}:{dest}" for source, dest in load.tops)
    yield from (f"--hidden-import={name}" for name in load.modules)
    yield from (f"--copy-metadata={name}" for name in load.distributions)
    yield from (f"--paths={folder}" for folder in load.search)
    yield from (f"--exclude-module={name}" for name in NOT_SHIPPED)


def _cx_freeze(load: _Load) -> Iterator[str]:
    yield f"--include-files={','.join(source for source, _ in load.tops)}"
    yield f"--includes={','.join(load.modules)}"
    if load.search:
        yield f"--include-path={','.join(load.search)}"
    yield f"--excludes={','.join(NOT_SHIPPED)}"


def _nuitka(load: _Load) -> Iterator[str]:
    yield from (f"--include-raw-dir={source}={dest}" for source, dest in load.tops)
    # Parts of both are imported by name.
    yield from (f"--include-package={name}" for name in ("freezekit.runtime", "alembic"))
    yield from (f"--include-module={name}" for name in load.modules)
    yield from (f"--include-distribution-metadata={name}" for name in load.distributions)
    yield from (f"--nofollow-import-to={name}" for name in NOT_SHIPPED)


# The options, what separates things in them, and where modules are in a bundle.
_FREEZERS: dict[str, tuple[Callable[[_Load], Iterator[str]], str, str]] = {
    "pyinstaller": (_pyinstaller, ":;", ""),
    "cx_Freeze": (_cx_freeze, ",", "lib"),
    "nuitka": (_nuitka, "=", ""),
}


def _lay_out(cargo: Cargo, folder: str, inside: str) -> None:
    """Write what ships into a folder that appears as a whole, in place of one that was made here before."""
    folder = os.path.realpath(folder)
    if os.path.lexists(folder) and not _is_ours(folder):
        raise UsageError(f"{folder} exists and was not made by this command: name a new folder. Nothing was changed.")
    made = f"{folder}.{os.urandom(4).hex()}.part"
    try:
        root = os.path.join(made, inside)
        os.makedirs(root)
        with open(os.path.join(made, MARK), "w", encoding="utf-8"):
            pass
        for source, dest in (one for shipment in cargo.shipments for one in shipment.files):
            target = os.path.join(root, *dest.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target)
        for shipment in cargo.shipments:
            shipment.written(root)
        if inside:
            _copy_metadata(cargo.distributions, root)
        if os.path.lexists(folder):
            shutil.rmtree(folder)
        os.rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_ours(folder: str) -> bool:
    return os.path.isdir(folder) and (os.path.isfile(os.path.join(folder, MARK)) or not os.listdir(folder))


def _copy_metadata(distributions: tuple[str, ...], root: str) -> None:
    """Lay out the metadata of distributions, for a freezer that has no option for it."""
    for name in distributions:
        files = metadata.files(name) or ()
        for one in files:
            if one.parent.name.endswith((".dist-info", ".egg-info")):
                os.makedirs(os.path.join(root, one.parent.name), exist_ok=True)
                shutil.copyfile(one.locate(), os.path.join(root, one.parent.name, one.name))


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
