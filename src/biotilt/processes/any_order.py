"""Any-order autoregressive diffusion (Hoogeboom et al. 2021, OADM of EvoDiff): m letters a step, in random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import Kernel
from biotilt.core.protocols import Net
from biotilt.formulas.categorical import log_choose, neg_log_prob
from biotilt.processes.counted import CountedProcess
from biotilt.processes.revealing import RevealingProcess, RevealKernel

Order = Literal["random", "left_to_right"]


@dataclass(frozen=True)
class AnyOrderKernel(RevealKernel):
    """Reveals exactly `m` hidden coordinates, or all if fewer are left: every subset equally likely, or the first."""

    per_step: int
    order: Order = "random"

    def _count(self) -> Tensor:
        return self.hidden.sum(-1).clamp(max=self.per_step)

    def _first(self) -> Tensor:
        return self.hidden & (self.hidden.cumsum(-1) <= self.per_step)

    def choose(self, generator: Generator) -> Tensor:
        if self.order == "left_to_right":
            return self._first()
        rank = torch.rand(self.hidden.shape, generator=generator, device=self.x.device)
        rank = rank.masked_fill(~self.hidden, 2.0).argsort(-1).argsort(-1)
        return rank < self._count().unsqueeze(-1)

    def choice_log_prob(self, revealed: Tensor) -> Tensor:
        count = self._count()
        log_prob = -log_choose(self.hidden.sum(-1), count)
        possible = revealed.sum(-1) == count
        if self.order == "left_to_right":
            log_prob, possible = torch.zeros_like(log_prob), (revealed == self._first()).all(-1)
        return torch.where(possible, log_prob, torch.full_like(log_prob, -torch.inf))

    def reveal_probability(self) -> Tensor:
        if self.order == "left_to_right":
            return self._first().to(self.log_letters.dtype)
        return (self._count() / self.hidden.sum(-1).clamp(min=1)).unsqueeze(-1)


@dataclass(frozen=True)
class AnyOrder(CountedProcess, RevealingProcess):
    """Each step reveals exactly `per_step` = m hidden coordinates, uniformly chosen; m = 1 is exact.

    With `order` "left_to_right" they are the first m that are hidden: an autoregressive chain of the same network. The
    two laws are one where the network's conditionals agree with each other, as those of one distribution do.

    log p(y|x) = −log C(#hidden, m) + Σ_revealed log p(letter). With m > 1 the letters of one step are
    independent given `x`, which no training removes; sampling needs ⌈free/m⌉ network calls.

    >>> AnyOrder(length=12, letters=4, per_step=3).steps
    4
    """

    order: Order = "random"

    name: ClassVar[str] = "any_order"
    kernel_type: ClassVar[type[Kernel]] = AnyOrderKernel

    @property
    def one_chain(self) -> bool:
        return self.order == "left_to_right"

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> AnyOrderKernel:
        tokens, relaxed = self._read(x)
        hidden = self.hidden(tokens)
        return AnyOrderKernel(tokens, self._log_letters(output), hidden, self.per_step, self.order, relaxed=relaxed)

    def hide_for_chain(self, design: Tensor, count: Tensor, generator: Generator) -> Tensor:
        """Hide `count` `(B,)` free coordinates, the last ones where the order is from left to right."""
        if self.order == "random":
            return super().hide_for_chain(design, count, generator)
        place = self._free_mask(design.device).cumsum(-1) - 1
        last = place >= (self.free - count).unsqueeze(-1)
        return design.masked_fill(last & self._free_mask(design.device), self.mask)

    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        """Return chains `(K+1, B, L)`: in random order, or from left to right the only one that ends in the design."""
        if self.order == "random":
            return super().noised_path(design, generator)
        place = self._free_mask(design.device).cumsum(-1) - 1
        return self._revealed_in(design, place.expand_as(design))

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """E_n [ F/n Σ_hidden −log p ] with n ∼ U{1…F} of the F free coordinates hidden, `(B,)`.

        Bounds −log p of the chain that reveals one letter a step, whatever `per_step`. From left to right only the
        first of the hidden counts, F times, and the mean is −log p itself.
        """
        if self.order == "random":
            return super().denoising_loss(net, design, generator)
        x = self.hide_for_chain(design, self._random_count(len(design), generator), generator)
        hidden = self.hidden(x)
        loss = neg_log_prob(self._logits(net(*self.inputs(x, 0))), design)
        return (loss * (hidden & (hidden.cumsum(-1) == 1))).sum(-1) * self.free
