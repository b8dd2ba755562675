"""The version: read by pyproject.toml and by the code."""

__version__ = "0.1.0"
