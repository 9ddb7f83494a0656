"""Where scripts are read from: a folder, or a folder inside a zip archive.

Paths are relative to the folder that holds ``env.py``, with forward slashes; those of version locations that lie
elsewhere begin with ``../``.
"""

from __future__ import annotations

import os
import posixpath
from functools import cached_property

from freezekit.errors import UnreadableBundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable
    from typing import TypeAlias


class FolderTree:
    """Scripts that are ordinary files."""

    def __init__(self, folder: str) -> None:
        self.root = folder

    def read(self, name: str) -> bytes:
        """Return the content of a file; OSError if it cannot be read."""
        with open(self.path(name), "rb") as file:
            return file.read()

    def files(self, folder: str = ".", *, recursive: bool = True) -> list[str]:
        """Return the files below a folder, sorted, without compiled Python; nothing if there is no such folder."""
        found: list[str] = []
        todo = [(self.path(folder), "" if folder == "." else f"{folder}/")]
        for parent, prefix in todo:
            try:
                entries = list(os.scandir(parent))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                if not entry.is_dir():
                    if is_shipped(entry.name):
                        found.append(prefix + entry.name)
                elif recursive and entry.name != "__pycache__":
                    todo.append((entry.path, f"{prefix}{entry.name}/"))
        return sorted(found)

    def path(self, name: str) -> str:
        """Return where a file is."""
        return os.path.normpath(os.path.join(self.root, *name.split("/")))


class ZipTree:
    """Scripts inside an archive: cx_Freeze's ``library.zip``, a zipapp.

    Args:
        archive: Path of the archive.
        prefix: The folder of ``env.py`` inside it.
    """

    def __init__(self, archive: str, prefix: str) -> None:
        self.archive = archive
        self.prefix = prefix
        self.root = os.path.join(archive, *prefix.split("/"))

    def read(self, name: str) -> bytes:
        """Return the content of a member; FileNotFoundError if there is none.

        Raises:
            UnreadableBundle: The member is damaged.
        """
        import zipfile
        import zlib

        try:
            return self._zip.read(self.member(name))
        except KeyError as error:
            raise FileNotFoundError(self.path(name)) from error
        except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError) as error:
            raise UnreadableBundle(self.path(name), str(error)) from error

    def files(self, folder: str = ".", *, recursive: bool = True) -> list[str]:
        """Return the files below a folder, sorted, without compiled Python; nothing if there is no such folder.

        Raises:
            UnreadableBundle: The name of a member leads out of the folder.
        """
        base = self.member(folder) + "/"
        inside = [name[len(base) :] for name in self._zip.namelist() if name.startswith(base)]
        for name in inside:
            if ".." in name.split("/") or "\\" in name:
                raise UnreadableBundle(self.archive, f"the name of its member {base}{name} leads out of the scripts")
        kept = [name for name in inside if is_shipped(posixpath.basename(name)) and "__pycache__/" not in name]
        return sorted(posixpath.normpath(posixpath.join(folder, name)) for name in kept if recursive or "/" not in name)

    def path(self, name: str) -> str:
        """Return where a member is: the archive's path and the member's name."""
        return os.path.join(self.archive, *self.member(name).split("/"))

    def member(self, name: str) -> str:
        """Return the name a file has inside the archive."""
        return posixpath.normpath(posixpath.join(self.prefix, name))

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        return open_zip(self.archive)


if TYPE_CHECKING:
    Tree: TypeAlias = FolderTree | ZipTree


def open_zip(archive: str) -> zipfile.ZipFile:
    """Open an archive for reading.

    Raises:
        UnreadableBundle: It is no zip archive, or a damaged one.
    """
    import zipfile

    try:
        return zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise UnreadableBundle(archive, str(error)) from error


def revision_files(tree: Tree, locations: Iterable[str], recursive: bool) -> list[str]:  # noqa: FBT001 - Alembic's option
    """Return the files that Alembic takes for revisions, in a stable order.

    Which names these are: alembic/script/base.py, ``_only_source_rev_file``.
    """
    found = dict.fromkeys(name for folder in locations for name in tree.files(folder, recursive=recursive))
    return [name for name in found if _is_revision(name.rpartition("/")[2])]


def _is_revision(name: str) -> bool:
    return name.endswith(".py") and not name.startswith((".#", "__init__"))


def is_shipped(name: str) -> bool:
    """Return whether a file of this name belongs to the scripts: compiled Python, leftovers of editors do not."""
    if name.endswith(".py") and not name.startswith("."):
        return True
    dropped = name.endswith((".pyc", ".pyo", "~", ".swp")) or name.startswith(".#") or name == ".DS_Store"
    made_by_build = name.startswith("freezekit.") and name.endswith((".json", ".db.gz"))
    return bool(name) and not dropped and not made_by_build
