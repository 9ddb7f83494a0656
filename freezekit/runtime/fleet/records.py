"""What a fleet is made of, and what became of each database."""

from __future__ import annotations

from freezekit.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from freezekit.runtime.reports import State

UPGRADED, CURRENT, FAILED, LEFT, DUPLICATE = "upgraded", "current", "failed", "left", "duplicate"


@record
class Tenant:
    """A database of a server, or one schema of a PostgreSQL database; or a file, whose name is no pattern.

    Attributes:
        url: URL of the database, or the path of a file.
        schema: The tenant's schema: connections have it as their ``search_path``, so the version table and every table
            without a schema of its own are there. Needs a driver of libpq (psycopg, psycopg2). None means the whole
            database.
        x_arguments: What env.py gets for this tenant, beside those that all get.
    """

    url: str
    schema: str | None = None
    x_arguments: Mapping[str, str | Sequence[str]] = {}

    def __hash__(self) -> int:
        # x_arguments is a mapping, which has no hash; tenants that are equal have the same URL and schema.
        return hash((self.url, self.schema))

    def __str__(self) -> str:
        if "://" not in self.url:
            return self.url
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        from freezekit.runtime.database import shown_url

        try:
            shown = shown_url(make_url(self.url))
        except (ArgumentError, ValueError):  # the error may show the password, too
            shown = without_password(self.url)
        return f"{shown} schema {self.schema}" if self.schema else shown


def without_password(url: str) -> str:
    """Return what may be shown of something that is meant to be a URL and is none."""
    scheme, separator, rest = url.partition("://")
    before, query, _ = rest.partition("?")
    _, at, place = before.rpartition("@")
    if not (query or at or ":" in place):
        return url
    return f"{scheme}{separator}...{at}{place if at else ''}"


@record
class Outcome:
    """What became of one database.

    Attributes:
        database: The path or URL, without a password.
        result: ``"upgraded"``, ``"current"`` (nothing was pending), ``"failed"``, ``"left"`` (not tried, or rolled
            back, because the run was stopped) or ``"duplicate"`` (another entry is the same file or database).
        state_before: What it was before; None where that could not be told.
        applied: Ids of the revisions that were applied.
        heads: The revisions it is at now; empty where that is not known.
        backup: The copy of it as it was before, or None.
        seconds: How long its upgrade took; 0.0 without one.
        error: Why it failed; what ``upgrade`` would have raised.
        attempts: How often it was tried: a second time after its worker was killed.
        same_as: Of a duplicate, the entry that stands for it.
    """

    database: str
    result: str
    state_before: State | None = None
    applied: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    backup: str | None = None
    seconds: float = 0.0
    error: Exception | None = None
    attempts: int = 0
    same_as: str | None = None


@record
class FleetProgress:
    """How far a fleet is; given to ``on_progress`` after each database.

    Attributes:
        outcome: What became of the database that was finished.
        done: How many are finished, this one included.
        total: How many there are; None as long as the list is still being read.
    """

    outcome: Outcome
    done: int
    total: int | None
