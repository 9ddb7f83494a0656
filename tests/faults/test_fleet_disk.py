"""Many documents on a disk that becomes full on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sample_data import RELEASES, ROOT, content, plain_upgrade

import freezekit
from freezekit import MigrationFailed, upgrade_many

COUNT = 12


def test_a_list_for_which_there_is_no_room_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    """It is kept on a volume of its own, and what runs is finished; no document has to do with it."""
    volume, document = tmp_path / "volume", Path(shutil.copy(RELEASES[0], tmp_path / "old.notes"))
    volume.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(volume)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    (tmp_path / "list").write_text("".join(f"{document.name}\n{'x' * 50}{number}\n" for number in range(30_000)))
    command = [sys.executable, "-m", "freezekit", "upgrade-many", "--from-file", "list", "--migrations"]
    try:
        result = subprocess.run(
            [*command, "sample_app:migrations"],
            cwd=tmp_path,
            env={**os.environ, "SQLITE_TMPDIR": str(volume), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        subprocess.run(["umount", str(volume)], check=True)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"{volume}: no room for temporary files" in result.stderr
    assert content(document) in (content(RELEASES[0]), content(plain_upgrade(RELEASES[0], tmp_path / "plain.db")))


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
