"""The chain of diffusers' flow-matching Euler scheduler, with as much noise in its steps as is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from biotilt.options import Positive, Steps
from biotilt.processes.gaussian_chain import Chain, GaussianChain, at, rest_of, std_between


@dataclass(frozen=True)
class FlowEuler(GaussianChain):
    """The linear path x_σ = (1 − σ) x_0 + σ ε at the σ of `FlowMatchEulerDiscreteScheduler`; networks say v = ε − x_0.

    `num_train_timesteps` and `shift` as `scheduler_config.json` has them. With `eta` = 0 a step is the scheduler's,
    x' = x + (σ' − σ) v̂, a map without a density: sampling only. With `eta` > 0 it is

        x' ∼ N( (1 − σ') x̂_0 + √(σ'² − w²) ε̂, w² ),  w = `eta` (σ'/σ) √(σ² − ((1 − σ)/(1 − σ'))² σ'²), at most σ',

    as in `flow`: the SDE of the same marginals for every `eta`, 1 being the memoryless one (Domingo-Enrich et al. 2024,
    arXiv 2409.08861): with it no design owes anything to x[0], as far as the network does not read x[0] where σ = 1.
    No step is narrower than `last_std`: the last two σ are nearly 0 and 0, and a kernel of no width has no density; one
    of a thousandth would make any change of the network dear there. So a design has noise of about that std in it.

    >>> process = FlowEuler(size=2, num_steps=2, shift=3.0)
    >>> [round(float(t), 3) for t in process.inputs(torch.zeros(3, 2), torch.arange(3)).t]
    [1.0, 0.009, 0.0]
    """

    num_train_timesteps: Steps = 1000
    shift: Positive = 1.0
    last_std: Positive = 0.02

    name: ClassVar[str] = "flow_euler"

    def _believed(self, output: Tensor, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        sigma = at(self._chain.time, k, x).unsqueeze(-1)
        return x - sigma * output, x + (1 - sigma) * output

    @cached_property
    def _chain(self) -> Chain:
        # the range is that of shifted levels, and what lies between them evenly is shifted again
        low, high = (self._shifted(end / self.num_train_timesteps) for end in (1, self.num_train_timesteps))
        levels = self._shifted(np.linspace(high, low, self.num_steps))
        sigma = torch.from_numpy(np.append(levels, 0.0))
        a, s = 1 - sigma, sigma
        std = std_between(a[:-1], s[:-1], a[1:], s[1:], self.eta)
        carry = rest_of(s[1:], std)
        if self.eta > 0:
            std = std.clamp(min=self.last_std)
        return Chain(sigma, a, s, a[1:], carry, std, torch.zeros_like(std))

    def _shifted(self, sigma: Any) -> Any:
        return self.shift * sigma / (1 + (self.shift - 1) * sigma)
