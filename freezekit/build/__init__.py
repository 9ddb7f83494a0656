"""What runs while freezing: it ships the scripts, what they import, and a manifest. Never part of a bundle."""

NOT_SHIPPED = (
    "freezekit.build",
    "freezekit.check",
    "freezekit.cli.developers",
    "freezekit.cli.project",
    "freezekit.scripts",
    "freezekit.syntax",
)
"""What an application's imports lead to only on the machine of its developer; a bundle has a manifest instead."""

FREEZERS = ("pyinstaller", "cx_Freeze", "nuitka")
"""The freezers whose command-line options are known."""
