"""Masked diffusion in which the network chooses what is revealed: where it is sure (MaskGIT, arXiv 2202.04200)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import (
    Capability,
    Density,
    Divergence,
    Kernel,
    LetterEvidence,
    Limited,
    Mixable,
    Tiltable,
)
from biotilt.core.protocols import NetInput
from biotilt.formulas.categorical import draw, geometric_mixture, kl_categorical
from biotilt.formulas.plackett_luce import gumbel, log_prob_of_set
from biotilt.options import NotNegative, Positive
from biotilt.processes.counted import CountedProcess
from biotilt.processes.revealing import HiddenLetters
from biotilt.processes.schedules import MASKED_SCHEDULES, MaskedScheduleName

TOGETHER = 8  # letters of a step up to which the chance of a set is summed over their orders: 2^8 sets

Sureness = Literal["largest", "entropy", "drawn"]


@dataclass(frozen=True)
class SureKernel(HiddenLetters):
    """Draws a letter for each hidden coordinate and shows the `count` `(B,)` of which the network is most sure.

    How sure, `c` `(B, L)`, is max_a log p(a), −entropy, or of a letter that was drawn log p of it (`by`); to it comes
    Gumbel noise times `noise` `(B,)` ≥ 0.
    """

    count: Tensor
    noise: Tensor
    by: Sureness

    def sample(self, generator: Generator) -> Tensor:
        letters = draw(self.log_letters, generator)
        sure = self._sureness(letters)
        sure = sure + self.noise.unsqueeze(-1) * gumbel(sure, generator)
        # those that are shown already come last, and ties go to the first
        rank = sure.masked_fill(~self.hidden, -torch.inf).argsort(dim=-1, descending=True, stable=True).argsort(-1)
        return torch.where(rank < self.count.unsqueeze(-1), letters.to(self.x.dtype), self.x)

    def _sureness(self, letters: Tensor) -> Tensor:
        if self.by == "drawn":
            return self.log_letters.gather(-1, letters.long().unsqueeze(-1)).squeeze(-1)
        return sureness(self.log_letters, self.by)


@dataclass(frozen=True)
class ConfidentKernel(SureKernel, Density):
    """A step whose choice does not look at the letters that were drawn, with noise: it has a density.

    log p(y|x) = log P(S) + Σ_{i∈S} log p(y_i),   S the set that is shown

    P(S) is that of drawing `count` coordinates one after another without putting back, each with a chance ∝ exp(c_i /
    noise) (Plackett–Luce, which is what Gumbel noise does), summed over their orders. `log_weight` `(B, L)` is c/noise.
    """

    log_weight: Tensor

    def _sureness(self, letters: Tensor) -> Tensor:
        return self.log_weight * self.noise.unsqueeze(-1)

    def choice_log_prob(self, revealed: Tensor) -> Tensor:
        """Log-probability `(B,)` of showing exactly the coordinates `(B, L)`."""
        return log_prob_of_set(self.log_weight, self.hidden, revealed, self.count)

    def log_prob(self, y: Tensor) -> Tensor:
        revealed = self.hidden & (y < self.log_letters.shape[-1])
        legal = (revealed | (y == self.x)).all(-1)
        total = self.letter_terms(y).sum(-1) + self.choice_log_prob(revealed)
        return torch.where(legal, total, torch.full_like(total, -torch.inf))


@dataclass(frozen=True)
class OneConfidentKernel(ConfidentKernel, Divergence, Tiltable, Mixable):
    """One letter a step: log p(y|x) = log softmax(c/noise)_i + log p(y_i)."""

    @property
    def _log_choice(self) -> Tensor:
        """Log-probability of each coordinate `(B, L)`; a large negative number where it is shown already."""
        lowest = torch.finfo(self.log_weight.dtype).min / 2
        return self.log_weight.masked_fill(~self.hidden, lowest).log_softmax(-1)

    def kl(self, other: Self) -> Tensor:
        ours, theirs = self._log_choice, other._log_choice
        letters = kl_categorical(self.log_letters, other.log_letters)
        each = ours.exp() * (ours - theirs + letters)
        return torch.where(self.hidden, each, torch.zeros_like(each)).sum(-1)

    def tilted(self, q: Tensor) -> Self:
        """Times exp(q), `q` `(B, L, V)`: the letters are reweighted, the choice of coordinates is kept."""
        return replace(self, log_letters=(self.log_letters + q).log_softmax(-1))

    def mix(self, other: Self, weight: float) -> Self:
        """Geometric mixtures of the choices and, given it, of the letters, of kernels at the same states."""
        return replace(
            self, log_letters=geometric_mixture(self.log_letters, other.log_letters, weight),
            log_weight=torch.lerp(self._log_choice, other._log_choice, weight),
        )  # fmt: skip


@dataclass(frozen=True)
class Confidence(CountedProcess, Limited):
    """Each step reveals the `per_step` = m hidden coordinates of which the network is most sure.

        c_i = max_a log p(a | x) ("largest"), Σ_a p log p ("entropy"), or log p(a_i) of a letter a_i ∼ p drawn ("drawn")
        shown: the m largest c_i + ρ (n − m)/(F − m) g_i,     g_i standard Gumbel, n of F letters hidden

    p(a | x) = softmax(logits / `temperature`), and ρ is the `randomness`: the noise falls from ρ to nothing. "drawn" is
    how MaskGIT and GenMol sample. As a kernel it is a sequence of draws without replacement with chances ∝ exp(c_i /
    noise), so with "largest" and "entropy", ρ > 0 and m ≤ 8 a step has an exact density, and with m = 1 a KL in closed
    form. Otherwise it can be drawn from, and no more.

    The law of designs is that of this chain, not of any order. Where letters are the conditionals of one joint law, one
    a step, and what comes is chosen without a look at it (not "drawn"), the two are the same; elsewhere what comes
    first is what is likeliest, so letters of a step agree better, and designs differ less. A network that is trained
    changes the order with the letters, so a policy of this kind need not have p* exactly. `denoising_loss` bounds
    −log p of the chain in random order, not of this one. `schedule` is that of the times that a network was trained on.

    >>> Confidence(length=12, letters=4, per_step=3).steps
    4
    """

    by: Sureness = "largest"
    randomness: NotNegative = 1.0
    temperature: Positive = 1.0
    schedule: MaskedScheduleName = "loglinear"

    name: ClassVar[str] = "confidence"
    kernel_type: ClassVar[type[Kernel]] = OneConfidentKernel

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return states, and the time at which so many coordinates are hidden."""
        share = super().inputs(x, k).t
        return NetInput(x, MASKED_SCHEDULES[self.schedule].time(share))

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> SureKernel:
        tokens, relaxed = self._read(x)
        log_letters = (self._logits(output) / self.temperature).log_softmax(-1)
        hidden = self.hidden(tokens)
        left = hidden.sum(-1)
        share = (left - self.per_step).to(log_letters.dtype) / max(1, self.free - self.per_step)
        # where all that is left is shown there is nothing to choose, and the noise is of no matter
        noise = self.randomness * torch.where(left > self.per_step, share, torch.ones_like(share))
        kind, count = self._kernel_class, left.clamp(max=self.per_step)
        if not issubclass(kind, ConfidentKernel):
            return SureKernel(tokens, log_letters, hidden, count, noise, self.by, relaxed=relaxed)
        log_weight = sureness(log_letters, self.by) / noise.unsqueeze(-1)
        return kind(tokens, log_letters, hidden, count, noise, self.by, log_weight, relaxed=relaxed)

    @property
    def _kernel_class(self) -> type[SureKernel]:
        if self.by == "drawn" or self.randomness == 0 or self.per_step > TOGETHER:
            return SureKernel
        return OneConfidentKernel if self.per_step == 1 else ConfidentKernel

    def remedies(self) -> Mapping[type[Capability], str]:
        """What a step has no density for, and what there is with one letter a step alone."""
        found: dict[type[Capability], str] = {
            LetterEvidence: 'the network chooses the order; process = { name = "any_order" } has a bound, of the same '
            "network in random order"
        }
        if self.by == "drawn":
            found[Density] = 'what else was drawn decides with it what is shown; set by = "largest" of the process'
        elif self.randomness == 0:
            found[Density] = "what is shown is certain, and changes as the network does; set randomness above 0, to 1"
        elif self.per_step > TOGETHER:
            found[Density] = f"the orders of {self.per_step} letters are too many; set per_step to {TOGETHER} or less"
        elif self.per_step > 1:
            one = "of several letters that the network chooses there is no closed form; set per_step = 1"
            found |= {Divergence: one, Tiltable: one, Mixable: one}
        return found


def sureness(log_letters: Tensor, by: Sureness) -> Tensor:
    """Return how sure log-probabilities `(..., V)` are, ≤ 0, `(...)`: the largest, or minus the entropy."""
    if by == "largest":
        return log_letters.max(-1).values
    p = log_letters.exp()
    return (p * torch.where(p > 0, log_letters, torch.zeros_like(p))).sum(-1)
