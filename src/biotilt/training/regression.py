"""Fitting regressors to measurements, one ensemble member at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from biotilt.errors import DataError
from biotilt.options import BatchSize, Count, NotNegative, Positive, check_options

Data = tuple[Tensor, Tensor]  # one-hots (N, L, V), targets (N,)


@dataclass(frozen=True)
class FitConfig:
    """`epochs` passes with Adam at `lr` (one-cycle), in batches of `batch`; the epoch best on validation is kept.

    `bfloat16`: the network's products are taken in 16 bits, twice as fast or more where the processor has them.
    """

    epochs: Count = 30
    batch: BatchSize = 128
    lr: Positive = 2e-3
    weight_decay: NotNegative = 1e-4
    bfloat16: bool = False

    def __post_init__(self) -> None:
        check_options(self, "fit")


def fit_regressor(
    model: nn.Module,
    train: Data,
    validation: Data,
    config: FitConfig,
    generator: Generator,
    report: Callable[[int, float], None] = lambda epoch, error: None,
    change: Callable[[Data, Generator], Data] = lambda batch, generator: batch,
) -> float:
    """Fit `model` to (one-hots `(N, L, V)`, targets `(N,)`) in place; return the lowest validation error.

    It computes where the generator is: data are moved there, and the model, which comes back to where it was.
    `change` is what is done to each batch of one-hots and targets before it is learned.

    The model's predictions are in the units of the targets, by its buffers `mean` and `scale`; errors are squares of
    differences in units of the training targets' standard deviation, so that a fit does not depend on units. Dropout
    draws from the global generator: the caller seeds it. `report(epoch, validation error)` is called once an epoch.
    """
    there, back = generator.device, next(model.parameters()).device
    x, y = (part.to(there) for part in train)
    x_validation, y_validation = (part.to(there) for part in validation)
    model.to(there)
    # in float64: squares of small targets, such as molar ones, may be 0 in float32
    mean, scale = y.double().mean(), y.double().std()
    model.get_buffer("mean").fill_(mean)
    model.get_buffer("scale").fill_(scale)
    if not float(model.get_buffer("scale")) > 0:
        raise DataError("the targets are all the same: there is nothing to learn")

    def error_of(predicted: Tensor, measured: Tensor) -> Tensor:
        return ((predicted.float() - measured) / model.get_buffer("scale")).square().mean()

    fused = True if there.type == "cuda" else None  # one launch for all weights: small networks wait for launches
    optimiser = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay, fused=fused)
    total = config.epochs * -(-len(y) // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=total, pct_start=0.15)
    best, best_weights = float("inf"), {}
    for epoch in range(config.epochs):
        model.train()
        for rows in torch.randperm(len(y), generator=generator, device=there).split(config.batch):
            seen, wanted = change((x[rows], y[rows]), generator)
            with torch.autocast(there.type, torch.bfloat16, enabled=config.bfloat16):
                predicted = model(seen)
            loss = error_of(predicted, wanted)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        error = error_of(predict(model, x_validation), y_validation).item()
        report(epoch, error)
        if error < best:
            best, best_weights = error, {k: v.clone() for k, v in model.state_dict().items()}
    if not best_weights:
        raise DataError(f"training diverged: no error on validation is finite; lower lr (it is {config.lr})")
    model.load_state_dict(best_weights)
    model.to(back)
    return best


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, *, chunk: int = 1024) -> Tensor:
    """Return predictions `(N,)` in evaluation mode, where `x` is; the model is there."""
    model.eval()
    return torch.cat([model(part) for part in x.split(chunk)])
