"""The multiplier of one bound on a mean, and how it adapts from round to round."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from biotilt.options import Count, Number, Pair, Positive, Rate, check_options

Growth = Annotated[Number, Field(ge=1, le=1e6)]
SIGNIFICANT = 2.0  # standard errors; a smaller violation may be the noise of a few draws


@dataclass(frozen=True)
class LagrangianConfig:
    """How multipliers adapt; the defaults have no units, so they suit any α and any g.

    Before each round `draws` designs of the policy are scored by the constraints' rewards, not by the reward itself,
    and the means follow by an exponential average with weight `average` in (0, 1] of the newest. `penalty` > 0 is the
    first μ in units of α / Var_pre[g]: 1 would be Newton's step if the policy followed at once. An outer iteration,
    λ ← λ̃, takes `every` rounds. μ is multiplied by `growth` ≥ 1, up to `max_growth` in all, when an outer iteration
    left more than `shrink` of the violation. λ is at most `max_multiplier` · α / σ_pre(g).
    """

    draws: Pair = 64
    average: Rate = 0.3
    penalty: Positive = 0.5
    every: Count = 2
    growth: Growth = 1.5
    max_growth: Growth = 3.0
    shrink: Rate = 0.5
    max_multiplier: Positive = 100.0

    def __post_init__(self) -> None:
        check_options(self, "lagrangian")


@dataclass
class Multiplier:
    """One bound on a mean and its multiplier: plain numbers, so that a checkpoint restores them exactly.

    `sign` is +1 for E[g] ≥ `limit` and −1 for E[g] ≤ `limit`. `value` is λ, `price` λ̃ and `penalty` μ; `unit` is
    σ_pre(g), measured in the first round, 0 before it. `mean` is the running mean of g, NaN before any; `left` the
    violation that the last outer iteration ended with.
    """

    name: str
    sign: float
    limit: float
    value: float = 0.0
    penalty: float = 0.0
    unit: float = 0.0
    mean: float = math.nan
    left: float = math.inf
    rounds: int = 0
    price: float = 0.0

    @property
    def violation(self) -> float:
        """v, in units of g: positive where the constraint is violated, NaN before any measurement."""
        return self.sign * (self.limit - self.mean)

    def observe(self, values: Tensor, config: LagrangianConfig, alpha: float) -> None:
        """Go on by one round, from g `(B,)` of designs of the policy; what is not finite is left out.

        The first designs are the base's: the policy starts there.
        """
        known = values[values.isfinite()].double()
        if not len(known):
            return
        newest, spread = known.mean().item(), known.std(correction=0).item()
        if self.unit == 0.0:
            # where the base has no spread, the way to the limit is the only length there is
            self.unit = spread or abs(self.limit - newest) or 1.0
            self.penalty = config.penalty * alpha / self.unit**2
            self.mean = newest
        self.mean += config.average * (newest - self.mean)
        self.rounds += 1
        before = self.value
        priced = self.value + self.penalty * self.violation
        self.price = min(config.max_multiplier * alpha / self.unit, max(0.0, priced))
        if self.rounds % config.every == 0:
            self.value = self.price
            noise = spread / math.sqrt(len(known)) * math.sqrt(config.average / (2 - config.average))
            # complementarity: a slack constraint counts as violated only as far as its multiplier is not yet 0
            self._press(max(self.violation, -before / self.penalty), SIGNIFICANT * noise, config, alpha)

    def _press(self, violation: float, noise: float, config: LagrangianConfig, alpha: float) -> None:
        """Raise μ when the violation has not shrunk enough and is more than noise."""
        if abs(violation) > max(noise, config.shrink * self.left):
            first = config.penalty * alpha / self.unit**2
            self.penalty = min(config.growth * self.penalty, config.max_growth * first)
        self.left = abs(violation)

    def state(self) -> dict[str, Any]:
        """Return the fields as strict JSON; numbers that are not known yet are left out."""
        return {k: v for k, v in asdict(self).items() if not isinstance(v, float) or math.isfinite(v)}
