"""README.md tells the truth about the tests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


@pytest.mark.skipif(not README.exists(), reason="away from the source tree there is no README")
def test_every_promise_names_tests_that_exist() -> None:
    """A promise whose test was renamed or removed is a promise nobody keeps."""
    promised = README.read_text(encoding="utf-8").partition("### What is promised")[2].partition("\n### ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    written = set(re.findall(r"def (test_\w+)\(", sources))
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row) or re.findall(r"`tests/(\w+\.py)`", row)
        assert named, row
        assert set(named) <= written | {path.name for path in (ROOT / "tests").glob("*.py")}, row


@pytest.mark.skipif(not README.exists(), reason="away from the source tree there is no README")
def test_the_figures_are_those_of_the_last_run() -> None:
    """What was missed is said in the same words as what was reached."""
    section = README.read_text(encoding="utf-8").partition("## How fast")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and "| target |" not in line]
    rows = [line.strip("| ").split(" | ") for line in lines]
    shown = {(question, target, cell.strip()) for question, target, *cells in rows for cell in cells if cell.strip()}
    document = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    expected = {
        (one["question"], one["target"], figure(one["median"]) + " (missed)" * (not one["met"]))
        for one in document["targets"]
    }
    assert shown == expected


def figure(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
