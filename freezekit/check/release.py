"""Release memory: what a new release must not do to the revisions that older ones have shipped.

A document may be at any revision that was ever shipped. A revision that is gone, that does something else now, or whose
id means another one, is a document that cannot be opened, or that is not what its version says.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.errors import UnreadableBundle
from freezekit.manifest import Manifest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

_MANIFESTS = "freezekit*.json"


@dataclass(frozen=True)
class Finding:
    """One thing that a release must not do.

    Attributes:
        kind: ``"removed"``, ``"edited"`` or ``"reused"``; ``"added"`` for what is allowed.
        revision: The id.
        message: A sentence.
        accepted: Reason for which an edit is accepted; None when it is not.
    """

    kind: str
    revision: str
    message: str
    accepted: str | None = None

    @property
    def is_failure(self) -> bool:
        """Whether a release with this must not be shipped."""
        return self.kind != "added" and self.accepted is None


def compare(old: Manifest, new: Manifest, accepted_edits: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """Return what became of the revisions of an older release, and which are new.

    Args:
        old: Manifest of the release that was shipped.
        new: Manifest of the release to come.
        accepted_edits: Reasons for edits that are meant, by revision: ``accepted_edits`` of ``[tool.freezekit]``.

    Returns:
        Findings in the order of the old release's history; new revisions come last.

    Example:
        >>> [one.message for one in compare(old, new) if one.is_failure]
        ['revision 0003 was shipped and is gone']
    """
    reasons = accepted_edits or {}
    found = [finding for one in old.revisions if (finding := _changed(one.revision, old, new, reasons))]
    found += [
        Finding("added", one.revision, f"revision {one.revision} is new: {one.doc or one.file}")
        for one in new.revisions
        if one.revision not in old.by_id
    ]
    return tuple(found)


def _changed(revision: str, old: Manifest, new: Manifest, reasons: Mapping[str, str]) -> Finding | None:
    before, after = old.by_id[revision], new.by_id.get(revision)
    if after is None:
        return Finding("removed", revision, f"revision {revision} ({before.file}) was shipped and is gone")
    if (before.down_revision, before.depends_on) != (after.down_revision, after.depends_on):
        parents = ", ".join(after.down_revision) or "nothing"
        message = f"revision {revision} was shipped after {', '.join(before.down_revision) or 'nothing'}"
        return Finding("reused", revision, f"{message}; the same id now stands for one after {parents} ({after.file})")
    if before.sha256 != after.sha256:
        message = f"revision {revision} ({after.file}) was edited since it was shipped"
        return Finding("edited", revision, message, reasons.get(revision))
    return None


def read_manifests(path: str | os.PathLike[str]) -> dict[tuple[str, str], Manifest]:
    """Return the manifests of a release, by script location and section.

    Args:
        path: A manifest; a bundle's folder; a zip archive such as ``library.zip`` or a zipapp; a program made by
            PyInstaller in one file.

    Raises:
        UnreadableBundle: There is no manifest, or it cannot be read.
    """
    place = Path(path)
    if not place.exists():
        raise UnreadableBundle(str(place), "there is no such file or folder")
    found = [Manifest.from_json(text, where) for where, text in _texts(place)]
    if not found:
        raise UnreadableBundle(str(place), "it holds no manifest of freezekit")
    return {(one.script_location, one.section): one for one in found}


def _texts(place: Path) -> Iterator[tuple[str, bytes]]:
    if place.is_dir():
        for file in sorted(place.rglob(_MANIFESTS)):
            yield str(file), file.read_bytes()
        for archive in sorted(place.rglob("*.zip")):
            yield from _zipped(archive)
    elif zipfile.is_zipfile(place):
        yield from _zipped(place)
    elif _is_json(place):
        yield str(place), place.read_bytes()
    else:
        yield from _in_one_file(place)


def _zipped(archive: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                if Path(name).match(_MANIFESTS):
                    yield f"{archive}/{name}", file.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        raise UnreadableBundle(str(archive), str(error)) from error


def _is_json(place: Path) -> bool:
    try:
        json.loads(place.read_bytes())
    except ValueError:
        return place.suffix == ".json"
    return True


def _in_one_file(place: Path) -> Iterator[tuple[str, bytes]]:
    """Read a program that PyInstaller made in one file, with PyInstaller's own reader."""
    try:
        from PyInstaller.archive.readers import ArchiveReadError, CArchiveReader
    except ImportError as error:
        raise UnreadableBundle(str(place), "reading a program in one file needs PyInstaller installed") from error
    try:
        archive = CArchiveReader(str(place))
    except (ArchiveReadError, OSError, ValueError) as error:
        raise UnreadableBundle(str(place), f"it is no program made by PyInstaller ({error})") from error
    for name in archive.toc:
        if Path(name.replace("\\", "/")).match(_MANIFESTS):
            yield f"{place}/{name}", archive.extract(name)
