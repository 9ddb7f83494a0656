"""The program's commands."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sample_app import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from freezekit import Report

# Not as an import statement: the freezers would follow it, and ship Qt with the command line.
_WINDOW = "sample_app.window"
_NO_WINDOW = (
    "the window needs PySide6: pip install 'freezekit[desktop]'. "
    "Without it there is the command line, such as: sample_app open FILE"
)
_NOT_SHIPPED = "this program was built without its window; see sample_app --help for what it can do"


def main(argv: Sequence[str] | None = None, *, window: Callable[[Path | None], int] | None = None) -> int:
    """Run one command, or show the window; print what was done, or on stderr the sentence why nothing was.

    Args:
        argv: The arguments, without the program's name; those of the process if None. None at all, or one that is a
            file, opens the window.
        window: Shows the window; None for the one that is installed.

    Returns:
        The exit code: 0, or the one of the error.
    """
    _never_fail_to_print()
    given = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    if not given or (len(given) == 1 and _is_file(given[0])):
        return _show(window, Path(given[0]) if given else None)
    if given[0] == "db":
        from freezekit.cli import main as look_after
        from sample_app.documents import migrations

        return look_after(given[1:], migrations=migrations(), program="sample_app db")
    arguments = parser.parse_args(given)

    from freezekit import FreezekitError
    from sample_app.documents import DocumentError

    try:
        arguments.run(arguments)
    except (FreezekitError, DocumentError) as error:
        return _refuse(str(error), error.exit_code)
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    return 0


def _is_file(argument: str) -> bool:
    """Return whether an argument is a document rather than a command."""
    return not argument.startswith("-") and (
        argument.endswith(".notes") or os.path.dirname(argument) != "" or os.path.isfile(argument)
    )


def _show(window: Callable[[Path | None], int] | None, file: Path | None) -> int:
    if window is None:
        try:
            window = importlib.import_module(_WINDOW).show
        except ImportError as error:
            missing = {"PySide6": _NO_WINDOW, "sample_app": _NOT_SHIPPED}.get((error.name or "").partition(".")[0])
            return _refuse(missing or f"the window cannot be shown: {error}", 1)
    return window(file)


def _refuse(reason: str, exit_code: int) -> int:
    print(f"sample_app: {reason}", file=sys.stderr)
    return exit_code


def _never_fail_to_print() -> None:
    """Let a terminal that lacks a letter show a question mark for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sample_app",
        description="Notes, kept in .notes files. Without a command: opens the window, on FILE if one is named.",
        usage="%(prog)s [-h] [--version] [FILE | COMMAND ...]",
    )
    parser.add_argument("--version", action="version", version=f"sample_app {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    new = commands.add_parser("new", help="create an empty document")
    new.add_argument("file", type=Path, metavar="FILE")
    new.set_defaults(run=_new)

    opened = commands.add_parser("open", help="list a document, brought up to date if it is old")
    opened.add_argument("file", type=Path, metavar="FILE")
    opened.add_argument("--json", action="store_true", help="print one JSON document")
    opened.set_defaults(run=_open)

    _add_arguments(commands.add_parser("add", help="add a note"))

    export = commands.add_parser("export", help="save the notes that have a tag to a new document")
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument("target", type=Path, metavar="TARGET")
    export.add_argument("--tag", required=True, metavar="T")
    export.set_defaults(run=_export)

    status = commands.add_parser("status", help="say whether a document is up to date; changes nothing")
    status.add_argument("file", type=Path, metavar="FILE")
    status.set_defaults(run=_status)

    serve = commands.add_parser("serve", help="serve the notes of a database server, brought up to date at the start")
    serve.add_argument("--url", required=True, metavar="URL")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS")
    serve.add_argument("--port", type=int, default=8080, metavar="N", help="0 for any; default: %(default)s")
    serve.add_argument("--timeout", type=float, default=300, metavar="S", help="to wait for another replica")
    serve.add_argument("--ready-file", type=Path, metavar="FILE", help="exists while the program is ready")
    serve.set_defaults(run=_serve)

    commands.add_parser("db", add_help=False, help="look after the databases: see 'sample_app db --help'")
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--notebook", required=True, metavar="N")
    parser.add_argument("--title", required=True, metavar="T")
    parser.add_argument("--body", metavar="B")
    parser.add_argument("--tag", action="append", default=[], dest="tags", metavar="T", help="can be repeated")
    parser.add_argument("--date", type=date.fromisoformat, metavar="YYYY-MM-DD")
    parser.add_argument("--attach", action="append", default=[], type=Path, metavar="FILE", help="can be repeated")
    parser.set_defaults(run=_add)


def _new(arguments: argparse.Namespace) -> None:
    from sample_app import documents

    documents.create(arguments.file)
    print(f"created {arguments.file}")


def _open(arguments: argparse.Namespace) -> None:
    from sample_app import documents

    report = documents.open_document(arguments.file)
    contents = documents.contents(arguments.file)
    if arguments.json:
        print(json.dumps(_as_json(arguments.file, report, contents), indent=2))
        return
    _tell(arguments.file, report)
    for notebook in contents["notebooks"]:
        print(notebook["name"])
        for note in notebook["notes"]:
            print(f"  {_line(note)}")


def _add(arguments: argparse.Namespace) -> None:
    from sample_app import documents

    report = documents.add(
        arguments.file,
        notebook=arguments.notebook,
        title=arguments.title,
        body=arguments.body,
        tags=arguments.tags,
        written_on=arguments.date,
        attach=arguments.attach,
    )
    _tell(arguments.file, report)
    print(f"added {arguments.title!r} to {arguments.notebook!r}")


def _export(arguments: argparse.Namespace) -> None:
    from sample_app import documents

    count = documents.export(arguments.file, arguments.target, arguments.tag)
    print(f"exported {count} {'note' if count == 1 else 'notes'} to {arguments.target}")


def _status(arguments: argparse.Namespace) -> None:
    from sample_app import documents

    status = documents.status(arguments.file)
    at = ", ".join(status.current) or "no revision"
    print(f"{status.state.value}: at {at}, {len(status.pending)} pending")


def _serve(arguments: argparse.Namespace) -> None:
    from sample_app.server.serve import serve

    serve(
        arguments.url,
        host=arguments.host,
        port=arguments.port,
        timeout=arguments.timeout,
        file=arguments.ready_file,
    )


def _tell(path: Path, report: Report) -> None:
    """Print what the upgrade did; nothing if there was nothing to do."""
    if report.applied:
        print(f"upgraded {path}: {', '.join(report.applied)}")
    if report.backup is not None:
        print(f"backup: {report.backup}")


def _as_json(path: Path, report: Report, contents: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": 1,
        "file": str(path),
        "applied": list(report.applied),
        "state_before": report.state_before.value,
        "backup": report.backup,
        "contents": contents,
    }


def _line(note: dict[str, Any]) -> str:
    pin = "* " if note["pinned"] else "- "
    tags = "".join(f" #{tag}" for tag in note["tags"])
    files = "".join(f" [{attachment['file_name']}]" for attachment in note["attachments"])
    return f"{pin}{note['title']} ({note['word_count']} words){tags}{files}"
