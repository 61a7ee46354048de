"""Masked (absorbing-state) diffusion: MDLM (Sahoo et al. 2024, arXiv 2406.07524)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import Kernel, NoisedPath
from biotilt.core.protocols import Net, NetInput
from biotilt.formulas.categorical import neg_log_prob, stratified_uniform
from biotilt.options import Steps
from biotilt.processes.revealing import RevealingProcess, RevealKernel
from biotilt.processes.schedules import MASKED_SCHEDULES, MaskedScheduleName


@dataclass(frozen=True)
class MaskedKernel(RevealKernel):
    """Reveals each hidden coordinate with probability `reveal` `(B,)`, independently."""

    reveal: Tensor

    def choose(self, generator: Generator) -> Tensor:
        u = torch.rand(self.hidden.shape, generator=generator, device=self.x.device)
        return self.hidden & (u < self.reveal.unsqueeze(-1))

    def choice_log_prob(self, revealed: Tensor) -> Tensor:
        count = revealed.sum(-1)
        stayed = self.hidden.sum(-1) - count
        # xlogy-style: 0 · log 0 = 0, so that the last step (reveal = 1) is finite when nothing stays
        return torch.xlogy(count, self.reveal) + torch.xlogy(stayed, 1 - self.reveal)

    def reveal_probability(self) -> Tensor:
        return self.reveal.unsqueeze(-1)


@dataclass(frozen=True)
class Masked(RevealingProcess, NoisedPath):
    """A hidden coordinate is revealed at step k with probability (a[k+1] − a[k]) / (1 − a[k]).

    `a[k]` = probability that a coordinate is clean, from `schedule` (`processes.schedules`: "loglinear", …) at
    time 1 − k/K; `num_steps` = K ≥ 1. The last step reveals all.

    >>> process = Masked(length=12, letters=4, num_steps=8)
    >>> process.steps, process.mask
    (8, 4)
    """

    num_steps: Steps = 64
    schedule: MaskedScheduleName = "loglinear"

    name: ClassVar[str] = "masked"
    kernel_type: ClassVar[type[Kernel]] = MaskedKernel

    @property
    def steps(self) -> int:
        return self.num_steps

    def _time(self, k: int | Tensor, batch: int, device: torch.device) -> Tensor:
        return (1 - torch.as_tensor(k, device=device) / self.num_steps).expand(batch)

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        return NetInput(x, self._time(k, len(x), x.device))

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> MaskedKernel:
        schedule = MASKED_SCHEDULES[self.schedule]
        t = self._time(k, len(x), x.device)
        now, after = schedule.clean(t), schedule.clean((t - 1 / self.num_steps).clamp(min=0))
        reveal = torch.where(t * self.num_steps < 1.5, 1.0, (after - now) / (1 - now)).clamp(0, 1)
        tokens, relaxed = self._read(x)
        return MaskedKernel(tokens, self._log_letters(output), self.hidden(tokens), reveal, relaxed=relaxed)

    def step_of(self, x: Tensor) -> Tensor:
        clean = 1 - self.hidden(x).sum(-1) / self.free
        grid = MASKED_SCHEDULES[self.schedule].clean(1 - torch.arange(self.steps, device=x.device) / self.steps)
        return (clean.unsqueeze(-1) - grid).abs().argmin(-1)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Hide each free coordinate with probability 1 − a[k]."""
        return self._corrupt_at(design, self._time(k, len(design), design.device), generator)

    def _corrupt_at(self, design: Tensor, t: Tensor, generator: Generator) -> Tensor:
        clean = MASKED_SCHEDULES[self.schedule].clean(t).unsqueeze(-1)
        u = torch.rand(design.shape, generator=generator, device=design.device)
        return design.masked_fill((u >= clean) & self._free_mask(design.device), self.mask)

    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        """Return chains `(K+1, B, L)`: a free coordinate is revealed at step k with probability a[k+1] − a[k]."""
        time = self._time(torch.arange(self.steps, device=design.device), self.steps, design.device)
        clean = MASKED_SCHEDULES[self.schedule].clean(time).view(-1, 1, 1)
        u = torch.rand(design.shape, generator=generator, device=design.device)
        noised = design.masked_fill((u >= clean) & self._free_mask(design.device), self.mask)
        return torch.cat([noised, design.unsqueeze(0)])

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """E_t [ −a'(t)/(1−a(t)) Σ_hidden −log p(x0_i | x_t) ], t ∼ U(0, 1]: bounds −log p, `(B,)`."""
        # t = 0 hides nothing and has an infinite rate; 1e-4 leaves out a ten-thousandth of the integral
        t = stratified_uniform(len(design), generator).clamp(min=1e-4)
        x = self._corrupt_at(design, t, generator)
        loss = (neg_log_prob(self._logits(net(x, t)), design) * self.hidden(x)).sum(-1)
        return loss * MASKED_SCHEDULES[self.schedule].rate(t)
