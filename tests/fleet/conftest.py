"""Documents of past releases, and a project of one revision, for the tests of fleets."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from histories import Project, project_in
from sample_data import RELEASES, ROOT

import freezekit
from freezekit import Migrations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def closing_later() -> Iterator[ExitStack]:
    """A stack that is unwound after the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def migrations() -> Migrations:
    return freezekit.locate("sample_app:migrations")


@pytest.fixture
def documents(tmp_path: Path) -> list[Path]:
    """Six old documents, two of each release."""
    copies = [tmp_path / f"{number} {release.name}" for number in range(2) for release in RELEASES]
    for copy in copies:
        shutil.copyfile(ROOT / "sample_app" / "releases" / copy.name.split()[1], copy)
    return copies


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with project_in(tmp_path / "app") as one:
        one.table("a1")
        yield one
