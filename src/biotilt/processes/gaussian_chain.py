"""What gaussian, flow and the schedulers of diffusers share: chains of gaussian steps on points, given by tables."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import Capability, Density, Kernel, Limited, NoisedPath, Relaxable
from biotilt.core.fixed import Fixed
from biotilt.core.protocols import Net, NetInput
from biotilt.errors import ConfigError
from biotilt.formulas.categorical import stratified_uniform
from biotilt.options import NotNegative, Steps, Width, check_options
from biotilt.processes.gaussian_kernel import GaussianDraws, GaussianKernel


class Chain(NamedTuple):
    """Coefficients of the steps k, in float64: what is left after subtracting close squares must not be rounding."""

    time: Tensor  # (K+1,) as networks are told it
    signal: Tensor  # (K+1,)
    spread: Tensor  # (K+1,)
    after: Tensor  # (K,) of x̂_0 in the mean of x[k+1]
    carry: Tensor  # (K,) of ε̂ in the mean of x[k+1]
    std: Tensor  # (K,) of x[k+1]
    recall: Tensor  # (K,) of ε̂ in the mean of the design


class _Bridge(NamedTuple):
    """The noising of a given design y: x[k] = signal y + spread ε, and x[k+1] given both."""

    signal: Tensor  # (K+1,)
    spread: Tensor  # (K+1,)
    carry: Tensor  # (K,) of ε in the mean of x[k+1]
    constant: Tensor  # () of the bound, nats a coordinate
    chance: Tensor  # (K,) of drawing the step k for the loss


@dataclass(frozen=True)
class GaussianChain(Relaxable, NoisedPath, Limited, ABC):
    """A chain of K = `num_steps` steps on points `(B, D)`, D = `size`, at levels x[k] = a_k x_0 + s_k ε.

    A network's output at x[k] stands for x̂_0 and ε̂, and a step is

        x[k+1] ∼ N( a' x̂_0 + c ε̂, σ² ),

    with a', c and σ of the tables (`Chain`), which `eta` ≥ 0, the level of noise, enters: 0 is the ODE, which can be
    drawn from but has no density. `fixed` holds coordinates at given values, in every state. `x0` of a kernel is the
    posterior mean of the design x[K].

    Raises:
        ConfigError: an option outside its range, or `fixed` of another size or without floating-point values.
    """

    size: Width
    fixed: Fixed | None = None
    num_steps: Steps = 50
    eta: NotNegative = 1.0

    name: ClassVar[str]
    kernel_type: ClassVar[type[Kernel]] = GaussianKernel

    def __post_init__(self) -> None:
        check_options(self, f'process "{self.name}"')
        if self.fixed is not None and len(self.fixed.mask) != self.size:
            raise ConfigError(f"fixed covers {len(self.fixed.mask)} coordinates, designs have {self.size}")
        if self.fixed is not None and not self.fixed.letters.is_floating_point():
            raise ConfigError(f"{self.name}: fixed coordinates of a point need floating-point values, not letters")

    @property
    @abstractmethod
    def _chain(self) -> Chain: ...

    @abstractmethod
    def _believed(self, output: Tensor, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return x̂_0 and ε̂ `(B, D)` that an output at states `x`, as networks see them, and steps `(B,)` stands for."""

    @property
    def steps(self) -> int:
        return self.num_steps

    @property
    def free(self) -> int:
        """The number of coordinates that are designed."""
        return self.size if self.fixed is None else int((~self.fixed.mask).sum())

    def remedies(self) -> Mapping[type[Capability], str]:
        """The ODE has no density."""
        if self.eta > 0:
            return {}
        return {Density: f"set eta of the process {self.name} above 0, to 1 for ancestral steps"}

    @property
    def coordinates(self) -> int:
        return self.size

    def holding(self, fixed: Fixed | None) -> Self:
        return replace(self, fixed=fixed)

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return `(batch, D)` standard normal states."""
        return self._hold(self._normal((batch, self.size), generator))

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return points `(B, D)` and the times that networks are told."""
        return NetInput(x, at(self._chain.time, torch.as_tensor(k, device=x.device).expand(len(x)), x))

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> GaussianDraws:
        chain = self._chain
        k = torch.as_tensor(k, device=x.device).expand(len(x))
        x0, eps = self._believed(output, self.inputs(x, k).x, k)
        after, std, carry, recall = (
            at(table, k, x).unsqueeze(-1) for table in (chain.after, chain.std, chain.carry, chain.recall)
        )
        mean, design = after * x0 + carry * eps, chain.signal[-1].item() * x0 + recall * eps
        kind = GaussianDraws if self.eta == 0 else GaussianKernel
        return kind(x, self._hold(mean), std, self._hold(design), self._held(x.device))

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Draw x[k] `(B, D)` given x[K] = `design`: noise is added from the level of x[K] up to that of step k.

        k = K gives the design itself. The law is that of the path from the same x_0, whatever `eta`.
        """
        k = torch.as_tensor(k, device=design.device).expand(len(design))
        a, s = (at(c, k, design).unsqueeze(-1) for c in self._bridge[:2])
        return self._hold(a * design + s * self._normal(design.shape, generator).to(design.dtype))

    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        """Return chains `(K+1, B, D)`: x[0] as `corrupt` draws it, then x[k+1] given x[k] and the design, as below."""
        bridge = self._bridge
        after = bridge.signal[1:].tolist()
        rest, carry = rest_of(bridge.spread[1:], bridge.carry).tolist(), (bridge.carry / bridge.spread[:-1]).tolist()
        chain = [self.corrupt(design, 0, generator)]
        for k in range(self.steps - 1):
            z = self._normal(design.shape, generator).to(design.dtype)
            noise = chain[-1] - bridge.signal[k].item() * design
            chain.append(self._hold(after[k] * design + carry[k] * noise + rest[k] * z))
        return torch.stack([*chain, design])

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """Return a bound on −log p(x[K] = design) of the K-step chain, in nats, `(B,)`.

        The design is observed, so it takes the place of x[K], and the noising that the chain must undo starts from it:
        x[k] = ã y + s̃ ε with ã = a_k/a_K, s̃² = s_k² − ã² s_K², and x[k+1] given x[k] and y is the same posterior as
        above with (ã, s̃, y). For any such law q of the states before,

            −log p(y) ≤ KL(q(x[0]|y) ‖ N(0, I)) + Σ_{k<K−1} E KL(q(x[k+1]|x[k], y) ‖ p(·|x[k])) − E log p(y|x[K−1]).

        All but ‖mean of q − mean of p‖²/2σ² is known without the network and summed exactly; one k a design, drawn more
        often where a large term is due, stands for the sum of these. With `eta` = 1 the bound is tight for the exact
        denoiser as K grows (Ho et al. 2020, arXiv 2006.11239, eq. 5); with less noise it is a bound, but not tight.
        With `eta` = 0 it is that of `eta` = 1: the network to be learned is the same.
        """
        if self.eta == 0:
            return replace(self, eta=1.0).denoising_loss(net, design, generator)
        bridge = self._bridge
        cumulative = bridge.chance.cumsum(0).to(design.device)
        u = stratified_uniform(len(design), generator).to(cumulative)
        k = torch.searchsorted(cumulative, u, right=True).clamp(max=self.steps - 1)
        x = self.corrupt(design, k, generator)
        kernel = self.kernel_of(net(*self.inputs(x, k)), x, k)
        a, s, carry = (at(c, k, x).unsqueeze(-1) for c in (bridge.signal, bridge.spread, bridge.carry))
        # at the last step carry is 0 and the next signal 1, exactly: the target is the design
        target = at(bridge.signal, k + 1, x).unsqueeze(-1) * design + carry * (x - a * design) / s
        error = kernel.free(((target - kernel.mean) / kernel.std).square() / 2).sum(-1)
        a0, s0 = bridge.signal[0].item(), bridge.spread[0].item()
        prior = kernel.free((a0 * design).square() / 2 + (s0**2 - 1) / 2 - math.log(s0)).sum(-1)
        return error / at(bridge.chance, k, x) + prior + self.free * bridge.constant.item()

    def relaxed(self, x: Tensor) -> Tensor:
        """Return the states themselves: points are differentiable as they are."""
        return x

    def relaxed_design(self, x: Tensor) -> Tensor:
        """Return the designs themselves, the points that a reward reads."""
        return x

    @cached_property
    def _bridge(self) -> _Bridge:
        chain = self._chain
        a = chain.signal / chain.signal[-1]
        s = (chain.spread.square() - (a * chain.spread[-1]).square()).clamp(min=0).sqrt()
        std = self._posterior_std(a, s)
        carry = rest_of(s[1:], std)
        ratio = (std / chain.std)[:-1]
        constant = ((ratio.square() - 1) / 2 - ratio.log()).sum() + chain.std[-1].log() + math.log(2 * math.pi) / 2
        # the size of each term for data of unit variance: how far y moves the mean, times what x[k] leaves open of y
        due = (
            ((a[1:] - carry * a[:-1] / s[:-1]) / chain.std).square() * s[:-1].square() / (a.square() + s.square())[:-1]
        )
        # half of the draws are uniform, so that no weight exceeds 2 K whatever the data
        chance = (due / due.sum() + 1 / self.num_steps) / 2
        return _Bridge(a, s, carry, constant, chance)

    def _posterior_std(self, a: Tensor, s: Tensor) -> Tensor:
        """Return σ `(K,)` of the steps between levels `(K+1,)`."""
        return std_between(a[:-1], s[:-1], a[1:], s[1:], self.eta)

    def _normal(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device)

    def _held(self, device: torch.device) -> Tensor | None:
        return None if self.fixed is None else self.fixed.mask.to(device)

    def _hold(self, x: Tensor) -> Tensor:
        if self.fixed is None:
            return x
        return torch.where(self.fixed.mask.to(x.device), self.fixed.letters.to(x), x)


def std_between(a: Tensor, s: Tensor, a_next: Tensor, s_next: Tensor, eta: float) -> Tensor:
    """Return σ of steps from levels a, s to others: `eta` (s'/s) √(s² − (a/a')² s'²), at most s'."""
    forward = (s.square() - (a / a_next * s_next).square()).clamp(min=0).sqrt()
    return torch.minimum(eta * s_next / s * forward, s_next)


def rest_of(spread: Tensor, std: Tensor) -> Tensor:
    """Return what is left of the noise of a level when `std` of it is drawn anew."""
    return (spread.square() - std.square()).clamp(min=0).sqrt()


def at(table: Tensor, k: Tensor, like: Tensor) -> Tensor:
    """Return the entries of a float64 table at steps `(B,)`, in the type and on the device of `like`."""
    return table.to(like.device)[k].to(like.dtype)
