"""Ancestral sampling: one chain a design, from noise to design."""

from __future__ import annotations

from torch import Generator, Tensor

from biotilt.core import Policy, sample


def ancestral(policy: Policy, count: int, generator: Generator) -> Tensor:
    """Return `count` designs `(count, ...)` of the policy's own law; no oracle call."""
    return sample(policy, count, generator)
