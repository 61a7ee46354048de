"""The commands: what they take, how they answer, and how they show progress. No logic of their own."""

from biotilt.cli.commands import app

__all__ = ["app"]
