"""The command on two releases: ``freezekit diff``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from freezekit.cli.answers import Answer, Table
from freezekit.cli.command import Command
from freezekit.config import project_chains
from freezekit.errors import UsageError

if TYPE_CHECKING:
    from freezekit.check.release import Finding
    from freezekit.manifest import Manifest


@click.command(cls=Command)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
def diff(old: str, new: str) -> Answer:
    """Compare the revisions of two releases.

    OLD and NEW are manifests, or bundles. Fails if NEW lacks a revision that OLD has shipped, has edited one (line
    endings aside), or has given its id to another one. An edit that is meant is named, with its reason, in
    accepted_edits of [tool.freezekit] in the pyproject.toml of this folder.
    """
    from freezekit.check.release import compare, read_manifests

    before, after = read_manifests(old), read_manifests(new)
    reasons = {name: why for chain in project_chains(os.getcwd()) for name, why in chain.accepted_edits.items()}
    found = [one for key, shipped in before.items() for one in compare(shipped, _same_chain(key, after, new), reasons)]
    failures = sum(one.is_failure for one in found)
    document = {
        "findings": [_finding_document(one) for one in found],
        "failures": failures,
    }
    rows = tuple((_verdict(one), one.revision, one.message) for one in found)
    text = "" if failures else "No revision that was shipped is gone, edited or replaced."
    table = Table(("", "Revision", "What happened"), rows) if rows else None
    return Answer(document, text, table, exit_code=1 if failures else 0)


def _same_chain(key: tuple[str, str], manifests: dict[tuple[str, str], Manifest], where: str) -> Manifest:
    """Return the chain of the same name; of two releases with one chain each, the other one."""
    if key in manifests:
        return manifests[key]
    if len(manifests) == 1:
        return next(iter(manifests.values()))
    raise UsageError(f"{where} has no chain {key[0]} (section {key[1]}), which was shipped.")


def _verdict(finding: Finding) -> str:
    return "failed" if finding.is_failure else "accepted" if finding.accepted else "fine"


def _finding_document(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "revision": finding.revision,
        "message": finding.message,
        "accepted": finding.accepted,
        "failure": finding.is_failure,
    }
