from __future__ import annotations

import pytest

from biotilt.errors import ConfigError
from biotilt.rewards import REWARDS, ForbiddenMotifs, GCFraction, UpstreamAUG, build


def test_each_name_builds_its_class():
    assert build("gc", {"high": 0.5}) == GCFraction(high=0.5)
    assert build("forbidden_motifs", {"motifs": ["AAA"], "penalty": 2}) == ForbiddenMotifs(["AAA"], 2.0)
    assert build("upstream_aug", {}) == UpstreamAUG()
    assert all(name == kind.name for name, kind in REWARDS.items())  # type: ignore[attr-defined]


def test_unknown_reward_suggests_the_nearest():
    with pytest.raises(ConfigError, match='unknown reward "forbiden_motif"; did you mean "forbidden_motifs"'):
        build("forbiden_motif", {})


def test_unknown_option_suggests_the_nearest():
    with pytest.raises(ConfigError, match='"upstream_aug": unknown option "penalti"; did you mean "penalty"'):
        build("upstream_aug", {"penalti": 1.0})


def test_class_attributes_are_no_options():
    with pytest.raises(ConfigError, match='unknown option "differentiable"'):
        build("gc", {"differentiable": True})


def test_a_missing_option_is_named():
    with pytest.raises(ConfigError, match='"forbidden_motifs": option "motifs" is missing'):
        build("forbidden_motifs", {"penalty": 1.0})
