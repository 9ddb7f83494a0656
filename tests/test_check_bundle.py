"""Reading bundles: in every container, in every layout, damaged, and made to do harm."""

from __future__ import annotations

import io
import os
import random
import stat
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from check_inputs import EXTENSION, SCRIPTS, TREE, healthy, library, write

from freezekit.check import containers, contents
from freezekit.check.bundle import open_bundle
from freezekit.check.run import check
from freezekit.errors import UnreadableBundle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Files = dict[str, bytes]
MODES = {"app": 0o755}


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture
def files(scratch: Path) -> Files:
    return healthy(scratch)


def as_folder(path: Path, files: Files) -> Path:
    return write(path / "My App", files)


def as_program(path: Path, files: Files) -> Path:
    return write(path, files) / "app"


def as_zip(path: Path, files: Files, modes: Mapping[str, int] = MODES) -> Path:
    with zipfile.ZipFile(path / "app.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(f"app-1.0/{name}")
            member.create_system = 3
            member.external_attr = (stat.S_IFREG | modes.get(name, 0o644)) << 16
            archive.writestr(member, content)
    return path / "app.zip"


def add_to_tar(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def tarred(files: Files, compression: str, modes: Mapping[str, int] = MODES) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            add_to_tar(archive, f"./opt/app/{name}", content, modes.get(name, 0o644))
    return buffer.getvalue()


def as_tar(compression: str) -> Callable[..., Path]:
    def write_tar(path: Path, files: Files, modes: Mapping[str, int] = MODES) -> Path:
        archive = path / f"app.tar.{compression}"
        archive.write_bytes(tarred(files, compression, modes))
        return archive

    return write_tar


def debian(members: Mapping[str, bytes]) -> bytes:
    """Return a Debian package: deb(5)."""
    found = b"!<arch>\n"
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        found += header + content + b"\n" * (len(content) % 2)
    return found


def as_deb(path: Path, files: Files, modes: Mapping[str, int] = MODES) -> Path:
    control = {"debian-binary": b"2.0\n", "control.tar.gz": b"odd"}
    (path / "app.deb").write_bytes(debian({**control, "data.tar.xz": tarred(files, "xz", modes)}))
    return path / "app.deb"


CONTAINERS: dict[str, Callable[..., Path]] = {
    "folder": as_folder,
    "program": as_program,
    "zip": as_zip,
    "tar": as_tar(""),
    "tar.gz": as_tar("gz"),
    "tar.bz2": as_tar("bz2"),
    "tar.xz": as_tar("xz"),
    "deb": as_deb,
}


@pytest.mark.parametrize("pack", CONTAINERS.values(), ids=list(CONTAINERS))
def test_a_bundle_is_read_in_every_container(
    pack: Callable[..., Path], files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same is found in each, and nothing stays behind."""
    packed = pack(tmp_path, files)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    with open_bundle(packed) as bundle:
        assert (bundle.kind, bundle.freezer, bundle.python) == ("cx_Freeze folder", "cx_Freeze 8.7.3", "3.11")
        assert bundle.versions == {"freezekit": "0.1.0", "alembic": "1.20.1", "sqlalchemy": "2.1.9"}
        (tree,) = bundle.trees
        assert (tree.root, tree.manifest is not None) == ("app/migrations", True)
    assert check(packed).findings == ()
    assert os.listdir(tmp_path / "scratch") == []


@pytest.mark.parametrize("name", ["zip", "tar.gz", "deb"])
def test_permissions_are_those_the_container_gives(name: str, files: Files, tmp_path: Path) -> None:
    """Unpacking safely takes permissions away, which would hide that anyone may write."""
    packed = CONTAINERS[name](tmp_path, files, {f"{TREE}/env.py": 0o666})
    assert [(one.id, one.file and one.file.endswith("env.py")) for one in check(packed).findings] == [("FK143", True)]


def zipapp(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "import app")
        for name, content in files.items():
            archive.writestr(name.removeprefix("lib/"), content)
        for name in ("alembic", "alembic/op", "alembic/context", "sqlalchemy", "sqlalchemy/pool", "app/models"):
            archive.writestr(f"{name}.py", "__version__ = '2.1.9'")
    return path


@pytest.mark.parametrize("start", [b"", b"#!/usr/bin/env python3\n"], ids=["plain", "with an interpreter"])
def test_a_zipapp_uses_the_standard_library_of_the_machine(start: bytes, files: Files, tmp_path: Path) -> None:
    """So an import of it is satisfied, and one of anything else is not."""
    scripts = {name: content for name, content in files.items() if name.startswith(TREE)}
    scripts[f"{TREE}/helper.py"] = b"import colorsys, xml.dom.minidom, inflection\n"
    archive = zipapp(tmp_path / "app.pyz", scripts)
    archive.write_bytes(start + archive.read_bytes())
    report = check(archive, select=["FK101", "FK131"])
    assert report.facts["bundle"] == "zipapp"
    assert [one.message for one in report.findings] == ["helper.py imports inflection, which is not in the bundle"]


def test_scripts_inside_library_zip_are_found(files: Files, tmp_path: Path) -> None:
    scripts = {name.removeprefix("lib/"): content for name, content in files.items() if name.startswith(TREE)}
    with zipfile.ZipFile(io.BytesIO(library())) as plain, zipfile.ZipFile(tmp_path / "library.zip", "w") as both:
        for name in plain.namelist():
            both.writestr(name, plain.read(name))
        for name, content in scripts.items():
            both.writestr(name, content)
    inside = {"app": files["app"], EXTENSION: b"", "lib/library.zip": (tmp_path / "library.zip").read_bytes()}
    report = check(write(tmp_path / "bundle", inside))
    assert report.findings == ()
    assert report.graphs[0].heads == ("0003",)


@pytest.mark.parametrize("at", ["Notes.app/Contents", "dist/Notes.app/Contents"])
def test_a_macos_application_is_read(at: str, files: Files, tmp_path: Path) -> None:
    """Modules lie in Frameworks, data in Resources, with links between the two. Not tried on a real one."""
    scripts = {name.removeprefix("lib/"): content for name, content in files.items() if name.startswith(TREE)}
    laid_out = {f"Resources/{name}": content for name, content in scripts.items()}
    laid_out |= {"MacOS/app": files["app"], "Frameworks/base_library.zip": library()}
    laid_out["Frameworks/lib-dynload/_sqlite3.cpython-311-darwin.so"] = b""
    contents_folder = write(tmp_path / at, laid_out)
    (contents_folder / "Frameworks/app").symlink_to("../Resources/app")
    (contents_folder / "Resources/base_library.zip").symlink_to("../Frameworks/base_library.zip")
    for given in (tmp_path / at.partition("/")[0], contents_folder.parent):
        report = check(given)
        assert (report.facts["bundle"], report.findings) == ("macOS application", ())
        assert len(report.graphs) == 1


@pytest.fixture
def nuitka_folder(tmp_path: Path, files: Files) -> Path:
    """A folder laid out as the list says that Nuitka 4.3.3 left on Linux; compiling it takes half an hour.

    Its files are empty but for the mark in the program, and the scripts are those of the other tests.
    """
    lines = (Path(__file__).parent / "nuitka_folder.txt").read_text(encoding="utf-8").splitlines()
    listed = {name: int(mode, 8) for mode, _, name in (line.split(" ", 2) for line in lines)}
    empty = {name: b"" for name in listed if not name.startswith("shop/")}
    scripts = {name.removeprefix("lib/"): content for name, content in files.items() if name.startswith(TREE)}
    program = b"\x7fELF" + bytes(1 << 20) + b"\0nuitka_module_loader\0"
    return write(tmp_path / "app.dist", {**empty, "app.bin": program, **scripts}, listed)


@pytest.mark.parametrize("given", ["", "app.bin"])
def test_a_nuitka_folder_is_known_for_what_it_cannot_tell(given: str, nuitka_folder: Path) -> None:
    """Its modules are compiled into the program, so no import is said to be missing."""
    report = check(nuitka_folder / given)
    assert (report.facts["bundle"], report.facts["modules"]) == ("Nuitka folder", "unknown")
    assert report.findings == ()


def test_scripts_that_nuitka_ships_without_a_manifest_are_a_finding(nuitka_folder: Path) -> None:
    (nuitka_folder / "app/migrations/freezekit.json").unlink()
    assert [one.id for one in check(nuitka_folder).findings] == ["FK106"]


def test_two_bundles_in_one_place_are_named(files: Files, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, files)
    with pytest.raises(UnreadableBundle, match=r"several bundles \(one/lib, two/lib\)"), open_bundle(tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nothing", None, "no such file"),
        ("empty", b"", "no bundle"),
        ("text", b"hello " * 100, "no bundle"),
        ("program", b"\x7fELF" + bytes(100), "no bundle"),
        ("archive.zip", b"PK\x03\x04rubbish", "unpacked"),
        ("package.deb", debian({"control.tar.gz": b""}), "no data.tar"),
        ("zst.deb", debian({"data.tar.zst": b""}), "zstd"),
        ("cut.deb", debian({"data.tar.xz": b"\xfd7zXZ"}), "unpacked"),
        ("app.AppImage", b"\x7fELF\x02\x01\x01\x00AI\x02" + bytes(90), "unsquashfs"),
    ],
)
def test_what_is_no_bundle_is_refused_in_a_sentence(
    name: str, content: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableBundle, match=words), open_bundle(tmp_path / name):
        pass


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(UnreadableBundle, match="holds no bundle"), open_bundle(tmp_path):
        pass


ESCAPES = ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt", "C:/outside.txt"]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_zip_that_leads_out_of_its_folder_is_refused(name: str, files: Files, tmp_path: Path) -> None:
    packed = as_zip(tmp_path, files)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(name, "harm")
    with pytest.raises(UnreadableBundle, match="leads out of it"), open_bundle(packed):
        pass
    assert not list(tmp_path.parent.rglob("outside.txt"))


def test_a_member_without_a_name_is_refused(files: Files, tmp_path: Path) -> None:
    broken = files["lib/library.zip"].replace(b"sqlite3.pyc", b"\0qlite3.pyc")
    with pytest.raises(UnreadableBundle, match="without a name"):
        check(write(tmp_path, {**files, "lib/library.zip": broken}))


def hostile_tar(path: Path, members: list[tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member)
    return path


@pytest.mark.parametrize(
    ("kind", "name", "link"),
    [
        (tarfile.REGTYPE, "../outside.txt", ""),
        (tarfile.REGTYPE, "lib/../../outside.txt", ""),
        (tarfile.SYMTYPE, "../outside.txt", "app"),
        (tarfile.LNKTYPE, "../outside.txt", "app"),
        (tarfile.LNKTYPE, "link", "../../etc/passwd"),
        (tarfile.LNKTYPE, "link", "/etc/passwd"),
    ],
)
def test_a_tar_that_leads_out_of_its_folder_is_refused(kind: bytes, name: str, link: str, tmp_path: Path) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    packed = hostile_tar(tmp_path / "a.tar", [member])
    with pytest.raises(UnreadableBundle, match=r"leads out of it|unpacked"), open_bundle(packed):
        pass
    assert not list(tmp_path.parent.rglob("outside.txt"))


def linked_tar(path: Path, files: Files, links: Mapping[str, str], kind: bytes = tarfile.SYMTYPE) -> Path:
    """Write a tar archive with links at its end."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            add_to_tar(archive, f"./opt/app/{name}", content, MODES.get(name, 0o644))
        for name, target in links.items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="has no links of this kind")
def test_links_in_a_package_lead_to_what_is_in_it(files: Files, tmp_path: Path) -> None:
    """Debian wants links from one top folder to another to be absolute; the key is the one that is linked to."""
    key = {"key.pem": b"-----BEGIN PRIVATE KEY-----"}
    links = {"usr/share/one.pem": "/opt/app/key.pem", "usr/two.pem": "../opt/app/key.pem"}
    report = check(linked_tar(tmp_path / "app.tar", {**files, **key}, links))
    shown = {finding.file for finding in report.findings if finding.id == "FK142"}
    assert {name.rpartition("/")[2] for name in shown if name} == {"key.pem", "one.pem", "two.pem"}
    same = check(linked_tar(tmp_path / "same.tar", {**files, **key}, {"x.pem": "./opt/app/key.pem"}, tarfile.LNKTYPE))
    assert len([one for one in same.findings if one.id == "FK142"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="has no links of this kind")
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../etc/passwd", "/../etc/passwd", "nowhere"])
def test_a_link_in_a_package_to_elsewhere_in_the_system_is_left_out(target: str, files: Files, tmp_path: Path) -> None:
    links = {"usr/key.pem": target, "usr/below": target.removesuffix("/passwd"), "usr/way.pem": "below/passwd"}
    assert check(linked_tar(tmp_path / "app.tar", files, links)).findings == ()
    (tmp_path / "secret.pem").write_text("-----BEGIN PRIVATE KEY-----")
    assert check(linked_tar(tmp_path / "own.tar", files, {"key.pem": f"{tmp_path}/secret.pem"})).findings == ()


@pytest.mark.skipif(sys.platform == "win32", reason="has no links of this kind")
def test_second_names_in_a_tar_are_read_as_they_are(tmp_path: Path) -> None:
    """GNU tar writes the second name of a link as a hard link to it, and a name twice if it packed it twice."""
    link, again = tarfile.TarInfo("here/link"), tarfile.TarInfo("there/again")
    link.type, link.linkname = tarfile.SYMTYPE, "../program"
    again.type, again.linkname = tarfile.LNKTYPE, "here/link"
    hard = tarfile.TarInfo("hard")
    hard.type, hard.linkname, hard.mode = tarfile.LNKTYPE, "./program", 0o755
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for content in (b"old", b"new"):
            add_to_tar(archive, "program", content, 0o755)
        for member in (link, again, hard, hard):
            archive.addfile(member)
    with containers.unpacked(str(tmp_path / "a.tar"), "tar") as (folder, modes):
        names = ("program", "here/link", "there/again", "hard")
        assert {(Path(folder) / name).read_bytes() for name in names} == {b"new"}
        assert os.readlink(Path(folder) / "there/again") == "../program"
        assert modes == {"program": 0o755, "hard": 0o755}


def test_a_size_below_nothing_makes_no_room_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "UNPACKED_LIMIT", 100_000)
    folder = tarfile.TarInfo("folder")
    folder.type, folder.size = tarfile.DIRTYPE, -(10**12)
    file = tarfile.TarInfo("file")
    file.size = 200_000
    content = folder.tobuf(tarfile.GNU_FORMAT) + file.tobuf(tarfile.GNU_FORMAT) + bytes(200_192 + 1024)
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UnreadableBundle, match="more than"), open_bundle(tmp_path / "a.tar"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="has no links of this kind")
def test_a_link_that_others_lead_elsewhere_writes_nothing_there(tmp_path: Path) -> None:
    """Here "a" leads to inside of the folder when it is made, and four folders above it once "p/q/r/s" is a link."""
    links = {"a": "p/q/r/s/../../../../home", "p/q/r/s": "../../..", "a/evil/one": "../../2/3/4/folder"}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    folder, home = tmp_path / "1/2/3/4/folder", tmp_path / "1/home"
    folder.mkdir(parents=True)
    home.mkdir()
    containers._unpack_tar(str(tmp_path / "a.tar"), str(folder))
    assert os.path.realpath(folder / "a") == str(home)
    assert os.listdir(home) == []


def test_a_member_below_a_link_of_a_tar_is_not_written_through_it(files: Files, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        archive.addfile(link)
        for name, content in {**files, "way/harm": b"harm"}.items():
            add_to_tar(archive, name, content, MODES.get(name, 0o644))
    assert check(tmp_path / "a.tar").findings == ()
    assert os.listdir(tmp_path / "outside") == []


def linked_zip(path: Path, files: Files, links: Mapping[str, str]) -> Path:
    """Write a zip archive with links in it, as `zip -y` and macOS do."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, target in links.items():
            member = zipfile.ZipInfo(name)
            member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(member, target)
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="has no links of this kind")
def test_a_zip_with_links_is_read_as_its_folder_would_be(files: Files, tmp_path: Path) -> None:
    """The modules of a macOS application are links to each other; that they are open to all means nothing."""
    scripts = {name.removeprefix("lib/"): content for name, content in files.items() if name.startswith(TREE)}
    contents_of = "Notes.app/Contents"
    laid_out = {f"{contents_of}/Resources/{name}": content for name, content in scripts.items()}
    laid_out |= {f"{contents_of}/MacOS/app": files["app"], f"{contents_of}/Frameworks/base_library.zip": library()}
    laid_out[f"{contents_of}/Frameworks/lib-dynload/_sqlite3.cpython-311-darwin.so"] = b""
    links = {"Frameworks/app": "../Resources/app", "Resources/base_library.zip": "../Frameworks/base_library.zip"}
    shown = {f"{contents_of}/{name}": target for name, target in links.items()}
    report = check(linked_zip(tmp_path / "Notes.zip", laid_out, shown))
    assert (report.facts["bundle"], report.findings) == ("macOS application", ())


@pytest.mark.skipif(sys.platform == "win32", reason="has no links of this kind")
@pytest.mark.parametrize("target", ["/etc", "../../../../../../etc", "lib/../../.."])
def test_a_link_in_a_zip_that_leads_out_is_left_out(target: str, files: Files, tmp_path: Path) -> None:
    """Also where a member lies below it: that becomes a folder of its own."""
    packed = linked_zip(
        tmp_path / "app.zip", {**files, "way/passwd.pem": b"-----BEGIN PRIVATE KEY-----"}, {"way": target}
    )
    (finding,) = check(packed).findings
    assert (finding.id, finding.file) == ("FK142", "way/passwd.pem")
    only = linked_zip(tmp_path / "only.zip", files, {"way": target, "lib/app/key.pem": f"{target}/passwd"})
    assert check(only).findings == ()


@pytest.mark.skipif(sys.platform == "win32", reason="has neither links nor pipes of this kind")
def test_links_that_lead_out_and_pipes_are_not_read(files: Files, tmp_path: Path) -> None:
    """A pipe would be waited for for ever; a link could be to anything of the person who checks."""
    (tmp_path / "secret").write_text("-----BEGIN PRIVATE KEY-----")
    bundle = write(tmp_path / "bundle", files)
    (bundle / "lib/app/key.pem").symlink_to(tmp_path / "secret")
    (bundle / "lib/app/loop").symlink_to(bundle / "lib")
    (bundle / "lib/app/zero.pem").symlink_to("/dev/zero")
    (bundle / "lib/app/gone.pem").symlink_to("nowhere")
    os.mkfifo(bundle / "lib/app/pipe.pem")
    assert check(bundle).findings == ()


def test_an_archive_that_unpacks_to_too_much_is_refused(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "UNPACKED_LIMIT", 1000)
    for pack in (as_zip, as_tar("gz"), as_deb):
        with pytest.raises(UnreadableBundle, match="more than"), open_bundle(pack(tmp_path, files)):
            pass


def test_a_file_that_is_too_long_is_refused(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside library.zip, where a small member may become a very long one."""
    monkeypatch.setattr(contents, "READ_LIMIT", 10_000)
    for name in (f"{TREE}/data.bin", "lib/library.zip"):
        with pytest.raises(UnreadableBundle, match="longer than"):
            check(write(tmp_path / name, {**files, name: bytes(10_001)}))


def damaged(content: bytes, chance: random.Random) -> bytes:
    kind, position = chance.choice(["cut", "flip", "flip", "zero"]), chance.randrange(len(content))
    if kind == "cut":
        return content[:position]
    if kind == "flip":
        return content[:position] + bytes([content[position] ^ 1 << chance.randrange(8)]) + content[position + 1 :]
    return content[:position] + bytes(min(64, len(content) - position)) + content[position + 64 :]


def report_or_refusal(path: Path, **how: Any) -> bool:
    """Check a bundle; whatever is wrong with it must be a finding or an UnreadableBundle."""
    try:
        check(path, **how)
    except UnreadableBundle as error:
        return bool(error.reason)
    return True


@pytest.mark.parametrize("name", [one for one in CONTAINERS if one not in ("folder", "program", "tar.bz2")])
def test_a_damaged_archive_is_never_a_traceback(name: str, files: Files, tmp_path: Path) -> None:
    """Cut off anywhere, or with any bit turned."""
    chance = random.Random(name)
    packed = CONTAINERS[name](tmp_path, files)
    content = packed.read_bytes()
    for _ in range(60):
        packed.write_bytes(damaged(content, chance))
        assert report_or_refusal(packed)


def test_a_damaged_file_in_a_bundle_is_never_a_traceback(files: Files, tmp_path: Path) -> None:
    chance = random.Random(7)
    bundle = write(tmp_path, files)
    names = ["lib/library.zip", f"{TREE}/freezekit.json", *SCRIPTS]
    for _ in range(200):
        name = chance.choice(names)
        (bundle / name).write_bytes(damaged(files[name], chance))
        assert report_or_refusal(bundle), name
        (bundle / name).write_bytes(files[name])
