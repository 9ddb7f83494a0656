"""Copies of real bundles, and ways to change what is inside them: files, archives of modules, programs in one file."""

from __future__ import annotations

import json
import marshal
import os
import shutil
import struct
import zlib
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from freezekit.config import Chain
from freezekit.manifest import digest
from freezekit.scripts import read_manifest
from freezekit.tree import FolderTree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from bundles import Bundle

MIGRATIONS = "sample_app/migrations"
MANIFEST = "freezekit.json"
_OURS = {MANIFEST, "freezekit.db.gz"}
# Kinds of entries in the archive of modules, as PyInstaller numbers them.
_PACKAGE = 1


def replaced(path: Path, content: bytes | str) -> None:
    """Write a file anew: in a copy of links, the original stays as it was."""
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@dataclass(frozen=True)
class Copy:
    """A copy of the folder of a real bundle, to be broken.

    Attributes:
        bundle: What it is a copy of.
        folder: Where it is; its files are links to those of the bundle: replace them, never write into them.
        project: A project that the bundle is fresh for, of which files may be changed too.
    """

    bundle: Bundle
    folder: Path
    project: Path

    @property
    def scripts(self) -> Path:
        """The folder of env.py."""
        (found,) = (path for path in self.folder.rglob("migrations") if path.parent.name == "sample_app")
        return found

    @property
    def source(self) -> Path:
        """The folder of env.py in the project."""
        return self.project / MIGRATIONS

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file among the scripts, as if the build had shipped it so: the manifest lists it."""
        replaced(self.scripts / name, content)
        self.restamp()

    def restamp(self, **fields: object) -> None:
        """Let the manifest list the files as they are, and say more if it is told to."""
        found = json.loads((self.scripts / MANIFEST).read_bytes())
        names = {path.relative_to(self.scripts).as_posix(): path for path in self.scripts.rglob("*") if path.is_file()}
        found["files"] = {name: digest(path.read_bytes()) for name, path in names.items() if name not in _OURS}
        if not any(row["file"] in names for row in found["revisions"]):
            found.update(revisions=[], heads=[])
        replaced(self.scripts / MANIFEST, json.dumps({**found, **fields}))

    def rebuild_manifest(self) -> None:
        """Write the manifest that a build would write for the scripts as they are."""
        chain = Chain(script_location="sample_app:migrations", folder=str(self.scripts))
        built = json.loads(read_manifest(FolderTree(chain.folder), chain).to_json())
        self.restamp(revisions=built["revisions"], heads=built["heads"])

    def edit_modules(self, *, without: Collection[str] = (), more: Mapping[str, str] | None = None) -> None:
        """Take modules out of the bundle, and put others in or in their place, wherever the freezer keeps them."""
        added = {name: compile(text, f"{name}.py", "exec", dont_inherit=True) for name, text in (more or {}).items()}
        if self.bundle.form.startswith("pyinstaller"):
            _edit_program(self.folder / self.bundle.executable.name, without, added)
        else:
            _edit_libraries(self.folder / "lib", without, added)


def copied(bundle: Bundle, target: Path, project: Path) -> Copy:
    """Return a copy of a bundle, made of links."""
    shutil.copytree(bundle.folder, target, symlinks=True, copy_function=os.link)
    return Copy(bundle, target, project)


def _is_one_of(name: str, names: Collection[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in names)


def _edit_libraries(folder: Path, without: Collection[str], added: Mapping[str, Any]) -> None:
    """Edit library.zip and the folder it lies in, as cx_Freeze fills them."""
    for path in [path for path in folder.rglob("*") if path.suffix in {".pyc", ".so", ".pyd"}]:
        name = ".".join(path.relative_to(folder).with_name(path.name.partition(".")[0]).parts)
        if _is_one_of(name, without) or name.removesuffix(".__init__") in added:
            path.unlink()
    new = {f"{name}/__init__.pyc": MAGIC_NUMBER + bytes(12) + marshal.dumps(code) for name, code in added.items()}

    def edit(members: dict[str, bytes]) -> None:
        gone = tuple(f"{name.replace('.', '/')}{end}" for name in without for end in ("/", "."))
        for name in [name for name in members if name.startswith(gone)]:
            del members[name]
        members.update(new)

    edit_zip(folder / "library.zip", folder / "library.zip", edit)


def edit_zip(source: Path, target: Path, edit: Callable[[dict[str, bytes]], object]) -> None:
    """Write a zip archive with other members than those of another one; both may be the same."""
    with ZipFile(source) as old:
        members = {name: old.read(name) for name in old.namelist()}
    edit(members)
    target.unlink(missing_ok=True)
    with ZipFile(target, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)


def _edit_program(path: Path, without: Collection[str], added: Mapping[str, Any]) -> None:
    """Edit the archive of modules in a program of PyInstaller."""

    def edit(entries: dict[str, bytes]) -> None:
        entries["PYZ.pyz"] = _edited_modules(entries["PYZ.pyz"], without, added)

    edit_archive(path, path, edit)


def _edited_modules(content: bytes, without: Collection[str], added: Mapping[str, Any]) -> bytes:
    """Return an archive of modules whose table names others; new ones lie where the old table was."""
    (offset,) = struct.unpack_from("!i", content, 8)
    table = {name: entry for name, entry in marshal.loads(content[offset:]) if not _is_one_of(name, without)}
    found = bytearray(content[:offset])
    for name, code in added.items():
        packed = zlib.compress(marshal.dumps(code))
        table[name] = (_PACKAGE, len(found), len(packed))
        found += packed
    struct.pack_into("!i", found, 8, len(found))
    return bytes(found) + marshal.dumps(list(table.items()))


def edit_archive(
    source: Path, target: Path, edit: Callable[[dict[str, bytes]], object], *, keep: tuple[str, ...] = ("",)
) -> None:
    """Write a program of PyInstaller whose archive holds other entries; kept ones stay as they are packed.

    Args:
        source: The program.
        target: Where to write it; may be the same.
        edit: Changes the content of the entries, by name.
        keep: What the names of files must begin with to keep their content, for a program that is quick to read.
    """
    from PyInstaller.archive.readers import CArchiveReader
    from PyInstaller.archive.writers import CArchiveWriter

    archive, program = CArchiveReader(str(source)), source.read_bytes()
    old = archive.toc
    emptied = {name for name in old if old[name][4] in "bxZ" and not name.startswith(keep)}
    before = {name: archive.extract(name) for name in old if name not in emptied}
    after = {**before, **dict.fromkeys(emptied, b"")}
    edit(after)
    packed, table = bytearray(), []
    for name, content in after.items():
        kind = old[name][4] if name in old else "x"
        if content is before.get(name):
            start, length, size, flag, _ = old[name]
            data = program[archive._start_offset + start :][:length]
        else:
            data, size, flag = content, len(content), 0
        table.append((len(packed), len(data), size, flag, kind, name))
        packed += data
    table += [(0, 0, 0, 0, "o", option) for option in archive.options]
    written = CArchiveWriter._serialize_toc(table)
    magic, _, _, _, version, library = struct.unpack_from(
        CArchiveReader._COOKIE_FORMAT, program, archive._end_offset - CArchiveReader._COOKIE_LENGTH
    )
    length = len(packed) + len(written) + CArchiveReader._COOKIE_LENGTH
    cookie = struct.pack(CArchiveReader._COOKIE_FORMAT, magic, length, len(packed), len(written), version, library)
    target.unlink(missing_ok=True)
    target.write_bytes(program[: archive._start_offset] + bytes(packed) + written + cookie)
    target.chmod(0o755)
