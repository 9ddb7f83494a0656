"""The frozen program is killed while it opens an old document, and started again."""

from __future__ import annotations

import random
import shutil
import time
from typing import TYPE_CHECKING, Any

from harness import state
from sample_data import RELEASES, plain_upgrade, release_heads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_killed_program_opens_its_document_again(
    build_bundle: Callable[[str], Any], tmp_path: Path, factor: int
) -> None:
    """SIGKILL at random moments: the document and its backup are whole, and the next start loses nothing."""
    bundle, oldest = build_bundle("cx-folder"), RELEASES[0]
    old = state(shutil.copyfile(oldest, tmp_path / "old"))
    new = state(plain_upgrade(oldest, tmp_path / "new"))
    started = time.monotonic()
    assert bundle.run("open", shutil.copyfile(oldest, tmp_path / "warm.notes")).returncode == 0
    usual, chance, found = time.monotonic() - started, random.Random(5), set()
    for number in range(30 * factor):
        document = tmp_path / f"try{number}" / "my.notes"
        document.parent.mkdir()
        shutil.copyfile(oldest, document)
        with bundle.start("open", document) as program:
            time.sleep(chance.uniform(0, usual * 1.2))
            program.kill()
        left = shutil.copytree(document.parent, tmp_path / f"left{number}")
        found.add(_which(state(left / document.name), old, new))
        again = bundle.run("open", document)
        assert again.returncode == 0, again.stderr
        assert state(document) == new
        backup = document.with_name(f"my.notes.{release_heads[oldest.stem]}.bak")
        assert state(shutil.copyfile(backup, left / "backup")) == old
        assert {path.name for path in document.parent.iterdir()} <= {document.name, backup.name, "my.notes-journal"}
    assert "old" in found


def _which(found: object, old: object, new: object) -> str:
    assert found in (old, new), "neither the old document nor the new one"
    return "old" if found == old else "new"
