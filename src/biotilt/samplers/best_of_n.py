"""Best-of-N: draw N designs, score all, keep the best."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from biotilt.core import Policy, Scorer, sample
from biotilt.errors import ConfigError


def best_of_n(policy: Policy, scorer: Scorer, draws: int, keep: int, generator: Generator) -> Tensor:
    """Return the `keep` designs of highest reward `(keep, ...)` among `draws` of the policy, best first.

    Costs `draws` oracle calls. Designs that could not be scored (NaN) come last. Raises ConfigError when
    `keep` > `draws`.
    """
    if not 1 <= keep <= draws:
        raise ConfigError(f"best-of-N keeps between 1 and {draws} (the number drawn) designs, not {keep}")
    designs = sample(policy, draws, generator)
    rewards = scorer(designs)
    order = torch.where(rewards.isnan(), -torch.inf, rewards).argsort(descending=True, stable=True)
    return designs[order[:keep]]
