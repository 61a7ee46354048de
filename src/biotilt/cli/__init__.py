"""The commands: what they take, how they answer, and how they show progress. No logic of their own."""

import os

# Before torch is imported, which reads it at its first tensor: blocks of 2 MB and more are given back to the system
# whole. Else the holes between them make a process far larger than what it keeps (docs/speed.md).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from biotilt.cli.commands import app

__all__ = ["app"]
