"""Several rewards as one: weighted sum, product of powers, geometric mean; thresholds. Every part stays visible."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor

from biotilt.declared import Declaration
from biotilt.errors import ConfigError, RewardError
from biotilt.options import Flag, Number, Positive, check_option, check_options
from biotilt.rewards.generic.base import (
    Compound,
    DifferentiableReward,
    Infeasible,
    NamedReward,
    NotScored,
    OfOne,
    digest,
    take_after,
)
from biotilt.rewards.generic.section import FromPart, FromParts


class Combination(Compound, FromParts):
    """Parts with one coefficient each; a design that any part cannot score, or calls infeasible, stays so.

    `names` are those of the parts, all different.
    """

    name: str

    def __init__(self, parts: Sequence[NamedReward], coefficients: Sequence[float], what: str) -> None:
        self.parts = tuple(parts)
        self._coefficients = tuple(float(c) for c in coefficients) or (1.0,) * len(self.parts)
        if not self.parts:
            raise ConfigError(f'reward "{self.name}" needs at least one part')
        if len(self._coefficients) != len(self.parts):
            raise ConfigError(f'reward "{self.name}" has {len(self.parts)} parts but {len(self._coefficients)} {what}')
        self.names = _distinct([part.name for part in self.parts])
        key = [(part.name, part.version, c) for part, c in zip(self.parts, self._coefficients)]
        self.version = f"1-{digest(repr(key))}"
        self.differentiable = all(part.differentiable for part in self.parts)
        take_after(self, self.parts)

    @property
    def label(self) -> str:
        """How people write it: the kind, and the parts by name."""
        words = self.name.replace("_", " ")
        return f"{words} of {', '.join(self.names[:-1])} and {self.names[-1]}" if len(self.names) > 1 else words

    def children(self) -> tuple[NamedReward, ...]:
        return self.parts

    def with_children(self, children: Sequence[NamedReward]) -> Self:
        return self._with(parts=tuple(children))

    def components(self, designs: list[str]) -> dict[str, list[float]]:
        """Return each part's own scores, one list of `len(designs)` a part, keyed by the part's name.

        A second part of the same name is called `name#2`, a third `name#3`. Raises `RewardError` when a part
        returns another number of scores.
        """
        scores = {name: part(designs) for name, part in zip(self.names, self.parts)}
        for name, column in scores.items():
            if len(column) != len(designs):
                raise RewardError(f'part "{name}" returned {len(column)} scores for {len(designs)} designs')
        return scores

    def __call__(self, designs: list[str]) -> list[float]:
        columns = self.components(designs)
        return [self._combine(row) for row in zip(*columns.values())]

    def _combine(self, scores: Sequence[float]) -> float:
        for name, score in zip(self.names, scores):
            if math.isnan(score) or score == math.inf:
                reason = score.reason if isinstance(score, NotScored) else f"the reward returned {score}"
                return NotScored(f'part "{name}": {reason}')
        counted = [(n, s, c) for n, s, c in zip(self.names, scores, self._coefficients) if c != 0]
        # Infeasible is a mark, not a number: it stays whatever the sign of its weight.
        for name, score, _ in counted:
            if score == -math.inf:
                return Infeasible(f'part "{name}"' + (f": {score.reason}" if isinstance(score, Infeasible) else ""))
        return self._finite(counted)

    @abstractmethod
    def _finite(self, counted: list[tuple[str, float, float]]) -> float:
        """Combine finite scores: (name, score, coefficient) of every part whose coefficient is not 0."""

    def _score_parts_one_hot(self, x: Tensor) -> list[Tensor]:
        blocking = [name for name, part in zip(self.names, self.parts) if not part.differentiable]
        if blocking:
            raise RewardError(f'reward "{self.name}" has no gradient: neither have its parts {", ".join(blocking)}')
        scores = [cast(DifferentiableReward, part).score_one_hot(x) for part in self.parts]
        for name, score in zip(self.names, scores):
            # (B, 1) times (B,) would broadcast to (B, B) without a word.
            if score.shape != x.shape[:1]:
                raise RewardError(f'part "{name}" returned shape {tuple(score.shape)}, expected ({x.shape[0]},)')
        return scores


class Sum(Combination):
    """r(x) = Σ_i w_i r_i(x).

    `weights`, one finite number a part, default to 1; a part of weight 0 is only watched. NaN in any part
    makes the sum NaN; -inf in a part of non-zero weight makes it -inf.

    Raises `ConfigError` for no parts, or another number of weights than parts.
    """

    name = "sum"

    def __init__(self, parts: Sequence[NamedReward], weights: Sequence[float] = ()) -> None:
        super().__init__(parts, weights, "weights")
        self.weights = self._coefficients
        check_option(tuple[Number, ...], self.weights, f'reward "{self.name}"', "weights")

    def _finite(self, counted: list[tuple[str, float, float]]) -> float:
        return math.fsum(weight * score for _, score, weight in counted)

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of one-hot or relaxed designs `(B, L, V)`, with gradients.

        Raises `RewardError` when a part has no gradient.
        """
        scores = self._score_parts_one_hot(x)
        return torch.stack([weight * score for weight, score in zip(self.weights, scores)]).sum(0)


class Product(Combination):
    """r(x) = Π_i r_i(x)^e_i, of parts that are never negative.

    `exponents`, one number > 0 a part, default to 1. NaN in any part makes the product NaN, -inf makes it
    -inf, and a negative factor makes it a NaN whose reason names the part.

    Raises `ConfigError` for no parts, another number of exponents than parts, or an exponent that is not > 0.
    """

    name = "product"

    def __init__(self, parts: Sequence[NamedReward], exponents: Sequence[float] = ()) -> None:
        super().__init__(parts, exponents, "exponents")
        self.exponents = self._coefficients
        check_option(tuple[Positive, ...], self.exponents, f'reward "{self.name}"', "exponents")

    def _finite(self, counted: list[tuple[str, float, float]]) -> float:
        for name, score, _ in counted:
            if score < 0:
                return NotScored(f'part "{name}": {score:g} is negative, and a factor of a product must be >= 0')
        return math.prod(score**exponent for _, score, exponent in counted)

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of one-hot or relaxed designs `(B, L, V)`, with gradients.

        A negative factor gives NaN. Raises `RewardError` when a part has no gradient.
        """
        scores = self._score_parts_one_hot(x)
        powers = [
            torch.where(score < 0, torch.nan, score) ** exponent for score, exponent in zip(scores, self.exponents)
        ]
        return torch.stack(powers).prod(0)


class GeometricMean(Product):
    """r(x) = Π_i r_i(x)^(w_i / Σ_j w_j), of parts that are never negative: it lies between the least and the largest.

    `weights`, one number > 0 a part, default to 1. Unlike a product it has the parts' own scale, so α keeps its meaning
    when a part is added. One part of 0 makes it 0. NaN, −inf and negative parts as in `Product`.

    Raises `ConfigError` for no parts, another number of weights than parts, or a weight that is not > 0.

    >>> from biotilt.rewards.generic.functions import FunctionReward
    >>> parts = [FunctionReward(lambda d: [4.0], "a"), FunctionReward(lambda d: [9.0], "b")]
    >>> round(GeometricMean(parts)(["X"])[0], 9), round(GeometricMean(parts, [3, 1])(["X"])[0], 4)
    (6.0, 4.899)
    """

    name = "geometric_mean"

    def __init__(self, parts: Sequence[NamedReward], weights: Sequence[float] = ()) -> None:
        self.weights = tuple(float(weight) for weight in weights) or (1.0,) * len(parts)
        check_option(tuple[Positive, ...], self.weights, f'reward "{self.name}"', "weights")
        total = math.fsum(self.weights)
        super().__init__(parts, [weight / total for weight in self.weights])


@dataclass(frozen=True)
class ThresholdOptions:
    """Bounds in the units of the part, and whether its score is kept between them."""

    at_least: Number | None = None
    at_most: Number | None = None
    keep: Flag = True

    def __post_init__(self) -> None:
        check_options(self, 'reward "threshold"')


class Threshold(OfOne, FromPart):
    """A part, and −inf, infeasible, where it is below `at_least` or above `at_most`: units and bounds are the part's.

    Inside, both bounds included, the score is the part's own; with `keep` false it is 0, so that in a sum the part
    decides only what is feasible. NaN stays NaN. It has no gradient: from −inf there is no way to climb. For a bound
    that designs should respect on average, rather than each, use a constraint.

    Raises `ConfigError` when there is no bound, or no number between them.

    >>> from biotilt.rewards.generic.functions import FunctionReward
    >>> part = FunctionReward(lambda designs: [0.2, 0.4, 0.9], "gc")
    >>> Threshold(part, at_least=0.4, at_most=0.6)(["A", "C", "G"])
    [-inf, 0.4, -inf]
    """

    name = "threshold"
    Options = ThresholdOptions
    differentiable = False

    def __init__(
        self, part: NamedReward, at_least: float | None = None, at_most: float | None = None, keep: bool = True
    ) -> None:
        ThresholdOptions(at_least, at_most, keep)
        if at_least is None and at_most is None:
            raise ConfigError(f'threshold of "{part.name}" needs a bound: at_least = … or at_most = …')
        self.part, self.keep = part, keep
        self.at_least = -math.inf if at_least is None else float(at_least)
        self.at_most = math.inf if at_most is None else float(at_most)
        if not self.at_least <= self.at_most:
            raise ConfigError(f'threshold of "{part.name}": at_least = {at_least} is above at_most = {at_most}')
        self.name = f"{part.name} threshold"
        self.version = f"1-{digest(repr((part.name, part.version, self.at_least, self.at_most, keep)))}"
        self.units = Declaration.by(part).units if keep else ""
        take_after(self, [part])

    def components(self, designs: list[str]) -> dict[str, list[float]]:
        """Return the part's own scores, keyed by its name."""
        return {self.part.name: self.part(designs)}

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._judge(score) for score in self.part(designs)]

    def _judge(self, score: float) -> float:
        if math.isnan(score) or score == -math.inf:
            return score
        if score < self.at_least:
            return Infeasible(f"{self.part.name} < {self.at_least:.4g}")
        if score > self.at_most:
            return Infeasible(f"{self.part.name} > {self.at_most:.4g}")
        return score if self.keep else 0.0


def _distinct(names: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return distinct
