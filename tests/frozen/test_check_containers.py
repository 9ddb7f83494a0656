"""Real bundles inside what they travel in, packed by the tools that people pack them with."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest
from debian import install

from freezekit.check import containers
from freezekit.check.bundle import open_bundle
from freezekit.check.run import check
from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from bundles import Bundle


def as_zip(folder: Path, target: Path) -> Path:
    """Pack a folder as `zip --symlinks` does."""
    with ZipFile(target / "app.zip", "w", ZIP_DEFLATED, compresslevel=1) as packed:
        for path in sorted(folder.rglob("*")):
            name = f"app/{path.relative_to(folder)}"
            if path.is_symlink():
                member = ZipInfo(name)
                member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                packed.writestr(member, os.readlink(path))
            else:
                packed.write(path, name)
    return target / "app.zip"


def as_tar(folder: Path, target: Path) -> Path:
    with tarfile.open(target / "app.tar.gz", "w:gz", compresslevel=1) as packed:
        packed.add(folder, "app")
    return target / "app.tar.gz"


def as_deb(compression: str) -> Callable[[Path, Path], Path]:
    def build(folder: Path, target: Path) -> Path:
        if shutil.which("dpkg-deb") is None:
            pytest.skip("no dpkg-deb")
        package = target / "package"
        shutil.copytree(folder, package / "opt" / "app", symlinks=True, copy_function=os.link)
        (package / "DEBIAN").mkdir()
        fields = {
            "Package": "app",
            "Version": "1.0",
            "Architecture": "all",
            "Maintainer": "x <x@y>",
            "Description": "x",
        }
        (package / "DEBIAN" / "control").write_text("".join(f"{name}: {text}\n" for name, text in fields.items()))
        command = ["dpkg-deb", f"-Z{compression}", "-z1", "--build", package, target / "app.deb"]
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(package)
        return target / "app.deb"

    return build


def squashfs_tool(name: str) -> str:
    """Return a tool of squashfs-tools, which root on Debian installs; without it the test is skipped."""
    try:
        install("squashfs-tools", name)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no {name}: {error}")
    return name


def as_appimage(folder: Path, target: Path) -> Path:
    """Pack a bundle as appimagetool does: a program, then a squashfs. The program is an ELF one that does nothing.

    AppImage's own is in no registry of packages; what counts are its headers, and the mark that it has there.
    """
    root = target / "AppDir"
    shutil.copytree(folder, root / "usr" / "bin", symlinks=True, copy_function=os.link)
    (root / "AppRun").symlink_to("usr/bin/app")
    image = target / "image"
    options = ["-quiet", "-no-progress", "-root-owned", "-comp", "gzip", "-Xcompression-level", "1"]
    subprocess.run([squashfs_tool("mksquashfs"), root, image, *options], check=True, capture_output=True)
    runtime = bytearray(Path("/bin/true").read_bytes())
    runtime[8:11] = b"AI\x02"
    (target / "app.AppImage").write_bytes(bytes(runtime) + image.read_bytes())
    shutil.rmtree(root)
    image.unlink()
    return target / "app.AppImage"


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has AppImages")
PACKED = [
    pytest.param(as_zip, "pyinstaller-onedir", id="zip-pyinstaller-onedir"),
    pytest.param(as_zip, "pyinstaller-onefile", id="zip-pyinstaller-onefile"),
    pytest.param(as_tar, "cx-zip-scripts", id="tar.gz-cx-zip-scripts"),
    pytest.param(as_tar, "cx-zip", id="tar.gz-cx-zip"),
    pytest.param(as_deb("gzip"), "cx-folder", id="deb-cx-folder"),
    pytest.param(as_deb("zstd"), "pyinstaller-onedir", id="deb.zst-pyinstaller-onedir"),
    pytest.param(as_appimage, "cx-zip", id="AppImage-cx-zip", marks=on_linux),
    pytest.param(as_appimage, "pyinstaller-onefile", id="AppImage-pyinstaller-onefile", marks=on_linux),
]


@pytest.mark.parametrize(("pack", "form"), PACKED)
def test_a_real_bundle_is_read_inside_of_what_it_travels_in(
    pack: Callable[[Path, Path], Path],
    form: str,
    build_bundle: Callable[[str], Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same is found as in its folder, which is nothing, and nothing stays behind."""
    folder = build_bundle(form).folder
    packed = pack(folder, tmp_path)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    report, plain = check(packed), check(folder)
    assert report.findings == ()
    assert report.facts.keys() == plain.facts.keys()
    assert {**report.facts, "files": ""} == {**plain.facts, "files": ""}
    assert os.listdir(tmp_path / "scratch") == []


@pytest.fixture
def small_appimage(tmp_path: Path) -> Path:
    """An AppImage without a bundle, in which one file is mostly zeros."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "zeros").write_bytes(bytes(1_000_000))
    return as_appimage(tmp_path / "files", tmp_path)


@on_linux
@pytest.mark.frozen
def test_an_appimage_that_unpacks_to_too_much_is_refused(small_appimage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    assert small_appimage.stat().st_size < 200_000
    monkeypatch.setattr(containers, "UNPACKED_LIMIT", 900_000)
    with pytest.raises(UnreadableBundle, match="more than"), open_bundle(small_appimage):
        pass


@on_linux
@pytest.mark.frozen
def test_a_damaged_appimage_is_refused_in_a_sentence(small_appimage: Path) -> None:
    """Wherever it was cut off."""
    content = small_appimage.read_bytes()
    for end in (11, 60, 5_000, len(content) - 5_000):
        small_appimage.write_bytes(content[:end])
        with pytest.raises(UnreadableBundle, match="squashfs"), open_bundle(small_appimage):
            pass
