"""The equations of D3's convolutional network, in double precision, by the names of its own weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

DILATIONS = (1, 1, 4, 16, 64)


def weights(seed: int, width: int = 8, told: int = 6, stacks: int = 1, number: bool = True) -> dict[str, Tensor]:
    """Random weights, those included that the original computes nothing with."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"scale": (1,)}
    pairs = {"sigma_map.mlp.0": (told, 256), "sigma_map.mlp.2": (told, told), "embed.1": (told, told)}
    pairs["linear"] = (width, 4 + number, 9)
    for i in range(stacks * len(DILATIONS)):
        pairs |= {f"conv_blocks.{i}": (width, width, 9), f"denses.{i}.dense": (width, told), f"norms.{i}": (width,)}
    pairs |= {"final.0": (width, width, 1), "final.2": (4, width, 1)}
    for name, shape in pairs.items():
        if name == "embed.1":
            shapes["embed.0.W"] = (told // 2,)
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {
        f"score_model.{name}": 1 + 0.3 * value if name.startswith("norms.") and name.endswith("weight")
        else value / math.sqrt(value[0].numel()) if value.dim() > 1 else 0.3 * value
        for name, value in drawn.items()
    }  # fmt: skip


def log_ratios(named: dict[str, Tensor], x: Tensor, noise: Tensor, number: Tensor) -> Tensor:
    """log s_y `(B, L, 4)` of letters `(B, L)` at noise levels `(B,)`, the letter that is there having log 1."""
    w = {name.removeprefix("score_model."): value.double() for name, value in named.items()}
    frequency = torch.tensor([10_000 ** (-i / 128) for i in range(128)], dtype=torch.float64)
    angles = noise.double()[:, None] * frequency
    told = torch.cat([angles.cos(), angles.sin()], 1) @ w["sigma_map.mlp.0.weight"].T + w["sigma_map.mlp.0.bias"]
    told = (told * torch.sigmoid(told)) @ w["sigma_map.mlp.2.weight"].T + w["sigma_map.mlp.2.bias"]
    told = told * torch.sigmoid(told)
    h = F.one_hot(x.long(), 4).double()
    if w["linear.weight"].shape[1] == 5:
        h = torch.cat([h, number.double()[:, None, None].expand(-1, x.shape[1], 1)], -1)
    h = F.silu(F.conv1d(h.transpose(1, 2), w["linear.weight"], w["linear.bias"], padding=4))
    layers = sum(name.startswith("conv_blocks.") for name in w) // 2
    for i in range(layers):
        d = DILATIONS[i % 5]
        v = h + (told @ w[f"denses.{i}.dense.weight"].T + w[f"denses.{i}.dense.bias"])[:, :, None]
        mean = v.mean((1, 2), keepdim=True)
        v = (v - mean) / (v.var((1, 2), keepdim=True, correction=0) + 1e-5).sqrt()
        v = v * w[f"norms.{i}.weight"][:, None] + w[f"norms.{i}.bias"][:, None]
        h = h + F.silu(F.conv1d(v, w[f"conv_blocks.{i}.weight"], w[f"conv_blocks.{i}.bias"], padding=4 * d, dilation=d))
    v = F.conv1d(h, w["final.0.weight"], w["final.0.bias"])
    v = v * (1 + torch.erf(v / math.sqrt(2))) / 2
    v = F.conv1d(v, w["final.2.weight"], w["final.2.bias"]).transpose(1, 2)
    return v.scatter(-1, x.long().unsqueeze(-1), 0.0)


def letters(log_s: Tensor, x: Tensor, clean: Tensor) -> Tensor:
    """p(x0 | x_t) `(B, L, 4)` for each position by matrices: Q⁻¹ s, times Q(x | ·); what is negative is nothing."""
    found = torch.zeros_like(log_s)
    for row in range(len(x)):
        q = clean[row] * torch.eye(4, dtype=torch.float64) + (1 - clean[row]) / 4
        prior = torch.linalg.solve(q, log_s[row].exp().T).T.clamp(min=0)
        found[row] = prior * q[:, x[row].long()].T
    return found / found.sum(-1, keepdim=True)
