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
from functools import partial
from typing import TYPE_CHECKING

from environment import PROJECT, SetUpError, install, require_binutils, say, step, virtual_environment

if TYPE_CHECKING:
    from collections.abc import Callable

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
    # What mostly waits or uses one processor runs beside the others, one after the other, and is shown when it ended.
    said: dict[str, list[str]] = {one: [] for one in wanted if one in ASIDE}
    with ThreadPoolExecutor(1) as pool:
        aside = {one: pool.submit(_run_session, [nox, "--session", one], said[one].append) for one in said}
        hear = partial(_show, totals=totals)
        try:
            for session in wanted:
                with step(f"nox -s {session}"):
                    if session in aside:
                        results[session] = aside[session].result()
                        for line in said[session]:
                            hear(line)
                    else:
                        results[session] = _run_session([nox, "--session", session], hear)
        finally:
            pool.shutdown(cancel_futures=True)
    return _summary(results, totals)


def _environment() -> dict[str, str]:
    """What the sessions run in: what Python has compiled is kept, for they start it some thousand times."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _run_session(command: list[str], hear: Callable[[str], object]) -> bool:
    """Run a session, give each line it says to ``hear`` as it comes, and return whether it passed."""
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            hear(line)
    return process.returncode == 0


def _show(line: str, totals: dict[str, int]) -> None:
    """Show a line; add the counts of pytest's closing lines to the totals."""
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
