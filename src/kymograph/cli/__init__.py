"""The command `kymo`: one file per group of verbs."""

from kymograph.cli.main import main

__all__ = ["main"]
