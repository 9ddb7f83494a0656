"""Files that were damaged, or made to do harm: an error that names them or a right answer, and not a byte changed."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import sys
import zipfile
from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from harness import made_subject, state

import freezekit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Subject

    from freezekit import Status


EVERYTHING = {"refused", "refused by the upgrade", "upgraded"}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return made_subject("rollback journal", tmp_path_factory.mktemp("hostile"))


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return a file with a few bytes, a block or its end changed."""
    data = bytearray(content)
    kind = chance.randrange(6)
    if kind == 0:
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del data[chance.randrange(len(data)) :]
    elif kind == 2:
        at = chance.randrange(len(data))
        data[at : at + chance.randint(1, 600)] = chance.randbytes(chance.randint(1, 600))
    elif kind == 3:
        data[chance.randrange(min(100, len(data)))] = chance.randrange(256)
    elif kind == 4:
        one, other = (4096 * chance.randrange(max(len(data) // 4096, 1)) for _ in range(2))
        data[one : one + 4096], data[other : other + 4096] = data[other : other + 4096], data[one : one + 4096]
    else:
        data += chance.randbytes(chance.randint(1, 5000))
    return bytes(data)


def answered(question: Callable[[], Any]) -> Any:
    """Return an answer, or the error with a name; any other error is a failure of the test."""
    try:
        return question()
    except freezekit.FreezekitError as error:
        return error


def test_a_damaged_document_is_refused_or_upgraded(subject: Subject, tmp_path: Path, factor: int) -> None:
    """What is refused is as it was, byte for byte; nothing is left beside it but its backup."""
    migrations = freezekit.locate(subject.scripts)
    original = subject.original.read_bytes()
    chance = random.Random(2)
    refused = 0
    for _ in range(250 * factor):
        document = tmp_path / "folder" / "document"
        shutil.rmtree(document.parent, ignore_errors=True)
        document.parent.mkdir()
        content = mutated(original, chance)
        document.write_bytes(content)
        answered(lambda path=document: migrations.status(path))
        assert document.read_bytes() == content
        answer = answered(lambda path=document: migrations.upgrade(path))
        if isinstance(answer, freezekit.FreezekitError):
            refused += 1
            assert document.read_bytes() == content, answer
        else:
            assert migrations.status(document).pending == ()
            with closing(sqlite3.connect(document)) as connection:
                assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert not [one for one in subject.strays(document) if not one.endswith((".bak", "-journal"))]
    assert 0 < refused < 250 * factor


def test_a_damaged_manifest_is_refused_or_understood(subject: Subject, tmp_path: Path, factor: int) -> None:
    """The answer is the one of the sound manifest; one that names another version table finds no version."""
    scripts = tmp_path / "migrations"
    shutil.copytree(subject.scripts, scripts)
    text = freezekit.locate(scripts).manifest.to_json().encode()
    right = freezekit.locate(scripts).status(subject.original)
    unversioned = replace(right, current=(), pending=freezekit.locate(scripts).manifest.pending(()))
    chance = random.Random(3)
    outcomes: Counter[str] = Counter()
    for number in range(400 * factor):
        content = mutated(text, chance) if number % 2 else _with_another_value(text, chance)
        (scripts / "freezekit.json").write_bytes(content)
        wanted = right if _version_table(content) == _version_table(text) else unversioned
        outcomes[tried(freezekit.locate(scripts), subject, tmp_path / "folder", wanted)] += 1
    assert set(outcomes) == EVERYTHING, outcomes


def _version_table(manifest: bytes) -> object:
    """Return what a manifest says of the version table; by default it is Alembic's, or what env.py says."""
    try:
        found = json.loads(manifest).get("version_table")
    except (ValueError, AttributeError):
        return None
    return "alembic_version" if found is None else found


def tried(migrations: freezekit.Migrations, subject: Subject, folder: Path, right: Status) -> str:
    """Ask for the status of a document, and upgrade it, with scripts that may be damaged; return what became of it.

    Args:
        migrations: The scripts.
        subject: The document.
        folder: Emptied for a copy of it.
        right: The only right answer.
    """
    document = subject.copy_to(folder)
    before = document.read_bytes()
    status = answered(lambda: migrations.status(document))
    assert document.read_bytes() == before
    assert isinstance(status, freezekit.FreezekitError) or status == right
    report = answered(lambda: migrations.upgrade(document))
    if isinstance(report, freezekit.FreezekitError):
        assert document.read_bytes() == before, report
        return "refused" if isinstance(status, freezekit.FreezekitError) else "refused by the upgrade"
    assert subject.name_of(state(document)) == "new"
    return "upgraded"


def _with_another_value(text: bytes, chance: random.Random) -> bytes:
    """Return a manifest in which one value is of another kind, or missing."""
    document: dict[str, Any] = json.loads(text)
    name = chance.choice(list(document))
    values: list[Any] = [None, 1, -1.5, "", "x", [], [1], ["x"], {}, {"x": 1}, True, [[]], [{}]]
    if name == "revisions" and chance.random() < 1 / 2:
        revision = chance.choice(document["revisions"])
        revision[chance.choice(list(revision))] = chance.choice(values)
    elif chance.random() < 1 / 4:
        del document[name]
    else:
        document[name] = chance.choice(values)
    return json.dumps(document).encode()


def test_a_damaged_zip_is_refused_or_understood(
    subject: Subject, tmp_path: Path, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scripts and their manifest inside a zip, as in ``library.zip``: the answer is right, and so is an upgrade."""
    sound = freezekit.locate(subject.scripts)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("shop/__init__.py", "")
        archive.writestr("shop/migrations/freezekit.json", sound.manifest.to_json())
        for path in sorted(subject.scripts.rglob("*.py")):
            archive.write(path, f"shop/migrations/{path.relative_to(subject.scripts).as_posix()}")
    right = sound.status(subject.original)
    chance = random.Random(4)
    outcomes: Counter[str] = Counter()
    for number in range(150 * factor):
        library = tmp_path / f"library{number}.zip"
        library.write_bytes(mutated(packed.getvalue(), chance))
        with monkeypatch.context() as patched:
            patched.syspath_prepend(str(library))
            for name in [one for one in sys.modules if one.partition(".")[0] == "shop"]:
                patched.delitem(sys.modules, name)
            migrations = answered(lambda: freezekit.locate("shop:migrations"))
            if isinstance(migrations, freezekit.FreezekitError):
                outcomes["refused"] += 1
            else:
                outcomes[tried(migrations, subject, tmp_path / "folder", right)] += 1
    assert set(outcomes) == EVERYTHING, outcomes
