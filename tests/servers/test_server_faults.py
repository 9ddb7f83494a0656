"""Killed upgrades: the next start finishes what was begun, and the result is that of an unkilled run."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from private import connected, content, versions
from sqlalchemy import make_url
from workers import UNDECIDED, started, upgrade

from freezekit import MigrationFailed

if TYPE_CHECKING:
    from histories import Project
    from private import Server

# More than the chain has, so that some programs end before they are killed.
STATEMENTS = 260


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How many random kills on each server."""
    return 4 * int(request.config.getoption("--faults"))


def test_killed_upgrades_are_finished_by_the_next_start(server: Server, project: Project, rounds: int) -> None:
    """Killed at random moments, the content is exactly that of an unkilled run after one more start."""
    folder, chance = str(project.migrations), random.Random(rounds)
    url = server.database()
    began = time.monotonic()
    upgrade(folder, url)
    seconds, expected = time.monotonic() - began, content(url)
    for _ in range(rounds):
        url = server.emptied(url)
        process, pipe = started(folder, url)
        pipe.send("go")
        time.sleep(chance.uniform(0, seconds))
        process.kill()
        process.join()
        upgrade(folder, url)
        assert content(url) == expected


def test_upgrades_killed_at_a_statement_are_finished_by_the_next_start(
    mariadb: Server, project: Project, rounds: int
) -> None:
    """Before and after statements picked at random, twice in a row."""
    folder, chance = str(project.migrations), random.Random(rounds)
    url = mariadb.database()
    upgrade(folder, url)
    expected = content(url)
    for _ in range(rounds):
        url = mariadb.emptied(url)
        for most in (STATEMENTS, STATEMENTS // 3):
            _killed_at(folder, url, chance.randrange(2, 2 * most) / 2)
        upgrade(folder, url)
        assert content(url) == expected


def _killed_at(folder: str, url: str, moment: float) -> None:
    process, pipe = started(folder, url, kill_at=moment)
    pipe.send("go")
    process.join()


# One revision, killed where it says so; what it must not do twice, and what cannot be continued.

KILL = "import os\nif os.path.exists({!r}): os.kill(os.getpid(), 9)\n"


class Halfway:
    """A revision that kills its program in the middle the first time it runs."""

    def __init__(self, project: Project, server: Server) -> None:
        self.project = project
        self.flag = project.root / "kill"
        self.url = server.database()

    def run(self, before: str, after: str = "pass") -> Any:
        """Kill the program between two parts of a revision, then upgrade again."""
        kill = KILL.format(str(self.flag))
        make = 'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", sa.String(99)))'
        body = "\n".join([make, *_lines(before), *kill.splitlines(), *_lines(after)])
        self.project.revision("k1", None, body, head="import uuid, datetime, os\n")
        self.flag.touch()
        process, pipe = started(str(self.project.migrations), self.url)
        pipe.send("go")
        process.join()
        assert process.exitcode == -9
        assert versions(self.url) == []
        self.flag.unlink()
        return upgrade(str(self.project.migrations), self.url)

    @property
    def rows(self) -> list[str]:
        """What is in the table."""
        found: list[str] = content(self.url)["t"][1]
        return found


def _lines(text: str) -> list[str]:
    return [line.strip("|").rstrip() for line in text.strip().splitlines()]


@pytest.fixture
def halfway(mariadb: Server, project: Project) -> Halfway:
    for path in (project.migrations / "versions").iterdir():
        path.unlink()
    return Halfway(project, mariadb)


ASKED = """
b = op.get_bind()
r = b.execute(sa.text('INSERT INTO t (x) VALUES (:x)'), {'x': datetime.datetime.now()})
n = r.lastrowid, r.rowcount
"""
CAUGHT = """
try: op.execute('DROP TABLE nowhere')
except sa.exc.OperationalError as e: gone = 'yes'
"""
GONE = """
op.get_bind().execute(sa.text('INSERT INTO t VALUES (:a, :b)'), [dict(a=n, b=str(n)) for n in (1, 2)])
op.add_column("t", sa.Column("y", sa.Integer))
rows = op.get_bind().execute(sa.text('SELECT * FROM t')).all()
op.execute('DELETE FROM t WHERE id = 1')
op.drop_column('t', 'y')
"""
INSERT = "op.execute(\"INSERT INTO t VALUES (1, 'a')\")"
ALTER = 'op.add_column("t", sa.Column("y", sa.Integer))'


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        (INSERT, ALTER, ["(1, 'a', None)"]),
        (f"{INSERT}\n{ALTER}", "op.execute('UPDATE t SET y = 5')", ["(1, 'a', 5)"]),
        (f"{INSERT}\n{ALTER}\nop.execute('UPDATE t SET y = COALESCE(y, 0) + 1')", "pass", ["(1, 'a', 1)"]),
        (f"{INSERT}\nop.execute('COMMIT')", ALTER, ["(1, 'a', None)"]),
        (
            f"{ASKED}{ALTER}",
            "op.execute(f\"UPDATE t SET x = 'now', y = {n[0] + n[1]}\")",
            ["(1, 'now', 2)"],
        ),
        (
            "if not sa.inspect(op.get_bind()).has_table('u'): op.execute('CREATE TABLE u (id INT)')\n" + INSERT,
            "op.execute('INSERT INTO u VALUES (1)')\n" + ALTER,
            ["(1, 'a', None)"],
        ),
        (
            f"{CAUGHT}{INSERT}\n{ALTER}",
            "op.execute(f\"UPDATE t SET x = '{gone}'\")",
            ["(1, 'yes', None)"],
        ),
        (
            "with op.get_bind().begin_nested(): " + INSERT + "\n" + ALTER,
            "op.execute('UPDATE t SET y = 3')",
            ["(1, 'a', 3)"],
        ),
        (
            f"block = op.get_context().autocommit_block()\nblock.__enter__()\n{INSERT}",
            f"block.__exit__(None, None, None)\nop.execute('UPDATE t SET x = CONCAT(x, 1)')\n{ALTER}",
            ["(1, 'a1', None)"],
        ),
        (
            GONE,
            "op.execute(f'UPDATE t SET x = {len(rows)}{len(rows[0])}')",
            ["(2, '23')"],
        ),
    ],
    ids=[
        "rows roll back",
        "schema stays",
        "rows behind the schema roll back",
        "a COMMIT",
        "answers to an INSERT",
        "a question before a change",
        "an error that was caught",
        "a savepoint",
        "autocommit",
        "an answer that nobody could give again",
    ],
)
def test_a_revision_continues_where_it_was_killed(
    before: str, after: str, rows: list[str], halfway: Halfway, mariadb: Server
) -> None:
    """What was done is answered from the journal, and nothing is done twice."""
    assert halfway.run(before, after) == ("k1",)
    assert halfway.rows == rows
    tables = mariadb.run(f"SHOW TABLES FROM {make_url(halfway.url).database}")
    assert not [name for (name,) in tables if "journal" in name]


@pytest.mark.parametrize("elsewhere", ["CREATE TABLE u (id INT)", "DO 1"], ids=["others change the schema", "alone"])
def test_a_statement_that_did_not_take_effect_is_executed(elsewhere: str, halfway: Halfway) -> None:
    """What others change meanwhile is not taken for its effect."""
    project, url = halfway.project, halfway.url
    make = 'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", sa.String(99)))'
    project.revision("k1", None, f"{make}\n{ALTER}\nop.execute('INSERT INTO t (y) VALUES (1)')")
    process, pipe = started(str(project.migrations), url, kill_at=UNDECIDED)
    pipe.send("go")
    process.join()
    assert process.exitcode == -9
    with connected(url) as connection:
        connection.exec_driver_sql(elsewhere)
    assert upgrade(str(project.migrations), url) == ("k1",)
    assert halfway.rows == ["(1, None, 1)"]


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (f"op.execute(f\"INSERT INTO t VALUES (1, '{{uuid.uuid4()}}')\")\n{ALTER}", "where it had asked"),
        (f"op.execute('CREATE TEMPORARY TABLE w (id INT)')\n{ALTER}", "session that is gone"),
        (f"op.execute('SET @n = 1')\n{ALTER}", "session that is gone"),
    ],
    ids=["another statement", "a temporary table", "a variable"],
)
def test_what_cannot_be_continued_is_refused_by_name(before: str, reason: str, halfway: Halfway) -> None:
    """A revision that asks something else the second time is not run on a guess."""
    with pytest.raises(MigrationFailed, match="cannot be continued") as caught:
        halfway.run(before)
    error = caught.value
    assert (error.applied, error.failed, error.restored) == ((), "k1", False)
    assert reason in str(error)
    left = content(halfway.url)
    with pytest.raises(MigrationFailed, match="cannot be continued"):
        upgrade(str(halfway.project.migrations), halfway.url)
    assert content(halfway.url) == left
