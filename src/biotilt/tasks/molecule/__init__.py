"""The task `molecule`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.tasks.base import Task

if TYPE_CHECKING:
    from biotilt.evaluation.measure import Measure


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
