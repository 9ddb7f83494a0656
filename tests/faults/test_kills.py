"""Kills, errors and full disks at every point of an upgrade: the document is the old or the new one, never between."""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from harness import sampled

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Server, Subject

SIGKILL = -9
REFUSED = 10


def test_an_upgrade_without_faults_is_the_one_of_plain_alembic(
    server: Server, subject: Subject, tmp_path: Path
) -> None:
    """What the other tests here compare with."""
    document = subject.copy_to(tmp_path / "folder")
    assert server.upgrade(document, subject.scripts, in_place_bytes=subject.in_place_bytes)["exit"] == 0
    assert subject.check(document) == "new"


def test_a_kill_at_any_moment(server: Server, subject: Subject, tmp_path: Path, factor: int) -> None:
    """SIGKILL at random moments."""
    chance = random.Random(1)
    limit = {"in_place_bytes": subject.in_place_bytes}
    usual = server.upgrade(subject.copy_to(tmp_path / "folder"), subject.scripts, **limit)["seconds"]
    found = []
    for _ in range(15 * factor):
        document = subject.copy_to(tmp_path / "folder")
        after = chance.uniform(0, usual * 1.1)
        server.upgrade(document, subject.scripts, kill_after=after, **limit)
        found.append(subject.check(document))
    assert "old" in found


def test_a_kill_at_each_write(server: Server, subject: Subject, tmp_path: Path, factor: int) -> None:
    """SIGKILL before a system call that would change a file."""
    found = set()
    for at in sampled(_calls(server, subject, tmp_path), factor, 24):
        document = subject.copy_to(tmp_path / "folder")
        ended = server.upgrade(document, subject.scripts, at=at, in_place_bytes=subject.in_place_bytes)
        assert ended["exit"] == SIGKILL
        found.add(subject.check(document))
    assert "old" in found


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["I/O error", "full disk"])
def test_an_error_at_each_write(error: int, server: Server, subject: Subject, tmp_path: Path, factor: int) -> None:
    """A system call fails: an error that names the document, which is as before, or all went well nevertheless."""
    for at in sampled(_calls(server, subject, tmp_path), factor, 16):
        document = subject.copy_to(tmp_path / "folder")
        ended = server.upgrade(document, subject.scripts, at=at, action=error, in_place_bytes=subject.in_place_bytes)
        assert ended["exit"] in (0, REFUSED), ended
        if ended["exit"]:
            assert str(document) in ended["message"]
        assert subject.check(document) == ("old" if ended["exit"] else "new"), ended


def _calls(server: Server, subject: Subject, tmp_path: Path) -> int:
    """Return how many system calls of an upgrade change files."""
    document = subject.copy_to(tmp_path / "folder")
    calls = server.upgrade(document, subject.scripts, in_place_bytes=subject.in_place_bytes)["calls"]
    assert calls > 20
    return int(calls)


def test_a_disk_of_any_size(server: Server, subject: Subject, tmp_path: Path) -> None:
    """From too small for anything to large enough; what failed works once there is room."""
    size, volume = subject.original.stat().st_size, tmp_path / "volume"
    ends, full = set(), False
    for tenth in range(11, 70, 5):
        volume.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size * tenth // 10}", "none", str(volume)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no small file system can be mounted here")
        try:
            document = volume / "document"
            shutil.copyfile(subject.original, document)
            ended = server.upgrade(document, subject.scripts, in_place_bytes=subject.in_place_bytes)
            assert ended["exit"] in (0, REFUSED), ended
            # Of the shared memory beside a write-ahead log SQLite says only that it failed.
            assert ended["exit"] == 0 or ended["disk_full"] or "disk I/O error" in ended["message"], ended
            full |= ended.get("disk_full", False)
            assert not [one for one in subject.strays(document) if "-" not in one]
            roomy = subject.copy_to(tmp_path / "folder")
            for file in volume.iterdir():
                shutil.copyfile(file, roomy.parent / file.name)
        finally:
            subprocess.run(["umount", str(volume)], check=True)
        assert subject.check(roomy) == ("old" if ended["exit"] else "new"), ended
        ends.add(ended["exit"])
    assert ends == {0, REFUSED}
    assert full


def test_files_may_only_grow_to_any_size(server: Server, subject: Subject, tmp_path: Path, factor: int) -> None:
    """A quota stops a write halfway, also where no small file system can be mounted."""
    size, ends = subject.original.stat().st_size, set()
    for step in range(1, 12 * factor + 1):
        document = subject.copy_to(tmp_path / "folder")
        most = 3 * size * step // (12 * factor)
        ended = server.upgrade(document, subject.scripts, largest_file=most, in_place_bytes=subject.in_place_bytes)
        assert ended["exit"] in (0, REFUSED), ended
        assert subject.check(document) == ("old" if ended["exit"] else "new"), ended
        ends.add(ended["exit"])
    assert ends == {0, REFUSED}
