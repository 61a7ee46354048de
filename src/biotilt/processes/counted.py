"""What processes share in which every step reveals the same number of letters."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import NoisedPath, Reveals
from biotilt.core.protocols import Net, NetInput
from biotilt.errors import ConfigError
from biotilt.formulas.categorical import neg_log_prob, stratified_uniform
from biotilt.options import Count
from biotilt.processes.revealing import HiddenLetters, HidingProcess


@dataclass(frozen=True)
class CountedProcess(HidingProcess, Reveals, NoisedPath):
    """Each step reveals `per_step` = m hidden coordinates, the last one those that are left: ⌈free/m⌉ network calls."""

    per_step: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_step > self.length:
            raise ConfigError(f"{self._where}: per_step must be in [1, {self.length}], got {self.per_step}")

    @property
    def steps(self) -> int:
        return math.ceil(self.free / self.per_step)

    @abstractmethod
    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> HiddenLetters: ...

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return states and the fraction that is hidden: `k` is read off the states, not told."""
        return NetInput(x, self.hidden(self._read(x)[0]).sum(-1) / self.length)

    def step_of(self, x: Tensor) -> Tensor:
        return ((self.free - self.hidden(x).sum(-1)) // self.per_step).clamp(max=self.steps - 1)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Return the state of a chain at step `k` that ends in the design: what is hidden there is uniformly chosen."""
        count = (self.free - torch.as_tensor(k, device=design.device) * self.per_step).clamp(min=0)
        return self.hide_for_chain(design, count.expand(len(design)), generator)

    def hide_for_chain(self, design: Tensor, count: Tensor, generator: Generator) -> Tensor:
        """Hide `count` `(B,)` free coordinates, as a chain may have it."""
        return self.hide(design, count, generator)

    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        """Return chains `(K+1, B, L)` in which free coordinates are revealed in a random order, all equally likely."""
        place = torch.rand(design.shape, generator=generator, device=design.device)
        place = place.masked_fill(~self._free_mask(design.device), 2.0).argsort(-1).argsort(-1)
        return self._revealed_in(design, place)

    def _revealed_in(self, design: Tensor, place: Tensor) -> Tensor:
        """Return the chains `(K+1, B, L)` in which free coordinates have a `place` `(B, L)` in the order, from 0."""
        k = torch.arange(self.steps + 1, device=design.device).view(-1, 1, 1)
        hidden = (place // self.per_step >= k) & self._free_mask(design.device)
        return design.masked_fill(hidden, self.mask)

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """E_n [ F/n Σ_hidden −log p ] with n ∼ U{1…F} of the F free coordinates hidden, `(B,)`.

        Bounds −log p of the chain that reveals one letter a step in random order, whatever `per_step`.
        """
        count = self._random_count(len(design), generator)
        x = self.hide_for_chain(design, count, generator)
        hidden = self.hidden(x)
        loss = neg_log_prob(self._logits(net(*self.inputs(x, 0))), design)
        return (loss * hidden).sum(-1) * self.free / count

    def _random_count(self, batch: int, generator: Generator) -> Tensor:
        """Return numbers of hidden coordinates `(batch,)`, uniform on 1…F."""
        u = stratified_uniform(batch, generator)
        return (u * self.free).long().clamp(max=self.free - 1) + 1
