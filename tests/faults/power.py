"""What a disk may hold after the power was cut: built from a program's system calls, as ``shim.c`` wrote them down.

The model is what SQLite's documentation assumes of a POSIX file system (https://www.sqlite.org/atomiccommit.html): what
was not followed by an fsync of the file may be there in part and in any order, also half of one write; creations,
removals and renames happen in order, and those not followed by an fsync of the folder may be missing from some point.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

_HEAD = struct.Struct("=qqqq")
_SECTOR = 512


@dataclass(frozen=True)
class Call:
    """One system call, by its first letter: write, truncate, sync, create, unlink, rename."""

    kind: str
    name: str
    offset: int
    data: bytes


def read_log(path: Path) -> list[Call]:
    """Return the calls that a shim wrote down."""
    content, at, calls = path.read_bytes(), 0, []
    while at < len(content):
        kind, length, offset, size = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        name = content[at : at + length].decode()
        calls.append(Call(chr(kind), name, offset, content[at + length : at + length + size]))
        at += length + size
    return calls


@dataclass
class _File:
    durable: bytearray
    pending: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        for call in self.pending:
            _apply(self.durable, call)
        self.pending.clear()

    def after_cut(self, chance: random.Random) -> bytes:
        content = bytearray(self.durable)
        kept = [call for call in self.pending if chance.random() < chance.choice((0.0, 0.5, 1.0))]
        for call in kept:
            _apply(content, call)
        if self.pending and chance.random() < 1 / 2:
            _apply(content, _half(chance.choice(self.pending)))
        return bytes(content)


def _half(call: Call) -> Call:
    return Call(call.kind, call.name, call.offset, call.data[: max(len(call.data) // 2 // _SECTOR * _SECTOR, 1)])


def _apply(content: bytearray, call: Call) -> None:
    if call.kind == "t":
        del content[call.offset :]
        content.extend(bytes(call.offset - len(content)))
        return
    content.extend(bytes(max(0, call.offset - len(content))))
    content[call.offset : call.offset + len(call.data)] = call.data


class Disk:
    """A folder, as its programs see it and as the disk has it."""

    def __init__(self, folder: Path, before: Path) -> None:
        self.folder = str(folder)
        self._seen = {str(folder / path.name): _File(bytearray(path.read_bytes())) for path in before.iterdir()}
        self._durable = dict(self._seen)
        self._pending: list[Call] = []
        self._made: dict[int, _File] = {}

    def run(self, call: Call) -> None:
        """Do what a call does."""
        if call.kind == "s" and call.name == self.folder:
            self._durable = self._names(self._pending)
            self._pending = []
        elif call.kind in "cur":
            if call.kind == "c":
                self._made[id(call)] = _File(bytearray())
            self._pending.append(call)
            self._seen = self._renamed(self._seen, call)
        elif call.name in self._seen:
            file = self._seen[call.name]
            file.sync() if call.kind == "s" else file.pending.append(call)

    def _renamed(self, names: dict[str, _File], call: Call) -> dict[str, _File]:
        names = dict(names)
        if call.kind == "c":
            names[call.name] = self._made[id(call)]
        elif (file := names.pop(call.name, None)) is not None and call.kind == "r":
            names[call.data.decode()] = file
        return names

    def _names(self, calls: list[Call]) -> dict[str, _File]:
        names = self._durable
        for call in calls:
            names = self._renamed(names, call)
        return names

    def cut(self, chance: random.Random, folder: Path) -> None:
        """Write into an empty folder what may be found when the power is back."""
        known = self._pending[: chance.randint(0, len(self._pending))]
        for name, file in self._names(known).items():
            if not name.endswith("-shm"):  # in memory only, and made anew
                (folder / Path(name).name).write_bytes(file.after_cut(chance))


def images(calls: list[Call], before: Path, folder: Path, chance: random.Random, count: int) -> Iterator[Path]:
    """Yield folders with what a disk may hold, each for a cut at a random moment.

    Args:
        calls: What the program did.
        before: What its folder held before.
        folder: Where the program ran, as the calls name it; made anew for each image.
        chance: Where the cuts are and what is lost.
        count: How many.
    """
    for _ in range(count):
        disk = Disk(folder, before)
        for call in calls[: chance.randint(1, len(calls))]:
            disk.run(call)
        image = folder.parent / "image"
        for path in image.glob("*"):
            path.unlink()
        image.mkdir(exist_ok=True)
        disk.cut(chance, image)
        yield image
