"""How Sphinx builds this documentation: ``nox -s docs``. Nothing is fetched while it builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from docutils import nodes
from docutils.parsers.rst import Directive

import freezekit
from freezekit.cli.program import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

project = "freezekit"
author = "The freezekit developers"
release = version = freezekit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
suppress_warnings = ["ref.python"]  # two classes are named Report, and types are shown by their short names
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"freezekit {release}"
html_static_path = ["_static"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
nitpick_ignore_regex = [
    # Defined elsewhere: no inventory of another project is downloaded.
    (r"py:.*", r"(collections|glob|os|sqlalchemy|sqlite3|threading)(\..*)?|Executor|Path"),
    # Types of arguments and attributes, which the text beside them describes.
    (r"py:class", r"DatabaseLike|FleetDatabase|Graph|Phase|Rows|Rule|Scripts|freezekit\.errors\._UnusableFile"),
]


class Help(Directive):
    """What ``--help`` of every command says, each in a section."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [_section(path, text) for path, text in _helps(program, None, "freezekit")]


def _section(path: str, text: str) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(path)], names=[path])
    section += nodes.title(text=path)
    section += nodes.literal_block(text, text, language="text")
    return section


def _helps(command: click.Command, parent: click.Context | None, name: str) -> Iterator[tuple[str, str]]:
    context = click.Context(command, parent, info_name=name, terminal_width=100)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for one in command.list_commands(context):
            found = command.get_command(context, one)
            if found is not None:
                yield from _helps(found, context, one)


def setup(app: Sphinx) -> None:
    """Let pages say ``.. freezekit-help::``."""
    app.add_directive("freezekit-help", Help)
