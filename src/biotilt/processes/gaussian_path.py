"""What gaussian and flow share: points with gaussian noise, taken away in K steps by kernels that have a density.

The path is x_t = a(t) x_0 + s(t) ε, from noise (t = 1: a = 0, s = 1) to clean (t = 0). The chain stops at t_min > 0,
before the noise is gone: **the design is x[K]**, which has noise of std s(t_min) in it. So every step is a gaussian of
positive width, also the last, and a design has a density under the chain.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from biotilt.core.protocols import NetInput
from biotilt.errors import ConfigError, suggest
from biotilt.options import Number
from biotilt.processes.gaussian_chain import Chain, GaussianChain, at, rest_of


@dataclass(frozen=True)
class GaussianPath(GaussianChain, ABC):
    """A chain of K = `num_steps` steps on points `(B, D)`, D = `size`; √t falls evenly from 1 to √`t_min`.

    One step goes from noise level t to s < t by the posterior of the path with x̂_0 in the place of x_0 (Song et al.
    2021, arXiv 2010.02502, eqs. 12 and 16):

        x_s ∼ N( a_s x̂_0 + √(s_s² − σ²) ε̂, σ² ),  σ = `eta` · (s_s/s_t) √(s_t² − (a_t/a_s)² s_s²), at most s_s.

    x̂_0 and ε̂ are two views of what the network says, x = a_t x̂_0 + s_t ε̂. `eta` ≥ 0: 1 is ancestral sampling,
    between 0 and 1 less noise, 0 the ODE, which can be drawn from but has no density.

    With `eta` > 0 the first step reads nothing of x[0] (the network is given 0) and is drawn with σ = s_s, as with
    `eta` = 1: where a = 0 a state tells nothing, and the law of x[1] is the same for every σ. So no design owes
    anything to x[0], which no policy chooses, and the optimal policy has exactly the law p_pre exp(r/α)/Z over designs.

    `prediction` says what the network returns for states `(B, D)` and times `(B,)`: "x0", "eps", or for flow
    "velocity". With "eps" the first time is 0.99, because x̂_0 cannot be told from ε̂ where a = 0. `fixed` holds
    coordinates at given values, in every state. `x0` of a kernel is the posterior mean of the design x[K].

    Raises:
        ConfigError: an option outside its range, or `fixed` of another size or without floating-point values.
    """

    prediction: str = "eps"
    t_min: Annotated[Number, Field(gt=0, lt=0.5)] = 0.02

    predictions: ClassVar[tuple[str, ...]] = ("x0", "eps")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prediction not in self.predictions:
            raise ConfigError(
                f'{self.name}: unknown prediction "{self.prediction}"{suggest(self.prediction, self.predictions)}'
            )

    @abstractmethod
    def signal(self, t: Tensor) -> Tensor:
        """Return a(t), falling from 1 to 0, elementwise."""

    @abstractmethod
    def spread(self, t: Tensor) -> Tensor:
        """Return s(t), the std of the noise, elementwise."""

    def split(self, output: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return x̂_0 and ε̂ `(B, D)` that a network's output `(B, D)` at states `x` and times `t` `(B,)` stands for."""
        a, s = self.signal(t).unsqueeze(-1), self.spread(t).unsqueeze(-1)
        if self.prediction == "x0":
            return output, (x - a * output) / s
        return (x - s * output) / a, output

    def output_of(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Return the output `(B, D)` of a network that believes in `x0` `(B, D)`: the inverse of `split`."""
        a, s = self.signal(t).unsqueeze(-1), self.spread(t).unsqueeze(-1)
        return x0 if self.prediction == "x0" else (x - a * x0) / s

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return points `(B, D)`, 0 in place of x[0] unless `eta` is 0, and times of the path."""
        k = torch.as_tensor(k, device=x.device).expand(len(x))
        seen = x if self.eta == 0 else self._hold(x * (k > 0).unsqueeze(-1))
        return NetInput(seen, at(self._chain.time, k, x))

    def _believed(self, output: Tensor, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(output, x, at(self._chain.time, k, x))

    @cached_property
    def _chain(self) -> Chain:
        first = 0.99 if self.prediction == "eps" else 1.0
        # even in √t: near t_min an even grid would halve the noise in one step, and the bound would be loose
        time = torch.linspace(math.sqrt(first), math.sqrt(self.t_min), self.num_steps + 1, dtype=torch.float64).square()
        a, s = self.signal(time), self.spread(time)
        std = self._posterior_std(a, s)
        recall = a[:-1] / a[-1] * s[-1] ** 2 / s[:-1]
        return Chain(time, a, s, a[1:], rest_of(s[1:], std), std, recall)

    def _posterior_std(self, a: Tensor, s: Tensor) -> Tensor:
        std = super()._posterior_std(a, s)
        if self.eta > 0:
            std[0] = s[1]
        return std
