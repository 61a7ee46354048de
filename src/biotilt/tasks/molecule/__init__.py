"""The task `molecule`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from biotilt.evaluation.measure import Measure
from biotilt.tasks.base import Task


class Molecule(Task):
    """drug-like molecules written in SELFIES (MOSES), tilted toward properties of RDKit."""

    name: ClassVar[str] = "molecule"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.molecule import panel

        return panel.measures()

    def pictures(self, designs: list[str]) -> list[str]:
        from biotilt.tasks.molecule import panel

        return panel.pictures(designs)
