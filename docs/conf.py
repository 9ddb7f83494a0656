"""How Sphinx builds this documentation: ``nox -s docs``. Nothing is fetched while it builds."""

from __future__ import annotations

import freezekit

project = "freezekit"
author = "The freezekit developers"
release = version = freezekit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
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
    (r"py:.*", r"(?!freezekit).*"),
    # Named in docstrings for those who read the code.
    (r"py:(mod|func|class|meth|attr|data)", r"freezekit\..*"),
]
