"""Entry point: ``python -m sample_app``, and the script that the freezers freeze for the command line."""

import sys

from sample_app.cli import main

if __name__ == "__main__":
    sys.exit(main())
