"""PyInstaller's run-time hook where a program can start itself as a worker: see freezekit.runtime.fleet.serve."""

import os
import sys

sys.freezekit_workers = True  # type: ignore[attr-defined]
if "FREEZEKIT_WORKER" in os.environ:
    from freezekit.runtime.fleet.serve import serve

    serve()
