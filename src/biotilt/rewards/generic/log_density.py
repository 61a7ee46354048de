"""A log-density known up to a constant as the reward, where designs of the base are gaussian: p* is that density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from biotilt.errors import ConfigError, RewardError
from biotilt.loading import Reference
from biotilt.rewards.generic.base import digest, source_version
from biotilt.rewards.generic.gaussian_base import GaussianBase
from biotilt.rewards.generic.section import FromSection, Section

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class LogDensity(FromSection):
    """r(x) = log ρ(x) − log p_pre(x), so that with α = 1 the target p* is ρ/Z and log Z is log ∫ρ.

    `function` is log ρ, of points `(B, D)` to `(B,)`. With held coordinates both are densities of the free ones.
    """

    function: Function
    base: GaussianBase
    version: str
    differentiable: bool

    name: ClassVar[str] = "log_density"
    reads: ClassVar[str] = "points"
    units: ClassVar[str] = "nats"
    takes: ClassVar[frozenset[str]] = frozenset({"function"})

    @classmethod
    def of_section(cls, section: Section) -> LogDensity:
        if section.function is None:
            raise ConfigError(f'{section.key}.function: this key is missing; write "file.py:function"')
        if section.density is None:
            raise ConfigError(f"{section.key}: a log_density needs the model that it is weighed against")
        try:
            density = section.density()
            return cls.of(Reference(section.function, section.base, "log-density", ConfigError).load(), density)
        except ConfigError as error:
            raise ConfigError(f"{section.key}: {error}") from error

    @classmethod
    def of(cls, function: Function, base: GaussianBase) -> LogDensity:
        """Try a function on a few points: one that takes tensors is differentiable, another gets numpy arrays.

        Raises ConfigError when it takes neither, or does not return one number a point.
        """
        version = f"1-{digest(repr((source_version(function), base)))}"
        points = torch.randn(3, len(base.std), generator=torch.Generator().manual_seed(0))
        points = points * torch.tensor(base.std) + torch.tensor(base.centre)
        try:
            answer = function(points.clone().requires_grad_())
            found = isinstance(answer, Tensor) and answer.shape == (3,) and answer.requires_grad
            told = f"returned {_described(answer)}"
        except Exception as error:  # whatever a stranger's function raises
            found, told = False, f"raised {type(error).__name__}: {error}"
        reward = cls(function, base, version, found)
        if not found:
            try:
                reward([point.numpy() for point in points])
            except Exception as error:  # the same
                raise ConfigError(
                    f"log_density: the function must take points (B, {len(base.std)}), a torch tensor or a numpy "
                    f"array, and return (B,); for a tensor it {told}; for an array: {error}"
                ) from error
        return reward

    def __call__(self, designs: Sequence[np.ndarray]) -> list[float]:
        """Return log ρ − log p_pre of each point; RewardError when the function returns another shape."""
        points = np.stack([np.asarray(design, dtype=np.float32) for design in designs])
        states = torch.from_numpy(points)
        if self.differentiable:
            with torch.no_grad():
                return self.score_one_hot(states).tolist()
        answer = np.asarray(self.function(points), dtype=np.float64)
        if answer.shape != points.shape[:1]:
            raise RewardError(self._shape(len(points), answer))
        return (answer - self.base.log_prob(states.double()).numpy()).tolist()

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the rewards `(B,)` of points `(B, D)`, with gradients; RewardError for another shape."""
        answer = self.function(x)
        if not isinstance(answer, Tensor) or answer.shape != x.shape[:1]:
            raise RewardError(self._shape(len(x), answer))
        return answer - self.base.log_prob(x)

    def _shape(self, count: int, answer: Any) -> str:
        return f"log_density: the function must return ({count},), one number a point, not {_described(answer)}"


def _described(answer: Any) -> str:
    return str(tuple(answer.shape)) if isinstance(answer, Tensor | np.ndarray) else type(answer).__name__
