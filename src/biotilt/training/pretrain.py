"""Pretraining a generator by its process's denoising loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from biotilt.core import Net, Policy, move_toward
from biotilt.errors import DataError
from biotilt.options import BatchSize, Below1, Count, NotNegative, Positive, check_options


@dataclass(frozen=True)
class PretrainConfig:
    """`steps` of AdamW at `lr` (linear warm-up, cosine decay) on batches of `batch`; weights averaged by `ema`.

    `bfloat16`: the network's products are taken in 16 bits, twice as fast or more where the processor has them.
    """

    steps: Count = 4000
    batch: BatchSize = 128
    lr: Positive = 2e-3
    weight_decay: NotNegative = 0.01
    ema: Below1 = 0.999
    warmup: Count = 200
    clip: Positive = 1.0
    check_every: Count = 250
    bfloat16: bool = False

    def __post_init__(self) -> None:
        check_options(self, "pretrain")


def pretrain(
    policy: Policy,
    designs: Tensor,
    validation: Tensor,
    config: PretrainConfig,
    generator: Generator,
    report: Callable[[int, float, float], None] = lambda step, train, validation: None,
    change: Callable[[Tensor, Generator], Tensor] = lambda designs, generator: designs,
) -> float:
    """Train `policy.net` in place on designs `(N, L)`; it ends with the averaged weights best on validation.

    `change` is what is done to each batch of designs before they are learned. Returns the validation bound on −log p,
    nats a design. `report(step, training loss, validation bound)` is called every `check_every` steps.
    """
    process, net = policy.process, policy.net
    optimiser = torch.optim.AdamW(net.parameters(), config.lr, weight_decay=config.weight_decay)
    warm = torch.optim.lr_scheduler.LinearLR(optimiser, 0.01, 1.0, config.warmup)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(config.steps - config.warmup, 1))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimiser, [warm, decay], [config.warmup])
    averaged = copy.deepcopy(net).eval().requires_grad_(False)
    best, best_weights, running = float("inf"), copy.deepcopy(net.state_dict()), 0.0
    for step in range(1, config.steps + 1):
        net.train()
        rows = torch.randint(len(designs), (config.batch,), generator=generator, device=generator.device)
        batch = change(designs[rows], generator)
        loss = process.denoising_loss(in_bfloat16(net) if config.bfloat16 else net, batch, generator).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        # a short memory at first, so that the average forgets the random start
        decay_now = min(config.ema, (1 + step) / (10 + step))
        move_toward(averaged, net, 1 - decay_now)
        running += loss.item()
        if step % config.check_every == 0 or step == config.steps:
            bound = validation_bound(Policy(process, averaged), validation)
            report(step, running / (step % config.check_every or config.check_every), bound)
            running = 0.0
            if bound < best:
                best, best_weights = bound, copy.deepcopy(averaged.state_dict())
    if not math.isfinite(best):
        raise DataError(f"training diverged: no bound on validation is finite; lower lr (it is {config.lr})")
    net.load_state_dict(best_weights)
    net.eval()
    return best


def in_bfloat16(net: Net) -> Callable[..., Tensor]:
    """Return the network as a function whose products are taken in 16 bits, and whose output is in float32."""

    def call(x: Tensor, *rest: Any) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return net(x, *rest).float()

    return call


@torch.no_grad()
def validation_bound(policy: Policy, designs: Tensor, *, draws: int = 4, chunk: int = 512) -> float:
    """Return the mean bound on −log p of designs `(N, L)`, always with the same draws of noise."""
    generator = torch.Generator(designs.device).manual_seed(0)
    total = 0.0
    for _ in range(draws):
        for part in designs.split(chunk):
            total += policy.process.denoising_loss(policy.net, part, generator).sum().item()
    return total / (draws * len(designs))
