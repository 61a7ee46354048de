"""What every measure of the panel must keep to: numbers or None, whatever the set, and the designs left alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from biotilt.evaluation.kinds import MeasureKind
from biotilt.evaluation.measure import Measure, Value


def check_measure(measure: Measure | MeasureKind, designs: Sequence[Any]) -> None:
    """Check a measure, or a kind of one, on `designs`, at least two different ones of the sort that it is for.

    It must give a finite number or None, also of one design, of none and of repeats; the same number whatever the order
    of designs, and twice the same; one number or None a design for the tables. It must not change the designs.
    """
    measure = measure.measure() if isinstance(measure, MeasureKind) else measure
    assert measure.key and measure.header and measure.meaning, "page and tables need a key, a header and a meaning"
    given = list(designs)
    assert len(given) >= 2, "give at least two designs"
    before = copy.deepcopy(given)
    found = measure(given)
    for some in ([], given[:1], [given[0]] * 3):
        _check_value(measure(some), measure, len(some))
    _check_value(found, measure, len(given))
    _same(found, measure(given), measure, "a second time")
    _same(found, measure(given[::-1]), measure, "in another order")
    if measure.each is not None:
        each = measure.of_each(given)
        for value in each:
            _check_value(value, measure, 1)
        for value, again in zip(each, reversed(list(measure.of_each(given[::-1])))):
            _same(value, again, measure, "of a design in another order")
    changed = [i for i, (now, then) in enumerate(zip(given, before)) if not np.array_equal(now, then)]
    assert not changed, f"{measure.key} changed design {changed[0]}"


def _check_value(value: Value, measure: Measure, count: int) -> None:
    assert value is None or (isinstance(value, int | float) and math.isfinite(value)), (
        f"{measure.key} of {count} designs is {value!r}: give a number, or None where there is none"
    )


def _same(first: Value, second: Value, measure: Measure, when: str) -> None:
    if isinstance(first, int | float) and isinstance(second, int | float):
        alike = math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)
    else:
        alike = first is None and second is None
    assert alike, f"{measure.key} is {first!r}, and {when} {second!r}"
