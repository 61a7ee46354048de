"""A random walk from the origin, whose ends are gaussian: a base that needs no data (arXiv 2111.15141)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import Kernel, NoisedPath, Relaxable
from biotilt.core.fixed import Fixed
from biotilt.core.protocols import Net, NetInput
from biotilt.errors import ConfigError
from biotilt.formulas.categorical import stratified_uniform
from biotilt.options import Positive, Steps, Width, check_options
from biotilt.processes.gaussian_kernel import GaussianKernel


@dataclass(frozen=True)
class RandomWalk(Relaxable, NoisedPath):
    """A chain of K = `num_steps` steps on points `(B, D)`, D = `size`, of std σ = `scale` at its end.

        x[0] = 0,    x[k+1] ∼ N( x[k] + (σ²/K) u, σ²/K ),    u = net(x[k]/σ, 1 − k/K)/σ

    With u = 0, the reference, the step adds noise and nothing else, and designs are N(0, σ² I) exactly, for every K. So
    a network that returns zeros is a base whose density is known: a path integral sampler (Zhang & Chen 2022, arXiv
    2111.15141). In units of σ, so that a density and its double are equally hard to learn.

    x[0] is a constant, so the optimal policy has exactly the law p_pre exp(r/α)/Z over designs. Its kernels are
    gaussians of std σ/√K in the limit of small steps only, so σ/√K should be smaller than what is to be resolved; what
    the steps leave over, weights correct. `fixed` holds coordinates at given values, in every state. `x0` of a kernel
    is x[k] + (K − k)(σ²/K) u: the posterior mean of the design for the optimal policy, of which u is a martingale, and
    for the reference.

    Raises:
        ConfigError: an option outside its range, or `fixed` of another size or without floating-point values.

    >>> import torch
    >>> from biotilt.core import Policy, sample
    >>> class Zero(torch.nn.Module):
    ...     def forward(self, x, t):
    ...         return torch.zeros_like(x)
    >>> walk = Policy(RandomWalk(size=2, scale=3.0), Zero())
    >>> designs = sample(walk, 4000, torch.Generator().manual_seed(0))
    >>> bool((designs.std(0) - 3.0).abs().max() < 0.1)
    True
    """

    size: Width
    scale: Positive = 1.0
    num_steps: Steps = 50
    fixed: Fixed | None = None

    name: ClassVar[str] = "random_walk"
    kernel_type: ClassVar[type[Kernel]] = GaussianKernel

    def __post_init__(self) -> None:
        check_options(self, f'process "{self.name}"')
        if self.fixed is not None and len(self.fixed.mask) != self.size:
            raise ConfigError(f"fixed covers {len(self.fixed.mask)} coordinates, designs have {self.size}")
        if self.fixed is not None and not self.fixed.letters.is_floating_point():
            raise ConfigError(f"{self.name}: fixed coordinates of a point need floating-point values, not letters")

    @property
    def steps(self) -> int:
        return self.num_steps

    @property
    def coordinates(self) -> int:
        return self.size

    @property
    def free(self) -> int:
        """The number of coordinates that are designed."""
        return self.size if self.fixed is None else int((~self.fixed.mask).sum())

    def holding(self, fixed: Fixed | None) -> Self:
        return replace(self, fixed=fixed)

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return the origin `(batch, D)`; nothing is drawn."""
        return self._hold(torch.zeros(batch, self.size, device=generator.device))

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return points in units of σ `(B, D)` and times 1 − k/K `(B,)`."""
        return NetInput(x / self.scale, (1 - self._share(x, k)).squeeze(-1))

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> GaussianKernel:
        push = self.scale / self.num_steps * output
        left = self.num_steps * (1 - self._share(x, k))
        std = x.new_full((len(x), 1), self.scale / math.sqrt(self.num_steps))
        held = None if self.fixed is None else self.fixed.mask.to(x.device)
        return GaussianKernel(x, self._hold(x + push), std, self._hold(x + left * push), held)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Draw x[k] `(B, D)` given x[K] = `design`, by the Brownian bridge from the origin to it."""
        share = self._share(design, k)
        z = torch.randn(design.shape, generator=generator, device=generator.device).to(design.dtype)
        return self._hold(share * design + self.scale * (share * (1 - share)).sqrt() * z)

    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        """Return chains `(K+1, B, D)` of the bridge: x[k+1] ∼ N( x + (y − x)/n, (σ²/K)(n − 1)/n ), n = K − k."""
        x = self.noise(len(design), generator).to(design.dtype)
        chain = [x]
        for left in range(self.num_steps, 1, -1):
            std = self.scale * math.sqrt((left - 1) / left / self.num_steps)
            z = torch.randn(design.shape, generator=generator, device=generator.device).to(design.dtype)
            x = self._hold(x + (design - x) / left + std * z)
            chain.append(x)
        return torch.stack([*chain, design])

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """Return a bound on −log p(x[K] = design) of the K-step chain, in nats, `(B,)`.

        q is the bridge, x[k+1] given x[k] and y ∼ N( x + (y − x)/(K − k), (σ²/K)(K − k − 1)/(K − k) ), and

            −log p(y) ≤ Σ_{k<K−1} E KL(q(x[k+1]|x[k], y) ‖ p(·|x[k])) − E log p(y|x[K−1]),

        with equality for the reference. All but ‖mean of q − mean of p‖²/2(σ²/K) is summed exactly; one k a design,
        drawn more often near the end where the bridge pulls harder, stands for the sum of these.
        """
        steps = self.num_steps
        left = torch.arange(steps, 0, -1, dtype=torch.float64, device=design.device)  # K − k
        chance = (1 / steps + 1 / left / (1 / left).sum()) / 2
        u = stratified_uniform(len(design), generator).to(left)
        k = torch.searchsorted(chance.cumsum(0), u, right=True).clamp(max=steps - 1)
        x = self.corrupt(design, k, generator)
        kernel = self.kernel_of(net(*self.inputs(x, k)), x, k)
        target = x + (design - x) / left[k].to(x.dtype).unsqueeze(-1)
        error = self._free(((target - kernel.mean) / kernel.std).square() / 2).sum(-1)
        shrink = (left - 1)[:-1] / left[:-1]  # of the variance; the last step is no KL but −log p(y|x[K−1])
        constant = (shrink - 1 - shrink.log()).sum() / 2 + math.log(2 * math.pi * self.scale**2 / steps) / 2
        return error / chance[k].to(x.dtype) + self.free * constant.item()

    def relaxed(self, x: Tensor) -> Tensor:
        """Return the states themselves: points are differentiable as they are."""
        return x

    def relaxed_design(self, x: Tensor) -> Tensor:
        """Return the designs themselves, the points that a reward reads."""
        return x

    def _share(self, x: Tensor, k: int | Tensor) -> Tensor:
        """Return k/K of each row, `(B, 1)`."""
        return (torch.as_tensor(k, device=x.device).expand(len(x)) / self.num_steps).to(x.dtype).unsqueeze(-1)

    def _free(self, each: Tensor) -> Tensor:
        return each if self.fixed is None else each.masked_fill(self.fixed.mask.to(each.device), 0)

    def _hold(self, x: Tensor) -> Tensor:
        if self.fixed is None:
            return x
        return torch.where(self.fixed.mask.to(x.device), self.fixed.letters.to(x), x)
