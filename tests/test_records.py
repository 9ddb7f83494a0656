"""Records behave as the frozen dataclasses they stand for."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import freezekit
from freezekit import Backup, State, Status

ROOT = Path(freezekit.__file__).parent.parent
STATUS = Status(State.BEHIND, ("one",), ("two",), ("two",))


def test_a_record_is_a_dataclass_for_who_asks() -> None:
    """``fields``, ``asdict`` and ``replace`` work, with defaults, names and order."""
    assert dataclasses.is_dataclass(Status)
    names = [field.name for field in dataclasses.fields(STATUS)]
    assert names == ["state", "current", "heads", "pending", "reason", "tables", "leftovers"]
    assert dataclasses.asdict(STATUS)["pending"] == ("two",)
    assert dataclasses.replace(STATUS, state=State.CURRENT).state is State.CURRENT
    assert dataclasses.fields(Backup)[0].default == 1


def test_a_record_is_frozen_and_compared_by_value() -> None:
    """Assigning and deleting are refused; equal values are equal and have one hash; a copy and a pickle are equal."""
    with pytest.raises(AttributeError, match="frozen"):
        STATUS.state = State.NEW  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del STATUS.state
    same = Status(State.BEHIND, current=("one",), heads=("two",), pending=("two",))
    assert (same, hash(same)) == (STATUS, hash(STATUS))
    assert dataclasses.replace(STATUS, reason="another") != STATUS
    assert copy.copy(STATUS) == pickle.loads(pickle.dumps(STATUS)) == STATUS
    assert repr(Backup(keep=2)) == "Backup(keep=2, folder=None)"


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), (("x",) * 9, {}), ((), {"kep": 1}), ((1,), {"state": 1})],
    ids=["nothing", "too many", "unknown name", "twice"],
)
def test_a_wrong_call_is_a_type_error(values: tuple[object, ...], named: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="Status"):
        Status(*values, **named)  # type: ignore[arg-type]


def test_a_question_about_a_current_document_imports_little() -> None:
    """Neither Alembic nor SQLAlchemy nor what is slow of the standard library is imported for it."""
    slow = {"alembic", "sqlalchemy", "dataclasses", "typing", "inspect", "ast", "hashlib", "tempfile", "importlib.util"}
    code = f"import freezekit, freezekit.runtime.sqlite_file, sys; print(sorted({slow} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
