"""Which scripts a command is about, on a developer's machine."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from freezekit.config import project_chains
from freezekit.errors import UsageError
from freezekit.manifest import DEFAULT_SECTION
from freezekit.runtime.locate import locate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.config import Chain
    from freezekit.runtime.migrations import Migrations


@contextlib.contextmanager
def importable(project: str) -> Iterator[None]:
    """Make a project's packages importable for the duration of a block: its folder and its ``src``."""
    before = list(sys.path)
    sys.path[:0] = [one for one in (project, os.path.join(project, "src")) if os.path.isdir(one) and one not in before]
    try:
        yield
    finally:
        sys.path[:] = before


def find_migrations(project: str, location: str | None, section: str | None) -> Migrations:
    """Return the scripts that a developer means.

    Args:
        project: The working directory.
        location: ``--migrations``, if it was given.
        section: ``--section``, if it was given.

    Raises:
        UsageError: The project configures no chain, or several of which none was chosen.
        MigrationsNotFound: The scripts are not where they should be.
    """
    if location is not None:
        return locate(location, section=section or DEFAULT_SECTION)
    chain = only_chain(project, section)
    found = locate(chain.folder, section=chain.section)
    # What the project writes goes into the manifest, not where this machine has it.
    found.script_location = chain.script_location
    return found


def only_chain(project: str, section: str | None) -> Chain:
    """Return the one chain that a project configures, in a section if one is given.

    Raises:
        UsageError: There is none, or there are several.
    """
    configured = project_chains(project)
    meant = [chain for chain in configured if section in (None, chain.section)]
    if len(meant) == 1:
        return meant[0]
    names = ", ".join(f"{chain.script_location} (section {chain.section})" for chain in meant or configured)
    if not configured:
        raise UsageError(
            f"Nothing in {project} configures migrations: give --migrations package:folder, or go to the folder of "
            "the project's pyproject.toml or alembic.ini."
        )
    if not meant:
        raise UsageError(f"{project} configures no section {section}; there is {names}.")
    raise UsageError(
        f"{project} configures {len(meant)} chains of migrations: {names}. Choose one with --section, or with "
        "--migrations."
    )
