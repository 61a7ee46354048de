"""Roll-ins: chains whose states and designs an objective learns from, with what is used of them and no more."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from biotilt.core.objective import Context, Metrics, roll_in_metrics
from biotilt.core.policy import Trajectory, rollout


@dataclass(frozen=True)
class RollIn:
    """Chains of p_out, a share 1−`beta` of them of p_pre.

    `anchored`: whether what is learned from them needs log p_pre/p_out of a step; else the base is not asked for it.
    """

    beta: float = 1.0
    anchored: bool = True

    def turns(self, context: Context) -> Iterator[bool]:
        """Yield for one chain after another whether p_out draws it: a share `beta`, however few there are."""
        shift = 0.0
        if 0 < self.beta < 1:
            shift = torch.rand((), generator=context.generator, device=context.generator.device).item()
        for number in itertools.count():
            yield int(self.beta * (number + 1) + shift) > int(self.beta * number + shift)

    def chains(
        self, context: Context, count: int, *, ratios: bool = False, every: int = 1, terms: bool = False,
        states: bool = True,
    ) -> Trajectory:  # fmt: skip
        """Draw `count` chains.

        With `ratios` log-probabilities and their ratios to the base are recorded (at each `every`-th step, see
        `rollout`), with `terms` those of each coordinate too, and without either the base is not asked. Without
        `states` only designs are kept.
        """
        roles = context.roles
        ours = sum(itertools.islice(self.turns(context), count))
        base = roles.base if ratios or terms else None
        drawn = [
            rollout(policy, size, context.generator, base=base, every=every, terms=terms, states=states)
            for policy, size in ((roles.proposal, ours), (roles.base, count - ours))
            if size
        ]
        return Trajectory.join(drawn)

    def scored(
        self, context: Context, calls: int, *, ratios: bool = False, terms: bool = False, states: bool = True
    ) -> tuple[Trajectory, Tensor, Metrics]:
        """Draw chains as `chains` does and score `calls` designs, those that the screen chooses where there is one.

        Return the chains that were scored, their rewards `(calls,)` as a loss needs them, and the figures of a round:
        the mean reward of these, and the path KL of all that were drawn.
        """
        drawn = self.chains(context, context.proposals(calls), ratios=ratios, terms=terms, states=states)
        picked = context.chosen(drawn.designs, calls)
        chain = drawn if len(picked) == len(drawn.designs) else drawn.rows(picked)
        rewards = context.rewards(chain.designs)
        return chain, rewards, roll_in_metrics(drawn, rewards)
