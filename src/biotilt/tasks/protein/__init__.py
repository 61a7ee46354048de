"""The task `protein`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.tasks.base import Task

if TYPE_CHECKING:
    from biotilt.evaluation.measure import Measure


class Protein(Task):
    """single-chain proteins of 50 to 150 residues, toward a content of strands or helices."""

    name: ClassVar[str] = "protein"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.protein import panel

        return panel.measures()

    def pictures(self, designs: list[str]) -> list[str]:
        from biotilt.tasks.protein import panel

        return panel.pictures(designs)
