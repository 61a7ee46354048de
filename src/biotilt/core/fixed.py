"""The positions of a design that no algorithm may change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from biotilt.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Fixed:
    """Which positions of a design are held, and with which letters.

    Args:
        mask: `(L,)` bool, true where the position is held; at least one position is free.
        letters: `(L,)` int8 tokens of the alphabet, or floating-point values of the coordinates of a point; read
            only where `mask` is true.

    Raises:
        ConfigError: the tensors have another shape or type, or nothing is free.

    >>> held = Fixed(torch.tensor([True, False]), torch.tensor([2, 0], dtype=torch.int8))
    >>> held.letters[held.mask]
    tensor([2], dtype=torch.int8)
    """

    mask: Tensor
    letters: Tensor

    def __post_init__(self) -> None:
        if self.mask.ndim != 1 or self.mask.shape != self.letters.shape:
            raise ConfigError(
                "fixed positions: mask and letters must both have shape (L,), "
                f"not {tuple(self.mask.shape)} and {tuple(self.letters.shape)}"
            )
        point = self.letters.is_floating_point()
        if self.mask.dtype != torch.bool or not (point or self.letters.dtype == torch.int8):
            raise ConfigError(
                f"fixed positions: mask must be bool and letters int8, not {self.mask.dtype} and {self.letters.dtype}; "
                "the values of a point are floating-point"
            )
        if bool(self.mask.all()):
            raise ConfigError("fixed positions: every position is held, so there is nothing to design")
        if not point and bool((self.letters[self.mask] < 0).any()):
            raise ConfigError("fixed positions: a held letter is negative, which is no token of any alphabet")
