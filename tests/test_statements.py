"""What the journal makes of one statement: its kind, its digest, and its answer as text."""

from __future__ import annotations

import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from freezekit.runtime.statements import Kind, decoded, digest_of, encoded, kind_of


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT 1", Kind.READS),
        ("  (select id from t) union (select 2)", Kind.READS),
        ("/* a; b */ -- c\n# d\nSHOW CREATE TABLE `t`", Kind.READS),
        ("DESCRIBE `s`.`t`", Kind.READS),
        ("insert into t values (%s)", Kind.WRITES),
        ("UPDATE t SET x = '-- @a', y = \"#\" WHERE z = 'it''s @b' OR `@c` = 'd\\'@e'", Kind.WRITES),
        ("WITH a AS (SELECT 1) DELETE FROM t", Kind.WRITES),
        ("CALL p()", Kind.WRITES),
        ("ALTER TABLE t ADD x INT", Kind.COMMITS),
        ("\nCREATE TABLE t (id INT)", Kind.COMMITS),
        ("COMMIT", Kind.COMMITS),
        ("ROLLBACK", Kind.COMMITS),
        ("START TRANSACTION", Kind.COMMITS),
        ("TRUNCATE t", Kind.COMMITS),
        ("NOBODY KNOWS", Kind.COMMITS),
        ("", Kind.COMMITS),
        ("SET FOREIGN_KEY_CHECKS = 0", Kind.SESSION),
        ("SELECT @@sql_mode", Kind.READS),
        ("SET @@SESSION.sql_mode = ''", Kind.SESSION),
        ("SAVEPOINT sa_1", Kind.SESSION),
        ("ROLLBACK TO SAVEPOINT sa_1", Kind.SESSION),
        ("RELEASE SAVEPOINT sa_1", Kind.SESSION),
        ("SET @a = 1", Kind.LOSES),
        ("UPDATE t SET x = (@n := @n + 1)", Kind.LOSES),
        ("CREATE TEMPORARY TABLE t (id INT)", Kind.LOSES),
        ("INSERT INTO t SELECT LAST_INSERT_ID()", Kind.LOSES),
        ("LOCK TABLES t WRITE", Kind.LOSES),
        ("PREPARE s FROM 'SELECT 1'", Kind.LOSES),
    ],
)
def test_a_statement_is_of_one_kind(statement: str, kind: Kind) -> None:
    """What is not known is taken to commit, which is looked into before it is believed."""
    assert kind_of(statement) is kind


def test_only_moments_may_differ_between_two_runs() -> None:
    """The clock goes on, and everything else is another statement."""
    first = digest_of("INSERT", {"at": datetime(2020, 1, 1), "d": [date(2020, 1, 1), 1]})  # noqa: DTZ001
    assert first == digest_of("INSERT", {"at": datetime(2026, 2, 3), "d": [date(2026, 2, 3), 1]})  # noqa: DTZ001
    different = [{"at": None, "d": [date(2020, 1, 1), 1]}, {"at": datetime(2020, 1, 1), "d": [date(2020, 1, 1), 2]}]  # noqa: DTZ001
    assert first not in {digest_of("INSERT", one) for one in different}
    assert digest_of("INSERT", uuid.uuid4()) != digest_of("INSERT", uuid.uuid4())
    assert digest_of("a", None) != digest_of("b", None)


def test_an_answer_comes_back_as_it_was() -> None:
    """Every type that drivers answer with keeps its type and value."""
    moment = datetime(2020, 2, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
    row: list[Any] = [None, True, 1, 2**70, 1.5, "Zoë '\\ \0", b"\0\xff", Decimal("1.10")]
    row += [moment, moment.replace(tzinfo=None), date(1, 1, 1), time(1, 2, 3, 4), timedelta(-1, 5, 6)]
    text = encoded([[["id", 3]], [row], 1, None])
    assert text is not None
    found = decoded(text)
    assert found == [[["id", 3]], [row], 1, None]
    assert [type(one) for one in found[1][0]] == [type(one) for one in row]


@pytest.mark.parametrize("answer", [[object()], [{"a": 1}], ["x" * 5_000_000]], ids=["object", "mapping", "too long"])
def test_an_answer_that_cannot_be_kept_is_not_kept(answer: object) -> None:
    assert encoded(answer) is None
