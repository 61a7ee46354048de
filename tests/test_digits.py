"""Numbers keep their digits: four significant ones for people, all of them in files."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biotilt.digits import digits, exact


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "1.000"),
        (9.9999, "10.00"),
        (99.996, "100.0"),
        (-0.000123456, "-0.0001235"),
        (0.00012, "0.0001200"),
        (1e-5, "1.000e-05"),
        (1e-8, "1.000e-08"),
        (1234.5678, "1235"),
        (999_499.4, "999499"),
        (999_999.9, "1.000e+06"),
        (-2e8, "-2.000e+08"),
        (0.0, "0"),
        (-0.0, "0"),
        (17, "17"),
        (10**12, "1000000000000"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (np.float32(0.25), "0.2500"),
    ],
)
def test_four_significant_digits_are_shown(value, shown):
    assert digits(value) == shown


@given(st.floats(-1e300, 1e300))
def test_what_is_shown_is_within_half_a_unit_of_the_fourth_digit(value):
    assert math.isclose(float(digits(value)), value, rel_tol=0.000501)


@given(st.floats(allow_nan=False))
def test_files_keep_every_digit(value):
    assert float(exact(value)) == value
