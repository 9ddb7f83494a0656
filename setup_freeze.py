"""Freeze sample_app with cx_Freeze: ``python setup_freeze.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from cx_Freeze import Executable, Freezer

from freezekit.build.cx_freeze import build_exe_options

# What plugins of Qt bring along, and no part of this window uses.
UNUSED = ["libQt6Qml*", "libQt6Quick*", "libQt6Network*", "libQt6WaylandCompositor*", "libqtvirtualkeyboard*"]


def main() -> None:
    """Build the folder that holds the program."""
    parser = argparse.ArgumentParser(description="Freeze sample_app with cx_Freeze.")
    parser.add_argument("--target", default="build/sample_app-cx", help="folder to build (default: %(default)s)")
    parser.add_argument("--zip", action="store_true", help="put all packages into library.zip")
    parser.add_argument("--zip-scripts", action="store_true", help="put the migration scripts into library.zip")
    parser.add_argument("--window", action="store_true", help="freeze the program with its window, which needs PySide6")
    parser.add_argument("--server", action="store_true", help="ship what sample_app/server/pyproject.toml names, too")
    arguments = parser.parse_args()

    if arguments.server:
        options = build_exe_options(project=Path(__file__).with_name("sample_app") / "server")
    else:
        options = build_exe_options("sample_app:migrations", zip_scripts=arguments.zip_scripts)
    if arguments.zip:
        options.update(zip_include_packages=["*"], zip_exclude_packages=[])
    main_script = "desktop.py" if arguments.window else "__main__.py"
    if arguments.window:
        options.update(excludes=[*options["excludes"], "PySide6.QtNetwork", "numpy"], bin_excludes=UNUSED)
    program = Executable(Path(__file__).with_name("sample_app") / main_script, target_name="sample_app")
    # Not setup(): it would read this repository's pyproject.toml and write egg-info beside it.
    Freezer([program], target_dir=arguments.target, silent=True, **options).freeze()


if __name__ == "__main__":
    main()
