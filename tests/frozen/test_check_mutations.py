"""Random changes of real bundles of every form: each changed script is found, and no damage is a traceback."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from bundles import FORMS
from edits import MANIFEST, MIGRATIONS, copied, edit_archive, edit_zip

from freezekit.check import contents, pyinstaller
from freezekit.check.run import check
from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bundles import Bundle

ROUNDS = 40
"""Changes of each form."""
LIBRARIES = {"library.zip", "base_library.zip"}
KEPT = ("base_library.zip", MIGRATIONS)


class Scripts:
    """The scripts in a copy of a bundle, wherever its form keeps them, without most of what is slow to read."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self._is_zip, self._is_program = bundle.form == "cx-zip-scripts", bundle.form == "pyinstaller-onefile"
        self.folder, self._program = folder, folder / bundle.executable.name
        for path in bundle.folder.rglob("*"):
            is_needed = path == bundle.executable or path.name in LIBRARIES or MIGRATIONS in path.as_posix()
            if is_needed and path.is_file():
                target = folder / path.relative_to(bundle.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        for path in folder.rglob("library.zip"):
            edit_zip(path, path, _only_ours)
        self._archive = self._program if self._is_program else folder / "lib" / "library.zip"
        self._whole = folder.with_name("whole")
        if self._is_program:
            edit_archive(self._program, self._whole, lambda _: None, keep=KEPT)
        elif self._is_zip:
            self._whole.write_bytes(self._archive.read_bytes())
        else:
            self._whole.mkdir()
            shutil.copytree(self._root(), self._whole, dirs_exist_ok=True)

    def edit(self, change: Callable[[dict[str, bytes]], object]) -> None:
        """Let a function change the files of the healthy bundle's migrations, by their paths below env.py's folder."""
        if self._is_zip:
            edit_zip(self._whole, self._archive, lambda files: _below(files, change))
        elif self._is_program:
            edit_archive(self._whole, self._archive, lambda files: _below(files, change), keep=KEPT)
        else:
            self._on_disk(change)

    def _root(self) -> Path:
        (root,) = (path for path in self.folder.rglob("migrations") if path.parent.name == "sample_app")
        return root

    def _on_disk(self, change: Callable[[dict[str, bytes]], object]) -> None:
        root = self._root()
        files = {path.relative_to(self._whole).as_posix(): path.read_bytes() for path in _files(self._whole)}
        change(files)
        for path in _files(root):
            path.unlink()
        for name, content in files.items():
            (root / name).write_bytes(content)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _below(files: dict[str, bytes], change: Callable[[dict[str, bytes]], object]) -> None:
    start = f"{MIGRATIONS}/"
    inside = {name[len(start) :]: files.pop(name) for name in list(files) if name.startswith(start)}
    change(inside)
    files.update({start + name: content for name, content in inside.items()})


def _only_ours(files: dict[str, bytes]) -> None:
    for name in [name for name in files if not name.startswith(("freezekit/", MIGRATIONS))]:
        del files[name]


def mutation(number: int, names: list[str], chance: random.Random) -> tuple[str, Callable[[dict[str, bytes]], Any]]:
    """Return one random change of one script, and what it is."""
    name, kind = chance.choice(names), ("remove", "alter", "add")[number % 3]
    folder, _, file = name.rpartition("/")
    extra = f"{folder}/x{number}-{file}".lstrip("/")

    def change(files: dict[str, bytes]) -> None:
        content = files[name]
        position = chance.randrange(len(content) + 1)
        if kind == "remove":
            del files[name]
        elif kind == "add":
            files[extra] = content
        else:
            files[name] = content[:position] + b"x" + content[position:]

    return f"{kind} {name}", change


@pytest.mark.parametrize("form", FORMS)
def test_any_one_script_that_is_removed_altered_or_added_is_found(
    form: str, build_bundle: Callable[[str], Bundle], tmp_path: Path
) -> None:
    """200 random changes, 40 of each form, and none is missed; before and after them nothing is found."""
    chance = random.Random(form)
    scripts = Scripts(build_bundle(form), tmp_path / "broken")
    healthy: dict[str, bytes] = {}
    scripts.edit(healthy.update)
    names = sorted(name for name in healthy if not name.endswith((".pyc", MANIFEST)))
    assert len(names) > 10
    assert not check(scripts.folder, select=["FK10"]).findings
    for number in range(ROUNDS):
        what, change = mutation(number, names, chance)
        scripts.edit(change)
        assert check(scripts.folder, select=["FK10"]).is_failure, what
    scripts.edit(lambda _: None)
    assert not check(scripts.folder, select=["FK10"]).findings


def test_a_damaged_program_is_never_a_traceback(build_bundle: Callable[[str], Bundle], tmp_path: Path) -> None:
    """Cut off, or with bits turned in the tables of contents at its end, it has findings or is refused."""
    chance = random.Random(3)
    path = tmp_path / "app"
    edit_archive(build_bundle("pyinstaller-onefile").executable, path, lambda _: None, keep=KEPT)
    assert not check(path, select=["FK10"]).findings
    content = path.read_bytes()
    for number in range(60):
        tail = chance.randrange(1, 30_000)
        position = len(content) - tail
        damaged = content[:position] if number % 4 == 0 else bytearray(content)
        if isinstance(damaged, bytearray):
            damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(UnreadableBundle):
            check(path)


def test_a_module_that_unpacks_to_too_much_is_refused(
    build_bundle: Callable[[str], Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a program of PyInstaller, one of those whose version is read."""
    copy = copied(build_bundle("pyinstaller-onedir"), tmp_path / "broken", tmp_path)
    copy.edit_modules(more={"alembic": f"TEXT = {'x' * 31_000_000!r}"})
    monkeypatch.setattr(pyinstaller, "READ_LIMIT", 30_000_000)
    monkeypatch.setattr(contents, "READ_LIMIT", 30_000_000)
    with pytest.raises(UnreadableBundle, match=r"alembic.*longer than"):
        check(copy.folder)
