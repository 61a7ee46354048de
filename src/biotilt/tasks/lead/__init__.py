"""The task `lead`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.tasks.base import Task

if TYPE_CHECKING:
    from biotilt.evaluation.measure import Measure


class Lead(Task):
    """molecules around a held scaffold, like a known ligand, within ADMET bounds (ADMET-AI)."""

    name: ClassVar[str] = "lead"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.lead import panel

        return panel.measures(config)

    def pictures(self, designs: list[str]) -> list[str]:
        from biotilt.tasks.lead import panel

        return panel.pictures(designs)
