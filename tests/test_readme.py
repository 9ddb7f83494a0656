"""README.md tells the truth about the tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import shown

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
    """What was missed is said in the same words as what was reached; README has some of them."""
    document = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    expected = {
        (one["question"], one["target"], figure(one["median"]) + " (missed)" * (not one["met"]))
        for one in document["targets"]
    }
    assert shown_figures((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")) == expected
    section = README.read_text(encoding="utf-8").partition("## How fast")[2].partition("\n## ")[0]
    assert shown_figures(section) <= expected
    assert len(shown_figures(section)) > 5


def shown_figures(page: str) -> set[tuple[str, str, str]]:
    lines = [line for line in page.splitlines() if line.startswith("| ") and "| target |" not in line]
    rows = [line.strip("| ").split(" | ") for line in lines]
    return {(question, target, cell.strip()) for question, target, *cells in rows for cell in cells if cell.strip()}


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="away from the source tree nothing is integrated")
def test_ci_runs_the_line_of_the_readme_that_runs_the_tests(tmp_path: Path) -> None:
    """By the page itself; here in a folder whose tests only say that they ran."""
    for name in ("README.md", ".ci/run"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "test_it.py").write_text("import os, sys; sys.exit(os.environ['CI'] != 'true' or 7)")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"}
    done = subprocess.run(
        [tmp_path / ".ci" / "run"], cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, f"+ {shown('README.md', 'python3 tools/test_it.py').strip()}\n")


def figure(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
