"""Conditional tuning: log p(y | x) of a predictor as the reward; with α = 1 the designs have the law p_pre(x | y)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from biotilt.errors import ConfigError, RewardError
from biotilt.options import Number, Positive, check_options
from biotilt.rewards.generic.base import DifferentiableReward, NamedReward, NotScored, OfOne, digest, take_after
from biotilt.rewards.generic.section import FromPart


@dataclass(frozen=True)
class LogProbabilityOptions:
    """Bounds and the scale of the error, in the units of the part."""

    above: Number | None = None
    below: Number | None = None
    spread: Positive = 1.0

    def __post_init__(self) -> None:
        check_options(self, 'reward "log_probability"')
        above, below = self.above, self.below
        if above is None and below is None:
            raise ConfigError('reward "log_probability" needs a bound: options = { above = … } or { below = … }')
        if above is not None and below is not None and not above < below:
            raise ConfigError(f'reward "log_probability": above = {above} must be less than below = {below}')


class LogProbability(OfOne, FromPart):
    """r(x) = log σ((f(x) − above)/spread) + log σ((below − f(x))/spread), either bound left out if None.

    It is log p(y | x) for the event y: "the true value lies above (below) the bound", when f errs by a logistic noise
    of scale `spread` > 0, in units of f. For a classifier whose score is the logit of its class, `above` = 0 and
    `spread` = 1 give log p(class | x) exactly. With α = 1, p* ∝ p_pre(x) p(y | x) is Bayes' rule (the tutorial,
    arXiv 2407.13734, §conditioning; CTRL, arXiv 2406.12120).

    Raises ConfigError when no bound is given, or `spread` is not > 0.

    >>> from biotilt.rewards import reward
    >>> logit = reward(version="1")(lambda designs: [0.0, 2.0])
    >>> [round(r, 4) for r in LogProbability(logit, above=0.0)(["A", "C"])]
    [-0.6931, -0.1269]
    """

    name = "log_probability"
    Options = LogProbabilityOptions

    def __init__(
        self, part: NamedReward, above: float | None = None, below: float | None = None, spread: float = 1.0
    ) -> None:
        LogProbabilityOptions(above, below, spread)
        self.part, self.above, self.below, self.spread = part, above, below, spread
        self.version = f"1-{digest(repr((part.name, part.version, above, below, spread)))}"
        self.differentiable = part.differentiable
        self.units = "nats"
        take_after(self, [part])

    def __call__(self, designs: list[str]) -> list[float]:
        scores = self.part(designs)
        usable = torch.tensor([s if math.isfinite(s) else 0.0 for s in scores], dtype=torch.float64)
        values = self._log_probability(usable).tolist()
        return [self._read(score, value) for score, value in zip(scores, values)]

    def _read(self, score: float, value: float) -> float:
        if math.isnan(score) or score == math.inf:
            reason = score.reason if isinstance(score, NotScored) else f'part "{self.part.name}" returned {score}'
            return NotScored(reason)
        return score if score == -math.inf else value

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of relaxed designs `(B, L, V)`, with gradients."""
        if not self.differentiable:
            raise RewardError(f'reward "{self.name}" has no gradient: neither has its part {self.part.name}')
        return self._log_probability(cast(DifferentiableReward, self.part).score_one_hot(x))

    def _log_probability(self, score: Tensor) -> Tensor:
        total = torch.zeros_like(score)
        if self.above is not None:
            total = total + F.logsigmoid((score - self.above) / self.spread)
        if self.below is not None:
            total = total + F.logsigmoid((self.below - score) / self.spread)
        return total
