"""Release memory: a shipped revision that is gone, edited or replaced is found; what is allowed is not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from sample_data import revisions

import freezekit
from freezekit.check.release import compare, read_manifests

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit import Manifest, Revision


@pytest.fixture
def shipped() -> Manifest:
    """The manifest of sample_app."""
    return freezekit.locate("sample_app:migrations").manifest


def changed(manifest: Manifest, which: str, **fields: object) -> Manifest:
    def change(one: Revision) -> Revision:
        return replace(one, **fields) if one.revision == which else one  # type: ignore[type-var]

    return replace(manifest, revisions=tuple(map(change, manifest.revisions)))


def test_the_same_history_has_no_findings(shipped: Manifest) -> None:
    assert compare(shipped, read_back(shipped)) == ()


def read_back(manifest: Manifest) -> Manifest:
    """The manifest as it comes back from its text."""
    return freezekit.Manifest.from_json(manifest.to_json(), "here")


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"sha256": "other"}, "edited", "was edited"),
        ({"down_revision": ("0001",)}, "reused", "now stands for one after 0001"),
        ({"depends_on": ("0001",)}, "reused", "the same id"),
        ({"revision": "renamed"}, "removed", "is gone"),
    ],
    ids=["edited", "other parent", "other dependency", "other id"],
)
def test_each_way_to_break_a_shipped_revision_is_found(
    shipped: Manifest, fields: dict[str, object], kind: str, words: str
) -> None:
    """The finding names the revision, says what happened, and fails."""
    failures = [one for one in compare(shipped, changed(shipped, revisions[4], **fields)) if one.is_failure]
    assert [(one.kind, one.revision) for one in failures] == [(kind, revisions[4])]
    assert words in failures[0].message


def test_every_revision_that_is_taken_away_is_missed(shipped: Manifest) -> None:
    for revision in revisions:
        left = tuple(one for one in shipped.revisions if one.revision != revision)
        findings = compare(shipped, replace(shipped, revisions=left))
        assert [(one.kind, one.revision) for one in findings] == [("removed", revision)]


def test_an_edit_with_a_reason_is_accepted(shipped: Manifest) -> None:
    """It is still listed, with its reason; a removed revision cannot be excused like that."""
    reasons = {revisions[2]: "a typing error in a comment", revisions[3]: "no reason is good enough"}
    new = changed(shipped, revisions[2], sha256="other")
    (edit,) = compare(shipped, new, reasons)
    assert (edit.kind, edit.accepted, edit.is_failure) == ("edited", "a typing error in a comment", False)
    left = tuple(one for one in shipped.revisions if one.revision != revisions[3])
    (removed,) = compare(shipped, replace(shipped, revisions=left), reasons)
    assert removed.is_failure


def test_a_new_revision_is_listed_and_allowed(shipped: Manifest) -> None:
    older = replace(shipped, revisions=shipped.revisions[:-1])
    (added,) = compare(older, shipped)
    assert (added.kind, added.is_failure) == ("added", False)


@pytest.mark.parametrize("form", ["json", "folder", "zip", "folder with zip"])
def test_a_manifest_is_read_from_every_form_of_release(shipped: Manifest, tmp_path: Path, form: str) -> None:
    place = tmp_path / "release"
    if form == "json":
        place.write_text(shipped.to_json())
    elif form == "folder":
        (place / "lib" / "x").mkdir(parents=True)
        (place / "lib" / "x" / "freezekit.json").write_text(shipped.to_json())
    else:
        place.mkdir()
        with ZipFile(place / "library.zip", "w") as archive:
            archive.writestr("x/freezekit.json", shipped.to_json())
        place = place / "library.zip" if form == "zip" else place
    assert list(read_manifests(place).values()) == [shipped]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("{", "no manifest"),
        ('{"format": 2}', "format is 2"),
        ('{"format": 1}', "no manifest"),
        ("[]", "no manifest"),
        ("PK, or so it says", "no program"),
    ],
)
def test_what_is_no_manifest_is_unreadable_by_name(tmp_path: Path, content: str | None, words: str) -> None:
    place = tmp_path / ("release.json" if content and content[0] in "{[" else "release")
    if content is not None:
        place.write_text(content)
    with pytest.raises(freezekit.UnreadableBundle, match=words):
        read_manifests(place)


def test_a_folder_without_a_manifest_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(freezekit.UnreadableBundle, match="holds no manifest"):
        read_manifests(tmp_path)


def test_a_manifest_is_the_same_text_for_the_same_scripts(shipped: Manifest) -> None:
    """So that a build that changes nothing changes no file; and it is plain JSON with its format in front."""
    assert read_back(shipped) == shipped
    assert read_back(shipped).to_json() == shipped.to_json()
    assert next(iter(json.loads(shipped.to_json()))) == "format"
