"""Entry point of the program with its window: the script that the freezers freeze for the desktop."""

import sys

from sample_app.cli import main
from sample_app.window import show

if __name__ == "__main__":
    sys.exit(main(window=show))
