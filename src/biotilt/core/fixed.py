"""The positions of a design that no algorithm may change, and the letters that positions may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from biotilt.errors import ConfigError

FORBIDDEN = -1e9  # log-probability of a letter that is not allowed: exp is 0, and a difference of two is no NaN


@dataclass(frozen=True, eq=False)
class Fixed:
    """Which positions of a design are held, with which letters, and which letters the others may have.

    Args:
        mask: `(L,)` bool, true where the position is held; at least one position is free.
        letters: `(L,)` integer tokens, or floating-point values of the coordinates of a point; read only where `mask`
            is true.
        allowed: `(L, V)` bool, the letters that each free position may have, at least one a position; None where
            all may have all.

    Raises:
        ConfigError: the tensors have another shape or type, or nothing is free.

    >>> held = Fixed(torch.tensor([True, False]), torch.tensor([2, 0], dtype=torch.int8))
    >>> held.letters[held.mask]
    tensor([2], dtype=torch.int8)
    """

    mask: Tensor
    letters: Tensor
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mask.ndim != 1 or self.mask.shape != self.letters.shape:
            raise ConfigError(
                "fixed positions: mask and letters must both have shape (L,), "
                f"not {tuple(self.mask.shape)} and {tuple(self.letters.shape)}"
            )
        kind = self.letters.dtype
        point = kind.is_floating_point
        if self.mask.dtype != torch.bool or kind == torch.bool or kind.is_complex:
            raise ConfigError(
                f"fixed positions: mask must be bool and letters integers, not {self.mask.dtype} and {kind}; "
                "the values of a point are floating-point"
            )
        if bool(self.mask.all()):
            raise ConfigError("fixed positions: every position is held, so there is nothing to design")
        if not point and bool((self.letters[self.mask] < 0).any()):
            raise ConfigError("fixed positions: a held letter is negative, which is no token of any alphabet")
        if self.allowed is not None:
            _check_allowed(self.allowed, self.mask)

    def merged(self, other: Fixed) -> Fixed:
        """Return what holds where both hold; ConfigError where they ask for different letters."""
        both = self.mask & other.mask
        clash = both & (self.letters != other.letters)
        for mine, theirs in ((self, other), (other, self)):
            if theirs.allowed is not None:
                held = mine.letters.long().clamp(min=0).unsqueeze(-1)
                clash = clash | (mine.mask & ~theirs.mask & ~theirs.allowed.gather(-1, held).squeeze(-1))
        allowed = [part.allowed for part in (self, other) if part.allowed is not None]
        common = allowed[0] & allowed[-1] if allowed else None
        if common is not None:
            clash = clash | (~common.any(-1) & ~self.mask & ~other.mask)
        if bool(clash.any()):
            place = int(clash.nonzero()[0]) + 1
            raise ConfigError(f"fixed positions: position {place} cannot have the letters that two keys ask for")
        letters = torch.where(self.mask, self.letters, other.letters.to(self.letters.dtype))
        return Fixed(self.mask | other.mask, letters, common)

    def restrict(self, logits: Tensor) -> Tensor:
        """Return logits `(B, L, V)` in which letters that are not allowed have no chance."""
        if self.allowed is None:
            return logits
        allowed = self.allowed | self.mask.unsqueeze(-1)
        return logits.masked_fill(~allowed.to(logits.device), FORBIDDEN)


@runtime_checkable
class Holding(Protocol):
    """A process that can hold coordinates of its designs: no kernel ever touches them."""

    @property
    def fixed(self) -> Fixed | None: ...

    @property
    def coordinates(self) -> int:
        """The number of coordinates of a design, L or D."""
        ...

    def holding(self, fixed: Fixed | None) -> Self:
        """Return the same process with this held, and nothing else."""
        ...


def _check_allowed(allowed: Tensor, mask: Tensor) -> None:
    if allowed.ndim != 2 or len(allowed) != len(mask) or allowed.dtype != torch.bool:
        raise ConfigError(
            f"fixed positions: allowed must be bool of shape ({len(mask)}, V), not {tuple(allowed.shape)}"
        )
    if bool((~allowed.any(-1) & ~mask).any()):
        place = int((~allowed.any(-1) & ~mask).nonzero()[0]) + 1
        raise ConfigError(f"fixed positions: position {place} may have no letter at all")
