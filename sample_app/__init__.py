"""A small desktop program: notes, kept in ``.notes`` files that every later release can still open."""

__version__ = "3.0.0"
