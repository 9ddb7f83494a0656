"""The power fails: whatever the disk has kept of what was not synced, the document is the old or the new one."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

from harness import state
from power import Disk, images, read_log

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Server, Subject


def test_a_power_cut_at_any_moment(server: Server, subject: Subject, tmp_path: Path, factor: int) -> None:
    """Writes are lost, reordered and torn, names appear late: the document is whole, and no backup is half."""
    document = subject.copy_to(tmp_path / "folder")
    before = tmp_path / "before"
    shutil.copytree(document.parent, before)
    log = tmp_path / "log"
    ended = server.upgrade(document, subject.scripts, log=str(log), in_place_bytes=subject.in_place_bytes)
    assert ended["exit"] == 0, ended
    calls = read_log(log)
    assert {call.kind for call in calls} >= {"w", "s", "c", "r"}
    found = []
    for image in images(calls, before, document.parent, random.Random(1), 30 * factor):
        found.append(subject.check(image / "document"))  # noqa: PERF401 - a failure should show what came before
    assert "old" in found


def test_what_is_reported_done_survives_a_power_cut(server: Server, subject: Subject, tmp_path: Path) -> None:
    """All that may be lost is lost right after the upgrade has returned: the document is the new one."""
    document = subject.copy_to(tmp_path / "folder")
    before = tmp_path / "before"
    shutil.copytree(document.parent, before)
    server.upgrade(document, subject.scripts, log=str(tmp_path / "log"), in_place_bytes=subject.in_place_bytes)
    disk = Disk(document.parent, before)
    for call in read_log(tmp_path / "log"):
        disk.run(call)
    for seed in range(20):
        image = tmp_path / f"image{seed}"
        image.mkdir()
        disk.cut(random.Random(seed), image)
        assert subject.name_of(state(image / "document")) == "new"
