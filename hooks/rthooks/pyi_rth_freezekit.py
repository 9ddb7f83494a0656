"""PyInstaller's run-time hook where a bundle can test itself: see freezekit.runtime.selftest."""

import os

if "FREEZEKIT_SELFTEST" in os.environ:
    from freezekit.runtime.selftest import answer

    answer()
