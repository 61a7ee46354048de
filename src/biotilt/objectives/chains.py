"""What objectives on whole recorded chains share: a roll-in with the base's log-probabilities, and the policy's."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from biotilt.core import (
    Batch,
    Columns,
    Context,
    NoisedPath,
    Policy,
    RollIn,
    Round,
    drop_unscored,
    needed,
)

CHAINS: Columns = {"chain": "states", "log_base": "float", "rewards": "float"}


def collect_chains(context: Context, calls: int, beta: float) -> Round:
    """Score `calls` chains: rows `chain` `(B, K+1, ...)`, `log_base` `(B, K)` (log p_pre), `rewards` `(B,)`."""
    chain, rewards, figures = RollIn(beta).scored(context, calls, ratios=True)
    if chain.log_prob is None or chain.log_ratio is None:
        raise ValueError("the roll-in must record log-probabilities as they are drawn")
    log_base = (chain.log_prob - chain.log_ratio).T
    rows = {"chain": chain.states.transpose(0, 1), "log_base": log_base, "rewards": rewards}
    return Round(drop_unscored(rows), chain.designs, figures)


@torch.no_grad()
def noised_chains(base: Policy, rows: Batch, generator: Generator) -> Batch:
    """Return rows with the `designs` and `rewards` of others, and chains drawn back from them as the process noises."""
    chain = needed(base.process, NoisedPath).noised_path(rows["designs"], generator).transpose(0, 1)
    x, k = states_before(chain)
    log_base = base.log_prob(x, k, chain[:, 1:].flatten(0, 1)).view(len(chain), -1)
    return {"chain": chain, "log_base": log_base, "rewards": rows["rewards"]}


def log_ratios(policy: Policy, rows: Batch) -> Tensor:
    """Return log p_θ/p_pre of every step of recorded chains, `(B, K)`, with gradient: one network call a step."""
    x, k = states_before(rows["chain"])
    y = rows["chain"][:, 1:].flatten(0, 1)
    return policy.log_prob(x, k, y).view_as(rows["log_base"]) - rows["log_base"]


def states_before(chain: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states before each step of chains `(B, K+1, ...)`, `(B·K, ...)`, and their steps `(B·K,)`."""
    k = torch.arange(chain.shape[1] - 1, device=chain.device).repeat(len(chain))
    return chain[:, :-1].flatten(0, 1), k
