"""The examples of docs/howto are run as they are printed."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from sample_data import RELEASES, content, pending

import freezekit

PAGE = Path(__file__).resolve().parent.parent / "docs" / "howto" / "desktop.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="away from the source tree there is no documentation")


def example(section: str, **names: Any) -> dict[str, Any]:
    """Run the Python code of a section, and return what it defines."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    defined: dict[str, Any] = {"migrations": freezekit.locate("sample_app:migrations"), **names}
    exec(code, defined)
    return defined


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return Path(shutil.copy(RELEASES[0], tmp_path / "old.notes"))


class Held:
    """Migrations whose upgrade goes on until it is cancelled."""

    def __init__(self) -> None:
        self.began = threading.Event()

    def upgrade(self, path: Path, *, on_progress: Any, cancel: threading.Event) -> freezekit.Report:
        def wait(now: freezekit.Progress) -> None:
            on_progress(now)
            if now.phase == "migrate":
                self.began.set()
                cancel.wait()

        return freezekit.locate("sample_app:migrations").upgrade(path, on_progress=wait, cancel=cancel)


def test_the_example_for_asyncio_upgrades_while_the_loop_goes_on(document: Path) -> None:
    heard: list[tuple[str, bool]] = []
    here = threading.get_ident()

    async def program() -> freezekit.Report:
        open_document = example("With asyncio")["open_document"]
        report: freezekit.Report = await open_document(
            document, lambda now: heard.append((now.phase, threading.get_ident() == here))
        )
        await asyncio.sleep(0)
        return report

    assert asyncio.run(program()).applied == pending("1.0")
    assert heard[0] == ("backup", True)
    assert heard[-1] == ("done", True)


def test_the_example_for_asyncio_waits_for_the_end_of_what_is_cancelled(document: Path) -> None:
    before, held = document.read_bytes(), Held()

    async def program() -> None:
        open_document = example("With asyncio", migrations=held)["open_document"]
        task = asyncio.create_task(open_document(document, lambda _now: None))
        await asyncio.to_thread(held.began.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(program())
    assert document.read_bytes() == before
    assert not document.with_name("old.notes-journal").exists()


def test_the_example_for_threads_upgrades_and_cancels(document: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(document, tmp_path / "other.notes"))
    opening = example("With plain threads")["Opening"](document, lambda _now: None)
    assert opening.upgrade.result().applied == pending("1.0")
    opening.close()
    held = Held()
    opening = example("With plain threads", migrations=held)["Opening"](other, lambda _now: None)
    held.began.wait()
    opening.close()
    with pytest.raises(freezekit.UpgradeCancelled):
        opening.upgrade.result()
    assert content(other) == content(RELEASES[0])
