"""The task `rna_fold`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.tasks.base import Task

if TYPE_CHECKING:
    from biotilt.evaluation.measure import Measure


class RNAFold(Task):
    """RNAs that fold into a structure that you name (inverse folding, ViennaRNA)."""

    name: ClassVar[str] = "rna_fold"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.rna_fold import panel

        return panel.measures(config)

    def pictures(self, designs: list[str]) -> list[str]:
        from biotilt.tasks.rna_fold import panel

        return panel.pictures(designs)
