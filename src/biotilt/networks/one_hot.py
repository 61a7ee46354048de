"""What networks of letters read: tokens, or relaxed states that gradients flow through."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def as_one_hot(x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Return `(..., channels)` of tokens `(...)`, or of relaxed states `(..., C)` with C ≤ channels, padded by zeros.

    >>> as_one_hot(torch.tensor([1]), 3, torch.float32), as_one_hot(torch.tensor([[0.25, 0.75]]), 3, torch.float32)
    (tensor([[0., 1., 0.]]), tensor([[0.2500, 0.7500, 0.0000]]))
    """
    if x.is_floating_point():
        return F.pad(x.to(dtype), (0, channels - x.shape[-1]))
    return F.one_hot(x.long(), channels).to(dtype)


def classes(condition: Tensor | None, count: int, x: Tensor) -> Tensor:
    """Return the class `(B,)` that a network of `count` classes is told with states `(B, ...)`; `count` where none is.

    >>> classes(None, 3, torch.zeros(2, 5))
    tensor([3, 3])
    """
    return torch.full((len(x),), count, device=x.device) if condition is None else condition.long()
