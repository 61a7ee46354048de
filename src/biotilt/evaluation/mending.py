"""How many designs were ones as they were drawn, where a space mends those that are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from biotilt.core.space import Mending, Space
from biotilt.evaluation.measure import Limit, Measure, Values

# A fall by more than a tenth: tuning has found states that the mending makes good, and not the model.
FALL_ALLOWED = 0.1


def mending_measures(space: Space[Any] | None) -> list[Measure]:
    """Return what a space that mends says of its designs; [] of another."""
    if not isinstance(space, Mending):
        return []

    def each(designs: Sequence[Any]) -> Values:
        return [None if mended is None else float(not mended) for mended in map(space.mended, designs)]

    def share(designs: Sequence[Any]) -> float | None:
        known = [value for value in each(designs) if value is not None]
        return sum(known) / len(known) if known else None

    return [
        Measure(
            "valid_as_drawn", "Valid as drawn",
            "Share of designs that were valid without correction: nothing had to be taken away from their states. "
            "Designs that are read from a file or a ledger do not know.",
            share, each, limit=Limit(fall=FALL_ALLOWED), written="percent",
        )
    ]  # fmt: skip


def mending_told(designs: Sequence[Any], space: Space[Any]) -> str:
    """Return a sentence that says how many of the designs had to be mended; "" where the space does not mend."""
    if not isinstance(space, Mending):
        return ""
    known = [mended for mended in map(space.mended, designs) if mended is not None]
    return f"{sum(known)} of {len(known)} designs were not valid as drawn and were corrected" if known else ""
