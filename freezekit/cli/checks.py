"""``freezekit check``: what is wrong with a finished bundle, for people and for machines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from freezekit.cli.answers import Answer, Table
from freezekit.cli.command import Command
from freezekit.cli.options import unharmed
from freezekit.cli.written import replace_file
from freezekit.pyproject import check_settings

if TYPE_CHECKING:
    from freezekit.check.findings import Report

FORMATS = ("table", "json", "junit", "sarif", "github")


class ReportCommand(Command):
    """A command that answers with a report on a build, in the format that is asked for."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(
                ["--format", "form"],
                type=click.Choice(FORMATS),
                default="table",
                show_default=True,
                help="How to print what was found; json is the same as --json.",
            ),
            click.Option(
                ["--html", "html"], callback=unharmed, metavar="FILE", help="Write a page for people as well."
            ),
        ]

    def invoke(self, ctx: click.Context) -> int:
        """Run the command; both ways to ask for JSON mean errors too."""
        ctx.params["as_json"] = ctx.params["as_json"] or ctx.params["form"] == "json"
        return super().invoke(ctx)


@click.command(cls=ReportCommand)
@click.argument("bundle", metavar="BUNDLE")
@click.option("--source", metavar="PROJECT", help="Folder of the project it was built from: is the bundle stale?")
@click.option("--against", metavar="OLD", help="Bundle or manifest of the last release: is what it shipped intact?")
@click.option("--select", multiple=True, metavar="PREFIX", help="Only checks whose ids begin with this; repeatable.")
@click.option("--ignore", multiple=True, metavar="PREFIX", help="No checks whose ids begin with this; repeatable.")
def check(  # noqa: PLR0913 - options of a command
    bundle: str,
    *,
    source: str | None,
    against: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    form: str,
    html: str | None,
) -> Answer:
    """Look into a finished bundle.

    BUNDLE is what PyInstaller or cx_Freeze made, a zipapp, or an archive that holds one. Nothing of it is run, and none
    of its packages need be installed. Fails if there is an error among the findings.
    """
    from freezekit.check.run import ALL
    from freezekit.check.run import check as run_checks

    settings = check_settings(source or os.curdir)
    report = run_checks(
        bundle,
        source,
        against,
        select=_prefixes(select) or settings.get("select", ALL),
        ignore=_prefixes(ignore) or settings.get("ignore", ()),
    )
    return answer(report, form, html)


def _prefixes(given: tuple[str, ...]) -> list[str]:
    """Return prefixes that were given one by one, or with commas between them."""
    return [prefix.strip() for one in given for prefix in one.split(",")]


def answer(report: Report, form: str, html: str | None) -> Answer:
    """Return the answer that shows a report, and write its page.

    Args:
        report: The report.
        form: One of ``FORMATS``.
        html: Where to write the page, or None.
    """
    from freezekit.check.formats import TEXTS, document
    from freezekit.check.page import page

    if html is not None:
        replace_file(html, page(report), "--html")
    found = document(report)
    code = 1 if report.is_failure else 0
    if form in TEXTS:
        return Answer(found, TEXTS[form](report), exit_code=code)
    rows = tuple((one.id, one.level.value, one.place, one.message) for one in report.findings)
    table = Table(("Check", "Level", "Where", "What"), rows) if rows else None
    return Answer(found, _summary(report), table, exit_code=code)


def _summary(report: Report) -> str:
    facts = "\n".join(f"{name}: {value}" for name, value in report.facts.items())
    if not report.findings:
        return f"{facts}\n{report.subject}: {len(report.rules)} checks, nothing found."
    counted = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in report.counts.items() if count)
    advice = dict.fromkeys(f"{one.id}: {one.advice}" for one in report.findings if one.advice)
    return "\n".join([facts, f"{report.subject}: {counted}.", *advice])
