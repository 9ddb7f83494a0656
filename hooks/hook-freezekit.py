"""PyInstaller's hook for applications that import freezekit: see freezekit.build.pyinstaller."""

from freezekit.build.pyinstaller import EXCLUDED_IMPORTS, hook

__all__ = ["excludedimports", "hook"]

# The names are PyInstaller's.
excludedimports = EXCLUDED_IMPORTS
