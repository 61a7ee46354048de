"""The task `redesign`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biotilt.tasks.base import Task

if TYPE_CHECKING:
    from biotilt.evaluation.measure import Measure


class Redesign(Task):
    """new sequences for a protein structure (ProteinMPNN) that gain a property, such as charge."""

    name: ClassVar[str] = "redesign"
    folder: ClassVar[Path] = Path(__file__).parent

    def measures(self, config: Any) -> list[Measure]:
        from biotilt.tasks.redesign import panel

        return panel.measures(config)
