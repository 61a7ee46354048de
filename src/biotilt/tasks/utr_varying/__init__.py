"""The task `utr_varying`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from biotilt.evaluation.measure import Measure
from biotilt.tasks.base import Task


class VaryingUTR(Task):
    """5′UTRs of 25 to 100 letters that are translated well (Sample et al. 2019)."""

    name: ClassVar[str] = "utr_varying"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.utr_varying import panel

        return panel.measures()
