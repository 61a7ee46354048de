"""What masked and any-order diffusion share: a step reveals some hidden coordinates and leaves the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor

from biotilt.core.fixed import Fixed
from biotilt.core.protocols import Net
from biotilt.errors import ConfigError
from biotilt.formulas.categorical import draw, geometric_mixture, kl_categorical


@dataclass(frozen=True)
class RevealKernel(ABC):
    """One step at states `x` `(B, L)`: which hidden coordinates are revealed, then the letter of each.

    `log_letters` `(B, L, V)` are normalised over letters; `hidden` `(B, L)` says where `x` is masked.
    """

    x: Tensor
    log_letters: Tensor
    hidden: Tensor

    @abstractmethod
    def choose(self, generator: Generator) -> Tensor:
        """Draw which coordinates are revealed, bool `(B, L)`."""

    @abstractmethod
    def choice_log_prob(self, revealed: Tensor) -> Tensor:
        """Log-probability `(B,)` of revealing exactly the coordinates `(B, L)`."""

    @abstractmethod
    def reveal_probability(self) -> Tensor:
        """Probability that a hidden coordinate is revealed in this step, broadcastable to `(B,)`."""

    @abstractmethod
    def _with_letters(self, log_letters: Tensor) -> Self:
        """Return the same choice of coordinates with other letters."""

    @property
    def x0(self) -> Tensor:
        """Log-probabilities of the letters of the design, `(B, L, V)`; meaningful where hidden."""
        return self.log_letters

    def guess(self, generator: Generator | None = None) -> Tensor:
        """Return x̂0 as designs `(B, L)`: hidden letters drawn, or the most likely when no generator is given."""
        letters = self.log_letters.argmax(-1) if generator is None else draw(self.log_letters, generator)
        return torch.where(self.hidden, letters.to(self.x.dtype), self.x)

    def sample(self, generator: Generator) -> Tensor:
        letters = draw(self.log_letters, generator).to(self.x.dtype)
        return torch.where(self.choose(generator), letters, self.x)

    def terms(self, y: Tensor) -> Tensor:
        """Log-probability of each revealed letter, `(B, L)`; 0 where nothing was revealed."""
        revealed = self.hidden & (y < self.log_letters.shape[-1])
        letters = torch.where(revealed, y, 0).long().unsqueeze(-1)
        picked = self.log_letters.gather(-1, letters).squeeze(-1)
        return torch.where(revealed, picked, torch.zeros_like(picked))

    def log_prob(self, y: Tensor) -> Tensor:
        revealed = self.hidden & (y < self.log_letters.shape[-1])
        legal = (revealed | (y == self.x)).all(-1)
        total = self.terms(y).sum(-1) + self.choice_log_prob(revealed)
        return torch.where(legal, total, torch.full_like(total, -torch.inf))

    def kl(self, other: Self) -> Tensor:
        """KL to a kernel at the same states and step: the choice of coordinates is common to both."""
        per_position = kl_categorical(self.log_letters, other.log_letters)
        summed = torch.where(self.hidden, per_position, torch.zeros_like(per_position)).sum(-1)
        return summed * self.reveal_probability()

    def tilted(self, q: Tensor) -> Self:
        """Times exp(q), `q` `(B, L, V)`: the letters are reweighted, the choice of coordinates is kept."""
        return self._with_letters((self.log_letters + q).log_softmax(-1))

    def mix(self, other: Self, weight: float) -> Self:
        """Geometric mixture with another kernel at the same states: letters ∝ self^(1−w) other^w."""
        return self._with_letters(geometric_mixture(self.log_letters, other.log_letters, weight))


@dataclass(frozen=True)
class RevealingProcess(ABC):
    """Shared by processes whose noise is a mask token (index `letters`).

    `length` L ≥ 1 and `letters` V ≥ 2 describe the designs; `fixed` holds coordinates at given letters: they
    start revealed, so no kernel ever touches them.
    """

    length: int
    letters: int
    fixed: Fixed | None = None

    kernel_type: ClassVar[type] = RevealKernel

    def __post_init__(self) -> None:
        if self.length < 1 or not 2 <= self.letters <= 126:
            raise ConfigError(f"length must be ≥ 1 and letters in [2, 126], got {self.length}, {self.letters}")
        if self.fixed is not None and len(self.fixed.mask) != self.length:
            raise ConfigError(f"fixed covers {len(self.fixed.mask)} positions, designs have {self.length}")

    @property
    @abstractmethod
    def steps(self) -> int: ...

    @abstractmethod
    def kernel(self, net: Net, x: Tensor, k: int | Tensor) -> RevealKernel: ...

    @property
    def mask(self) -> int:
        """The token of a hidden coordinate."""
        return self.letters

    @property
    def free(self) -> int:
        """The number of coordinates that are designed."""
        return self.length if self.fixed is None else int((~self.fixed.mask).sum())

    def _free_mask(self, device: torch.device) -> Tensor:
        if self.fixed is None:
            return torch.ones(self.length, dtype=torch.bool, device=device)
        return ~self.fixed.mask.to(device)

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return `(batch, L)` states with every free coordinate hidden."""
        x = torch.full((batch, self.length), self.mask, dtype=torch.int8, device=generator.device)
        if self.fixed is None:
            return x
        return torch.where(self._free_mask(x.device), x, self.fixed.letters.to(x.device))

    def hidden(self, x: Tensor) -> Tensor:
        return x == self.mask

    def hide(self, design: Tensor, count: Tensor, generator: Generator) -> Tensor:
        """Hide `count` `(B,)` of the free coordinates of each design, chosen uniformly."""
        rank = torch.rand(design.shape, generator=generator, device=design.device)
        rank = rank.masked_fill(~self._free_mask(design.device), 2.0).argsort(-1).argsort(-1)
        return design.masked_fill(rank < count.unsqueeze(-1), self.mask)
