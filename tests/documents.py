"""The code blocks of README.md and docs/; ``python documents.py FILE`` runs those of one page in order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DOCS = PROJECT / "docs"
PAGES = [PROJECT / "README.md", *sorted(DOCS.rglob("*.md"))] if DOCS.is_dir() else []
TUTORIAL = "docs/tutorial.md"
# How the blocks begin that make an environment; where the other ones run, that of the tests is the one.
INSTALLING = ("python3 -m venv .venv", 'pip install "')
PYTEST = re.compile(r"^def test_", re.MULTILINE)
_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_SAVED = re.compile(r"[Ss]ave as `([^`]+)`:\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: The page, relative to the repository.
        line: Line of its first line of code.
        language: What the fence says.
        code: The text.
        saved: Where the sentence before it says to save it.
    """

    page: str
    line: int
    language: str
    code: str
    saved: str | None


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page that hold code; directives of Sphinx are none."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language = match["language"].strip()
        if language.startswith("{"):
            continue
        saved = _SAVED.search(text[: match.start()])
        line = text.count("\n", 0, match.start("code")) + 1
        name = page.relative_to(PROJECT).as_posix()
        found.append(Block(name, line, language, match["code"], saved[1] if saved else None))
    return found


def shown(page: str, start: str, **changes: str) -> str:
    """Return the one block of a page that begins so, for a test that runs it where it can run.

    Args:
        page: The page, relative to the repository.
        start: How the block begins.
        changes: Texts that stand for something else here, under any name, as ``old=>new``.
    """
    (code,) = (one.code for one in blocks(PROJECT / page) if one.code.startswith(start))
    for change in changes.values():
        old, _, new = change.partition("=>")
        assert old in code, f"{page} does not show {old!r}"
        code = code.replace(old, new)
    return code


def matches(shown: str, printed: str) -> bool:
    """Return whether output is as shown, where ``…`` stands for anything."""
    pattern = ".*?".join(re.escape(" ".join(part.split())) for part in shown.split("…"))
    return (
        re.fullmatch(pattern.replace(r"\ .*?", r"\ ?.*?").replace(r".*?\ ", r".*?\ ?"), " ".join(printed.split()))
        is not None
    )


def id_of(block: Block) -> str:
    """Return where a block is, in short."""
    return f"{block.page}:{block.line}"


def run_page(chosen: list[Block], folder: Path) -> None:
    """Run blocks one after the other in a process of their own."""
    order = folder.parent / "blocks.json"
    fields = [
        {"where": id_of(one), "language": one.language, "code": one.code, "saved": one.saved or ""} for one in chosen
    ]
    order.write_text(json.dumps(fields), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, __file__, str(order)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def run(page: list[dict[str, str]]) -> None:
    """Run blocks in this process and this folder; exit with 1 at the first that fails or prints something else."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in page:
        where, language, code = block["where"], block["language"], block["code"]
        if block["saved"]:
            path = Path(block["saved"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, encoding="utf-8")
        elif language == "text":
            if not matches(code, printed):
                sys.exit(f"{where} shows\n{code}\nbut this was printed:\n{printed}")
        else:
            printed = _output(where, language, code, names)


def _output(where: str, language: str, code: str, names: dict[str, object]) -> str:
    if language == "python" and not PYTEST.search(code):
        stdout, sys.stdout = sys.stdout, StringIO()
        try:
            exec(compile(code, where, "exec"), names)
            return sys.stdout.getvalue()
        except BaseException:  # noqa: BLE001 - also SystemExit of an example
            sys.exit(f"{where}\n{traceback.format_exc()}")
        finally:
            sys.stdout = stdout
    command = ["bash", "-euo", "pipefail", "-c", code]
    if language == "python":
        Path("test_example.py").write_text(code, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{where} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
