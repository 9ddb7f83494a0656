"""The command line: what each command prints, as text and as JSON, and the exit code of every outcome."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from sample_data import MIGRATIONS, RELEASES, ROOT, content, expected_head, pending, plain_upgrade, revisions
from sqlalchemy.exc import OperationalError

import freezekit
from freezekit import Migrations
from freezekit.cli import developers, main
from freezekit.cli import program as commands
from freezekit.cli.options import unharmed

HERE = ["--migrations", "sample_app:migrations"]
ONE_CHAIN = '[tool.freezekit]\nscript_location = "sample_app:migrations"\n'
# What runs tests in the background may have them, and all they start, ignore the signal.
LISTENING = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from freezekit.cli import main; sys.exit(main())"
)
CHAINS_INI = "[first]\nscript_location = one\n\n[second]\nscript_location = two\n"

SCRIPT = '''"""{doc}"""
from alembic import op
revision = "{revision}"
down_revision = None
def upgrade():
    {body}
'''


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document of the oldest release."""
    return Path(shutil.copy(RELEASES[0], tmp_path / "old.notes"))


@pytest.fixture
def migrations() -> Migrations:
    return freezekit.locate("sample_app:migrations")


@pytest.fixture
def own_scripts(tmp_path: Path) -> Path:
    """A folder with the stock env.py of sample_app and one revision; tests write its body."""
    folder = tmp_path / "own"
    (folder / "versions").mkdir(parents=True)
    shutil.copy(MIGRATIONS / "env.py", folder)
    write_script(folder, "op.execute('CREATE TABLE a (b)')")
    return folder


def write_script(folder: Path, body: str) -> None:
    (folder / "versions" / "one.py").write_text(SCRIPT.format(doc="do it", revision="one", body=body))


def in_state(state: str, folder: Path) -> Path:
    """Return a database in a state."""
    path = folder / f"{state}.notes"
    if state == "current":
        return plain_upgrade(RELEASES[0], path)
    if state == "foreign":
        path.write_text("a letter, not a database")
    elif state == "unversioned":
        execute(path, "CREATE TABLE guest (name)")
    elif state != "new":
        shutil.copy(RELEASES[0], path)
    if state == "ahead":
        execute(path, "UPDATE alembic_version SET version_num = 'from the future'")
    return path


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def json_of(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the one document on stdout; nothing may be on stderr."""
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def run_python(*args: str | os.PathLike[str], cwd: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, check=False, **options
    )


STATE_CODES = {"current": 0, "behind": 10, "new": 11, "ahead": 12, "unversioned": 13, "foreign": 14}


@pytest.mark.parametrize(("state", "code"), STATE_CODES.items(), ids=list(STATE_CODES))
def test_status_exits_with_the_code_of_the_state(
    state: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each state has a code of its own, and a word of its own; asking changes nothing."""
    path = in_state(state, tmp_path)
    before = path.read_bytes() if path.exists() else None
    assert main(["status", str(path), *HERE]) == code
    assert state in capsys.readouterr().out.splitlines()[1].split()
    assert main(["status", str(path), "--json", *HERE]) == code
    (found,) = json_of(capsys)["databases"]
    assert (found["state"], found["database"]) == (state, str(path))
    assert (path.read_bytes() if path.exists() else None) == before


def test_every_exit_code_of_status_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """The table in --help is the documentation of the codes."""
    assert main(["--help"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    documented = {words[1].rstrip(":"): int(words[0]) for words in lines if words and words[0].isdigit()}
    assert {state: documented.get(state) for state in STATE_CODES if state != "current"} == {
        state: code for state, code in STATE_CODES.items() if state != "current"
    }
    assert {"0", "1", "2"} <= {words[0] for words in lines if words}


def test_status_of_several_databases_exits_with_the_highest_code(tmp_path: Path) -> None:
    paths = [str(in_state(state, tmp_path)) for state in ("behind", "ahead", "current")]
    assert main(["status", *paths, *HERE]) == STATE_CODES["ahead"]


def test_status_tells_all_of_several_databases_when_one_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One document that is locked hides nothing about the others, and the exit code is 1."""
    locked = in_state("current", tmp_path)
    with closing(sqlite3.connect(locked)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        code = main(["status", str(locked), str(in_state("ahead", tmp_path)), "--json", *HERE])
    failed, other = json_of(capsys)["databases"]
    assert code == 1
    assert failed["error"]["type"] == "DatabaseInUse"
    assert failed["error"]["path"] == str(locked)
    assert other["state"] == "ahead"


def test_the_json_of_status(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", str(document), "--json", *HERE])
    assert json_of(capsys) == {
        "version": 1,
        "command": "status",
        "databases": [
            {
                "database": str(document),
                "state": "behind",
                "current": ["0002"],
                "heads": [expected_head],
                "pending": list(pending("1.0")),
                "reason": "",
                "tables": [],
                "leftovers": [],
            }
        ],
    }


def test_the_json_of_plan(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to a target, parents first, each with its sentence and its file; nothing runs."""
    before = document.read_bytes()
    assert main(["plan", str(document), "--revision", "+2", "--json", *HERE]) == 0
    assert json_of(capsys) == {
        "version": 1,
        "command": "plan",
        "database": str(document),
        "state": "behind",
        "target": "+2",
        "revisions": [
            {"revision": "5d1c0e8f27aa", "doc": "tags in tables of their own", "file": "versions/1.1-add-tags.py"},
            {"revision": "b82f64d01c7a", "doc": "tags to begin with", "file": "versions/1.1-starter-tags.py"},
        ],
    }
    assert document.read_bytes() == before


def test_plan_lists_revisions_in_order_for_a_person(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(document), *HERE]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{document} is behind; an upgrade would run:"
    assert [line.split()[0] for line in out[2:]] == list(pending("1.0"))


def test_plan_says_when_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = in_state("current", tmp_path)
    assert main(["plan", str(path), *HERE]) == 0
    assert capsys.readouterr().out == f"{path} is current; there is nothing to do.\n"


def test_sql_prints_statements_that_change_nothing(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = document.read_bytes()
    assert main(["sql", str(document), "--revision", "5d1c0e8f27aa", *HERE]) == 0
    text = capsys.readouterr().out
    assert "CREATE TABLE note_tag" in text
    assert main(["sql", str(document), "--revision", "5d1c0e8f27aa", "--json", *HERE]) == 0
    assert json_of(capsys) == {
        "version": 1,
        "command": "sql",
        "database": str(document),
        "target": "5d1c0e8f27aa",
        "sql": text,
    }
    assert document.read_bytes() == before


def test_the_json_of_upgrade(document: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result is that of plain Alembic; the copy is named in the document."""
    plain = plain_upgrade(document, tmp_path / "plain.db")
    assert main(["upgrade", str(document), "--json", *HERE]) == 0
    found = json_of(capsys)
    assert found.pop("seconds") >= 0
    assert found == {
        "version": 1,
        "command": "upgrade",
        "database": str(document),
        "applied": list(pending("1.0")),
        "backup": f"{document}.0002.bak",
        "state_before": "behind",
        "heads": [expected_head],
        "dangling": 0,
        "rehearsed": False,
        "fits": None,
    }
    assert content(document) == content(plain)
    assert content(Path(f"{document}.0002.bak")) == content(RELEASES[0])


def test_upgrade_tells_a_person_what_it_did_and_then_that_there_was_nothing_to_do(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upgrade", str(document), *HERE]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{document} was upgraded to {expected_head} in ")
    assert f"{document}.0002.bak" in out
    assert err == ""
    assert main(["upgrade", str(document), *HERE]) == 0
    assert capsys.readouterr().out == f"{document} is at {expected_head}; there was nothing to do.\n"


def test_a_rehearsal_says_what_would_happen(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = document.read_bytes()
    assert main(["upgrade", "--rehearse", str(document), *HERE]) == 0
    assert capsys.readouterr().out.startswith(f"{document} would be upgraded to {expected_head} in ")
    assert document.read_bytes() == before
    assert [path.name for path in document.parent.iterdir()] == [document.name]


def test_upgrade_creates_a_database_given_by_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.notes"
    assert main(["upgrade", f"sqlite:///{path}", "--revision", "0001", *HERE]) == 0
    assert capsys.readouterr().out.startswith(f"{path} was created at 0001 in ")
    assert content(path)["alembic_version"] == [("0001",)]


def test_upgrade_makes_no_copy_if_told_so(document: Path) -> None:
    assert main(["upgrade", str(document), "--no-backup", *HERE]) == 0
    assert [path.name for path in document.parent.iterdir()] == [document.name]


def test_upgrade_keeps_as_many_copies_as_it_is_told_where_it_is_told(document: Path, tmp_path: Path) -> None:
    """The newest copies of one database stay; the oldest go."""
    folder = tmp_path / "copies"
    options = ["--backup-folder", str(folder), "--keep", "2", *HERE]
    for target in revisions[2:5]:
        assert main(["upgrade", str(document), "--revision", target, *options]) == 0
    kept = sorted(path.name.partition("-")[2].partition(".")[2] for path in folder.iterdir())
    assert kept == [f"{one}.bak" for one in revisions[2:4]]


def test_x_arguments_reach_env_py(tmp_path: Path, own_scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that comes again gets a list; what scripts print never mixes with the answer."""
    write_script(own_scripts, "from alembic import context; print(context.get_x_argument())")
    database = str(tmp_path / "x.db")
    options = ["-x", "a=1", "-x", "b=2=3", "-x", "a=4", "--migrations", str(own_scripts)]
    assert main(["upgrade", database, "--json", *options]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["applied"] == ["one"]
    assert "['a=1', 'a=4', 'b=2=3']" in err


def test_the_json_of_verify(capsys: pytest.CaptureFixture[str], migrations: Migrations) -> None:
    assert main(["verify", "--json", *HERE]) == 0
    assert json_of(capsys) == {
        "version": 1,
        "command": "verify",
        "script_location": "sample_app:migrations",
        "bundle": "source",
        "heads": [expected_head],
        "revisions": len(revisions),
        "files": len(migrations.manifest.files),
    }
    assert main(["verify", *HERE]) == 0
    assert "can be read" in capsys.readouterr().out


def test_verify_finds_a_script_that_was_altered_since_it_was_shipped(
    own_scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finding is exit code 1, and JSON lists each."""
    options = ["--migrations", str(own_scripts)]
    assert main(["manifest", "--output", str(own_scripts / "freezekit.json"), *options]) == 0
    assert main(["verify", *options]) == 0
    write_script(own_scripts, "op.execute('DROP TABLE a')")
    capsys.readouterr()
    assert main(["verify", "--json", *options]) == 1
    error = json_of(capsys)["error"]
    assert error["type"] == "InvalidMigrations"
    assert error["issues"] == [f"{own_scripts / 'versions' / 'one.py'} was altered since it was shipped"]


def test_the_json_of_manifest(capsys: pytest.CaptureFixture[str], migrations: Migrations) -> None:
    """Without --json it is the manifest itself, with it the manifest in a document like all others."""
    manifest = json.loads(migrations.manifest.to_json())
    assert main(["manifest", *HERE]) == 0
    assert json_of(capsys) == manifest
    assert main(["manifest", "--json", *HERE]) == 0
    assert json_of(capsys) == {"version": 1, "command": "manifest", "output": None, "manifest": manifest}


def test_manifest_writes_the_file_that_a_build_ships(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], migrations: Migrations
) -> None:
    path = tmp_path / "freezekit.json"
    assert main(["manifest", "--output", str(path), *HERE]) == 0
    assert str(path) in capsys.readouterr().out
    assert path.read_bytes().decode() == migrations.manifest.to_json()


FULL = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
    "from freezekit.cli import main; sys.exit(main())"
)


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits for the size of files")
def test_a_disk_that_gets_full_leaves_the_old_file(tmp_path: Path) -> None:
    """The file has its old content or all of the new one, and nothing is left beside it."""
    path = tmp_path / "freezekit.json"
    path.write_text("the old one")
    result = run_python("-c", FULL, "manifest", "--output", path, *HERE)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"freezekit: {path}: File too large\n"
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("freezekit.json", "the old one")]


@pytest.mark.skipif(sys.platform == "win32", reason="has other rights, and links for administrators only")
def test_a_file_keeps_its_rights_and_its_links_when_it_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("the old one")
    real.chmod(0o640)
    link.symlink_to(real.name)
    assert main(["manifest", "--output", str(link), *HERE]) == 0
    assert json.loads(real.read_text(encoding="utf-8"))["heads"] == [expected_head]
    assert (link.is_symlink(), real.stat().st_mode & 0o777) == (True, 0o640)


COMMANDS_THAT_ANSWER = {
    "status": ["{}"],
    "plan": ["{}"],
    "sql": ["{}"],
    "upgrade": ["{}"],
    "upgrade-many": ["{}"],
    "create": ["new.notes"],
    "adopt": ["{}"],
    "backups list": ["{}"],
    "backups restore": ["old.notes", "{}"],
    "backups prune": ["{}", "--keep", "1"],
    "verify": [],
    "manifest": HERE,
    "init": [],
    "flags": ["nuitka"],
    "diff": ["old", "new"],
    "check": ["nowhere"],
    "smoke": ["nowhere"],
}
WRITING = {
    **{f"{name} --output": [*name.split(), *args, "--output"] for name, args in COMMANDS_THAT_ANSWER.items()},
    "check --html": ["check", "nowhere", "--html"],
    "smoke --html": ["smoke", "nowhere", "--html"],
}


def test_every_option_that_names_a_file_to_write_is_known_here() -> None:
    """A command that gets another one has to refuse databases, too."""
    found = set()
    for command in (*commands.SHIPPED, *developers.COMMANDS):
        below = command.commands if isinstance(command, click.Group) else {"": command}
        for name, one in below.items():
            targets = [option.opts[0] for option in one.params if option.callback is unharmed]
            assert "--output" in targets
            found |= {" ".join(filter(None, [command.name, name, option])) for option in targets}
    assert found == set(WRITING)


def test_a_refused_file_keeps_the_lock_that_its_own_program_holds(document: Path, migrations: Migrations) -> None:
    """As in a shipped program: to close a file drops all POSIX locks that the process has on it."""
    attempt = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    with closing(sqlite3.connect(document, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert main(["manifest", "--output", str(document)], migrations) == 2
        other = subprocess.run([sys.executable, "-c", attempt, document], capture_output=True, text=True, check=False)
        assert "database is locked" in other.stderr


@pytest.mark.parametrize("argv", WRITING.values(), ids=list(WRITING))
def test_no_option_writes_over_a_database(
    argv: list[str], document: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not over its journals either, which may hold its newest rows; refused before anything is done."""
    monkeypatch.chdir(document.parent)
    for mode, journal in (("DELETE", "old.notes-journal"), ("WAL", "old.notes-wal")):
        with closing(sqlite3.connect(document)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("UPDATE note SET text = hex(randomblob(10000))")
            left = document.with_name(journal).read_bytes()
            connection.rollback()
        document.with_name(f"left by {mode}").write_bytes(left)
    before = {path: path.read_bytes() for path in document.parent.iterdir()}
    for target in before:
        assert main([*(one.format(document) for one in argv), str(target)]) == 2
        assert f"{argv[-1]} {target} is a database" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in document.parent.iterdir()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="has neither pipes nor devices with names")
@pytest.mark.parametrize("argv", [WRITING["manifest --output"], WRITING["check --html"], WRITING["verify --output"]])
def test_no_option_replaces_what_is_no_ordinary_file(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe, which nobody reads from either, stands for a device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert main([*argv, str(pipe)]) == 2
    assert f"{argv[-1]} {pipe} is no ordinary file" in capsys.readouterr().err
    assert pipe.is_fifo()
    assert main([*argv, str(tmp_path / "a\0b")]) == 2
    assert "names no file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "sql", "upgrade"])
@pytest.mark.parametrize(
    ("state", "error", "data"),
    [
        ("ahead", "DatabaseAhead", {"current": ["from the future"], "heads": [expected_head]}),
        ("unversioned", "DatabaseUnversioned", {"tables": ["guest"]}),
        ("foreign", "NotADatabase", {"reason": "it is not an SQLite file"}),
    ],
)
def test_a_database_that_cannot_be_upgraded_is_refused_with_its_data(  # noqa: PLR0913, PLR0917 - a table and fixtures
    command: str, state: str, error: str, data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error is one sentence on stderr, or one JSON document on stdout with the attributes of the error."""
    path = in_state(state, tmp_path)
    before = path.read_bytes()
    assert main([command, str(path), *HERE]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("freezekit: ")
    assert "Traceback" not in err
    assert main([command, str(path), "--json", *HERE]) == 1
    found = json_of(capsys)
    assert (found["version"], found["command"], found["error"]["type"]) == (1, command, error)
    assert found["error"]["message"] == err.removeprefix("freezekit: ").rstrip()
    assert found["error"].items() >= data.items()
    assert path.read_bytes() == before


def test_a_revision_that_fails_is_named(tmp_path: Path, own_scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_script(own_scripts, "raise ValueError('no such day')")
    path = tmp_path / "x.db"
    assert main(["upgrade", str(path), "--json", "--migrations", str(own_scripts)]) == 1
    error = json_of(capsys)["error"]
    assert (error["type"], error["failed"], error["restored"]) == ("MigrationFailed", "one", True)
    assert "no such day" in error["message"]
    assert not path.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize(("device", "is_full"), [("/dev/full", True), ("/dev/null/none", False)])
def test_a_full_disk_is_told_in_json(
    device: str, *, is_full: bool, own_scripts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installer reads there whether it is worth trying again once there is room."""
    write_script(own_scripts, f"with open('{device}', 'wb', 0) as file: file.write(b'x')")
    assert main(["upgrade", str(tmp_path / "x.db"), "--json", "--migrations", str(own_scripts)]) == 1
    error = json_of(capsys)["error"]
    assert (error["type"], error["disk_full"]) == ("MigrationFailed", is_full)


def test_a_database_in_use_is_waited_for_as_long_as_told(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(document)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert main(["upgrade", str(document), "--timeout", "0", "--json", *HERE]) == 1
    assert json_of(capsys)["error"]["type"] == "DatabaseInUse"


def test_scripts_that_are_not_there_are_reported_with_every_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--migrations", "sample_app:nowhere", "--json"]) == 1
    error = json_of(capsys)["error"]
    assert error["type"] == "MigrationsNotFound"
    assert error["searched"]


def test_a_driver_that_is_not_installed_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user can do something about it: no traceback, and no password."""
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    assert main(["status", "postgresql+psycopg2://u:secret@localhost/x", *HERE]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("freezekit: ModuleNotFoundError: ")
    assert "secret" not in err


def test_a_server_that_does_not_answer_is_a_sentence_in_the_drivers_words(
    migrations: Migrations, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQLAlchemy's errors are about the user's server; its links for developers are left out."""

    def fail(_db: str) -> None:
        raise OperationalError("SELECT 1", {}, ConnectionError("connection refused"))

    monkeypatch.setattr(migrations, "status", fail)
    assert main(["status", "x"], migrations=migrations) == 1
    assert capsys.readouterr().err.endswith(": OperationalError: connection refused\n")


def test_a_mistake_in_freezekit_itself_is_not_hidden(migrations: Migrations, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a user can do something about becomes a sentence."""
    monkeypatch.setattr(migrations, "status", lambda _db: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["status", "x"], migrations=migrations)


@pytest.mark.parametrize(
    "argv",
    [
        ["status"],
        ["nonsense"],
        ["upgrade", "x", "--keep", "0"],
        ["upgrade", "x", "--timeout", "-1"],
        ["upgrade", "x", "--timeout", "soon"],
        ["upgrade", "x", "-x", "no equals sign"],
        ["upgrade", "x", "--no-backup", "--keep", "2", *HERE],
        ["upgrade", "x", "--no-backup", "--backup-folder", "y", *HERE],
        ["upgrade", "x", "--revision", "never written", *HERE],
        ["status", "nosuchdialect://x", *HERE],
        *([*words, *HERE] for words in (["status", "a\0b"], ["upgrade", "a\0b"], ["create", "a\0b"])),
        ["backups", "restore", "a\0b", "x", *HERE],
        ["plan", "x", "--migrations", ""],
        ["plan", "x", "--unknown"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With and without --json; nothing is created."""
    argv = [str(tmp_path / "x") if one == "x" else one for one in argv]
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("freezekit: ")
    assert main([*argv, "--json"]) == 2
    found = json_of(capsys)
    assert found["version"] == 1
    assert found["error"]["type"] == "UsageError"
    assert list(tmp_path.iterdir()) == []


def test_no_arguments_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "freezekit: Missing command. See 'freezekit --help'.\n"


HELP = {
    "status": "where each database stands",
    "plan": "the revisions an upgrade would run",
    "sql": "the SQL an upgrade would run",
    "upgrade": "Upgrade a database, or create it",
    "upgrade-many": "Upgrade many databases",
    "create": "Create a new SQLite file at head",
    "adopt": "Give a database without a version",
    "backups list": "List the backups of a database",
    "backups restore": "Put a backup in place of a database",
    "backups prune": "Remove all but the newest backups",
    "verify": "Compare every script with the manifest",
    "manifest": "Print the manifest of the scripts",
    "init": "Give a project without migrations a folder",
    "flags": "Print a freezer's options that ship the migrations",
    "diff": "Compare the revisions of two releases",
    "check": "Look into a finished bundle",
    "smoke": "Run a finished bundle in a clean room",
}
ABOUT_BUILDS = ("init", "flags", "diff", "check", "smoke")
SHIPPED = [command for command in HELP if command not in ABOUT_BUILDS]


def test_every_command_is_known_here() -> None:
    names = []
    for command in (*commands.SHIPPED, *developers.COMMANDS):
        below = command.commands if isinstance(command, click.Group) else {"": command}
        names += [f"{command.name} {name}".rstrip() for name in below]
    assert names == list(HELP)


@pytest.mark.parametrize(("command", "does"), HELP.items(), ids=list(HELP))
def test_the_help_of_a_command_says_what_it_does(command: str, does: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    own = capsys.readouterr().out
    assert does in own
    assert "--json" in own
    assert main([*command.split()[:-1], "--help"]) == 0
    assert does in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"freezekit {freezekit.__version__}\n"


def test_a_shipped_program_has_no_command_about_builds(
    migrations: Migrations, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it would need does not ship."""
    for command in ABOUT_BUILDS:
        assert main([command, "a", "b"], migrations=migrations) == 2
    assert main(["--help"], migrations=migrations) == 0
    words = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert not words & set(ABOUT_BUILDS)


@pytest.mark.parametrize("command", SHIPPED)
def test_a_shipped_program_is_not_told_which_scripts_to_run(
    command: str, migrations: Migrations, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the scripts given by the program, the options that name others are neither shown nor accepted."""
    assert main([*command.split(), "--help"], migrations=migrations) == 0
    shown = capsys.readouterr().out
    assert "--migrations" not in shown
    assert "--section" not in shown
    assert main([*command.split(), "x", *HERE], migrations=migrations) == 2


def test_a_shipped_program_works_from_any_folder(
    document: Path, tmp_path: Path, migrations: Migrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["upgrade", str(document)], migrations=migrations) == 0
    assert main(["status", document.name], migrations=migrations) == 0


def test_a_shipped_program_speaks_with_its_own_name(
    migrations: Migrations, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/programs/notes"])
    assert main(["plan"], migrations=migrations) == 2
    assert capsys.readouterr().err == "notes: Missing argument 'DB'. See 'notes plan --help'.\n"


def test_a_program_can_say_what_is_typed_before_the_arguments(
    migrations: Migrations, capsys: pytest.CaptureFixture[str]
) -> None:
    """In help, in advice and in errors: what they name can be typed."""
    assert main(["plan"], migrations=migrations, program="notes db") == 2
    assert capsys.readouterr().err == "notes db: Missing argument 'DB'. See 'notes db plan --help'.\n"
    assert main(["plan", "--help"], migrations=migrations, program="notes db") == 0
    assert capsys.readouterr().out.startswith("Usage: notes db plan [OPTIONS] DB\n")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["status", "{}"], 10, "behind"),
        (["upgrade", "{}"], 0, expected_head),
        (["plan"], 2, "Missing argument"),
        (["verify"], 0, "sample_app:migrations"),
        (["restore"], 2, "No such command"),
        (["create", "{}"], 2, "old.notes"),
    ],
    ids=["status", "upgrade", "usage", "verify", "no-command", "refused"],
)
def test_without_a_console_the_answer_is_in_a_file(  # noqa: PLR0913, PLR0917 - a table and fixtures
    argv: list[str],
    code: int,
    said: str,
    form: str,
    document: Path,
    migrations: Migrations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An installer's step reads what happened from the file of --output, errors of usage too."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    answer = document.with_name("answer \u00e9.txt")
    answer.write_text("of the last time, which was much longer " * 99)
    argv = [one.format(document) for one in argv] + (["--json"] if form == "json" else [])
    assert main([*argv, "--output", str(answer)], migrations=migrations) == code
    text = answer.read_text(encoding="utf-8")
    assert said in text
    assert form == "text" or json.loads(text)["version"] == 1
    assert sorted(path.name for path in document.parent.glob("answer*")) == [answer.name]


@pytest.mark.parametrize("target", ["{}", "{}.missing/answer.txt", "{}/.."])
def test_an_answer_is_not_written_where_it_must_not_be(
    target: str, document: Path, migrations: Migrations, capsys: pytest.CaptureFixture[str]
) -> None:
    """It replaces no database, and is refused before anything is done."""
    before = document.read_bytes()
    where = target.format(document) if target != "{}/.." else str(document.parent)
    assert main(["upgrade", str(document), "--output", where], migrations=migrations) == 2
    assert f"--output {where}" in capsys.readouterr().err
    assert document.read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["status", "{}"], 10), (["upgrade", "{}"], 0), (["--help"], 0), (["plan"], 2), (["sql", "{}"], 0)],
    ids=["status", "upgrade", "help", "wrong", "sql"],
)
def test_a_windowed_program_has_no_streams_and_still_gets_its_exit_code(
    argv: list[str], code: int, document: Path, migrations: Migrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main([one.format(document) for one in argv], migrations=migrations) == code


def test_letters_that_a_stream_lacks_are_escaped(
    tmp_path: Path, migrations: Migrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that cannot be printed is no reason to fail after an upgrade."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert main(["upgrade", str(tmp_path / "Zoë.notes")], migrations=migrations) == 0
    assert rb"Zo\xeb.notes was created at" in written.getvalue()


def test_a_closed_pipe_is_no_traceback(document: Path) -> None:
    command = [sys.executable, "-m", "freezekit", "sql", str(document), *HERE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_the_project_in_the_working_directory_says_which_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One configured chain needs no option, is named as the project names it, and leaves sys.path as it was."""
    (tmp_path / "pyproject.toml").write_text(ONE_CHAIN)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert main(["verify", "--json"]) == 0
    assert json_of(capsys)["script_location"] == "sample_app:migrations"
    assert sys.path == before


@pytest.mark.parametrize("parent", [".", "src"])
def test_packages_of_the_project_are_importable(parent: str, tmp_path: Path) -> None:
    """Those in the working directory and in its src, without being installed: scripts import their application."""
    package = tmp_path / parent / "notebook"
    (package / "scripts" / "versions").mkdir(parents=True)
    (package / "__init__.py").write_text("TABLE = 'from_the_application'\n")
    (package / "scripts" / "env.py").write_text(
        "from alembic import context\nfrom notebook import TABLE\n"
        "from sqlalchemy import create_engine\n"
        "engine = create_engine(context.config.get_main_option('sqlalchemy.url'))\n"
        "with engine.connect() as connection:\n"
        "    context.configure(connection=connection)\n"
        "    with context.begin_transaction():\n"
        "        context.run_migrations()\n"
    )
    write_script(package / "scripts", "op.execute('CREATE TABLE from_the_application (a)')")
    (tmp_path / "pyproject.toml").write_text('[tool.freezekit]\nscript_location = "notebook:scripts"\n')
    code = "import sys; from freezekit.cli import main; sys.exit(main())"
    result = run_python("-c", code, "upgrade", "x.db", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert content(tmp_path / "x.db").keys() == {"alembic_version", "from_the_application"}


def test_a_folder_that_configures_nothing_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify"]) == 2
    err = capsys.readouterr().err
    assert "--migrations" in err
    assert str(tmp_path) in err


def test_several_chains_are_named_and_one_can_be_chosen(
    tmp_path: Path, own_scripts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--section chooses one of a project's chains; a section that is not there is wrong usage too."""
    for name in ("one", "two"):
        shutil.copytree(own_scripts, tmp_path / name)
    (tmp_path / "alembic.ini").write_text(CHAINS_INI)
    monkeypatch.chdir(tmp_path)
    assert main(["verify"]) == 2
    err = capsys.readouterr().err
    assert "one (section first), two (section second)" in err
    assert "--section" in err
    assert main(["verify", "--section", "third"]) == 2
    assert "no section third" in capsys.readouterr().err
    assert main(["verify", "--section", "second", "--json"]) == 0
    assert json_of(capsys)["script_location"] == "two"


def test_without_click_one_sentence_says_what_to_install() -> None:
    """Exit code 2, on both ways in, and as JSON if asked for; the rest of freezekit needs no click."""
    block = "import sys; sys.modules['click'] = None; sys.modules['rich'] = None; "
    code = block + "import freezekit; from freezekit.cli import main; sys.exit(main())"
    result = run_python("-c", code, "status", "x")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "freezekit: The command line needs more packages: install freezekit[cli].\n"
    as_json = run_python("-c", code, "status", "x", "--json")
    assert (as_json.returncode, as_json.stderr) == (2, "")
    assert json.loads(as_json.stdout)["error"]["type"] == "UsageError"
    module = block + "import runpy; runpy.run_module('freezekit', run_name='__main__')"
    assert run_python("-c", module, "status", "x").returncode == 2


def test_nothing_imports_the_command_line() -> None:
    """`import freezekit` must not pay for click, and no other module may need it."""
    code = "import sys, freezekit; print(sorted({'click', 'rich', 'freezekit.cli'} & set(sys.modules)))"
    assert run_python("-c", code).stdout == "[]\n"
    package = Path(freezekit.__file__).parent
    others = [path for path in package.rglob("*.py") if path.parent.name != "cli" and path.name != "__main__.py"]
    imports = re.compile(r"(from|import)\s+freezekit\.cli\b")
    assert [path for path in others if imports.search(path.read_text(encoding="utf-8"))] == []


def test_status_imports_neither_alembic_nor_sqlalchemy_nor_rich(document: Path) -> None:
    code = (
        "import sys; from freezekit.cli import main; main(); "
        "sys.exit(' '.join({'alembic', 'sqlalchemy', 'rich'} & set(sys.modules)))"
    )
    result = run_python("-c", code, "status", document, *HERE)
    assert result.stderr.strip() == ""


def test_python_m_freezekit_is_the_same_program(document: Path) -> None:
    result = run_python("-m", "freezekit", "status", document, *HERE)
    assert (result.returncode, result.stderr) == (10, "")


def test_an_environment_variable_does_not_end_the_host(
    document: Path, migrations: Migrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """click completes words for a shell and exits if a variable asks for it; a host's process is not for that."""
    monkeypatch.setattr(sys, "argv", ["notes"])
    monkeypatch.setenv("_NOTES_COMPLETE", "bash_source")
    assert main(["status", str(document)], migrations=migrations) == 10


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize(
    ("argv", "expected"),
    [(["upgrade"], "8/8"), (["upgrade-many"], "1/1"), (["status"], "8 pending")],
    ids=["a bar for upgrade", "a bar for upgrade-many", "a table for status"],
)
def test_a_person_at_a_terminal_sees(argv: list[str], expected: str, document: Path) -> None:
    """A progress bar while revisions run, and tables; neither without a terminal."""
    code, shown = run_at_terminal([sys.executable, "-m", "freezekit", *argv, str(document), *HERE])
    assert code in {0, 10}
    assert expected in shown
    assert "\x1b[" in shown or "\N{BOX DRAWINGS LIGHT HORIZONTAL}" in shown


def run_at_terminal(command: list[str]) -> tuple[int, str]:
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LANG": "C.UTF-8"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # Linux's way to say that the other end is closed
            pass
        os.close(ours)
    return process.returncode, shown.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_leaves_an_sqlite_file_as_it_was(tmp_path: Path, own_scripts: Path) -> None:
    """The upgrade is cancelled in an orderly way, with a sentence instead of a traceback."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    body = f"import sys; print('begun', file=sys.stderr, flush=True); op.execute({endless!r})"
    write_script(own_scripts, body)
    path = tmp_path / "x.db"
    execute(path, "CREATE TABLE alembic_version (version_num)")
    before = path.read_bytes()
    command = [sys.executable, "-c", LISTENING, "upgrade", str(path), "--json", "--migrations", str(own_scripts)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")
    assert json.loads(out)["error"]["type"] == "UpgradeCancelled"
    assert path.read_bytes() == before


def test_the_hosts_handler_of_ctrl_c_stays(document: Path, migrations: Migrations) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["upgrade", str(document)], migrations=migrations) == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_a_database_is_created_and_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new.notes"
    assert main(["create", str(new), "--json", *HERE]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["command"], answer["heads"]) == ("create", [expected_head])
    before = new.read_bytes()
    assert main(["create", str(new), *HERE]) == 2
    assert "exists" in capsys.readouterr().err
    assert new.read_bytes() == before


def test_a_database_without_a_version_is_adopted(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It gets the version of its schema; one whose schema is unknown is refused with exit code 1."""
    with closing(sqlite3.connect(document)) as connection, connection:
        connection.execute("DROP TABLE alembic_version")
    assert main(["adopt", str(document), *HERE]) == 0
    assert "behind" in capsys.readouterr().out
    with closing(sqlite3.connect(document)) as connection, connection:
        connection.execute("DROP TABLE alembic_version")
        connection.execute("CREATE TABLE mine (x)")
    assert main(["adopt", str(document), *HERE]) == 1
    assert "no revision" in capsys.readouterr().err


def test_a_database_in_memory_would_be_gone_with_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", ":memory:", *HERE]) == 2
    assert "memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "reason", "code", "verdict"),
    [
        ({}, None, 0, None),
        ({"sha256": "other"}, None, 1, "failed"),
        ({"sha256": "other"}, "a typing error", 0, "accepted"),
        ({"revision": "renamed"}, "no excuse", 1, "failed"),
    ],
    ids=["the same", "edited", "edited for a reason", "removed"],
)
def test_two_releases_are_compared(  # noqa: PLR0913, PLR0917 - a table and its fixtures
    edit: dict[str, str],
    reason: str | None,
    code: int,
    verdict: str | None,
    tmp_path: Path,
    migrations: Migrations,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A shipped revision that is gone or edited fails; an edit whose reason the project names is accepted."""
    old = json.loads(migrations.manifest.to_json())
    new = json.loads(migrations.manifest.to_json())
    renamed = {new["revisions"][3]["revision"]: edit.get("revision", new["revisions"][3]["revision"])}
    new["revisions"][3].update(edit)
    for row in new["revisions"]:
        row["down_revision"] = [renamed.get(one, one) for one in row["down_revision"]]
    (tmp_path / "old.json").write_text(json.dumps(old))
    (tmp_path / "new.json").write_text(json.dumps(new))
    if reason:
        which = old["revisions"][3]["revision"]
        (tmp_path / "migrations").mkdir()
        (tmp_path / "migrations" / "env.py").touch()
        (tmp_path / "pyproject.toml").write_text(
            f"[tool.freezekit]\nscript_location = 'migrations'\naccepted_edits = {{ '{which}' = '{reason}' }}\n"
        )
    monkeypatch.chdir(tmp_path)
    assert main(["diff", "old.json", "new.json"]) == code
    said = capsys.readouterr().out
    assert verdict is None or verdict in said
    assert main(["diff", "old.json", "new.json", "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert bool(answer["failures"]) == bool(code)
    assert main(["diff", "old.json", "nowhere.json"]) == 1
