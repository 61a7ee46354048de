from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from biotilt.errors import RewardError
from biotilt.rewards import FunctionReward, NotScored, reward


@pytest.mark.parametrize(
    "container",
    [list, tuple, np.array, torch.tensor, pd.Series, lambda v: torch.tensor(v, requires_grad=True)],
)
def test_every_kind_of_sequence_becomes_a_list_of_floats(container):
    scores = FunctionReward(lambda designs: container([0.5, -math.inf, 3.0]), "r")(["A", "B", "C"])
    assert scores == [0.5, -math.inf, 3.0]
    assert all(type(score) is float for score in scores)


def test_integers_and_numpy_scalars_become_floats():
    scores = FunctionReward(lambda d: [2, True, np.float32(0.5), np.int64(7), torch.tensor([4.0])], "r")([])
    assert scores == [2.0, 1.0, 0.5, 7.0, 4.0]
    assert all(type(score) is float for score in scores)


@pytest.mark.parametrize("value", [None, "3.0", 1 + 2j, [1.0], np.complex64(1j), np.array([1.0, 2.0])])
def test_what_is_no_number_becomes_a_nan_that_says_so(value):
    good, bad = FunctionReward(lambda designs: [1.5, value], "r")(["A", "B"])
    assert good == 1.5
    assert isinstance(bad, NotScored)
    assert math.isnan(bad)
    assert "not a number" in bad.reason


@pytest.mark.parametrize("output", [None, 1.0, np.float64(1.0), "123", {"A": 1.0}])
def test_output_that_is_no_list_names_the_reward_and_its_type(output):
    with pytest.raises(RewardError, match=f'"docking" returned {type(output).__name__} for 2 designs'):
        FunctionReward(lambda designs: output, "docking")(["A", "B"])


def test_decorator_bare_and_with_options():
    @reward
    def length(designs):
        return [len(design) for design in designs]

    @reward(name="count", version="7", units="letters", per_design=True)
    def anything(design):
        return len(set(design))

    assert length(["ACG", "A"]) == [3.0, 1.0]
    assert (length.name, length.units, length.differentiable) == ("length", "", False)
    assert anything(["AAC", "A"]) == [2.0, 1.0]
    assert (anything.name, anything.version, anything.units) == ("count", "7", "letters")


def test_the_default_version_follows_the_source(tmp_path):
    versions = []
    for body in ("return [1.0]", "return [2.0]", "return [1.0]"):
        path = tmp_path / f"r{len(versions)}.py"
        path.write_text(f"def f(designs):\n    {body}\n")
        space: dict = {}
        exec(compile(path.read_text(), str(path), "exec"), space)
        versions.append(reward(space["f"]).version)
    assert versions[0] != versions[1]
    assert versions[0] == versions[2] != "1"


def test_without_source_the_version_is_one():
    assert reward(len).version == "1"
