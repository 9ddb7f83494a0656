"""Many documents on a disk that becomes full on the way."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from sample_data import RELEASES, content, plain_upgrade

import freezekit
from freezekit import MigrationFailed, upgrade_many

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 12


def test_a_disk_that_fills_up_half_way_loses_nothing(tmp_path: Path) -> None:
    """Some are upgraded, the others are named and as they were; once there is room the rest is done."""
    migrations, volume = freezekit.locate("sample_app:migrations"), tmp_path / "volume"
    old, new = content(RELEASES[0]), content(plain_upgrade(RELEASES[0], tmp_path / "plain.db"))
    size = RELEASES[0].stat().st_size
    volume.mkdir()
    # The documents, and half of their backups and of what they grow by.
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size * COUNT * 2}", "none", str(volume)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        documents = [volume / f"{number}.notes" for number in range(COUNT)]
        for document in documents:
            shutil.copyfile(RELEASES[0], document)
        report = upgrade_many(documents, migrations, workers=2)
        assert 0 < report.counts["upgraded"] < COUNT, report
        assert {type(one.error) for one in report.failures} == {MigrationFailed}
        for one in report:
            assert content(volume / one.database.rpartition("/")[2]) == (new if one.result == "upgraded" else old)
        assert not [path for path in volume.iterdir() if path.suffix not in {".notes", ".bak"}]
        for backup in volume.glob("*.bak"):
            assert content(backup) == old
        subprocess.run(["mount", "-o", f"remount,size={size * COUNT * 10}", str(volume)], check=True)
        again = upgrade_many(documents, migrations, workers=2)
        assert again.counts["upgraded"] == COUNT - report.counts["upgraded"]
        assert again.ok
        assert {repr(content(document)) for document in documents} == {repr(new)}
    finally:
        subprocess.run(["umount", str(volume)], check=True)
