"""The task `enhancer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.tasks.base import Task

if TYPE_CHECKING:
    from biotilt.evaluation.measure import Measure


class Enhancer(Task):
    """200-bp enhancers that are active in HepG2 liver cells (lentiMPRA, Agarwal et al. 2025)."""

    name: ClassVar[str] = "enhancer"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.enhancer import panel

        return panel.measures()
