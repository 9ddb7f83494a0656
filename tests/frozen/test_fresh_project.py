"""From nothing to a frozen program: `freezekit init`, the first revision by autogenerate, and cx_Freeze."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import alembic
import pytest
from fresh import fresh_project, initialised
from projects import Project, Workshop, migrated, program
from sample_data import content

if TYPE_CHECKING:
    from pathlib import Path

    from bundles import HiddenSource

pytestmark = [
    pytest.mark.frozen,
    pytest.mark.skipif(
        tuple(map(int, alembic.__version__.split(".")[:2])) < (1, 16),
        reason="this Alembic does not read pyproject.toml",
    ),
]


def test_a_fresh_project_is_initialised_frozen_and_upgrades_its_documents(
    run_folder: Path, hidden_source: HiddenSource, tmp_path: Path
) -> None:
    """Nobody names anything for the freezer: pyproject.toml, as init wrote it, does."""
    project = initialised(fresh_project(tmp_path / "project"))
    files = {
        path.relative_to(project).as_posix(): path.read_text(encoding="utf-8")
        for path in project.rglob("*")
        if path.is_file() and path.suffix in {".py", ".toml", ".mako"}
    }
    files["app.py"] = program('"shop:migrations"')
    bundle = Workshop(run_folder, hidden_source).freeze(Project("a fresh project", files))
    done = migrated(bundle, tmp_path / "a.db")
    assert len(done["applied"]) == 1
    assert set(content(tmp_path / "a.db")) == {"alembic_version", "note"}
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        ((sql,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'note'")
    assert "CONSTRAINT uq_note_title UNIQUE" in sql
    assert migrated(bundle, tmp_path / "a.db")["applied"] == []
