"""PyInstaller's hook for Alembic's compat module: it names tomli, and imports tomllib on Python 3.11 and later.

Where tomli is not installed, PyInstaller would take the copy inside setuptools, and all of setuptools with it.
"""

import sys

# The name is PyInstaller's.
excludedimports = ["tomli"] if sys.version_info >= (3, 11) else []
