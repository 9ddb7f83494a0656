"""A finished bundle, read once into plain data. Nothing of it is run, and nothing of it need be installed here."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from freezekit.check.containers import kind_of, unpacked
from freezekit.check.contents import folder_items, is_package_file, module_name, zip_items
from freezekit.check.layout import Layout, find_layout
from freezekit.check.nuitka import is_nuitka_program
from freezekit.check.pyinstaller import Program, is_program, read_program
from freezekit.check.trees import find_trees
from freezekit.check.versions import builtin_modules, package_version, python_version
from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from freezekit.check.contents import Item
    from freezekit.check.trees import MigrationTree

_PACKAGES = ("freezekit", "alembic", "sqlalchemy")
_LIBRARIES = ("base_library.zip", "library.zip")


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes:
        path: The bundle, as it was given.
        kind: What it is: ``"PyInstaller folder"``, ``"PyInstaller program"``, ``"macOS application"``,
            ``"cx_Freeze folder"``, ``"zipapp"``, ``"Nuitka folder"``.
        freezer: Name of the freezer, with its version where the bundle says it.
        python: Version of the Python inside, such as ``"3.11"``; None where nothing says it.
        items: Every file.
        modules: Name of every module that can be imported; None where nobody can know: Nuitka compiles them.
        packages: Those of them that modules lie in, folders without code of their own included.
        builtins: Modules that the interpreter brings without a file.
        trees: The migrations.
        versions: Versions of freezekit, Alembic and SQLAlchemy inside, as far as they are there.
    """

    path: str
    kind: str
    freezer: str
    python: str | None
    items: tuple[Item, ...] = field(repr=False)
    modules: frozenset[str] | None = field(repr=False)
    packages: frozenset[str] = field(repr=False)
    builtins: frozenset[str] = field(repr=False)
    trees: tuple[MigrationTree, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def has_module(self, name: str) -> bool:
        """Return whether a module can be imported in the program; True where nobody can know."""
        return self.modules is None or name in self.modules or name in self.builtins or self.is_package(name)

    def is_bare_folder(self, name: str) -> bool:
        """Return whether a package is a folder without code of its own, so that only modules can be taken from it."""
        is_code = self.modules is None or name in self.modules or name in self.builtins
        return not is_code and self.is_package(name)

    @property
    def own_trees(self) -> tuple[MigrationTree, ...]:
        """The application's migrations: where one tree has a manifest, those without are libraries' own."""
        written = tuple(tree for tree in self.trees if tree.manifest_name is not None)
        return written or self.trees

    def is_package(self, name: str) -> bool:
        """Return whether a module is one that others lie in."""
        return name in self.packages


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


@contextlib.contextmanager
def open_bundle(path: str | os.PathLike[str]) -> Iterator[Bundle]:
    """Read a bundle, for the duration of a block; runs nothing and changes nothing.

    Args:
        path: A bundle's folder or program, a zipapp, a macOS application; or a zip, tar or Debian archive, or an
            AppImage, that holds one.

    Returns:
        A context manager that gives the bundle; what was unpacked is gone at its end.

    Raises:
        UnreadableBundle: It is no bundle, holds several, or is damaged.

    Example:
        >>> with open_bundle("dist/myapp") as bundle:
        ...     print(bundle.kind, bundle.versions["alembic"])
    """
    place = os.fspath(path)
    if not os.path.exists(place):
        raise UnreadableBundle(place, "there is no such file or folder")
    if os.path.isdir(place):
        yield _read(place, place, {})
        return
    if not os.path.isfile(place):
        raise UnreadableBundle(place, "it is neither a file nor a folder")
    try:
        kind = kind_of(place)
        program = kind is None and is_program(place)
    except OSError as error:
        raise UnreadableBundle(place, error.strerror or str(error)) from error
    if program:
        yield _read_program_alone(place)
    elif _is_zipapp(place):
        yield _bundle(place, Layout("zipapp", "zipapp", ()), list(zip_items(place, place, "")))
    elif kind is not None:
        with unpacked(place, kind) as (folder, modes):
            yield _read(folder, place, modes)
    elif _is_beside_modules(place):
        yield _read(os.path.dirname(os.path.abspath(place)), place, {})
    else:
        raise UnreadableBundle(place, "it is no bundle of a freezer, and no archive that could hold one")


def _is_zipapp(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name in ("__main__.py", "__main__.pyc") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _is_beside_modules(path: str) -> bool:
    folder = os.path.dirname(os.path.abspath(path))
    libraries = any(os.path.exists(os.path.join(folder, "lib", name)) for name in ("library.zip", "library.dat"))
    return libraries or is_nuitka_program(path)


def _read_program_alone(path: str) -> Bundle:
    """Read a program in one file, or the folder of one whose files lie beside it."""
    program = read_program(path, "")
    if program.items:
        items = [*program.items, *_inner_archives(program.items)]
        layout = Layout("PyInstaller program", "PyInstaller", ())
        return _bundle(path, layout, items, [program])
    return _read(os.path.dirname(os.path.abspath(path)), path, {})


def _read(folder: str, shown: str, modes: Mapping[str, int]) -> Bundle:
    """Read a folder, which may hold a bundle somewhere below it."""
    items = [replace(one, mode=modes.get(one.path, one.mode)) for one in folder_items(folder)]
    layout = find_layout(items, folder, shown)
    if layout.kind == "PyInstaller program":
        return replace(_read_program_alone(os.path.join(folder, *layout.programs[0].split("/"))), path=shown)
    if layout.kind == "zipapp":
        archive = os.path.join(folder, *layout.programs[0].split("/"))
        return _bundle(shown, layout, list(zip_items(archive, archive, f"{layout.programs[0]}/")))
    items = [_placed(one, layout.roots) for one in items]
    items += _inner_archives(items)
    programs = [read_program(os.path.join(folder, *name.split("/")), f"{name}/") for name in layout.programs]
    return _bundle(shown, layout, items, programs)


def _placed(item: Item, roots: Iterable[str]) -> Item:
    root = next((one for one in roots if item.path.startswith(one)), None)
    return item if root is None else replace(item, inside=item.path[len(root) :])


def _inner_archives(items: Iterable[Item]) -> list[Item]:
    """Return what lies in the archives that modules are imported from."""
    found = []
    for one in items:
        if one.inside in _LIBRARIES:
            found += list(zip_items(io.BytesIO(one.read()), one.path, f"{one.path}/"))
    return found


def _bundle(path: str, layout: Layout, items: list[Item], programs: Sequence[Program] = ()) -> Bundle:
    importable = {name: one for one in items if one.inside and (name := module_name(one.inside))}
    compiled = {name: program for program in programs for name in program.modules}
    modules = frozenset({*importable, *compiled})
    builtins = builtin_modules(items, brings_library=layout.freezer != "zipapp")
    packages = {parent for name in (*modules, *builtins) for parent in _parents(name)}
    packages |= {name for name, one in importable.items() if is_package_file(one.name)}
    packages |= {name for program in programs for name in program.packages}
    trees = find_trees(items)
    builders = [tree.manifest.built_with.get("freezer", "") for tree in trees if tree.manifest]

    def version_of(name: str) -> str | None:
        if name in compiled:
            return package_version(compiled[name].read_module(name))
        return package_version(importable[name].read()) if name in importable else None

    return Bundle(
        path=path,
        kind=layout.kind,
        freezer=next((one for one in builders if one.startswith(layout.freezer)), layout.freezer),
        python=python_version(items),
        items=tuple(items),
        modules=None if layout.freezer == "Nuitka" else modules,
        packages=frozenset(packages),
        builtins=builtins,
        trees=trees,
        versions={name: found for name in _PACKAGES if (found := version_of(name))},
    )
