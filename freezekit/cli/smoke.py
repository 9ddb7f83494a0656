"""The command that runs a finished bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from freezekit.cli.answers import Answer, Table, error_document
from freezekit.cli.checks import ReportCommand
from freezekit.cli.written import replace_file

if TYPE_CHECKING:
    from freezekit.check.smoke import SmokeReport


@click.command(cls=ReportCommand)
@click.argument("executable", metavar="EXECUTABLE")
@click.option(
    "--app-command",
    metavar="ARGS",
    help='How the application opens a database, such as "open {db}": its own start-up is driven as well.',
)
@click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Databases of past releases, one file each; all are upgraded.",
)
@click.option("--may-shrink", multiple=True, metavar="TABLE", help="A table that may have fewer rows after an upgrade.")
@click.option(
    "--content",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="SELECT statements that must find nothing in an upgraded database; the one before is attached as old.",
)
@click.option("--timeout", type=click.FloatRange(min=1), metavar="S", help="Time limit of each run; 60 by default.")
@click.option("--skip", multiple=True, metavar="PHASE", help="Leave a phase out.")
@click.option("--hide", multiple=True, metavar="DIR", help="Hide a folder, beside the project and its packages.")
def smoke(  # noqa: PLR0913, PLR0917 - one for each option
    executable: str,
    app_command: str | None,
    folder: str | None,
    may_shrink: tuple[str, ...],
    content: str | None,
    timeout: float | None,
    skip: tuple[str, ...],
    hide: tuple[str, ...],
    form: str,
    html: str | None,
) -> Answer:
    """Run a finished bundle in a clean room, and try its migrations.

    EXECUTABLE is the program. A copy of its bundle runs elsewhere, without its sources, on copies of the databases.
    Fails if a phase fails.
    """
    from freezekit.check.smoke import DEFAULT_TIMEOUT
    from freezekit.check.smoke import smoke as run

    report = run(
        executable,
        app_command=app_command,
        databases=[path for path in sorted(Path(folder).iterdir()) if _is_database(path)] if folder else (),
        may_shrink=may_shrink,
        content=Path(content).read_text(encoding="utf-8") if content else "",
        timeout=timeout or DEFAULT_TIMEOUT,
        skip=skip,
        hide=hide,
    )
    return _answer(report, form, html)


def _is_database(path: Path) -> bool:
    """Return whether a file begins as every SQLite file does; a folder may hold other things beside them."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


def _answer(report: SmokeReport, form: str, html: str | None) -> Answer:
    from freezekit.check.formats import TEXTS
    from freezekit.check.page import page

    failure = report.failure
    document = {**report.to_document(), "failure": error_document(failure) if failure else None}
    code = 1 if failure else 0
    if html is not None:
        replace_file(html, page(report.to_report()), "--html")
    if form in TEXTS:
        return Answer(document, TEXTS[form](report.to_report()), exit_code=code)
    rows = tuple((one.name, one.outcome, f"{one.seconds:.2f} s", _said(one.detail)) for one in report.phases)
    inside = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    room = f"{report.room['isolation']}; bundle {report.room['read_only']}"
    result = "failed" if failure else "passed"
    text = f"{report.executable}: {result} in {report.seconds:.1f} s\nInside: {inside or 'unknown'}\nClean room: {room}"
    if failure is not None:
        text += f"\n\n{failure}\n"
    return Answer(document, text, Table(("Phase", "Outcome", "Time", ""), rows), exit_code=code)


def _said(detail: str) -> str:
    first, _, rest = detail.partition("\n")
    return first + (" ..." if rest else "")
