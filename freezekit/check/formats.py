"""A report for machines: as JSON, JUnit's XML, SARIF, or annotations of GitHub."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from freezekit import __version__
from freezekit.check.findings import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from freezekit.check.findings import Finding, Report, Rule

SCHEMA = "report.schema.json"
"""Name of the JSON schema of what ``freezekit check --json`` prints, beside this module."""
SMOKE_SCHEMA = "smoke.schema.json"
"""Name of that of ``freezekit smoke --json``."""
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_GITHUB = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}


def schema(name: str = SCHEMA) -> dict[str, Any]:
    """Return a JSON schema, to validate what a command prints.

    Args:
        name: :data:`SCHEMA` or :data:`SMOKE_SCHEMA`.

    Returns:
        The schema, a new dictionary each time.
    """
    text = resources.files("freezekit.check").joinpath(name).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def document(report: Report) -> dict[str, Any]:
    """Return a report as JSON has it, without version and command, which every document of freezekit has.

    Example:
        >>> document(report)["counts"]
        {'error': 1, 'warning': 0, 'note': 0}
    """
    return {
        "subject": report.subject,
        "facts": dict(report.facts),
        "counts": report.counts,
        "findings": [{**asdict(one), "level": one.level.value} for one in report.findings],
        "checks": [rule.id for rule in report.rules],
    }


def junit(report: Report) -> str:
    """Return a report as JUnit's XML: one test case for each check, failed by an error."""
    by_id: dict[str, list[Finding]] = {rule.id: [] for rule in report.rules}
    for one in report.findings:
        by_id.setdefault(one.id, []).append(one)
    failed = sum(any(one.level is Level.ERROR for one in found) for found in by_id.values())
    counts = {"tests": str(len(by_id)), "failures": str(failed), "errors": "0"}
    suite = ET.Element("testsuite", {"name": f"freezekit {report.command}", **counts, "skipped": "0"})
    titles = {rule.id: f"{rule.id} {rule.title}" for rule in report.rules}
    for identifier, found in by_id.items():
        names = {"classname": f"freezekit.{report.command}", "name": titles.get(identifier, identifier), "time": "0"}
        _add_outcome(ET.SubElement(suite, "testcase", names), found)
    suites = ET.Element("testsuites", counts)
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=False)


def _add_outcome(case: ET.Element, found: list[Finding]) -> None:
    errors = [_xml_text(one) for one in found if one.level is Level.ERROR]
    others = [_xml_text(one) for one in found if one.level is not Level.ERROR]
    if errors:
        failure = ET.SubElement(case, "failure", {"type": "error", "message": errors[0].partition("\n")[0]})
        failure.text = "\n".join(errors)
    if others:
        ET.SubElement(case, "system-out").text = "\n".join(others)


def _xml_text(finding: Finding) -> str:
    """Return a finding as text that XML can hold, which lacks most control characters."""
    text = f"{finding.place}: {finding.message}" if finding.place else finding.message
    said = f"{text}\n  {finding.advice}" if finding.advice else text
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in said)


def sarif(report: Report) -> str:
    """Return a report as SARIF 2.1.0, which code scanning services read."""
    indexes = {rule.id: index for index, rule in enumerate(report.rules)}
    driver = {
        "name": "freezekit",
        "version": __version__,
        "rules": [_sarif_rule(rule) for rule in report.rules],
    }
    results = [_sarif_result(one, report, indexes) for one in report.findings]
    log = {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(log, indent=2)


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "help": {"text": rule.advice or rule.title},
        "defaultConfiguration": {"level": rule.level.value},
    }


def _sarif_result(finding: Finding, report: Report, indexes: Mapping[str, int]) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": quote((finding.file or report.subject).replace("\\", "/"))}}
    if finding.line:
        place["region"] = {"startLine": finding.line}
    result = {
        "ruleId": finding.id,
        "level": finding.level.value,
        "message": {"text": f"{finding.message}. {finding.advice}".rstrip(". ") + "."},
        "locations": [{"physicalLocation": place}],
    }
    return {**result, "ruleIndex": indexes[finding.id]} if finding.id in indexes else result


def github(report: Report) -> str:
    """Return a report as workflow commands, which GitHub shows as annotations; empty if there is nothing to show."""
    return "\n".join(map(_github_command, report.findings))


def _github_command(finding: Finding) -> str:
    properties = {"file": finding.file, "line": finding.line, "title": finding.id}
    given = ",".join(f"{name}={_github_property(str(value))}" for name, value in properties.items() if value)
    return f"::{_GITHUB[finding.level]} {given}::{_github_text(f'{finding.message}. {finding.advice}'.strip())}"


def _github_text(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_text(text).replace(":", "%3A").replace(",", "%2C")


TEXTS: Mapping[str, Callable[[Report], str]] = {"junit": junit, "sarif": sarif, "github": github}
"""The formats that are a text of their own, by name."""
