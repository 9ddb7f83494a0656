"""Every finding that the inputs of the checks lead to, as the pages in docs/findings show one of each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from check_inputs import MANIFEST, SNAPSHOT, TREE, healthy, write
from test_check import RELEASES, SPEAKS, STALE, THIRD, without

from freezekit.check.run import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from freezekit.check.findings import Finding


def real_messages(folder: Path) -> dict[str, set[str]]:
    """Return what the checks really say, by id: level, id, place and message.

    Args:
        folder: An empty folder in which bundles may be written.
    """
    said: dict[str, set[str]] = {}
    for one in _findings(folder):
        place = re.sub(rf"^{re.escape(str(folder))}/project-\d+/", "", one.place)
        said.setdefault(one.id, set()).add(f"{one.level.value} {one.id}{place and ' '}{place}: {one.message}")
    return said


def _findings(folder: Path) -> Iterator[Finding]:
    files = healthy(folder / "scripts")
    for number, (_, change, _) in enumerate(SPEAKS):
        yield from check(write(folder / f"broken-{number}", change(files))).findings
    yield from check(write(folder / "open", files, {THIRD: 0o666})).findings
    whole = write(folder / "whole", files)
    for number, (_, name, text, _) in enumerate(STALE):
        yield from check(whole, str(_project(folder / f"project-{number}", files, name, text))).findings
    for number, (_, change, _) in enumerate(RELEASES):
        new = write(folder / f"release-{number}", without(change(files), MANIFEST, SNAPSHOT))
        yield from check(new, against=str(whole / MANIFEST)).findings


def _project(folder: Path, files: dict[str, bytes], name: str, text: str | None) -> Path:
    """Return the project that the bundle was built from, with one file changed since."""
    shipped = without(files, MANIFEST, SNAPSHOT)
    write(folder, {one.removeprefix("lib/"): content for one, content in shipped.items() if one.startswith(TREE)})
    (folder / "pyproject.toml").write_text('[tool.freezekit]\nscript_location = "app:migrations"\n')
    path = folder / "app" / "migrations" / name
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(text.encode())
    return folder
