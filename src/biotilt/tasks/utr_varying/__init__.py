"""The task `utr_varying`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.tasks.base import Task

if TYPE_CHECKING:
    from biotilt.evaluation.measure import Measure


class VaryingUTR(Task):
    """5′UTRs of 25 to 100 letters that are translated well (Sample et al. 2019)."""

    name: ClassVar[str] = "utr_varying"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.utr_varying import panel

        return panel.measures()
