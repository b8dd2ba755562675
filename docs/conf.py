"""Sphinx configuration: `make docs` builds docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import fastcore_ops

project = "fastcore_ops"
author = "The fastcore_ops authors"
copyright = author
version = release = fastcore_ops.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = False
autodoc_typehints = "none"  # the docstrings say it in words
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"fastcore_ops {version}"
exclude_patterns = ["_build"]
nitpicky = False
