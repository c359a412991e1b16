"""The command line: one file per command."""

from searcher.cli.main import main

__all__ = ["main"]
