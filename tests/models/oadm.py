"""Random weights under the names of EvoDiff's OADM, and its network written down plainly, in double precision."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

TOKENS = "ACDEFGHIKLMNPQRSTVWYBZXJOU-*#@!"  # in the order of their numbers; # is the mask


def weights(*, width: int = 12, hidden: int = 6, blocks: int = 4) -> dict[str, Tensor]:
    """Every weight of a network of that size, as the public file names it."""
    generator = torch.Generator().manual_seed(1)

    def layer(name: str, *shape: int) -> dict[str, Tensor]:
        made = [0.4 * torch.randn(size, generator=generator) for size in (shape, shape[:1])]
        return {f"module.{name}.weight": made[0], f"module.{name}.bias": made[1]}

    tensors = layer("embedder.up_embedder.conv", width, 8, 1) | layer("decoder.conv", 31, width, 1)
    tensors |= layer("last_norm", width)
    tensors["module.embedder.embedder.weight"] = torch.randn(31, 8, generator=generator)
    tensors["module.embedder.embedder.weight"][28] = 0
    for number in range(blocks):
        block = f"embedder.layers.{number}"
        tensors |= layer(f"{block}.sequence1.0", width) | layer(f"{block}.sequence1.2.conv", hidden, width, 1)
        tensors |= layer(f"{block}.sequence1.3", hidden) | layer(f"{block}.conv", hidden, hidden, 5)
        tensors |= layer(f"{block}.sequence2.0", hidden) | layer(f"{block}.sequence2.2.conv", width, hidden, 1)
    return tensors


def logits(named: Mapping[str, Tensor], text: str) -> np.ndarray:
    """Logits of the 31 tokens at each position of a sequence with # for what is hidden."""
    at = {name.removeprefix("module."): tensor.double().numpy() for name, tensor in named.items()}

    def normalised(name: str, h: np.ndarray) -> np.ndarray:
        centred = h - h.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        return scaled * at[f"{name}.weight"] + at[f"{name}.bias"]

    def each(name: str, h: np.ndarray) -> np.ndarray:
        return h @ at[f"{name}.weight"][..., 0].T + at[f"{name}.bias"]

    gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))
    h = each("embedder.up_embedder.conv", at["embedder.embedder.weight"][[TOKENS.index(sign) for sign in text]])
    for number in range(sum(name.endswith("sequence1.0.weight") for name in at)):
        block = f"embedder.layers.{number}"
        inside = each(f"{block}.sequence1.2.conv", gelu(normalised(f"{block}.sequence1.0", h)))
        inside = gelu(normalised(f"{block}.sequence1.3", inside))
        mixed = np.zeros_like(inside) + at[f"{block}.conv.bias"]
        for tap in range(5):
            seen = inside @ at[f"{block}.conv.weight"][:, :, tap].T
            for place in range(len(text)):
                other = place + (tap - 2) * 2 ** (number % 8)
                if 0 <= other < len(text):
                    mixed[place] += seen[other]
        h = h + each(f"{block}.sequence2.2.conv", gelu(normalised(f"{block}.sequence2.0", mixed)))
    return each("decoder.conv", normalised("last_norm", h))
