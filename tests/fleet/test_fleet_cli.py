"""``freezekit upgrade-many``: what it prints, and what it ends with."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleets import ENDLESS, HERE, old_files
from sample_data import ROOT, content, pending

from freezekit import Tenant
from freezekit.cli import main

if TYPE_CHECKING:
    from histories import Project


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@h1:5432,h2:5433/db",
        "postgresql://u:se@cr:et@h:x/db",
        "no+such://u:secret@h/db",
        "no+such+one://u:secret",
        "no+such+one://h/db?password=secret",
    ],
)
def test_a_line_that_is_no_url_shows_no_password(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list").write_text(url)
    for given in ([url], ["--from-file", str(tmp_path / "list")], ["--url", url, "--url-query", "SELECT 1"]):
        assert main(["upgrade-many", *given, "--json", *HERE]) in (1, 2)
        said = "".join(capsys.readouterr())
        assert "secret" not in said
        assert "se@cr" not in said
        assert "UsageError" in said
    assert "secret" not in str(Tenant(url))


class TestCommandLine:
    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def test_each_database_is_a_line_of_json(self, documents: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
        """They are printed as they are finished; the last line is a summary."""
        assert main(["upgrade-many", *map(str, documents), "absent", "--json", *HERE]) == 1
        *found, last = self.lines(capsys)
        assert {one["result"] for one in found} == {"upgraded", "failed"}
        assert all(one["version"] == 1 and one["command"] == "upgrade-many" for one in (*found, last))
        (failed,) = (one for one in found if one["error"])
        assert (failed["database"], failed["error"]["type"]) == ("absent", "NotADatabase")
        upgraded = next(one for one in found if one["database"] == str(documents[0]))
        assert upgraded["applied"] == list(pending("1.0"))
        assert upgraded["backup"].endswith(".bak")
        assert last["summary"].items() >= {"upgraded": 6, "failed": 1, "left": 0}.items()

    def test_all_lines_go_to_a_file_if_one_is_named(
        self, documents: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A step of an installer has no standard output to read them from."""
        answer = tmp_path / "answer.jsonl"
        assert main(["upgrade-many", *map(str, documents), "--json", "--output", str(answer), *HERE]) == 0
        *found, last = map(json.loads, answer.read_text(encoding="utf-8").splitlines())
        assert {one["database"] for one in found} == set(map(str, documents))
        assert last["summary"]["upgraded"] == 6
        assert capsys.readouterr().out == ""

    def test_a_person_gets_a_summary_and_what_failed(
        self, documents: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["upgrade-many", f"{documents[0].parent}/*.notes", *HERE]) == 0
        assert "6 databases" in capsys.readouterr().out
        assert main(["upgrade-many", f"{documents[0].parent}/*.notes", *map(str, range(30)), *HERE]) == 1
        said = capsys.readouterr().out
        assert "6 current, 30 failed" in said
        assert "there is no such file" in said
        assert "and 10 more" in said

    def test_the_rest_is_left_after_as_many_failures_as_are_named(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project.revision("b2", "a1", "raise ValueError('never')")
        command = ["upgrade-many", *map(str, old_files(project, "abcdefgh")), "--workers", "1", "--json"]
        command += ["--migrations", str(project.migrations)]
        assert main([*command, "--stop-after-failures", "2"]) == 1
        summary = self.lines(capsys)[-1]["summary"]
        assert 2 <= summary["failed"] <= 4  # what was handed out already is finished
        assert summary["left"] == 8 - summary["failed"]
        assert main(command) == 1
        assert self.lines(capsys)[-1]["summary"]["failed"] == 8

    def test_a_list_may_hold_nonsense(
        self, documents: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every line is a name or is reported; a name that is no text is a name."""
        odd = tmp_path / os.fsdecode(b"\xff\xfe odd.notes")
        documents[0].rename(odd)
        listed = tmp_path / "list"
        content_of = [*(os.fsencode(one) for one in (odd, *documents[1:])), b"", b"# no such file", b"\x00\x01", b"://"]
        listed.write_bytes(b"\n".join(content_of))
        assert main(["upgrade-many", "--from-file", str(listed), "--json", *HERE]) == 1
        *found, last = self.lines(capsys)
        assert (len(found), last["summary"]["left"]) == (9, 0)
        names = {one["database"]: one for one in found}
        assert {name for name, one in names.items() if one["error"]} == {"# no such file", "\x00\x01", "://"}
        assert names[str(odd)]["applied"]

    def test_a_line_of_a_list_is_no_pattern(
        self, documents: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A file that is gone by now must not stand for another one."""
        documents[0].rename(tmp_path / "gone1.db")
        (tmp_path / "list").write_text(f"{tmp_path}/gone[1].db\n")
        before = (tmp_path / "gone1.db").read_bytes()
        assert main(["upgrade-many", "--from-file", str(tmp_path / "list"), *HERE]) == 1
        assert "no such file" in capsys.readouterr().out
        assert (tmp_path / "gone1.db").read_bytes() == before

    def test_an_error_of_the_command_itself_is_one_line_too(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments in (["--from-file", str(tmp_path / "absent")], ["--no-such-option"], []):
            assert main(["upgrade-many", *arguments, "--json", *HERE]) != 0
            (only,) = self.lines(capsys)
            assert only["error"]["type"] in ("FileNotFoundError", "UsageError")

    def test_a_list_that_cannot_be_read_is_no_empty_one(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "freezekit", "upgrade-many", "--from-file", "-", *HERE]
        with open(tmp_path / "for writing only", "w") as file:
            result = subprocess.run(
                command, stdin=file, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False, timeout=60
            )
        assert (result.returncode, "Bad file descriptor" in result.stderr) == (1, True), result

    def test_a_mark_before_the_first_line_is_no_part_of_it(self, documents: list[Path], tmp_path: Path) -> None:
        """As editors of Windows put there."""
        (tmp_path / "list").write_text(str(documents[0]), encoding="utf-8-sig")
        assert main(["upgrade-many", "--from-file", str(tmp_path / "list"), *HERE]) == 0

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
    def test_lines_that_cannot_be_written_end_it_with_a_sentence(self, documents: list[Path]) -> None:
        command = [sys.executable, "-m", "freezekit", "upgrade-many", "--json", *map(str, documents), *HERE]
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False, timeout=60
            )
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "No space left on device" in result.stderr

    @pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
    @pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
    def test_a_signal_is_heard_while_nothing_comes_from_standard_input(
        self, number: str, documents: list[Path]
    ) -> None:
        """What was read is reported, and that there may be more."""
        command = [sys.executable, "-m", "freezekit", "upgrade-many", "--from-file", "-", "--json", *HERE]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{documents[0]}\n://\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["database"] == "://"
            process.send_signal(getattr(signal, number))
            rest = [json.loads(line) for line in process.stdout]
            process.stdin.close()
        assert process.returncode == 1
        assert [one.get("database") for one in rest] == [str(documents[0]), "the rest of what was given", None]
        assert rest[-1]["summary"]["left"] == 2

    def test_a_list_is_read_from_standard_input(self, documents: list[Path]) -> None:
        command = [sys.executable, "-m", "freezekit", "upgrade-many", "--from-file", "-", *HERE]
        names = "\n".join(map(str, documents))
        done = subprocess.run(command, input=names, capture_output=True, text=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "6 upgraded" in done.stdout

    def test_a_query_names_the_databases(
        self, documents: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        control = tmp_path / "control.db"
        with closing(sqlite3.connect(control)) as connection, connection:
            connection.execute("CREATE TABLE customer (url)")
            connection.executemany("INSERT INTO customer VALUES (?)", [(f"sqlite:///{one}",) for one in documents])
        query = ["--url", f"sqlite:///{control}", "--url-query", "SELECT url FROM customer"]
        assert main(["upgrade-many", *query, *HERE]) == 0
        assert "6 upgraded" in capsys.readouterr().out
        assert main(["upgrade-many", *query[:3], "SELECT 1, 2", *HERE]) == 2
        assert "one column" in capsys.readouterr().err
        absent = tmp_path / "absent.db"
        assert main(["upgrade-many", "--url", f"sqlite:///{absent}", *query[2:], *HERE]) == 2
        assert not absent.exists()
        capsys.readouterr()
        some = f"SELECT 'sqlite:///{documents[0]}' UNION ALL SELECT NULL UNION ALL SELECT 1"
        assert main(["upgrade-many", *query[:3], some, "--json", *HERE]) == 1
        counts = {"upgraded": 0, "current": 1, "failed": 2, "left": 0, "duplicate": 0}
        assert self.lines(capsys)[-1]["summary"].items() >= counts.items()

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["--url", "sqlite:///x"],
            ["--url-query", "SELECT 1"],
            ["x", "--no-backup", "--keep", "2"],
            ["x", "-x", "name={schema}"],
        ],
        ids=["nothing", "no query", "no url", "two minds", "no schema"],
    )
    def test_wrong_usage_is_told(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["upgrade-many", *arguments, *HERE]) == 2
        assert capsys.readouterr().err

    @pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
    def test_ctrl_c_rolls_back_and_lists_the_rest(self, project: Project) -> None:
        project.revision("b2", "a1", ENDLESS)
        files = old_files(project, "abcd")
        for file in files:
            Path(f"{file}.endless").touch()
        before = {file: content(file) for file in files}
        listening = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from freezekit.cli import main; sys.exit(main())"
        )
        command = [sys.executable, "-c", listening, "upgrade-many", *map(str, files), "--json", "--workers", "1"]
        command += ["--migrations", str(project.migrations)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            while not Path(f"{files[0]}.begun").exists():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        *found, last = map(json.loads, out.splitlines())
        assert process.returncode == 1
        assert [one["result"] for one in found] == ["left"] * 4
        assert last["summary"]["left"] == 4
        assert {file: content(file) for file in files} == before
