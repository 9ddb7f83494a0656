"""The command on many databases."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

import click

from freezekit.cli.answers import VERSION, Answer, Table, error_document, print_line, reason
from freezekit.cli.command import MigrationsCommand, name_of
from freezekit.cli.options import backup_of, backup_options, timeout_option, x_arguments_option
from freezekit.cli.progress import cancelled_by_interrupt, fleet_bar
from freezekit.errors import UsageError
from freezekit.runtime.database import database_of
from freezekit.runtime.fleet import Tenant, upgrade_many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from freezekit.runtime.fleet import FleetProgress, FleetReport, Outcome
    from freezekit.runtime.migrations import Migrations

_SHOWN = 20
_POLL_SECONDS = 0.2
_LINES_AHEAD = 1000
_SCHEMA = "{schema}"


class _Streaming(MigrationsCommand):
    """A command that prints documents while it runs: its function finds the real stdout in the context."""

    json_help = "Print one JSON document on a line for each database, and a summary; errors too."

    def invoke(self, ctx: click.Context) -> int:
        """Run the command; see :class:`~freezekit.cli.command.Command`."""
        ctx.meta["to_file"] = ctx.params.get("answer_file") is not None
        ctx.meta["lines"] = sys.stdout if ctx.params["as_json"] and not ctx.meta["to_file"] else None
        return super().invoke(ctx)


@click.command(cls=_Streaming, name="upgrade-many")
@click.argument("patterns", metavar="PATTERN...", nargs=-1)
@click.option("--from-file", metavar="LIST", help="A file with one path or URL on each line; - for standard input.")
@click.option("--url", metavar="URL", help="The database that --url-query asks.")
@click.option(
    "--url-query",
    metavar="SQL",
    help="A query whose rows have one column: URLs of databases, or names of schemas in that of --url.",
)
@x_arguments_option
@backup_options
@timeout_option
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="How many processes.  [default: processors]")
@click.option("--max-connections", type=click.IntRange(min=3), metavar="N", help="To servers, at once; at least 3.")
@click.option("--stop-after-failures", type=click.IntRange(min=1), metavar="N", help="Leave the rest after so many.")
@click.pass_context
def upgrade_many_command(ctx: click.Context, /, migrations: Migrations, **options: Any) -> Answer:
    """Upgrade many databases.

    PATTERN is a path, a URL, or a pattern such as 'notes/**/*.notes'; quote patterns, and there is no limit to how
    many files they match. Each database succeeds or fails by itself; a file that does not exist is a failure. Ctrl-C,
    or what ends a service, rolls back what runs and leaves the rest; a second run does only what is left. With --json
    there is one document for each database, on a line of its own, as it is finished, and a summary on the last line.
    The exit code is 1 if any database failed or was left.
    """
    stream, command = ctx.meta["lines"], name_of(ctx)
    backup = backup_of(options)
    with cancelled_by_interrupt() as cancel, fleet_bar() as show, contextlib.ExitStack() as opened:
        report = upgrade_many(
            _databases(options, opened, cancel),
            migrations,
            on_progress=_told(stream, command, show),
            backup=backup,
            timeout=options["timeout"],
            x_arguments={name: one for name, one in options["x_arguments"].items() if not _is_for_schema(one)},
            cancel=cancel,
            workers=options["workers"],
            max_connections=options["max_connections"],
            stop_after_failures=options["stop_after_failures"],
        )
    summary = {"summary": {**report.counts, "seconds": round(report.seconds, 3)}}
    exit_code = 0 if report.ok else 1
    lines = map(_document, report) if ctx.meta["to_file"] else ()
    return Answer(summary, _summary(report), _failures(report), exit_code, is_last_line=True, lines=lines)


def _databases(
    options: Mapping[str, Any], opened: contextlib.ExitStack, cancel: threading.Event
) -> Iterator[str | Tenant]:
    """Return every name that was given, wherever; read while it is used."""
    patterns, name, url, query = (options[one] for one in ("patterns", "from_file", "url", "url_query"))
    if (url is None) != (query is None):
        raise UsageError("--url says which database --url-query asks: give both, or none.")
    if not (patterns or name or query):
        raise UsageError("There is nothing to upgrade: give a PATTERN, --from-file or --url-query.")
    file = _list_file(name, opened, cancel) if name else ()
    for_schema = {key: one for key, one in options["x_arguments"].items() if _is_for_schema(one)}
    if for_schema and not query:
        raise UsageError(f"-x {next(iter(for_schema))} names the schema of a tenant: --url-query says which there are.")

    def found() -> Iterator[str | Tenant]:
        yield from patterns
        # Not as patterns: a name in a list is that of one file.
        yield from (Tenant(line.rstrip("\r\n")) for line in file if line.strip())
        if query:
            yield from _asked(url, query, for_schema)

    return found()


def _list_file(name: str, opened: contextlib.ExitStack, cancel: threading.Event) -> Iterable[str]:
    # Any name that a file system allows goes through, whatever its encoding; some editors put a mark before the first.
    how: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": "\n"}
    if name == "-":
        if sys.stdin is None:
            raise UsageError("There is no standard input to read the list from.")
        # Not closed: that would wait for the thread that reads it.
        return _until(cancel, open(sys.stdin.fileno(), closefd=False, **how))
    return opened.enter_context(open(name, **how))


def _until(cancel: threading.Event, lines: TextIO) -> Iterator[str]:
    """Yield lines as they come, and none once it is cancelled: nobody may ever write another."""
    coming: queue.Queue[str | OSError] = queue.Queue(_LINES_AHEAD)

    def read() -> None:
        try:
            for line in lines:
                coming.put(line)
            coming.put("")
        except OSError as error:
            coming.put(error)

    threading.Thread(target=read, name="freezekit-list", daemon=True).start()
    while not cancel.is_set():
        with contextlib.suppress(queue.Empty):
            line = coming.get(timeout=_POLL_SECONDS)
            if isinstance(line, OSError):
                raise line
            if not line:
                return
            yield line


def _asked(url: str, query: str, x_arguments: Mapping[str, Any]) -> Iterator[str | Tenant]:
    """Yield the databases or schemas that a query names."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    asked = database_of(url)  # or it is refused, without showing its password
    if asked.path is not None and not os.path.exists(asked.path):
        raise UsageError(f"--url leads to {asked.name}, and there is no such file.")
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=1000).execute(text(query))
        for row in rows:
            if len(row) != 1:
                raise UsageError(f"--url-query returned {tuple(row)!r}: a row has one column, a URL or a schema.")
            if not isinstance(row[0], str) or "://" in row[0]:
                yield row[0]  # what is no name fails by itself
            else:
                filled = {name: _filled(one, row[0]) for name, one in x_arguments.items()}
                yield Tenant(url, row[0], filled)


def _is_for_schema(value: str | Sequence[str]) -> bool:
    return any(_SCHEMA in one for one in ([value] if isinstance(value, str) else value))


def _filled(value: str | Sequence[str], schema: str) -> str | list[str]:
    if isinstance(value, str):
        return value.replace(_SCHEMA, schema)
    return [one.replace(_SCHEMA, schema) for one in value]


def _told(
    stream: Any, command: str, show: Callable[[FleetProgress], object] | None
) -> Callable[[FleetProgress], object] | None:
    """Return what is done after each database: a line is printed, or a bar moved."""
    if stream is None:
        return show

    def told(progress: FleetProgress) -> None:
        document = _document(progress.outcome)
        print_line({"version": VERSION, "command": command, **document}, stream)
        if show is not None:
            show(progress)

    return told


def _document(one: Outcome) -> dict[str, object]:
    return {
        "database": one.database,
        "result": one.result,
        "state_before": one.state_before.value if one.state_before else None,
        "applied": one.applied,
        "heads": one.heads,
        "backup": one.backup,
        "seconds": round(one.seconds, 3),
        "attempts": one.attempts,
        "same_as": one.same_as,
        "error": error_document(one.error) if one.error is not None else None,
    }


def _summary(report: FleetReport) -> str:
    counts = ", ".join(f"{number} {result}" for result, number in report.counts.items() if number)
    return f"{len(report)} databases in {report.seconds:.1f} s: {counts or 'none'}."


def _failures(report: FleetReport) -> Table | None:
    """Return a table of what failed, the first ones; --json lists each."""
    rows = [
        (one.database, one.result, reason(one.error) if one.error else "") for one in islice(report.failures, _SHOWN)
    ]
    more = sum(report.counts[result] for result in ("failed", "left")) - len(rows)
    if more:
        rows.append((f"and {more} more", "", "--json lists each"))
    return Table(("Database", "", ""), tuple(rows)) if rows else None
