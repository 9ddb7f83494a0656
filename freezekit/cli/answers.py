"""What a command answers, and how it is shown: to a person, or as one JSON document. Needs neither click nor rich."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from freezekit.cli.written import replaced_file
from freezekit.errors import FreezekitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

VERSION = 1
"""Version of the JSON documents; it changes when a key changes its meaning or goes."""


@dataclass(frozen=True)
class Table:
    """Rows below their column names."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Answer:
    """What a command found or did.

    Attributes:
        document: What ``--json`` prints, beside the version and the command's name.
        text: What a person reads first; may be empty.
        table: What a person reads below that.
        exit_code: The exit code of the command.
        is_last_line: Whether the document is the last of several, one on each line, that were printed before.
        lines: Those of them that were not printed yet.
    """

    document: Mapping[str, object]
    text: str = ""
    table: Table | None = None
    exit_code: int = 0
    is_last_line: bool = False
    lines: Iterable[Mapping[str, object]] = ()


def wants_json(argv: Sequence[str]) -> bool:
    """Return whether ``--json`` is among the options, also of arguments that are wrong."""
    return "--json" in (argv[: argv.index("--")] if "--" in argv else argv)


def wanted_output(argv: Sequence[str]) -> str | None:
    """Return the file of ``--output``, also of arguments that are wrong."""
    options = list(argv[: argv.index("--")] if "--" in argv else argv)
    for index, one in enumerate(options):
        if one == "--output":
            return options[index + 1] if index + 1 < len(options) else None
        if one.startswith("--output="):
            return one.partition("=")[2]
    return None


@contextlib.contextmanager
def _to_file(path: str | None) -> Iterator[None]:
    """Write what a block prints to a file instead, as UTF-8; the file changes as a whole."""
    if path is None:
        yield
        return
    with (
        replaced_file(path, "--output") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield


def show(answer: Answer, command: str, *, as_json: bool, output: str | None = None) -> None:
    """Print an answer to stdout, if there is one, or write it to a file."""
    with _to_file(output):
        _show(answer, command, as_json=as_json)


def _show(answer: Answer, command: str, *, as_json: bool) -> None:
    if as_json:
        for line in answer.lines:
            print_line({"version": VERSION, "command": command, **line}, sys.stdout)
        document = {"version": VERSION, "command": command, **answer.document}
        (print_line if answer.is_last_line else _print_json)(document, sys.stdout)
        return
    if answer.text:
        say(answer.text, sys.stdout)
    if answer.table is not None:
        _print_table(answer.table)


def refuse(error: BaseException, program: str, command: str | None, *, as_json: bool, output: str | None = None) -> int:
    """Print why a command failed, as JSON to stdout or as a sentence to stderr, or to a file; return the exit code."""
    try:
        with _to_file(output):
            _tell(error, program, command, as_json=as_json)
    except (OSError, UsageError):
        with contextlib.suppress(OSError):
            if output is None and as_json:  # stdout is what failed
                say(f"{program}: {reason(error)}", sys.stderr)
            else:
                _tell(error, program, command, as_json=as_json)
    return error.exit_code if isinstance(error, FreezekitError) else 1


def _tell(error: BaseException, program: str, command: str | None, *, as_json: bool) -> None:
    if as_json:
        # On one line, because lines may have come before it.
        print_line({"version": VERSION, "command": command, "error": error_document(error)}, sys.stdout)
    else:
        say(f"{program}: {reason(error)}", sys.stderr)


def error_document(error: BaseException) -> dict[str, object]:
    """Return an error as JSON has it: its type, its message, and the data of one of ours."""
    names = [*vars(error), *_properties(type(error))] if isinstance(error, FreezekitError) else []
    public = {name: getattr(error, name) for name in names if not name.startswith("_")}
    return {"type": type(error).__name__, "message": reason(error), **public}


def _properties(kind: type) -> list[str]:
    return [name for base in kind.__mro__ for name, one in vars(base).items() if isinstance(one, property)]


def reason(error: BaseException) -> str:
    """Return the sentence for a person; a driver's own words rather than SQLAlchemy's around them."""
    if isinstance(error, FreezekitError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"


def is_expected(error: Exception) -> bool:
    """Return whether an error is about the user's files and servers, so that a sentence says it all."""
    # A server that does not answer, a file that cannot be written, a driver that is not installed.
    names = (("sqlalchemy.exc", "SQLAlchemyError"), ("alembic.util", "CommandError"))
    foreign = [getattr(sys.modules[module], name) for module, name in names if module in sys.modules]
    return isinstance(error, (FreezekitError, OSError, ModuleNotFoundError, *foreign))


def say(text: str, stream: TextIO | None) -> None:
    """Print text; letters that the stream lacks are escaped. A windowed program has no stream: print nothing."""
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.write("" if text.endswith("\n") else "\n")
    stream.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a person reads this stream."""
    return stream is not None and stream.isatty()


def _print_json(document: Mapping[str, object], stream: TextIO | None) -> None:
    say(json.dumps(document, indent=2, default=str), stream)


def print_line(document: Mapping[str, object], stream: TextIO | None) -> None:
    """Print a JSON document as one line."""
    say(json.dumps(document, default=str), stream)


def _print_table(table: Table) -> None:
    if is_terminal(sys.stdout) and _print_rich_table(table):
        return
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    for row in (table.columns, *table.rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip(), sys.stdout)


def _print_rich_table(table: Table) -> bool:
    """Print a table that fits the terminal; False if rich was not shipped."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text
    except ImportError:
        return False
    shown = RichTable(box=SIMPLE_HEAD)
    for column in table.columns:
        shown.add_column(column, overflow="fold")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    Console(file=sys.stdout).print(shown)
    return True
