"""Holds a document again and again while other threads of the program look at it, or try to hold it.

Started with the shim of ``shim.c`` loaded and the paths of the scripts and of the document. Each time it holds the
document it prints a line and waits for one; it ends after an empty one.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from contextlib import suppress
from pathlib import Path

import freezekit
from freezekit.runtime.sqlite_upgrade import write_locked

# Long enough for another thread to take a lock in between, by far.
CLOSE_TAKES = 300


def main(scripts: str, document: str) -> None:
    """Hold, tell, wait."""
    migrations, done = freezekit.locate(scripts), threading.Event()
    ctypes.CDLL(None).fault_slow_close(str(Path(document).parent).encode(), CLOSE_TAKES)

    def look() -> None:
        while not done.is_set():
            assert migrations.status(document).state is freezekit.State.BEHIND

    def hold() -> None:
        while not done.is_set():
            with suppress(freezekit.DatabaseInUse), write_locked(document, 0.0):
                pass

    threads = [threading.Thread(target=work) for work in (look, look, hold)]
    for thread in threads:
        thread.start()
    while True:
        with write_locked(document, 10.0):
            sys.stdout.write("held\n")
            sys.stdout.flush()
            if not sys.stdin.readline().strip():
                break
    done.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
