"""A report as one page for people who would rather look: needs no other file, no network and no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from freezekit.check.graph import svg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.check.findings import Finding, Graph, Report

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --paper: #fff; --line: #d5dbe3; --error: #b3261e; --warning: #8a5a00;
  --note: #3a5f8a; --good: #1e7042; --graph: #5b6b7d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --paper: #14191f; --line: #364250; --error: #ff8a80;
  --warning: #f0b95b; --note: #8ab8ee; --good: #6fcf97; --graph: #93a4b5; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
.error { color: var(--error); } .warning { color: var(--warning); } .note { color: var(--note); }
.good { color: var(--good); } .advice { opacity: .8; } .scroll { overflow-x: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; } svg .id { font-weight: 600; }
svg .edge { fill: none; stroke: var(--graph); stroke-width: 2; } svg .lost { stroke-dasharray: 3 3; }
svg circle { fill: var(--paper); stroke: var(--graph); stroke-width: 2; }
svg .head circle { fill: var(--good); stroke: var(--good); }
"""


def page(report: Report) -> str:
    """Return a report as an HTML page; everything that comes from the bundle is escaped."""
    title = escape(f"freezekit {report.command}: {report.subject}")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            _verdict(report),
            *_findings(report),
            *_facts(report),
            *(part for graph in report.graphs for part in _drawing(graph)),
            "</body></html>",
            "",
        ]
    )


def _verdict(report: Report) -> str:
    if not report.findings:
        return f'<p class="good">All is well: {len(report.rules)} checks found nothing.</p>'
    counted = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in report.counts.items() if count)
    kind = "error" if report.is_failure else "warning"
    return f'<p class="{kind}">{counted}</p>'


def _findings(report: Report) -> Iterator[str]:
    if report.findings:
        yield "<h2>Findings</h2><table><thead><tr><th>Check</th><th>Where</th><th>What</th></tr></thead><tbody>"
        yield from map(_finding, report.findings)
        yield "</tbody></table>"


def _finding(finding: Finding) -> str:
    level = finding.level.value
    return (
        f'<tr><td>{escape(finding.id)}<br><span class="{level}">{level}</span></td>'
        f"<td>{escape(finding.place)}</td>"
        f'<td>{escape(finding.message)}<div class="advice">{escape(finding.advice)}</div></td></tr>'
    )


def _facts(report: Report) -> Iterator[str]:
    yield "<h2>What it is</h2><table><tbody>"
    yield from (
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in report.facts.items()
    )
    yield "</tbody></table>"


def _drawing(graph: Graph) -> Iterator[str]:
    yield f"<h2>{escape(graph.name)}</h2>"
    yield f'<div class="scroll">{svg(graph)}</div>' if graph.revisions else "<p>No revision.</p>"
