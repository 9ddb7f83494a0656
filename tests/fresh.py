"""A project that starts fresh: tables, and nothing of migrations yet."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MODELS = """\
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(9), unique=True)
"""
PYPROJECT = b'# By hand, and with care.\r\n[project]\r\nname = "shop"   # not a package\r\nversion = "1"'


def fresh_project(folder: Path) -> Path:
    """Write an application without migrations; its pyproject.toml has a comment and no newline at the end."""
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "models.py").write_text(MODELS)
    (folder / "pyproject.toml").write_bytes(PYPROJECT)
    return folder


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ...` in a project; what fails, fails the test with what it said."""
    environment = {name: value for name, value in os.environ.items() if name != "ALEMBIC_CONFIG"}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def initialised(project: Path, message: str = "create the tables") -> Path:
    """Do what the first steps are: init, and the first revision by autogenerate."""
    run(project, "freezekit", "init", "shop/migrations", "--metadata", "shop.models:Base.metadata")
    run(project, "alembic", "revision", "--autogenerate", "-m", message)
    return project
