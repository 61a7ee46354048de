"""What masked and any-order diffusion share: a step reveals some hidden coordinates and leaves the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from biotilt.core.capabilities import (
    Chance,
    Divergence,
    Expecting,
    Factorised,
    Foreseeing,
    Guessing,
    Kernel,
    LetterEvidence,
    Mixable,
    PosteriorDensity,
    Reparametrised,
    Reveals,
    Tiltable,
)
from biotilt.core.protocols import Net, NetInput
from biotilt.formulas.categorical import draw, draw_straight_through, drawn_at, geometric_mixture, kl_categorical
from biotilt.processes.letters import LetterProcess, one_hot_states


@dataclass(frozen=True)
class HiddenLetters(PosteriorDensity, Guessing, Expecting, ABC):
    """What the network says at states `x` `(B, L)` with hidden coordinates: the law of the letter of each.

    `log_letters` `(B, L, V)` are normalised over letters; `hidden` `(B, L)` says where `x` is masked; `relaxed`
    `(B, L, V+1)` is the state that the kernel was built from, if that was not tokens.
    """

    x: Tensor
    log_letters: Tensor
    hidden: Tensor
    relaxed: Tensor | None = field(default=None, kw_only=True)

    @property
    def x0(self) -> Tensor:
        """Log-probabilities of the letters of the design, `(B, L, V)`; meaningful where hidden."""
        return self.log_letters

    def guess(self, generator: Generator | None = None) -> Tensor:
        """Return x̂0 as designs `(B, L)`: hidden letters drawn, or the most likely when no generator is given."""
        letters = self.log_letters.argmax(-1) if generator is None else draw(self.log_letters, generator)
        return torch.where(self.hidden, letters.to(self.x.dtype), self.x)

    def expected(self) -> Tensor:
        """Return letter probabilities `(B, L, V)` where hidden; elsewhere the state, one-hot or relaxed."""
        probabilities = self.log_letters.exp()
        return torch.where(self.hidden.unsqueeze(-1), probabilities, self._state()[..., : probabilities.shape[-1]])

    def posterior_log_prob(self, design: Tensor) -> Tensor:
        """Return Σ_hidden log p(x0_i | x) of designs `(B, L)`, `(B,)`: −inf where a shown letter disagrees."""
        total = self.letter_terms(design).sum(-1)
        agrees = (self.hidden | (design == self.x)).all(-1)
        return torch.where(agrees, total, torch.full_like(total, -torch.inf))

    def _state(self) -> Tensor:
        if self.relaxed is not None:
            return self.relaxed.to(self.log_letters.dtype)
        return one_hot_states(self.x, self.log_letters.shape[-1], self.log_letters.dtype)

    def letter_terms(self, y: Tensor) -> Tensor:
        """Return the log-probability of each revealed letter, `(B, L)`; 0 where nothing was revealed."""
        revealed = self.hidden & (y < self.log_letters.shape[-1])
        letters = torch.where(revealed, y, 0).long().unsqueeze(-1)
        picked = self.log_letters.gather(-1, letters).squeeze(-1)
        return torch.where(revealed, picked, torch.zeros_like(picked))


@dataclass(frozen=True)
class RevealKernel(HiddenLetters, Factorised, Divergence, Tiltable, Mixable, Reparametrised, Foreseeing, ABC):
    """One step: which hidden coordinates are revealed, which is no network's choice, then the letter of each."""

    @abstractmethod
    def choose(self, generator: Generator) -> Tensor:
        """Draw which coordinates are revealed, bool `(B, L)`: by the states and the step, not by `log_letters`."""

    @abstractmethod
    def choice_log_prob(self, revealed: Tensor) -> Tensor:
        """Log-probability `(B,)` of revealing exactly the coordinates `(B, L)`."""

    @abstractmethod
    def reveal_probability(self) -> Tensor:
        """Probability that a coordinate, if it is hidden, is revealed in this step, broadcastable to `(B, L)`."""

    def sample(self, generator: Generator) -> Tensor:
        return self.follow(self.chance(generator))

    def chance(self, generator: Generator) -> Chance:
        level = torch.rand(self.hidden.shape, generator=generator, device=self.x.device)
        return Chance(self.choose(generator), level)

    def follow(self, chance: Chance) -> Tensor:
        letters = drawn_at(self.log_letters, chance.level).to(self.x.dtype)
        return torch.where(chance.chosen, letters, self.x)

    def rsample(self, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Return a draw as one-hot states `(B, L, V+1)`, the letters differentiable, `temperature` > 0.

        Which positions are revealed is drawn as by `sample` and carries no gradient; the others are passed on
        as the (relaxed) state has them.
        """
        letters = F.pad(draw_straight_through(self.log_letters, generator, temperature), (0, 1))
        return torch.where(self.choose(generator).unsqueeze(-1), letters, self._state())

    def terms(self, y: Tensor) -> Tensor:
        return self.letter_terms(y)

    def log_prob(self, y: Tensor) -> Tensor:
        revealed = self.hidden & (y < self.log_letters.shape[-1])
        legal = (revealed | (y == self.x)).all(-1)
        total = self.terms(y).sum(-1) + self.choice_log_prob(revealed)
        return torch.where(legal, total, torch.full_like(total, -torch.inf))

    def kl(self, other: Self) -> Tensor:
        """KL to a kernel at the same states and step: the choice of coordinates is common to both."""
        per_position = kl_categorical(self.log_letters, other.log_letters)
        hidden = torch.where(self.hidden, per_position, torch.zeros_like(per_position))
        return (hidden * self.reveal_probability()).sum(-1)

    def tilted(self, q: Tensor) -> Self:
        """Times exp(q), `q` `(B, L, V)`: the letters are reweighted, the choice of coordinates is kept."""
        return replace(self, log_letters=(self.log_letters + q).log_softmax(-1))

    def mix(self, other: Self, weight: float) -> Self:
        """Geometric mixture with another kernel at the same states: letters ∝ self^(1−w) other^w."""
        return replace(self, log_letters=geometric_mixture(self.log_letters, other.log_letters, weight))


@dataclass(frozen=True)
class HidingProcess(LetterProcess):
    """Shared by processes whose noise is a mask token (index `letters`); held positions start revealed.

    Networks are shown states as they are, and say of each hidden coordinate which letter it may be: one network serves
    all these processes.
    """

    kernel_type: ClassVar[type[Kernel]] = HiddenLetters

    @abstractmethod
    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return states as they are, tokens `(B, L)` or relaxed `(B, L, V+1)`, and the time."""

    @abstractmethod
    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> HiddenLetters:
        """Return the kernel of logits `(B, L, V)` at states, tokens or relaxed."""

    @abstractmethod
    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor: ...

    @property
    def mask(self) -> int:
        """The token of a hidden coordinate."""
        return self.letters

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return `(batch, L)` states with every free coordinate hidden."""
        return self._hold(torch.full((batch, self.length), self.mask, dtype=self.token_type, device=generator.device))

    def hidden(self, x: Tensor) -> Tensor:
        return x == self.mask

    def hide(self, design: Tensor, count: Tensor, generator: Generator) -> Tensor:
        """Hide `count` `(B,)` of the free coordinates of each design, chosen uniformly."""
        rank = torch.rand(design.shape, generator=generator, device=design.device)
        rank = rank.masked_fill(~self._free_mask(design.device), 2.0).argsort(-1).argsort(-1)
        return design.masked_fill(rank < count.unsqueeze(-1), self.mask)


@dataclass(frozen=True)
class EvidenceOfLetters(HidingProcess, LetterEvidence):
    """Shared by processes in which what a step reveals is no network's choice, so that log p is bounded by letters."""

    kernel_type: ClassVar[type[Kernel]] = RevealKernel

    @abstractmethod
    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> RevealKernel: ...

    def letter_evidence(
        self, net: Net, design: Tensor, generator: Generator, draws: int, *, alike: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return log p(letter of the design) and weights `(draws, B, L)` at states with part of the design hidden.

        A draw hides as at a step k, stratified over steps. The weight is K · P(i is revealed at k | it is hidden), 0
        where i is shown: the mean over draws of weight · f is the mean of f at the step where i is revealed.
        """
        drawn = design[:1] if alike else design
        u = torch.rand(len(drawn), generator=generator, device=design.device)
        strata = torch.arange(draws, device=design.device).unsqueeze(-1)
        k = ((strata + u) * (self.steps / draws)).long().clamp(max=self.steps - 1).flatten()
        repeated = design.repeat(draws, 1)
        x = self.corrupt(drawn.repeat(draws, 1), k, generator)
        if alike:  # what is hidden does not depend on the letters
            hidden = self.hidden(x).repeat_interleave(len(design), 0)
            k, x = k.repeat_interleave(len(design)), repeated.masked_fill(hidden, self.mask)
        kernel = self.kernel_of(net(*self.inputs(x, k)), x, k)
        weight = self.steps * kernel.hidden * kernel.reveal_probability()
        return kernel.terms(repeated).unflatten(0, (draws, -1)), weight.unflatten(0, (draws, -1))


@dataclass(frozen=True)
class RevealingProcess(EvidenceOfLetters, Reveals):
    """Shared by those in which letters stay once they are revealed."""
