"""The program's window; needs PySide6, which nothing outside of this package imports."""

from sample_app.window.application import show

__all__ = ["show"]
