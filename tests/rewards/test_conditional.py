"""log p(y | x) as a reward: with α = 1 tuning aims at Bayes' posterior."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from biotilt.config import RewardSection
from biotilt.errors import ConfigError
from biotilt.reward_given import build_reward
from biotilt.rewards import LogProbability, reward
from biotilt.testing import tilted_law

LOGITS = {"A": -1.3, "C": 0.4, "G": 2.2}
LOGIT = reward(version="1", name="logit")(lambda designs: [LOGITS[d] for d in designs])


class Linear:
    name, version, differentiable = "linear", "1", True

    def __call__(self, designs: list[str]) -> list[float]:
        return [0.0] * len(designs)

    def score_one_hot(self, x: Tensor) -> Tensor:
        return (x * torch.tensor([0.5, -1.0])).sum((1, 2))


def test_with_alpha_one_the_target_is_bayes_posterior():
    base = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    scores = torch.tensor(LogProbability(LOGIT, above=0.0)(list(LOGITS)), dtype=torch.float64)
    target, log_z = tilted_law(base, scores, alpha=1.0)
    chance = [1 / (1 + math.exp(-logit)) for logit in LOGITS.values()]  # p(class | design) of a logistic classifier
    joint = [p * c for p, c in zip(base.tolist(), chance)]
    assert target.tolist() == pytest.approx([j / sum(joint) for j in joint], abs=1e-12)
    assert log_z == pytest.approx(math.log(sum(joint)), abs=1e-12)


def test_two_bounds_and_a_spread_by_hand():
    score = LogProbability(LOGIT, above=-1.0, below=2.0, spread=0.5)(["C"])[0]
    expected = -math.log(1 + math.exp(-(0.4 + 1) / 0.5)) - math.log(1 + math.exp(-(2 - 0.4) / 0.5))
    assert score == pytest.approx(expected, abs=1e-12)


def test_gradient_of_relaxed_designs():
    x = torch.tensor([[[0.3, 0.7]]], requires_grad=True)
    LogProbability(Linear(), above=0.1, spread=0.5).score_one_hot(x).sum().backward()
    score = 0.5 * 0.3 - 0.7
    slope = (1 - 1 / (1 + math.exp(-(score - 0.1) / 0.5))) / 0.5  # d/df log σ
    assert x.grad is not None
    assert x.grad.flatten().tolist() == pytest.approx([0.5 * slope, -1.0 * slope], abs=1e-6)


def test_what_the_predictor_cannot_score_stays_so():
    broken = reward(version="1")(lambda designs: [math.nan, -math.inf, math.inf, 0.0])
    scores = LogProbability(broken, above=0.0)(["a", "b", "c", "d"])
    assert math.isnan(scores[0]) and scores[1] == -math.inf and math.isnan(scores[2])
    assert scores[3] == pytest.approx(-math.log(2))


def test_the_version_follows_the_options_and_the_part():
    versions = {
        LogProbability(part, above=above, spread=spread).version
        for part in (LOGIT, Linear())
        for above in (0.0, 1.0)
        for spread in (1.0, 2.0)
    }
    assert len(versions) == 8


def test_it_is_built_from_a_section_and_faults_are_named(tmp_path):
    part = RewardSection(kind="gc")
    section = RewardSection(kind="log_probability", parts=[part], options={"above": 0.5})
    built = build_reward(section, tmp_path, "reward")
    assert built(["GG"])[0] == pytest.approx(-math.log(1 + math.exp(-0.5)), abs=1e-6)
    for section, message in (
        (RewardSection(kind="log_probability", parts=[part], options={"abov": 0.5}), r"reward\.options\.abov.*above"),
        (RewardSection(kind="log_probability", options={"above": 0.5}), r"reward\.parts.*needs one part"),
        (RewardSection(kind="log_probability", parts=[part]), "needs a bound"),
        (RewardSection(kind="log_probability", parts=[part], options={"above": 1.0, "below": 0.5}), "less than"),
        (RewardSection(kind="log_probability", parts=[part], options={"above": 1.0, "spread": 0.0}), "spread"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_reward(section, tmp_path, "reward")
