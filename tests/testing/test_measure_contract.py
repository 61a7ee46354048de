"""The contract of measures: what ships keeps it, and what breaks it is named."""

from __future__ import annotations

import numpy as np
import pytest

from biotilt.evaluation.kinds import MEASURES
from biotilt.evaluation.measure import Measure
from biotilt.testing.contracts import check_measure

OPTIONS = {"motif_share": {"motif": "CG"}, "near": {"centre": [0.5, 0.0], "radius": 1.0}}


@pytest.mark.parametrize("name", [name for name in MEASURES if MEASURES[name].__module__.startswith("biotilt.")])
def test_kinds_that_ship_keep_the_contract(name):
    kind = MEASURES.build(name, OPTIONS.get(name, {}))
    designs = [np.array([0.1, 0.2]), np.array([3.0, 0.0])] if kind.reads == "points" else ["ACGT", "AACG", "GGGG"]
    check_measure(kind, designs)


def test_what_breaks_the_contract_is_named():
    calls = []

    def changing(designs):
        calls.append(1)
        return len(calls)

    def sorting(designs):
        if len(designs) > 1:
            designs[0] += 1.0
        return None

    for compute, each, message in (
        (changing, None, "a second time"),
        (lambda designs: len(designs[0]) if designs else None, None, "in another order"),
        (len, lambda designs: [float(i) for i in range(len(designs))], "of a design in another order"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_measure(Measure("m", "M", "Some.", compute, each), ["A", "CC", "GGG"])
    with pytest.raises(AssertionError, match="m changed design 0"):
        check_measure(Measure("m", "M", "Some.", sorting), [np.zeros(2), np.ones(2)])
    with pytest.raises(ZeroDivisionError):
        check_measure(Measure("m", "M", "Some.", lambda designs: 1 / len(designs)), ["A", "C"])
