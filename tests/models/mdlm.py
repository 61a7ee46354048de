"""Random weights under the names that MDLM on DNA has for them, and its network written down plainly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

MASK = 4


def weights(seed: int, *, width: int = 8, stacks: int = 1, classes: int = 0) -> dict[str, Tensor]:
    """Every weight of a network of that size; `classes` without the one that stands for none."""
    generator = torch.Generator().manual_seed(seed)
    layers = 5 * stacks

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator)

    found = {
        "linear.weight": draw(width, 5, 9), "linear.bias": draw(width),
        "time_embedder.0.W": draw(width // 2, scale=30.0),
        "time_embedder.1.weight": draw(width, width), "time_embedder.1.bias": draw(width),
    }  # fmt: skip
    for i in range(layers):
        found |= {f"convs.{i}.weight": draw(width, width, 9, scale=0.2), f"convs.{i}.bias": draw(width)}
    for i in range(layers):
        found |= {f"time_layers.{i}.dense.weight": draw(width, width), f"time_layers.{i}.dense.bias": draw(width)}
    for i in range(layers):
        found |= {f"norms.{i}.weight": draw(width), f"norms.{i}.bias": draw(width)}
    found |= {"final_conv.0.weight": draw(width, width, 1), "final_conv.0.bias": draw(width)}
    # not so large that one letter has all the chance
    found |= {"final_conv.2.weight": draw(5, width, 1, scale=0.1), "final_conv.2.bias": draw(5)}
    if classes:
        found["cls_embedder.weight"] = draw(classes + 1, width)
        for i in range(layers):
            found |= {f"cls_layers.{i}.dense.weight": draw(width, width), f"cls_layers.{i}.dense.bias": draw(width)}
    return {f"backbone.{name}": value for name, value in found.items()}


def log_posterior(
    named: Mapping[str, Tensor], x: Tensor, sigma: Tensor, told: Tensor | None = None, stacks: int = 1
) -> Tensor:
    """Log-probabilities `(B, L, 5)` of what is under each letter of states `(B, L)`, at noise levels `(B,)`.

    In float64. A letter that is shown is itself, and a mask hides no mask: both by logits of minus a million.
    """
    w = {name.removeprefix("backbone."): value.double() for name, value in named.items()}
    angles = 2 * torch.pi * sigma.double()[:, None] * w["time_embedder.0.W"]
    time = torch.cat([angles.sin(), angles.cos()], 1) @ w["time_embedder.1.weight"].T + w["time_embedder.1.bias"]
    time = time.clamp(min=0)
    h = F.conv1d(F.one_hot(x.long(), 5).double().mT, w["linear.weight"], w["linear.bias"], padding=4).clamp(min=0)
    dilations = [d for d in (1, 1, 4, 16, 64) for _ in range(stacks)]
    for i, d in enumerate(dilations):
        shift = time @ w[f"time_layers.{i}.dense.weight"].T + w[f"time_layers.{i}.dense.bias"]
        if told is not None:
            known = w["cls_embedder.weight"][told]
            shift = shift + known @ w[f"cls_layers.{i}.dense.weight"].T + w[f"cls_layers.{i}.dense.bias"]
        moved = h + shift[:, :, None]
        centred = moved - moved.mean(1, keepdim=True)
        normal = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        normal = normal * w[f"norms.{i}.weight"][:, None] + w[f"norms.{i}.bias"][:, None]
        h = h + F.conv1d(normal, w[f"convs.{i}.weight"], w[f"convs.{i}.bias"], padding=4 * d, dilation=d).clamp(min=0)
    h = F.conv1d(h, w["final_conv.0.weight"], w["final_conv.0.bias"]).clamp(min=0)
    logits = F.conv1d(h, w["final_conv.2.weight"], w["final_conv.2.bias"]).mT.clone()
    logits[..., MASK] -= 1e6
    found = logits.log_softmax(-1)
    shown = F.one_hot(x.long(), 5).double().log().clamp(min=-1e6)
    return torch.where((x == MASK)[..., None], found, shown)
