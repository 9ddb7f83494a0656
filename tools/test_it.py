"""Run every check of freezekit: style, types, tests on each Python found here, real bundles, the built wheel.

Needs Python >= 3.10 with pip and venv; everything else is installed below the project, in .venv-test and .nox.
Names of nox sessions as arguments run only those.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from environment import PROJECT, SetUpError, install, require_binutils, say, step, virtual_environment

if TYPE_CHECKING:
    from collections.abc import Iterable

SESSIONS = ["lint", "tests", "faults", "frozen", "desktop", "wheel", "servers", "typing", "docs"]
ASIDE = ["servers", "typing", "docs"]
# pytest's closing line, as in "12 passed, 1 skipped in 3.45s" or "==== 1 failed in 2s ====".
CLOSING_LINE = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s")


def main(sessions: list[str]) -> int:
    """Run the sessions one after the other, all of them even if one fails."""
    try:
        with step("Preparing .venv-test (nox)"):
            require_binutils()
            programs = virtual_environment(".venv-test")
            install(programs, "nox>=2024.10.9")
    except SetUpError as problem:
        say(str(problem))
        return 1
    results: dict[str, bool] = {}
    totals: dict[str, int] = {}
    nox = str(programs / "nox")
    wanted = sessions or SESSIONS
    # What mostly waits or uses one processor runs beside the others, one after the other.
    with ThreadPoolExecutor(1) as pool:
        aside = {one: pool.submit(_captured, [nox, "--session", one]) for one in wanted if one in ASIDE}
        try:
            for session in wanted:
                with step(f"nox -s {session}"):
                    if session in aside:
                        results[session], said = aside[session].result()
                        _show(said.splitlines(keepends=True), totals)
                    else:
                        results[session] = _run_session([nox, "--session", session], totals)
        finally:
            pool.shutdown(cancel_futures=True)
    return _summary(results, totals)


def _environment() -> dict[str, str]:
    """What the sessions run in: what Python has compiled is kept, for they start it some thousand times."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _captured(command: list[str]) -> tuple[bool, str]:
    """Run a session; return whether it passed, and what it said."""
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode == 0, done.stdout


def _run_session(command: list[str], totals: dict[str, int]) -> bool:
    """Show a session's output as it comes; add the counts of pytest's closing lines to the totals."""
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        _show(process.stdout or (), totals)
    return process.returncode == 0


def _show(lines: Iterable[str], totals: dict[str, int]) -> None:
    for line in lines:
        print(line, end="", flush=True)
        closing = CLOSING_LINE.match(line)
        for number, word in re.findall(r"(\d+) ([a-z]+)", closing.group(1)) if closing else ():
            totals[word] = totals.get(word, 0) + int(number)


def _summary(results: dict[str, bool], totals: dict[str, int]) -> int:
    failed = [session for session, passed in results.items() if not passed]
    say(f"==> All done at {time.strftime('%H:%M:%S')}")
    for session, passed in results.items():
        say(f"    {session:8} {'passed' if passed else 'FAILED'}")
    # A session can fail without a failed test: lint and typing run none.
    not_tests = [session for session in failed if not (totals.get("failed") or totals.get("error"))]
    failures = totals.get("failed", 0) + totals.get("error", 0) + totals.get("errors", 0) + len(not_tests)
    say(f"{totals.get('passed', 0)} passed, {failures} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
