"""Commands on what was shipped, or is going to be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from freezekit.cli.answers import Answer
from freezekit.cli.command import MigrationsCommand
from freezekit.cli.options import unharmed
from freezekit.cli.written import replace_file

if TYPE_CHECKING:
    from freezekit.runtime.migrations import Migrations


@click.command(cls=MigrationsCommand)
def verify(migrations: Migrations) -> Answer:
    """Compare every script with the manifest.

    In a source tree, where there is no manifest, read every script.
    """
    migrations.verify()
    manifest = migrations.manifest
    document = {
        "script_location": migrations.script_location,
        "bundle": migrations.bundle,
        "heads": manifest.heads,
        "revisions": len(manifest.revisions),
        "files": len(manifest.files),
    }
    said = "can be read" if migrations.bundle == "source" else "are as they were shipped"
    counted = f"{len(manifest.files)} files with {len(manifest.revisions)} revisions"
    return Answer(document, f"{migrations.script_location}: {counted} up to {', '.join(manifest.heads)} {said}.")


@click.command(cls=MigrationsCommand)
@click.option("--output", callback=unharmed, metavar="FILE", help="Write it to a file instead.")
def manifest(migrations: Migrations, output: str | None) -> Answer:
    """Print the manifest of the scripts, as JSON.

    It lists each revision and each file with its digest, as the build ships it.
    """
    text = migrations.manifest.to_json()
    content = json.loads(text)
    document = {"output": output, "manifest": content}
    if output is None:
        # ASCII, so that it stays JSON on a stream that lacks a letter.
        return Answer(document, json.dumps(content, indent=1))
    replace_file(output, text, "--output")
    return Answer(document, f"The manifest of {migrations.script_location} was written to {output}.")
