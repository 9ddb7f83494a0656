"""Entry point: ``python -m freezekit``."""

import sys

from freezekit.cli import main

if __name__ == "__main__":
    sys.exit(main())
