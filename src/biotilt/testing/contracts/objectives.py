"""What an objective with the fixed point p* must keep to: nothing pulls the policy away from p*."""

from __future__ import annotations

import torch
from torch import Tensor

from biotilt.core import Context, Objective, draw_loss

STANDARD_ERRORS = 5.0  # of the worst of the directions: by chance about once in 3,000 checks of 64 rounds
DIRECTIONS = 32
NIL = 1e-10


def check_stationary(objective: Objective, context: Context, *, rounds: int = 64, calls: int = 64) -> float:
    """Check that the expected gradient of a loss vanishes; return the largest mean gradient, in standard errors.

    Policy and proposal of `context`, in float64, stand at p*; a learned value, at its exact value; the scorer knows
    every reward. In each of `rounds` rounds data are drawn anew and one gradient is taken. The mean over rounds must
    lie within 5 standard errors of 0 along 32 random directions. A loss that is 0 for every transition passes exactly
    (gradients below 1e-10), whatever its noise elsewhere.

    Raises:
        AssertionError: the mean gradient is not 0.
    """
    weights = [p for p in context.roles.policy.net.parameters() if p.requires_grad]
    gradients = []
    for _ in range(rounds):
        context.memory.rows = {}
        context.memory.add(objective.collect(context, calls).rows)
        loss, _ = draw_loss(objective, context)
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        parts = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found)]
        gradients.append(torch.cat([part.flatten() for part in parts]))
    return _within_noise(objective.name, torch.stack(gradients))


def _within_noise(name: str, gradients: Tensor) -> float:
    """Return the largest mean in standard errors, of gradients `(rounds, weights)` along random directions.

    Not of single weights: one that a rare draw moves far has a standard error that means nothing.
    """
    if gradients.mean(0).abs().max() < NIL:
        return 0.0
    generator = torch.Generator(gradients.device).manual_seed(0)
    directions = torch.randn(gradients.shape[1], DIRECTIONS, generator=generator, device=gradients.device)
    along = gradients @ directions.to(gradients.dtype)
    worst = (along.mean(0).abs() / (along.std(0) / len(along) ** 0.5)).max().item()
    assert worst < STANDARD_ERRORS, f"{name}: at p* the mean gradient is {worst:.1f} standard errors from 0"
    return worst


def check_order(objective: Objective, context: Context) -> None:
    """Check that a loss over the whole memory does not depend on the order of its rows.

    `context.memory` holds no more rows than one loss draws, and the loss draws nothing else at random.

    Raises:
        AssertionError: the loss changes by more than rounding when the rows are reversed.
    """
    state = context.generator.get_state()
    before = draw_loss(objective, context)[0].item()
    context.memory.rows = {key: value.flip(0) for key, value in context.memory.rows.items()}
    context.generator.set_state(state)
    after = draw_loss(objective, context)[0].item()
    assert abs(after - before) <= 1e-6 * max(abs(before), 1.0), (
        f"{objective.name}: the loss is {before}, and {after} with the same rows in another order"
    )
