"""What the panel shows of docked molecules: the measures of molecules, and their size."""

from __future__ import annotations

import math
import statistics

from biotilt.evaluation.measure import Limit, Measure
from biotilt.rewards.molecule.properties import HeavyAtoms
from biotilt.tasks.molecule import panel

pictures = panel.pictures


def measures() -> list[Measure]:
    """Return the measures that the task adds to the panel."""
    size = Measure(
        "heavy_atoms",
        "atoms",
        "Mean number of heavy atoms. Docking scores grow with size: a gain that comes with it is worth little.",
        _mean_size,
        HeavyAtoms(),
        limit=Limit(grown=1.25),
    )
    return [size, *panel.measures()]


def _mean_size(designs: list[str]) -> float | None:
    counts = [count for count in HeavyAtoms()(designs) if not math.isnan(count)]
    return statistics.fmean(counts) if counts else None
