"""The parts of a smoke test that need no bundle: requests, the clean room, rules about content, the report."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import sys
import time
from contextlib import closing
from pathlib import Path

import jsonschema
import pytest
from sample_data import RELEASES, plain_upgrade

from freezekit.check.content import broken_rules, copy_database, difference, statements
from freezekit.check.formats import SMOKE_SCHEMA, TEXTS, schema
from freezekit.check.room import Room, bundle_of, clean_room
from freezekit.check.smoke import PHASES, Phase, SmokeReport, smoke
from freezekit.cli import main
from freezekit.errors import UsageError
from freezekit.runtime import selftest
from freezekit.runtime.selfcheck import Answer
from freezekit.runtime.selftest import answer, read_request, scratch_file

TOKEN = "0123456789abcdef" * 2
on_posix = pytest.mark.skipif(os.name == "nt", reason="about POSIX permissions and processes")


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """The folder of a valid request."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    (folder / "request-1.json").write_text(json.dumps({"format": 1, "token": TOKEN}))
    return folder


def program(folder: Path, text: str) -> Path:
    """Write a program that stands for a onefile bundle: it needs nothing but a shell."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def database(path: Path, *sql: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(";".join(sql))
    return path


def test_a_request_of_the_runner_is_read(private: Path) -> None:
    found = read_request(f"{TOKEN}:{private}/request-1.json")
    assert found is not None
    assert (found["folder"], found["number"]) == (str(private), 1)


def _public(folder: Path) -> None:
    folder.chmod(0o755)


def _linked(folder: Path) -> None:
    (folder / "request-1.json").rename(folder.parent / "elsewhere.json")
    (folder / "request-1.json").symlink_to(folder.parent / "elsewhere.json")


def _hard_linked(folder: Path) -> None:
    os.link(folder / "request-1.json", folder.parent / "elsewhere.json")


def _newer(folder: Path) -> None:
    (folder / "request-1.json").write_text(json.dumps({"format": 2, "token": TOKEN}))


def _rubbish(folder: Path) -> None:
    (folder / "request-1.json").write_text("[")


@on_posix
@pytest.mark.parametrize("spoil", [_public, _linked, _hard_linked, _newer, _rubbish])
def test_what_is_not_exactly_a_request_is_ignored(private: Path, spoil: object) -> None:
    assert callable(spoil)
    spoil(private)
    assert read_request(f"{TOKEN}:{private}/request-1.json") is None


@pytest.mark.parametrize(
    "asked",
    ["", "1", TOKEN, f"{'f' * 32}:{{}}/request-1.json", f"{TOKEN}:request-1.json", f"{TOKEN}:{{}}/request-x.json"],
)
def test_a_variable_that_names_no_request_is_ignored(private: Path, asked: str) -> None:
    assert read_request(asked.format(private)) is None


def test_a_program_that_is_not_frozen_answers_nothing(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(selftest.VARIABLE, f"{TOKEN}:{private}/request-1.json")
    answer()
    assert [path.name for path in private.iterdir()] == ["request-1.json"]


@pytest.mark.parametrize("name", ["../x.db", "/etc/passwd", "a/b", "", ".", "..", None, "x\0y"])
def test_a_scratch_file_is_a_plain_name_inside_the_folder(private: Path, name: object) -> None:
    with pytest.raises(ValueError, match="plain name"):
        scratch_file(str(private), name)


@on_posix
def test_a_scratch_file_is_no_link(private: Path) -> None:
    """Neither kind leads out of the folder."""
    outside = database(private.parent / "outside.db")
    (private / "soft.db").symlink_to(outside)
    outside.touch()
    os.link(outside, private / "hard.db")
    for name in ("soft.db", "hard.db"):
        with pytest.raises(ValueError, match="not a file of this folder"):
            scratch_file(str(private), name)


def test_an_answer_replaces_no_file(private: Path) -> None:
    (private / "answer-1.jsonl").write_text("mine")
    with pytest.raises(FileExistsError):
        Answer(str(private), 1)


def test_fewer_rows_are_a_loss_unless_the_table_may_shrink(tmp_path: Path) -> None:
    before = database(tmp_path / "a", "CREATE TABLE one (x); INSERT INTO one VALUES (1), (2); CREATE TABLE two (y)")
    after = database(tmp_path / "b", "CREATE TABLE one (x); INSERT INTO one VALUES (1)")
    assert broken_rules(before, after) == ["table one had 2 rows and has 1"]
    assert broken_rules(before, after, may_shrink=["ONE"]) == []


def test_a_rule_is_a_select_that_finds_nothing(tmp_path: Path) -> None:
    before = database(tmp_path / "a", "CREATE TABLE one (x); INSERT INTO one VALUES (1)")
    after = database(tmp_path / "b", "CREATE TABLE one (x); INSERT INTO one VALUES (2)")
    kept = statements(
        "-- all; stay\nSELECT x FROM old.one\nEXCEPT SELECT x FROM main.one; SELECT ';' WHERE 0;\nSELECT 1 WHERE 0"
    )
    assert len(kept) == 3
    (broken,) = broken_rules(before, after, rules=kept)
    assert broken.endswith("found (1,)")
    (unknown,) = broken_rules(before, after, rules=["SELECT * FROM nothing;"])
    assert "cannot be asked" in unknown


def test_a_rule_that_is_no_select_is_refused() -> None:
    with pytest.raises(UsageError, match="DELETE"):
        statements("DELETE FROM one;")


def test_databases_are_compared_by_schema_version_and_rows(tmp_path: Path) -> None:
    one = plain_upgrade(RELEASES[0], tmp_path / "one.db")
    other = plain_upgrade(RELEASES[0], tmp_path / "other.db")
    assert not difference(one, other, "alembic_version", is_repeatable=True)
    database(other, "UPDATE note SET title = 'another'")
    assert difference(one, other, "alembic_version", is_repeatable=True) == "the rows are others in note"
    assert not difference(one, other, "alembic_version", is_repeatable=False)
    database(other, "UPDATE alembic_version SET version_num = '0001'")
    assert difference(one, other, "alembic_version", is_repeatable=False).endswith("not at ('0001',)")
    database(other, "CREATE TABLE another (x)")
    assert difference(one, other, "alembic_version", is_repeatable=False) == "the schema is another one"


@pytest.mark.parametrize("beside", ["_internal", "lib"])
def test_a_program_with_a_folder_of_modules_beside_it_is_a_bundle(tmp_path: Path, beside: str) -> None:
    (tmp_path / beside).mkdir()
    assert bundle_of(program(tmp_path, "")) == tmp_path


def test_a_program_of_nuitka_with_extensions_beside_it_is_a_bundle(tmp_path: Path) -> None:
    """One that was compiled only to be faster has its project beside it."""
    path = program(tmp_path, ": nuitka_module_loader")
    assert bundle_of(path) == path
    (tmp_path / "_ctypes.so").touch()
    assert bundle_of(path) == tmp_path
    assert bundle_of(program(tmp_path, "")) == path


def test_a_program_alone_is_a_bundle_of_one_file(tmp_path: Path) -> None:
    path = program(tmp_path, "")
    assert bundle_of(path) == path


@on_posix
def test_a_program_runs_elsewhere_with_nothing_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A space and a letter beyond ASCII, an empty home, no PATH to Python, no window."""
    monkeypatch.setenv("PYTHONPATH", "x")
    with clean_room(
        program(tmp_path, 'echo "$0"; pwd; echo "$PATH"; echo "$PYTHONPATH."; echo "$HOME"; export')
    ) as room:
        ended = room.run([], 20)
        where, folder, path, pythonpath, home, *others = ended.output.splitlines()
        assert ended.returncode == 0
        assert Path(where).parent.parent.name == "Programs of Zoë"
        assert folder.startswith(home)
        assert not list(Path(path).iterdir())
        assert pythonpath == "."
        assert any("offscreen" in one for one in others)
    assert not room.folder.exists()


@on_posix
def test_sources_are_out_of_sight_and_the_bundle_is_read_only(tmp_path: Path) -> None:
    """Where the system has namespaces; where it has not, the report says so."""
    text = f'test -e "{Path(__file__)}" && exit 3\n(: > "${{0%/*}}/lib/x") && exit 4\nexit 5'
    (tmp_path / "lib").mkdir()
    with clean_room(program(tmp_path, text), hide=[Path(__file__).parent]) as room:
        ended = room.run([], 20)
        if not room.prefix:
            assert str(room.describe()["isolation"]).startswith("none")
            pytest.skip("this system has no namespaces for this user")
        assert ended.returncode == 5, ended.output
        assert room.run([], 20, writable=True).returncode == 4


@on_posix
def test_a_program_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    """Also what left its process group and holds on to its output."""
    script = f'import os, time; os.setsid(); open("{tmp_path}/pid", "w").write(str(os.getpid())); time.sleep(60)'
    (tmp_path / "child.py").write_text(script)
    interpreter = os.path.realpath(sys.executable)
    path = program(tmp_path, f'"{interpreter}" -S "{tmp_path}/child.py" &\nwhile :; do :; done')
    with clean_room(path) as room:
        plain = Room(room.folder, room.bundle, room.executable, (), ())
        running = plain.start([])
        while not (pid := (tmp_path / "pid")).exists() or not pid.read_text():
            assert running.process.poll() is None
            time.sleep(0.01)
        ended = running.wait(0.0)
        assert ended.returncode is None
        assert _is_gone(int(pid.read_text()))


def _is_gone(pid: int) -> bool:
    """Return whether a process ends soon; one that has ended and was not collected counts."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@on_posix
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", "the program ended with exit code 3"),
        ("while :; do :; done", "the program was stopped after 1 s"),
        ("echo rubbish", "it is at"),
        ('echo rubbish > "$2"', "cannot be read afterwards: file is not a database"),
    ],
    ids=["crashes", "hangs", "prints rubbish", "writes rubbish"],
)
def test_a_fake_program_fails_the_phase_of_the_application(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "freezekit.json").write_text(_manifest())
    report = smoke(program(tmp_path, text), app_command="open {db}", databases=RELEASES[:1], timeout=1)
    assert report.failure is not None
    assert report.failure.phase == "application"
    assert said in report.failure.output


def said(phase: str, data: object = None, **more: object) -> str:
    return json.dumps({"phase": phase, "outcome": "passed", "seconds": 0.1, "detail": "", "data": data, **more})


START = {"versions": {"Python": 3}, "chains": [{}]}
LIES = {
    "no JSON": "rubbish",
    "no objects": "[1]",
    "half a line": '{"phase"',
    "nested without end": "[" * 100_000,
    "a phase and nothing else": '{"phase": "start"}',
    "an outcome of another type": said("start", START, outcome=[]),
    "an outcome that is none": said("start", START, outcome="fine"),
    "no versions": said("start", {"versions": 1, "chains": 1}),
    "a chain that is none": "\n".join([said("start", {**START, "chains": [1]}), said("files", [1]), said("empty")]),
    "another number of chains": "\n".join([said("start", START), said("files", [{}, {}])]),
    "a database of a chain that is not there": "\n".join(
        [said("start", START), said("files", [{}]), said("empty"), said("releases", {"release-0.db": 7})]
    ),
    "all is well, and nothing is done": "\n".join(
        [said("start", START), said("files", [{}]), *(said(name) for name in PHASES[2:-5] if name != "releases")]
    ),
}


@on_posix
@pytest.mark.parametrize("lines", LIES.values(), ids=list(LIES))
def test_a_fake_program_that_answers_rubbish_fails(tmp_path: Path, lines: str) -> None:
    """It says that it can test itself, and ends well; whatever it answers, there is a report, and no success."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "lines").write_text(f"{lines}\n")
    read = 'while IFS= read -r line; do printf "%s\\n" "$line"; done'
    where = (
        "asked=${FREEZEKIT_SELFTEST#*:}; answer=${asked%/*}/answer-${asked##*request-}; answer=${answer%.json}.jsonl"
    )
    text = f': pyi_rth_freezekit\n{where}\n{read} < "${{0%/*}}/lib/lines" > "$answer"'
    report = smoke(program(tmp_path, text), databases=RELEASES[:1], timeout=5)
    assert report.failure is not None
    assert [phase.name for phase in report.phases] == list(PHASES)
    assert TEXTS["sarif"](report.to_report())


@on_posix
def test_a_program_that_leaves_a_child_ends_with_it(tmp_path: Path) -> None:
    """Neither is the child waited for, nor does it outlive the test."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "freezekit.json").write_text(_manifest())
    path = program(tmp_path, f'(echo started > "{tmp_path}/child"; while :; do :; done) &\nexit 3')
    report = smoke(path, app_command="open {db}", databases=RELEASES[:1], timeout=30)
    assert report.failure is not None
    assert report.failure.output.endswith("the program ended with exit code 3")
    assert report.seconds < 25
    mark = f"{tmp_path}/child".encode()
    assert not [one for one in Path("/proc").glob("[0-9]*") if mark in _command_line(one)]


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def _with_journal(path: Path, mode: str) -> sqlite3.Connection:
    """Write a database whose last change is not in it yet (WAL), or is to be rolled back, as a killed program would."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE note (body)")
    connection.execute("INSERT INTO note VALUES ('kept')")
    if mode == "delete":
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
            "INSERT INTO note SELECT hex(randomblob(500)) FROM n"
        )
    return connection


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_is_copied_with_the_journal_beside_it(tmp_path: Path, mode: str) -> None:
    """Otherwise the last changes of a past release would be gone, or half of one would be there."""
    with closing(_with_journal(tmp_path / "live.db", mode)):
        copy = copy_database(tmp_path / "live.db", tmp_path / "copy.db")
    assert len(list(tmp_path.glob("copy.db-*"))) == 1
    with closing(sqlite3.connect(copy)) as found:
        assert found.execute("SELECT body FROM note").fetchall() == [("kept",)]


@on_posix
def test_a_manifest_is_found_wherever_the_freezer_keeps_files(tmp_path: Path) -> None:
    """So that what an application left behind at the start counts, also where the bundle cannot test itself."""
    (tmp_path / "_internal" / "app").mkdir(parents=True)
    (tmp_path / "_internal" / "app" / "freezekit.json").write_text(_manifest())
    report = smoke(program(tmp_path, ""), app_command="open {db}", databases=RELEASES[:1])
    assert report.failure is not None
    assert (report.failure.phase, "it is at" in report.failure.output) == ("application", True)


@on_posix
def test_a_program_that_writes_into_its_bundle_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    report = smoke(program(tmp_path, ': > "${0%/*}/lib/log.txt"'), app_command="{db}", databases=RELEASES[:1])
    assert report.failure is not None
    assert (report.failure.phase, report.failure.output) == ("bundle", "written into the bundle: lib/log.txt")


def _manifest() -> str:
    import freezekit

    return freezekit.locate("sample_app:migrations").manifest.to_json()


def test_a_bundle_that_cannot_answer_fails_and_does_not_start(tmp_path: Path) -> None:
    """Starting an application that nobody asked for anything could open a window."""
    report = smoke(program(tmp_path, f'touch "{tmp_path}/started"'))
    assert report.failure is not None
    assert report.failure.phase == "start"
    assert [phase.name for phase in report.phases] == list(PHASES)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"skip": ["nonsense"]}, "no phase 'nonsense'"),
        ({"app_command": "open"}, "{db}"),
        ({"databases": ["nowhere.db"]}, "nowhere.db"),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        smoke(program(tmp_path, ""), **wrong)  # type: ignore[arg-type]


def test_the_command_prints_a_table_and_the_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = program(tmp_path, "")
    assert main(["smoke", str(path)]) == 1
    printed = capsys.readouterr().out
    assert "start" in printed
    assert "selftest = false" in printed


def test_the_document_has_the_data_of_the_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = program(tmp_path, "")
    assert main(["smoke", str(path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    validator = jsonschema.Draft202012Validator(schema(SMOKE_SCHEMA))
    validator.check_schema(schema(SMOKE_SCHEMA))
    validator.validate(document)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**document, "more": 1})
    assert (document["version"], document["command"]) == (1, "smoke")
    assert document["failure"]["type"] == "SmokeTestFailed"
    assert (document["failure"]["phase"], document["failure"]["returncode"]) == ("start", None)
    assert [phase["name"] for phase in document["phases"]] == list(PHASES)


def test_the_command_refuses_what_is_no_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", str(tmp_path)]) == 2
    assert "no program" in capsys.readouterr().err


def test_a_report_without_failures_raises_nothing() -> None:
    SmokeReport("app", {}, {}, (), (Phase("start", "passed"), Phase("old", "skipped")), 0.0).raise_for_failure()


@pytest.mark.parametrize("form", ["junit", "sarif", "github"])
def test_a_failed_phase_is_an_error_in_every_format(form: str) -> None:
    """The same formats as those of a check: one rule for each phase, one finding for each that failed."""
    phases = (Phase("start", "passed"), Phase("old", "failed", detail="it said no"), Phase("twice", "skipped"))
    report = SmokeReport("dist/app", {}, {"Python": "3.11"}, (), phases, 1.0).to_report()
    assert (report.is_failure, [rule.id for rule in report.rules]) == (True, ["start", "old", "twice"])
    text = TEXTS[form](report)
    assert "it said no" in text
    assert "old" in text


def test_a_page_of_a_smoke_test_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a program that does not answer: the page and the exit code tell of the failure."""
    code = main(["smoke", str(program(tmp_path, "")), "--format", "github", "--html", str(tmp_path / "page.html")])
    assert code == 1
    assert capsys.readouterr().out.startswith("::error title=start::")
    assert "start" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_copy_of_a_bundle_is_private(tmp_path: Path) -> None:
    """Requests are answered only from a folder that is closed to others."""
    with clean_room(program(tmp_path, "")) as room:
        assert os.name == "nt" or stat.S_IMODE(room.scratch.stat().st_mode) == 0o700
