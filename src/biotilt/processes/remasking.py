"""Masked diffusion that hides letters again: ReMDM (Wang et al. 2025, arXiv 2503.00307)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from biotilt.core.capabilities import Chance, Kernel
from biotilt.core.protocols import Net, NetInput
from biotilt.errors import ConfigError
from biotilt.formulas.categorical import draw_straight_through, drawn_at, neg_log_prob, stratified_uniform
from biotilt.options import Share, Steps
from biotilt.processes.revealing import EvidenceOfLetters, RevealKernel, one_hot_states
from biotilt.processes.schedules import MASKED_SCHEDULES, MaskedScheduleName


@dataclass(frozen=True)
class RemaskKernel(RevealKernel):
    """Reveals each hidden coordinate with probability `reveal` `(B,)`, and hides each shown one with `remask` `(B,)`.

    All of them independently. `free` `(L,)` says which coordinates may be hidden.
    """

    reveal: Tensor
    remask: Tensor
    free: Tensor

    def choose(self, generator: Generator) -> Tensor:
        """Draw which coordinates change, bool `(B, L)`: hidden ones that are revealed, shown ones that are hidden."""
        u = torch.rand(self.hidden.shape, generator=generator, device=self.x.device)
        return self.free & (u < torch.where(self.hidden, self.reveal.unsqueeze(-1), self.remask.unsqueeze(-1)))

    def follow(self, chance: Chance) -> Tensor:
        letters = drawn_at(self.log_letters, chance.level).to(self.x.dtype)
        after = torch.where(self.hidden, letters, self._mask)
        return torch.where(chance.chosen, after, self.x)

    def rsample(self, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Return a draw as one-hot states `(B, L, V+1)`: revealed letters are differentiable, masks are not."""
        letters = F.pad(draw_straight_through(self.log_letters, generator, temperature), (0, 1))
        masks = one_hot_states(torch.full_like(self.x, self._mask), self._mask, letters.dtype)
        after = torch.where(self.hidden.unsqueeze(-1), letters, masks)
        return torch.where(self.choose(generator).unsqueeze(-1), after, self._state())

    def log_prob(self, y: Tensor) -> Tensor:
        hides = y == self._mask
        legal = ((self.hidden & ~hides) | (y == self.x) | (hides & self.free)).all(-1)
        total = self.terms(y).sum(-1) + self.choice_log_prob(y != self.x)
        return torch.where(legal, total, torch.full_like(total, -torch.inf))

    def choice_log_prob(self, revealed: Tensor) -> Tensor:
        """Log-probability `(B,)` that exactly these coordinates `(B, L)` change."""
        total = torch.zeros_like(self.reveal)
        for there, chance in ((self.hidden, self.reveal), (self.free & ~self.hidden, self.remask)):
            changed = (there & revealed).sum(-1)
            # xlogy-style: 0 · log 0 = 0, where nothing can change, or all must
            total = total + torch.xlogy(changed, chance) + torch.xlogy(there.sum(-1) - changed, 1 - chance)
        return total

    def reveal_probability(self) -> Tensor:
        return self.reveal.unsqueeze(-1)

    @property
    def _mask(self) -> int:
        return self.log_letters.shape[-1]


@dataclass(frozen=True)
class Remasking(EvidenceOfLetters):
    """A step reveals hidden letters, and hides each shown one with probability σ_k: what was revealed can be mended.

        hidden → revealed: (a[k+1] − (1−σ) a[k]) / (1 − a[k]),     shown → hidden: σ ≤ σ_max = min(1, (1 − a[k+1])/a[k])

    `a[k]` is the probability that a coordinate is clean. For the exact law of the letters its law is a[k] at every step
    whatever σ, as that of `masked`, so a network of `masked` or `any_order` serves as it is; σ = 0 is `masked`.

    `cap`: σ = min(`eta`, σ_max); `rescale`: σ = `eta` · σ_max. Letters are hidden again in steps k with `first` ≤ k/K <
    `last`. With `hold` = h in (0, 1) a stays at h in these ("loop"): what is revealed is as much as what is hidden, and
    the steps before and after go from 0 to h and from h to 1 as `schedule` does. Steps cost a network call each.

    A policy cannot change which letters are hidden again, so its paths need not have the tilted law exactly. Weights of
    samplers are exact. ReMDM's "conf" remembers how likely a letter was when it was revealed, which no state says.

    Raises:
        ConfigError: `first` is not below `last`, or with `hold` no step is left before or after.

    >>> Remasking(length=12, letters=4, num_steps=8, eta=0.5).steps
    8
    """

    num_steps: Steps = 64
    schedule: MaskedScheduleName = "loglinear"
    strategy: Literal["cap", "rescale"] = "rescale"
    eta: Share = 0.2
    first: Share = 0.0
    last: Share = 1.0
    hold: Share = 0.0

    name: ClassVar[str] = "remasking"
    kernel_type: ClassVar[type[Kernel]] = RemaskKernel

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first >= self.last:
            raise ConfigError(f"{self._where}: first must be below last, got {self.first:g} and {self.last:g}")
        if self.hold == 1 or (self.hold > 0 and not 0 < self._from < self._until < self.num_steps):
            raise ConfigError(
                f"{self._where}: hold = {self.hold:g} must be below 1, with steps before first and after last; got "
                f"first = {self.first:g} and last = {self.last:g} of {self.num_steps} steps"
            )

    @property
    def steps(self) -> int:
        return self.num_steps

    @property
    def _from(self) -> int:
        return round(self.first * self.num_steps)

    @property
    def _until(self) -> int:
        return round(self.last * self.num_steps)

    def _times(self, device: torch.device) -> Tensor:
        """Return the time of each step `(K+1,)`, from 1 to 0."""
        steps = torch.arange(self.num_steps + 1, device=device, dtype=torch.get_default_dtype())
        if not self.hold:
            return 1 - steps / self.num_steps
        held = MASKED_SCHEDULES[self.schedule].time(1 - torch.tensor(self.hold, device=device))
        before = 1 - (1 - held) * steps / self._from
        after = held * (self.num_steps - steps) / (self.num_steps - self._until)
        return torch.where(steps < self._from, before, torch.where(steps < self._until, held, after))

    def _clean(self, device: torch.device) -> Tensor:
        """Return a[k] `(K+1,)`, in double precision, a[K] = 1."""
        clean = MASKED_SCHEDULES[self.schedule].clean(self._times(device).double())
        return torch.cat([clean[:-1], torch.ones_like(clean[:1])])

    def chances(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return of each step `(K,)` with what probability a coordinate is revealed, and hidden again."""
        clean = self._clean(device)
        now, after = clean[:-1], clean[1:]
        most = ((1 - after) / now.clamp(min=1e-30)).clamp(max=1)
        sigma = self.eta * most if self.strategy == "rescale" else most.clamp(max=self.eta)
        k = torch.arange(self.num_steps, device=device)
        sigma = torch.where((k >= self._from) & (k < self._until), sigma, 0)
        reveal = ((after - (1 - sigma) * now) / (1 - now)).clamp(0, 1)
        return reveal, sigma

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        return NetInput(x, self._times(x.device)[torch.as_tensor(k, device=x.device)].expand(len(x)))

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> RemaskKernel:
        reveal, remask = (
            chance.to(output.dtype)[torch.as_tensor(k, device=x.device)].expand(len(x))
            for chance in self.chances(x.device)
        )
        tokens, relaxed = self._read(x)
        log_letters, free = self._log_letters(output), self._free_mask(x.device)
        return RemaskKernel(tokens, log_letters, self.hidden(tokens), reveal, remask, free, relaxed=relaxed)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Hide each free coordinate with probability 1 − a[k]."""
        clean = self._clean(design.device)[torch.as_tensor(k, device=design.device)].expand(len(design))
        return self._hide_at(design, clean, generator)

    def _hide_at(self, design: Tensor, clean: Tensor, generator: Generator) -> Tensor:
        u = torch.rand(design.shape, generator=generator, device=design.device)
        return design.masked_fill((u >= clean.unsqueeze(-1)) & self._free_mask(design.device), self.mask)

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """K E_k [ P(revealed at k) Σ_hidden −log p(x0_i | x[k]) ], k uniform: bounds −log p of this chain, `(B,)`."""
        k = (stratified_uniform(len(design), generator) * self.num_steps).long().clamp(max=self.num_steps - 1)
        x = self.corrupt(design, k, generator)
        loss = (neg_log_prob(self._logits(net(*self.inputs(x, k))), design) * self.hidden(x)).sum(-1)
        return self.num_steps * self.chances(design.device)[0].to(loss)[k] * loss
