"""Designs of several lengths out of models that were made for sequences of a known one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biotilt.errors import ConfigError
from biotilt.spaces import Alphabet, Letters, Padded


def check_shortest(shortest: int | None, length: int) -> None:
    """Raise ConfigError where the shortest design is not shorter than the longest."""
    if shortest is not None and shortest >= length:
        raise ConfigError(f"model.options.shortest: must be below length = {length}, got {shortest}; else leave it out")


def letters_of(alphabet: Alphabet, length: int, shortest: int | None) -> Letters | Padded:
    """Return the space of designs of one length, or of any up to it, which end with pads."""
    return Letters(alphabet) if shortest is None else Padded(alphabet, length, "right")


def new_ends(layer: nn.Linear | None) -> dict[str, Tensor]:
    """Return the weights of the layer that learns of lengths, by their names in its network: nothing is known yet."""
    if layer is None:
        return {}
    return {"ends.weight": torch.zeros(1, layer.in_features), "ends.bias": torch.zeros(1)}
