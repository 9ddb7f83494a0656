"""One statement of a revision as the journal knows it: its kind, a digest of what it asks, and what it answered."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Longer answers are not kept: what asked is asked again.
_LONGEST_ANSWER = 4_000_000


class Kind(str, Enum):
    """What a statement means for resuming."""

    COMMITS = "commits"
    """Commits by itself, as all that changes a schema does: what came before it is permanent once it begins."""
    READS = "reads"
    """Changes nothing, so that it may be asked again where its answer was too long to be kept."""
    WRITES = "writes"
    """Changes rows; its entry is committed together with what it changed."""
    SESSION = "session"
    """Changes nothing but the session, so it runs again in the next one."""
    LOSES = "loses"
    """Leaves something in the session that cannot be made again: a temporary table, a variable."""
    FAILED = "failed"
    """Raised an error, and the revision went on."""


_COMMENT = re.compile(r"/\*(?![!M]).*?\*/|(?:--\s|#)[^\n]*(?:\n|$)", re.DOTALL)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`[^`]*`", re.DOTALL)
_READS = frozenset({"SELECT", "SHOW", "DESC", "DESCRIBE", "EXPLAIN", "VALUES", "TABLE", "CHECKSUM"})
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "DO", "CALL", "LOAD"})
_SESSION = re.compile(r"SET|USE|SAVEPOINT|RELEASE\s+SAVEPOINT|ROLLBACK(\s+WORK)?\s+TO", re.IGNORECASE)
_LOSES = re.compile(
    r"(?<!@)@\w|\bTEMPORARY\b|\bLAST_INSERT_ID\s*\(|\bROW_COUNT\s*\(|\bFOUND_ROWS\s*\(|^\s*(PREPARE|LOCK\s+TABLES?|HANDLER)\b",
    re.IGNORECASE,
)


def kind_of(statement: str) -> Kind:
    """Return what a statement of MySQL or MariaDB means for resuming; what is not known is taken to commit."""
    bare = _COMMENT.sub(" ", _QUOTED.sub("''", statement)).lstrip(" \t\r\n(")
    if _LOSES.search(bare):
        return Kind.LOSES
    if _SESSION.match(bare):
        return Kind.SESSION
    word = re.split(r"\W", bare, maxsplit=1)[0].upper()
    return Kind.READS if word in _READS else Kind.WRITES if word in _WRITES else Kind.COMMITS


def digest_of(statement: str, parameters: object) -> str:
    """Return a digest of a statement and its parameters; moments in time may differ, as they do on each run."""
    return hashlib.sha256(f"{statement}\0{_timeless(parameters)!r}".encode("utf-8", "surrogatepass")).hexdigest()


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_timeless(one) for one in value]
    return type(value).__name__ if isinstance(value, (date, time)) else value


# Types that drivers answer with, beside those of JSON: a mark, how to write one, and how to read it.
_TYPES: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: ("bytes", bytes.hex, bytes.fromhex),
    Decimal: ("decimal", str, Decimal),
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    timedelta: (
        "interval",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(days=parts[0], seconds=parts[1], microseconds=parts[2]),
    ),
}
_READERS = {mark: read for mark, _, read in _TYPES.values()}


def encoded(answer: object) -> str | None:
    """Return an answer as text; None if it is too long or holds what cannot be written."""
    try:
        text = json.dumps(_marked(answer), ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError):
        return None
    return text if len(text) <= _LONGEST_ANSWER else None


def decoded(text: str) -> Any:
    """Return an answer as it was before :func:`encoded`, with lists for tuples."""
    return json.loads(text, object_hook=_unmarked)


def _marked(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_marked(one) for one in value]
    if value is None or type(value) in {str, int, float, bool}:
        return value
    mark, write, _ = _TYPES.get(type(value), (None, None, None))
    if mark is None or write is None:
        raise TypeError(type(value).__name__)
    return {mark: _marked(write(value))}


def _unmarked(pairs: dict[str, Any]) -> object:
    ((mark, value),) = pairs.items()
    return _READERS[mark](value)
