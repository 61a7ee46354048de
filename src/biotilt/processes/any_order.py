"""Any-order autoregressive diffusion (Hoogeboom et al. 2021, OADM of EvoDiff): m letters a step, in random order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import Kernel
from biotilt.core.protocols import Net, NetInput
from biotilt.errors import ConfigError
from biotilt.formulas.categorical import log_choose, neg_log_prob, stratified_uniform
from biotilt.options import Count
from biotilt.processes.revealing import RevealingProcess, RevealKernel


@dataclass(frozen=True)
class AnyOrderKernel(RevealKernel):
    """Reveals exactly `m` hidden coordinates (all of them, if fewer are left), every subset equally likely."""

    per_step: int

    def _count(self) -> Tensor:
        return self.hidden.sum(-1).clamp(max=self.per_step)

    def choose(self, generator: Generator) -> Tensor:
        rank = torch.rand(self.hidden.shape, generator=generator, device=self.x.device)
        rank = rank.masked_fill(~self.hidden, 2.0).argsort(-1).argsort(-1)
        return rank < self._count().unsqueeze(-1)

    def choice_log_prob(self, revealed: Tensor) -> Tensor:
        count = self._count()
        log_prob = -log_choose(self.hidden.sum(-1), count)
        return torch.where(revealed.sum(-1) == count, log_prob, torch.full_like(log_prob, -torch.inf))

    def reveal_probability(self) -> Tensor:
        return self._count() / self.hidden.sum(-1).clamp(min=1)


@dataclass(frozen=True)
class AnyOrder(RevealingProcess):
    """Each step reveals exactly `per_step` = m uniformly chosen hidden coordinates; m = 1 is exact.

    log p(y|x) = −log C(#hidden, m) + Σ_revealed log p(letter). With m > 1 the letters of one step are
    independent given `x`, which no training removes; sampling needs ⌈free/m⌉ network calls.

    >>> AnyOrder(length=12, letters=4, per_step=3).steps
    4
    """

    per_step: Count = 1

    name: ClassVar[str] = "any_order"
    kernel_type: ClassVar[type[Kernel]] = AnyOrderKernel

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_step > self.length:
            raise ConfigError(f"{self._where}: per_step must be in [1, {self.length}], got {self.per_step}")

    @property
    def steps(self) -> int:
        return math.ceil(self.free / self.per_step)

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return states and the fraction that is hidden: `k` is read off the states, not told."""
        return NetInput(x, self.hidden(self._read(x)[0]).sum(-1) / self.length)

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> AnyOrderKernel:
        tokens, relaxed = self._read(x)
        return AnyOrderKernel(tokens, self._log_letters(output), self.hidden(tokens), self.per_step, relaxed=relaxed)

    def step_of(self, x: Tensor) -> Tensor:
        return ((self.free - self.hidden(x).sum(-1)) // self.per_step).clamp(max=self.steps - 1)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Return a state of step `k` from which the design can still be reached, uniformly chosen."""
        count = (self.free - torch.as_tensor(k, device=design.device) * self.per_step).clamp(min=0)
        return self.hide(design, count.expand(len(design)), generator)

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """E_n [ F/n Σ_hidden −log p ] with n ∼ U{1…F} of the F free coordinates hidden, `(B,)`.

        Bounds −log p of the chain that reveals one letter a step, whatever `per_step`.
        """
        u = stratified_uniform(len(design), generator)
        count = (u * self.free).long().clamp(max=self.free - 1) + 1
        x = self.hide(design, count, generator)
        hidden = self.hidden(x)
        loss = neg_log_prob(self._logits(net(*self.inputs(x, 0))), design)
        return (loss * hidden).sum(-1) * self.free / count
