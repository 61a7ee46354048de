"""Loads a model in a process of its own and prints what its network says: run by `models.checks`, with a path."""

from __future__ import annotations

import sys
from pathlib import Path

from biotilt.model import Model
from biotilt.models.checks import answer

if __name__ == "__main__":
    print(repr(answer(Model.load(Path(sys.argv[1]), trust=True).policy)))
