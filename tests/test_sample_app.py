"""sample_app: its history, the documents of its past releases, and its commands."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sample_data import (
    RELEASES,
    ROOT,
    columns,
    content,
    expected_head,
    pending,
    plain_config,
    plain_upgrade,
    release_heads,
    revisions,
)

import sample_app
from sample_app import models, words
from sample_app.cli import main
from sample_app.migrations.text import word_count
from sample_app.releases import make

if TYPE_CHECKING:
    from pathlib import Path

releases = pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)


def table(path: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table, by column name."""
    names = columns(path)[name]
    return [dict(zip(names, row, strict=True)) for row in content(path)[name]]


def pick(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """Return some columns of some rows, in a comparable order."""
    return sorted((tuple(row[name] for name in names) for row in rows), key=repr)


def tags_of_notes(path: Path) -> set[tuple[int, str]]:
    """Return which note has which tag, whichever release wrote the document."""
    if "note_tag" in content(path):
        names = {row["id"]: row["name"] for row in table(path, "tag")}
        return {(row["note_id"], names[row["tag_id"]]) for row in table(path, "note_tag")}
    return {(row["id"], name) for row in table(path, "note") if row["labels"] for name in row["labels"].split(", ")}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a copy of the document that release 1.0 wrote."""
    return shutil.copyfile(RELEASES[0], tmp_path / "old.notes")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Return a document of the current version with the content of the 2.0 document."""
    return plain_upgrade(RELEASES[2], tmp_path / "document.notes")


class TestHistory:
    """The migration scripts, run by plain Alembic."""

    def test_history_is_one_line_from_first_to_expected_head(self, tmp_path: Path) -> None:
        """The list that other tests rely on is what Alembic reads from the scripts."""
        scripts = ScriptDirectory.from_config(plain_config(tmp_path / "unused.notes"))
        assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == revisions
        assert scripts.get_heads() == [expected_head]

    @pytest.mark.parametrize("release", [None, *RELEASES], ids=lambda path: path.stem if path else "new")
    def test_schema_at_head_is_what_the_models_say(self, release: Path | None, tmp_path: Path) -> None:
        """Autogenerate finds nothing to do, whatever the document began as."""
        path = plain_upgrade(release, tmp_path / "head.notes")
        engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
        with engine.connect() as connection:
            options = {"compare_type": True, "compare_server_default": True, "render_as_batch": True}
            differences = compare_metadata(MigrationContext.configure(connection, opts=options), models.Base.metadata)
        assert differences == []

    @releases
    def test_history_can_be_undone_and_redone(self, release: Path, tmp_path: Path) -> None:
        """Down to the release's own revision and up again gives the same notes with the same tags and attachments."""
        path = plain_upgrade(release, tmp_path / "round.notes")
        before = content(path), tags_of_notes(path)
        command.downgrade(plain_config(path), release_heads[release.stem])
        plain_upgrade(None, path)
        after = content(path), tags_of_notes(path)
        for name in ("notebook", "note", "attachment"):
            assert len(after[0][name]) == len(before[0][name])
        assert after[1] == before[1]


@releases
class TestPastReleases:
    """The documents that past releases wrote."""

    def test_document_is_at_the_revision_of_its_release(self, release: Path) -> None:
        """The file carries the version of the program that wrote it."""
        assert content(release)["alembic_version"] == [(release_heads[release.stem],)]

    def test_document_has_children_everywhere(self, release: Path) -> None:
        """Losing the children of a rebuilt parent table would show."""
        assert len(content(release)["notebook"]) >= 5
        assert 10 <= len(content(release)["note"]) <= 30
        assert len(tags_of_notes(release)) >= 10
        assert len(content(release)["attachment"]) >= 4
        assert release.stat().st_size < 60_000

    def test_document_can_be_made_again(self, release: Path, tmp_path: Path) -> None:
        """The generator that is kept beside the documents writes the same rows."""
        make.make(tmp_path)
        assert content(tmp_path / release.name) == content(release)

    def test_upgrade_reaches_head_with_sound_references(self, release: Path, tmp_path: Path) -> None:
        """Plain Alembic brings every past release's document to head, and no row refers to nothing."""
        path = plain_upgrade(release, tmp_path / "head.notes")
        assert content(path)["alembic_version"] == [(expected_head,)]
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def test_upgrade_keeps_what_the_user_wrote(self, release: Path, tmp_path: Path) -> None:
        """Notes, tags and attachments are those of the old document, under their new names."""
        path = plain_upgrade(release, tmp_path / "head.notes")
        old_body = "text" if release.stem == "1.0" else "body"
        shared = ("id", "notebook_id", "title", "written_on", "pinned")
        assert pick(table(path, "note"), *shared, "body") == pick(table(release, "note"), *shared, old_body)
        assert tags_of_notes(path) == tags_of_notes(release)
        assert pick(table(path, "notebook"), "id", "colour") == pick(table(release, "notebook"), "id", "colour")
        assert pick(table(path, "attachment"), "id", "note_id", "file_name", "content") == pick(
            table(release, "attachment"), "id", "note_id", "name", "content"
        )

    def test_upgrade_computes_what_is_new(self, release: Path, tmp_path: Path) -> None:
        """Word counts, slugs, sizes and names are filled from the old rows."""
        path = plain_upgrade(release, tmp_path / "head.notes")
        notes = table(path, "note")
        assert all(note["word_count"] == word_count(note["body"]) for note in notes)
        assert len({(note["notebook_id"], note["slug"]) for note in notes}) == len(notes)
        assert {note["slug"] for note in notes if note["title"] == "Crème brûlée"} == {"creme-brulee"}
        assert {note["slug"] for note in notes if note["title"] in {"月曜日", "火曜日"}} == {"note", "note-2"}
        names = {row["name"] for row in table(path, "notebook")}
        assert {"Arbeit", "Arbeit 2", "Untitled"} <= names
        sizes = {row["file_name"]: (row["media_type"], row["byte_count"]) for row in table(path, "attachment")}
        assert sizes["kuchen.png"] == ("image/png", len(make.PNG))
        assert (sizes["seeds.gif"], sizes["leer.txt"]) == (("image/gif", None), ("text/plain", 0))
        assert {"idea", "to do", "später", "重要"} <= {row["name"] for row in table(path, "tag")}


class TestGenerator:
    """``python -m sample_app.releases.make``."""

    def test_documents_are_not_overwritten_by_accident(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A document that exists is replaced with --force only."""
        tmp_path.joinpath("1.1.notes").write_bytes(b"precious")
        assert make.main(["--target", str(tmp_path)]) == 1
        assert "1.1.notes" in capsys.readouterr().err
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("1.1.notes", b"precious")]
        assert make.main(["--target", str(tmp_path), "--force"]) == 0
        assert content(tmp_path / "1.1.notes") == content(RELEASES[1])


class TestWords:
    """What the program derives itself agrees with what the migrations derived."""

    @pytest.mark.parametrize("note", make.NOTES, ids=lambda note: note.title[:12])
    def test_current_code_counts_as_the_migration_did(self, note: make.Note) -> None:
        """A note written today gets the number that an upgraded note has."""
        assert words.count_words(note.body) == word_count(note.body)

    def test_slug_avoids_those_taken(self) -> None:
        """Equal titles get numbers; a title without ASCII letters is called note."""
        assert words.slug("Crème brûlée!", set()) == "creme-brulee"
        assert words.slug("月曜日", {"note", "note-2"}) == "note-3"


class TestCommands:
    """The command line, through freezekit."""

    @releases
    def test_open_upgrades_an_old_document_as_plain_alembic_would(
        self, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The content is identical to that of an upgrade by plain Alembic; the backup is the old document."""
        path = shutil.copyfile(release, tmp_path / "mine.notes")
        assert main(["open", str(path), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert tuple(printed["applied"]) == pending(release.stem)
        assert printed["state_before"] == "behind"
        assert content(tmp_path / printed["backup"]) == content(release)
        assert content(path) == content(plain_upgrade(release, tmp_path / "plain.notes"))

    def test_open_lists_what_it_upgraded_and_then_only_the_notes(
        self, old: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The second ``open`` has nothing to upgrade, so it says nothing of it."""
        assert main(["open", str(old)]) == 0
        first = capsys.readouterr().out.splitlines()
        assert first[0] == f"upgraded {old}: {', '.join(pending('1.0'))}"
        assert first[1].startswith("backup: ")
        assert main(["open", str(old)]) == 0
        second = capsys.readouterr().out.splitlines()
        assert second == first[2:]
        assert "  * Pflaumenkuchen (5 words) #Rezept #süß [kuchen.png]" in second

    def test_json_of_a_current_document_says_nothing_was_applied(
        self, document: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """``open --json`` prints one document whether or not there was something to do."""
        assert main(["open", str(document), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["applied"], printed["state_before"], printed["backup"]) == ([], "current", None)
        notebooks = {notebook["name"]: notebook["notes"] for notebook in printed["contents"]["notebooks"]}
        assert [note["title"] for note in notebooks["日記"]] == ["月曜日", "火曜日", "", "水曜日", "木曜日"]
        assert notebooks["Empty on purpose"] == []

    def test_new_document_is_at_head(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A new document has the rows that plain Alembic gives an empty database, and nothing else."""
        path = tmp_path / "new.notes"
        assert main(["new", str(path)]) == 0
        assert capsys.readouterr().out == f"created {path}\n"
        assert content(path) == content(plain_upgrade(None, tmp_path / "plain.notes"))

    def test_added_note_is_listed(self, document: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """``add`` creates notebook and tags where they are new, and keeps the attached file."""
        tmp_path.joinpath("data.bin.txt").write_bytes(b"\0\1")
        note = ["--notebook", "Neu", "--title", "Grüße", "--body", "zwei Wörter", "--tag", "neu", "--tag", "idea"]
        extra = ["--date", "2026-03-01", "--attach", str(tmp_path / "data.bin.txt")]
        assert main(["add", str(document), *note, *extra]) == 0
        capsys.readouterr()
        assert main(["open", str(document)]) == 0
        assert "Neu\n  - Grüße (2 words) #idea #neu [data.bin.txt]\n" in capsys.readouterr().out

    def test_add_upgrades_first(self, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A note can be added to a document of any past release."""
        assert main(["add", str(old), "--notebook", "Arbeit", "--title", "Kick-off"]) == 0
        assert capsys.readouterr().out.startswith("upgraded ")
        assert len(content(old)["note"]) == len(content(RELEASES[0])["note"]) + 1

    @releases
    def test_export_saves_the_tagged_notes_and_leaves_the_document(
        self, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The target is a document at head with exactly the chosen rows; the source keeps every byte."""
        source, target = shutil.copyfile(release, tmp_path / "source.notes"), tmp_path / "subset.notes"
        before = source.read_bytes()
        assert main(["export", str(source), str(target), "--tag", "Rezept"]) == 0
        assert capsys.readouterr().out.startswith("exported ")
        assert source.read_bytes() == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source.notes", "subset.notes"]
        head, saved = content(plain_upgrade(release, tmp_path / "head.notes")), content(target)
        chosen = {note_id for note_id, tag in tags_of_notes(release) if tag == "Rezept"}
        assert saved["note"] == [row for row in head["note"] if row[0] in chosen]
        assert saved["note_tag"] == [row for row in head["note_tag"] if row[0] in chosen]
        assert [row[0] for row in saved["attachment"]] == [row[0] for row in head["attachment"] if row[1] in chosen]
        assert {row["name"] for row in table(target, "notebook")} == {"Küche & Garten"}
        assert {row["id"] for row in table(target, "tag")} == {row[1] for row in saved["note_tag"]}
        assert saved["alembic_version"] == [(expected_head,)]

    def test_status_changes_nothing(self, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """``status`` answers for an old, and for a missing document, and neither writes nor creates."""
        before = old.read_bytes()
        assert main(["status", str(old)]) == 0
        assert capsys.readouterr().out == "behind: at 0002, 8 pending\n"
        assert main(["status", str(tmp_path / "missing.notes")]) == 0
        assert capsys.readouterr().out.startswith("new: ")
        assert old.read_bytes() == before
        assert list(tmp_path.iterdir()) == [old]

    def test_version_is_the_literal(self, capsys: pytest.CaptureFixture[str]) -> None:
        """``--version`` needs no package metadata."""
        with pytest.raises(SystemExit, match="0"):
            main(["--version"])
        assert capsys.readouterr().out == f"sample_app {sample_app.__version__}\n"

    def test_program_runs_as_a_module(self, document: Path) -> None:
        """``python -m sample_app`` is the same program, and prints even where the terminal knows ASCII only."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
        arguments = [sys.executable, "-m", "sample_app", "open", str(document)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "  * Pflaumenkuchen (5 words) #Rezept #s?? [kuchen.png]" in done.stdout

    def test_start_imports_neither_sqlalchemy_nor_alembic(self) -> None:
        """Importing the program's documents costs nothing until one is read."""
        check = "import sys, sample_app.cli, sample_app.documents; sys.exit('sqlalchemy' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


REFUSED = {
    "open a missing file": (["open", "{missing}"], "There is no document"),
    "open a folder": (["open", "{folder}"], "There is no document"),
    "add to a missing file": (["add", "{missing}", "--notebook", "N", "--title", "T"], "There is no document"),
    "add without a title": (["add", "{old}", "--notebook", "N", "--title", " "], "must not be empty"),
    "add to an endless notebook": (["add", "{old}", "--notebook", "N" * 81, "--title", "T"], "longer than 80"),
    "attach a missing file": (
        ["add", "{old}", "--notebook", "N", "--title", "T", "--attach", "{missing}"],
        "to attach",
    ),
    "export a missing file": (["export", "{missing}", "{target}", "--tag", "work"], "There is no document"),
    "export an unknown tag": (["export", "{old}", "{target}", "--tag", "nobody"], "has the tag 'nobody'"),
    "export a tag without notes": (["export", "{old}", "{target}", "--tag", "重要"], "has the tag '重要'"),
    "export over a file": (["export", "{old}", "{old}", "--tag", "work"], "exists already"),
    "export into no folder": (["export", "{old}", "{missing}/x.notes", "--tag", "work"], "There is no folder"),
    "export no database": (["export", "{text}", "{target}", "--tag", "work"], ""),
    "create over a file": (["new", "{old}"], "exists already"),
    "create in no folder": (["new", "{missing}/x.notes"], "There is no folder"),
    "open no database": (["open", "{text}"], ""),
    "open a newer document": (["open", "{newer}"], ""),
    "export a newer document": (["export", "{newer}", "{target}", "--tag", "work"], ""),
    "add to a newer document": (["add", "{newer}", "--notebook", "N", "--title", "T"], ""),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_and_changes_nothing(
    arguments: list[str], reason: str, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that cannot do its work exits with 1, says why on stderr only, and leaves every file as it was."""
    newer = plain_upgrade(old, tmp_path / "newer.notes")
    with closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v4.0.0'")
    text = tmp_path / "text.notes"
    text.write_text("Dear diary, this is no database, but long enough to be one. " * 40)
    tmp_path.joinpath("folder").mkdir()
    names = {name: tmp_path / name for name in ("missing", "folder", "target")}
    before = {path.name: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}

    assert main([argument.format(old=old, newer=newer, text=text, **names) for argument in arguments]) == 1

    out, err = capsys.readouterr()
    assert (out, err.startswith("sample_app: ")) == ("", True)
    assert reason in err
    assert {path.name: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()} == before


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that does not exist is a matter of usage."""
    with pytest.raises(SystemExit, match="2"):
        main(["frobnicate"])
    assert "usage: sample_app" in capsys.readouterr().err
