"""What the owner of a reward says about it: which way is good, what scores are possible, whether they repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from biotilt.declared import Declaration
from biotilt.errors import ConfigError
from biotilt.options import Count, End, check_option, check_options
from biotilt.rewards.generic.base import DifferentiableReward, Direction, NamedReward, NotScored, OfOne, digest


@dataclass(frozen=True)
class Declared(OfOne):
    """A reward with what its owner says about it: which way is good, what scores are possible, whether they repeat.

    * `direction="minimise"`: the scores of `part` are negated, so that higher is better here as everywhere; `units`
      "kcal/mol" are then shown as "−kcal/mol". −inf stays −inf, the mark of an infeasible design, and so becomes +inf.
    * `limits` = (low, high), the range in the part's own units and direction: a score outside is an error of the part
      and counts as not scored. Infinite ends are allowed.
    * `times` > 1: the oracle asks for every design so many times and averages the scores; attempts that failed enter no
      mean. `deterministic` (default: the part's own word, else whether `times` is 1) says whether a second call would
      give the same scores.

    `range` and `repeats` are what the oracle is told: the range of the scores given here, and how often it has to ask.
    `units` default to the part's. What changes a score is in the version. Other attributes are the part's.
    Raises ConfigError for a range that is empty, repeats below 1, or repeats of a deterministic reward.

    >>> from biotilt.rewards import FunctionReward
    >>> energy = FunctionReward(lambda designs: [-1.5, 2.0, 99.0], "energy", units="kcal/mol")
    >>> stability = Declared(energy, direction="minimise", limits=(-50, 50))
    >>> scores = stability(["A", "C", "G"])
    >>> scores, scores[2].reason, stability.units
    ([1.5, -2.0, nan], 'the score 99 is outside the declared range [-50, 50]', '−kcal/mol')
    """

    part: NamedReward
    direction: Direction = "maximise"
    limits: tuple[End, End] | None = None
    deterministic: bool | None = None
    times: int = 1
    own_units: str | None = None

    def __post_init__(self) -> None:
        where = f'reward "{self.part.name}"'
        check_options(self, where)
        if self.limits is not None:
            low, high = (float(end) for end in self.limits)
            if not low < high:
                raise ConfigError(f"{where}: range = [{low:g}, {high:g}] must have its low end first")
            object.__setattr__(self, "limits", (low, high))
        check_option(Count, self.times, where, "repeats")
        if self.deterministic is None:
            said = Declaration.by(self.part).deterministic and self.times == 1
            object.__setattr__(self, "deterministic", said)
        elif self.deterministic and self.times > 1:
            raise ConfigError(f"{where}: repeats = {self.times} of a deterministic reward would all be the same")

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def version(self) -> str:
        """That of the part alone where nothing that is declared can change a score."""
        said = (self.direction, self.limits, self.times)
        return self.part.version if said == ("maximise", None, 1) else f"{self.part.version}-{digest(repr(said))}"

    @property
    def differentiable(self) -> bool:
        return self.part.differentiable

    @property
    def units(self) -> str:
        units = Declaration.by(self.part).units if self.own_units is None else self.own_units
        return f"−{units}" if units and self.direction == "minimise" else units

    @property
    def negated(self) -> bool:
        """Whether people of the field write minus this score."""
        return Declaration.by(self.part).negated != (self.direction == "minimise")

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest score of this reward, in its direction; None when not known."""
        known = self.limits or Declaration.by(self.part).range
        return (-known[1], -known[0]) if known is not None and self.direction == "minimise" else known

    @property
    def repeats(self) -> int:
        """How often the oracle asks for a design."""
        return self.times if self.times > 1 else Declaration.by(self.part).repeats

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "part":  # being copied or unpickled: there is no part yet
            raise AttributeError(name)
        return getattr(self.part, name)

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._read(score) for score in self.part(designs)]

    def _read(self, score: float) -> float:
        if math.isnan(score) or score == -math.inf:
            return score
        if self.limits is not None and not self.limits[0] <= score <= self.limits[1]:
            low, high = self.limits
            return NotScored(f"the score {score:g} is outside the declared range [{low:g}, {high:g}]")
        return 0.0 - score if self.direction == "minimise" else score

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of relaxed designs `(B, L, V)`, with gradients; NaN outside the range."""
        score = cast(DifferentiableReward, self.part).score_one_hot(x)
        if self.limits is not None:
            score = torch.where((score < self.limits[0]) | (score > self.limits[1]), torch.nan, score)
        return -score if self.direction == "minimise" else score


def declare(
    reward: NamedReward,
    *,
    direction: Direction = "maximise",
    range: Sequence[float] | None = None,
    deterministic: bool | None = None,
    repeats: int = 1,
    units: str | None = None,
) -> NamedReward:
    """Return the reward with what is declared about it; itself where nothing is.

    `direction` "maximise" or "minimise"; `range` = (low, high) of possible scores, in the reward's own units and
    direction; `repeats` ≥ 1 times that a noisy reward is asked, for the mean; `deterministic`; `units`: see `Declared`.

    >>> from biotilt.rewards import FunctionReward
    >>> reward = FunctionReward(lambda designs: [1.0], "r")
    >>> declare(reward) is reward, declare(reward, direction="minimise")(["A"])
    (True, [-1.0])
    """
    if range is not None and len(range) != 2:
        raise ConfigError(f'reward "{reward.name}": range = {list(range)} must be two numbers, [low, high]')
    ends = None if range is None else (range[0], range[1])
    if (direction, ends, deterministic, repeats, units) == ("maximise", None, None, 1, None):
        return reward
    return Declared(reward, direction, ends, deterministic, repeats, units)
