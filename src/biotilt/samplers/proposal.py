"""What samplers with weights share: chains of the proposal weighed against the base, and the scores of their ends."""

from __future__ import annotations

import torch
from torch import Tensor

from biotilt.core import Context, Density, Evaluates, Roles, Seen, needed, rollout
from biotilt.errors import RewardError


class Proposal:
    """The proposal of the roles, with log p_pre/p_proposal of every step it takes.

    Where it has the weights of the base every ratio is 1: `base` is then None, and is not asked.
    """

    def __init__(self, roles: Roles):
        self.policy, base = roles.proposal, roles.base
        mine, theirs = self.policy.net.state_dict(), base.net.state_dict()
        same = mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
        self.base = None if same and self.policy.process == base.process else base

    def children(self, context: Context, here: Seen, count: int) -> tuple[Tensor, Tensor]:
        """Return `count` draws of the next state `(count, B, ...)` of each state, and their log-ratios `(count, B)`."""
        y = torch.stack([here.kernel.sample(context.generator) for _ in range(count)])
        if self.base is None:
            return y, torch.zeros(y.shape[:2], device=y.device)
        ours, reference = (needed(seen.kernel, Density) for seen in (here, self.base.at(here.x, here.k)))
        return y, torch.stack([reference.log_prob(child) - ours.log_prob(child) for child in y])

    def chains(self, context: Context, count: int, *, chunk: int = 512) -> tuple[Tensor, Tensor]:
        """Return `count` designs and log p_pre/p_proposal of their paths `(count,)`; no chain is kept."""
        designs, log_ratios = [], []
        for size in [chunk] * (count // chunk) + [count % chunk] * (count % chunk > 0):
            chain = rollout(self.policy, size, context.generator, base=self.base, states=False)
            designs.append(chain.designs)
            if chain.log_ratio is None:  # the base's weights: every ratio is 1
                log_ratios.append(torch.zeros(size, device=chain.designs.device))
            else:
                log_ratios.append(-chain.log_ratio.sum(0))
        return torch.cat(designs), torch.cat(log_ratios)


def value_at(context: Context, here: Seen) -> Tensor:
    """Return values `(B,)`, in units of reward, of states of one step that the proposal sees; of designs, rewards."""
    if here.k == context.roles.base.process.steps:
        return context.target.scores(here.x)
    return context.value_as(Evaluates).value_at(context, here)


def need_a_weight(log_weight: Tensor, what: str) -> None:
    """Raise RewardError when all log-weights are −inf."""
    if not log_weight.isfinite().any():
        raise RewardError(
            f"none of {len(log_weight)} {what} has a weight: none could be scored, or all are infeasible; draw more, "
            "look at the reward, or start from a proposal that makes feasible designs"
        )


def equal_weights(rewards: Tensor) -> Tensor:
    """Return log-weights that count all designs the same, 0, but those without a score or infeasible not: −inf."""
    return rewards.isfinite().log()
