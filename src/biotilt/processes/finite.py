"""A Markov chain on a few states: it represents every kernel, so every algorithm must be exact on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from biotilt.core.capabilities import (
    Divergence,
    Factorised,
    Kernel,
    Mixable,
    NoisedPath,
    Relaxable,
    Reparametrised,
    Tiltable,
)
from biotilt.core.protocols import Net, NetInput
from biotilt.formulas.categorical import (
    draw,
    draw_straight_through,
    geometric_mixture,
    kl_categorical,
    stratified_uniform,
)
from biotilt.options import Steps, Whole, check_options


@dataclass(frozen=True)
class FiniteKernel(Factorised, Divergence, Tiltable, Mixable, Reparametrised):
    """One step at states `x` `(B,)`; `log_probs` `(B, S)` are normalised over the next state."""

    x: Tensor
    log_probs: Tensor

    @property
    def x0(self) -> Tensor:
        """Log-probabilities `(B, S)` of the next state, not of the design: what `tilted` reweights."""
        return self.log_probs

    def sample(self, generator: Generator) -> Tensor:
        return draw(self.log_probs, generator).to(self.x.dtype)

    def rsample(self, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Return a draw as one-hot states `(B, S)`, differentiable, `temperature` > 0."""
        return draw_straight_through(self.log_probs, generator, temperature)

    def log_prob(self, y: Tensor) -> Tensor:
        return self.terms(y).squeeze(-1)

    def terms(self, y: Tensor) -> Tensor:
        """Log-probability of the next state, `(B, 1)`: the state is the only coordinate."""
        return self.log_probs.gather(-1, y.long().unsqueeze(-1))

    def kl(self, other: Self) -> Tensor:
        return kl_categorical(self.log_probs, other.log_probs)

    def tilted(self, q: Tensor) -> Self:
        """Times exp(q), `q` `(B, S)` over the next state, normalised."""
        return type(self)(self.x, (self.log_probs + q).log_softmax(-1))

    def mix(self, other: Self, weight: float) -> Self:
        """Geometric mixture ∝ self^(1−w) other^w with another kernel at the same states."""
        return type(self)(self.x, geometric_mixture(self.log_probs, other.log_probs, weight))


@dataclass(frozen=True)
class Finite(Relaxable, NoisedPath):
    """A chain of K = `horizon` ≥ 1 steps on `states` = S in [2, 32768] states; any state may follow any.

    `x[0]` is always state 0, so that the law of the optimal policy over designs is exactly
    ∝ p_pre exp(r/α): with a random start it would only be so given the start. States are `(B,)` integers;
    designs are the states at step K. The network maps states `(B,)` and times `(B,)` = 1 − k/K to logits
    `(B, S)` of the next state.
    """

    states: Annotated[Whole, Field(ge=2, le=32768)]
    horizon: Steps

    name: ClassVar[str] = "finite"
    kernel_type: ClassVar[type[Kernel]] = FiniteKernel

    def __post_init__(self) -> None:
        check_options(self, f'process "{self.name}"')

    @property
    def steps(self) -> int:
        return self.horizon

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return `(batch,)` states 0; nothing is drawn."""
        return torch.zeros(batch, dtype=self._dtype, device=generator.device)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.int8 if self.states <= 128 else torch.int16

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return states `(B,)`, or relaxed `(B, S)`, as they are."""
        return NetInput(x, (1 - torch.as_tensor(k, device=x.device) / self.horizon).expand(len(x)))

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> FiniteKernel:
        tokens = x.detach().argmax(-1).to(self._dtype) if x.is_floating_point() else x
        return FiniteKernel(tokens, output.log_softmax(-1))

    def relaxed(self, x: Tensor) -> Tensor:
        """Return states `(B,)`, or relaxed already, as one-hot floats `(B, S)`."""
        return x if x.is_floating_point() else F.one_hot(x.long(), self.states).to(torch.get_default_dtype())

    def relaxed_design(self, x: Tensor) -> Tensor:
        """Return designs, which are states, relaxed: `(B, S)`."""
        return self.relaxed(x)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Keep the design with probability k/K, else draw a uniform state; k = 0 gives state 0."""
        keep = torch.as_tensor(k, device=design.device) / self.horizon
        return self._renoise(design, keep.expand(len(design)), generator)

    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        """Return chains `(K+1, B)`, from the end: x[k] is x[k+1] with probability k/(k+1), else uniform; x[0] = 0."""
        chain = [design]
        for k in reversed(range(self.horizon)):
            keep = torch.full(design.shape, k / (k + 1), device=design.device)
            chain.append(self._renoise(chain[-1], keep, generator))
        return torch.stack(chain[::-1])

    def _renoise(self, x: Tensor, keep: Tensor, generator: Generator) -> Tensor:
        kept = torch.rand(x.shape, generator=generator, device=x.device) < keep
        uniform = torch.randint(self.states, x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return torch.where(kept, x, uniform).masked_fill(keep == 0, 0)

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """E_k [ −K log p(x[k+1] | x[k]) ] − H, k ∼ U{0…K−1}: bounds −log p, `(B,)`.

        The noising is a Markov chain from the design: x[k] is x[k+1] with probability k/(k+1), else uniform,
        and x[0] = 0; H is its entropy, the same for every design. This is the variational bound of D3PM
        (Austin et al. 2021, arXiv 2107.03006) with the whole chain sampled. A table that reverses the noising
        makes the mean over data equal to the entropy of the data, so the bound costs nothing there.
        """
        k = (stratified_uniform(len(design), generator) * self.horizon).long().clamp(max=self.horizon - 1)
        after = self.corrupt(design, k + 1, generator)
        before = self._renoise(after, k / (k + 1), generator)
        kernel = self.kernel_of(net(*self.inputs(before, k)), before, k)
        return -self.horizon * kernel.log_prob(after) - self._noising_entropy()

    def _noising_entropy(self) -> float:
        total = 0.0
        for k in range(1, self.horizon):
            other = 1 / (k + 1) / self.states
            same = k / (k + 1) + other
            total -= same * math.log(same) + (self.states - 1) * other * math.log(other)
        return total
