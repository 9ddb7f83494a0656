"""Find the migration scripts of this program, wherever a freezer put them.

The order of the places is that of certainty: where freezekit's own hooks ship, then where modules are imported from,
then where a package says it is. The working directory counts only in a source tree, and no environment variable counts
anywhere: on a user's machine neither may decide which scripts run.
"""

from __future__ import annotations

import os
import sys
from zipimport import zipimporter

from freezekit.errors import MigrationsNotFound, UsageError
from freezekit.manifest import DEFAULT_SECTION, manifest_name
from freezekit.runtime.migrations import Migrations
from freezekit.tree import FolderTree, ZipTree, open_zip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from freezekit.tree import Tree


def locate(script_location: str | os.PathLike[str], *, section: str = DEFAULT_SECTION) -> Migrations:
    """Find the migration scripts of this program; runs none of them and changes nothing.

    Looks, in this order, below PyInstaller's ``sys._MEIPASS``, below each entry of ``sys.path`` (folders and zip
    archives; in a cx_Freeze bundle ``lib`` and ``library.zip``), below ``lib`` beside the executable, in Nuitka's and
    py2app's folders, in the folders the package itself names, and, in a source tree only, below the working directory.

    Args:
        script_location: Alembic's notation ``"package:folder"``, or a folder. A relative folder is looked for in
            the same places; an absolute one (``Path(__file__).parent / "migrations"``) is taken as it is first.
        section: Section of alembic.ini that the chain belongs to, for one of several chains.

    Returns:
        The located tree; its scripts are read when they are first needed.

    Raises:
        MigrationsNotFound: ``env.py`` is in none of the places; lists each, in order.
        UsageError: The location is empty or leads out of its package.

    Example:
        >>> migrations = freezekit.locate("sample_app:migrations")
        >>> migrations.heads
        ('0009',)
    """
    location = os.fspath(script_location)
    bundle = _bundle()
    searched: dict[str, str] = {}
    for place in _places(location, bundle):
        if place not in searched:
            tree, searched[place] = _tree_at(place, section)
            if tree is not None:
                return Migrations(tree, script_location=location, section=section, bundle=bundle)
    raise MigrationsNotFound(location, [f"{place} ({found})" for place, found in searched.items()], bundle)


def _bundle() -> str:
    """Return what kind of program this is."""
    frozen = getattr(sys, "frozen", False)
    main = sys.modules.get("__main__")
    if hasattr(sys, "_MEIPASS"):
        return "PyInstaller"
    if _nuitka_folder() is not None:
        return "Nuitka"
    if frozen:
        return {"macosx_app": "py2app"}.get(str(frozen), "cx_Freeze" if frozen is True else "py2exe")
    loader = getattr(main, "__loader__", None)
    return "zipapp" if type(loader).__name__ == "zipimporter" else "source"


def _nuitka_folder() -> str | None:
    compiled = globals().get("__compiled__") or getattr(sys.modules.get("__main__"), "__compiled__", None)
    if compiled is None or not getattr(compiled, "standalone", False):
        return None
    folder = getattr(compiled, "python_runtime_dir", None) or getattr(compiled, "containing_dir", None)
    return str(folder or os.path.dirname(sys.executable))


def _places(location: str, bundle: str) -> Iterator[str]:
    """Yield every path at which the folder of ``env.py`` may be, most certain first."""
    package, inside = _split(location)
    if os.path.isabs(location):
        yield os.path.normpath(location)
        if bundle != "source":
            yield from _moved(location)
        return
    yield from (os.path.join(root, inside) for root in _roots(bundle))
    if package:
        yield from _package_places(package, inside)
    if bundle == "source":
        yield os.path.abspath(inside)


def _split(location: str) -> tuple[str, str]:
    """Return the top package, if one is named, and the relative path of the folder below an import root."""
    if not location.strip():
        raise UsageError("The script location is empty: give 'package:folder', or a folder.")
    if os.path.isabs(location) or ":" not in location:
        package, inside = "", os.path.normpath(location)
    else:
        module, *folders = location.split(":")
        package = module.partition(".")[0]
        inside = os.path.normpath(os.path.join(*module.split("."), *folders))
    if package and inside.split(os.sep)[0] != package:
        raise UsageError(f"The script location {location!r} leads out of its package.")
    return package, inside


def _roots(bundle: str) -> Iterator[str]:
    """Yield the folders and archives below which modules and data of this program lie."""
    if bundle == "PyInstaller":
        yield sys._MEIPASS  # type: ignore[attr-defined]  # noqa: SLF001 - the documented way to ask PyInstaller
    for entry in sys.path:
        if entry or bundle == "source":
            yield os.path.abspath(entry)
    if bundle in ("cx_Freeze", "py2exe"):
        yield os.path.join(sys.prefix, "lib")
        yield os.path.join(os.path.dirname(sys.executable), "lib")
    if (nuitka := _nuitka_folder()) is not None:
        yield nuitka
    if bundle == "py2app":
        yield os.path.normpath(os.path.join(os.path.dirname(sys.executable), os.pardir, "Resources"))
    if bundle != "source":
        yield os.path.dirname(os.path.abspath(sys.executable))


def _moved(location: str) -> Iterator[str]:
    """Yield where an absolute folder of this program may be after packages went into a zip, or scripts out of one."""
    roots = list(_roots("frozen"))
    for root in sorted(roots, key=len, reverse=True):
        inside = os.path.relpath(location, root)
        if not inside.startswith(os.pardir) and not os.path.isabs(inside):
            yield from (os.path.join(other, inside) for other in roots)
            return


def _package_places(package: str, inside: str) -> Iterator[str]:
    import importlib.util

    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield os.path.join(os.path.dirname(folder), inside)
        yield os.path.normpath(os.path.join(folder, os.path.relpath(inside, package)))


def _tree_at(place: str, section: str) -> tuple[Tree | None, str]:
    """Return the tree at a path, or None and the reason why there is none."""
    wanted = ("env.py", manifest_name(section))
    if os.path.isdir(place):
        if any(os.path.isfile(os.path.join(place, name)) for name in wanted):
            return FolderTree(place), ""
        return None, "the folder is there, but no env.py in it"
    archive, prefix = _archive_of(place)
    if archive is None:
        return None, "no such folder"
    if _holds_any(archive, [f"{prefix}/{name}" for name in wanted]):
        return ZipTree(archive, prefix), ""
    return None, "not in that archive"


def _archive_of(place: str) -> tuple[str | None, str]:
    """Split a path that leads into a zip archive into the archive and the member."""
    folder, inside = place, ""
    while not os.path.exists(folder):
        folder, name = os.path.split(folder)
        if not name:
            return None, ""
        inside = f"{name}/{inside}" if inside else name
    return (folder, inside) if inside and os.path.isfile(folder) and _is_zip(folder) else (None, "")


def _is_zip(path: str) -> bool:
    if _importer(path) is not None:
        return True
    import zipfile

    return zipfile.is_zipfile(path)


def _holds_any(archive: str, members: Sequence[str]) -> bool:
    importer = _importer(archive)
    if importer is None:
        return not set(members).isdisjoint(open_zip(archive).namelist())
    return any(_holds(importer, member) for member in members)


def _importer(path: str) -> zipimporter | None:
    """Return what imports modules from an archive: it has read it already, and importing zipfile takes longer."""
    importer = sys.path_importer_cache.get(path)
    return importer if isinstance(importer, zipimporter) else None


def _holds(importer: zipimporter, member: str) -> bool:
    try:
        importer.get_data(member.replace("/", os.sep))
    except OSError:
        return False
    except Exception:  # noqa: BLE001 - it is there, but damaged: whoever reads it says so
        return True
    return True
