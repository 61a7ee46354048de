"""The task `docking`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.tasks.base import Task

if TYPE_CHECKING:
    from biotilt.evaluation.measure import Measure


class Docking(Task):
    """drug-like molecules that dock (AutoDock Vina) to a receptor of your own."""

    name: ClassVar[str] = "docking"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.docking import panel

        return panel.measures()

    def pictures(self, designs: list[str]) -> list[str]:
        from biotilt.tasks.docking import panel

        return panel.pictures(designs)
