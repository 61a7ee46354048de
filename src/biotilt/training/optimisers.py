"""What changes weights in pretraining: AdamW, or Muon for the matrices of a network's blocks and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from biotilt.errors import ConfigError

Optimiser = Literal["adamw", "muon"]


class OptimiserOptions(Protocol):
    """What the optimiser is told."""

    @property
    def optimiser(self) -> Optimiser: ...

    @property
    def lr(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


def optimisers_of(net: nn.Module, config: OptimiserOptions, device: torch.device) -> Mapping[str, Optimizer]:
    """Return the optimisers of a network by the names that their states have in files.

    Muon (Jordan et al. 2024) makes each step of a matrix orthogonal; its size is that of a step of AdamW (Liu et al.
    2025, arXiv 2502.16982, eq. 4), so that one rate serves both. Raises ConfigError where the network has no matrices
    in `blocks`, or torch is older than Muon.
    """
    own = {name: p for name, p in net.named_parameters() if p.requires_grad}
    rate, decay, fused = config.lr, config.weight_decay, device.type == "cuda"
    if config.optimiser == "adamw":
        return {"optimiser": AdamW(own.values(), rate, weight_decay=decay, fused=fused)}
    matrices = {name: p for name, p in own.items() if p.ndim == 2 and "blocks." in name}
    rest = [p for name, p in own.items() if name not in matrices]
    if not matrices:
        raise ConfigError(f"pretrain: {type(net).__name__} has no blocks with matrices for muon; take adamw")
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise ConfigError(f"pretrain: muon needs torch 2.9 or newer, and this is {torch.__version__}; or take adamw")
    return {
        "optimiser": AdamW(rest, rate, weight_decay=decay, fused=fused),
        "muon": muon(matrices.values(), rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
    }
