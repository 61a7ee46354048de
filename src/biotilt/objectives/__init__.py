"""Algorithms that change the weights, one a file."""

from __future__ import annotations

from biotilt.objectives.ppo import PPO
from biotilt.objectives.vidd import VIDD

OBJECTIVES: dict[str, type] = {o.name: o for o in (VIDD, PPO)}

__all__ = ["OBJECTIVES", "PPO", "VIDD"]
