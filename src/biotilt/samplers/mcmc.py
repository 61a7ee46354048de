"""MCMC: redo a part of the denoising, accept or reject by the reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from biotilt.core import Capability, Context, Density, Draws, Sampler, Trajectory, rollout
from biotilt.errors import ConfigError
from biotilt.options import Count, Share, check_options
from biotilt.samplers.proposal import equal_weights


@dataclass(frozen=True)
class MCMC(Sampler):
    """Metropolis–Hastings in which the base proposes: redo the last n of K steps, n uniform between two shares of K.

    corrupt:  z ∼ q(x[K−n] | x),  y ∼ p_pre(x[K] | x[K−n] = z),   accept with min(1, exp((r(y) − r(x))/α))
    path:     keep x[0] … x[K−n] of the chain that led to x, draw the rest from p_out,
              accept with min(1, exp((r(y) − r(x))/α + ℓ(y) − ℓ(x))),   ℓ = Σ_{k ≥ K−n} log p_pre − log p_out

    Both start at designs of p_out and leave p* invariant, so their law tends to p* with `rounds`; there is no weight
    and no log Z. What is exact when:

    * `renoise="corrupt"` asks that q is the base's own law of x[K−n] given x: then p_pre(x) q(z|x) p_pre(y|z) is
      symmetric in x and y, and the move reversible. True of any-order with one letter a step and letters that are
      the conditionals of one joint law; approximate otherwise, by as much as noising and denoising disagree.
    * `renoise="path"` moves in the space of whole chains (one-way shooting, Dellago et al. 1998), where it is
      exact for every process, base and proposal. The early steps, hence which letters came first, change only in
      the moves that redo nearly all, so it mixes more slowly; it needs `most` = 1, else it never changes them.

    `least` ≤ `most`, shares of K in [0, 1]; n is at least 1. `count` chains side by side, each with (at most) 1 +
    `rounds` oracle calls: a proposal that is the design it started from is not scored again. One that could not be
    scored, or is infeasible, is rejected.
    """

    renoise: Literal["corrupt", "path"] = "corrupt"
    rounds: Count = 16
    least: Share = 0.0
    most: Share = 1.0

    name: ClassVar[str] = "mcmc"

    def __post_init__(self) -> None:
        check_options(self, "sampler")
        if not self.least <= self.most:
            raise ConfigError(f"sampler.least must be ≤ sampler.most, got {self.least} and {self.most}")
        if self.renoise == "path" and self.most < 1:
            raise ConfigError(
                f'sampler.renoise="path" never changes the first steps unless sampler.most = 1, got {self.most}; '
                'renoise="corrupt" takes any share'
            )

    @property
    def needs(self) -> tuple[type[Capability], ...]:
        return (Density,) if self.renoise == "path" else ()

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        """Return the last design of each of `count` chains; `metrics` has the share of moves accepted."""
        chain = self._start(context, count)
        rewards = context.target.scores(chain.designs)
        accepted = 0.0
        for _ in range(self.rounds):
            redone = self._redone(context)
            new = self._redo(context, chain, context.roles.base.process.steps - redone)
            new_rewards = _score_changed(context, chain.designs, rewards, new.designs)
            log_accept = context.target.log_weight(new_rewards) - context.target.log_weight(rewards)
            if new.log_ratio is not None and chain.log_ratio is not None:
                log_accept = log_accept + chain.log_ratio[-redone:].sum(0) - new.log_ratio.sum(0)
            # NaN, the difference of two designs without a score, compares false: rejected
            accept = torch.rand(count, generator=context.generator, device=rewards.device).log() < log_accept
            chain.states[-len(new.states) :, accept] = new.states[:, accept]
            if new.log_ratio is not None and chain.log_ratio is not None:
                chain.log_ratio[-redone:, accept] = new.log_ratio[:, accept]
            rewards = torch.where(accept, new_rewards, rewards)
            accepted += accept.float().mean().item() / self.rounds
        return Draws(chain.designs, rewards, equal_weights(rewards), metrics={"accepted": accepted})

    def _start(self, context: Context, count: int) -> Trajectory:
        """Return what a chain remembers: all of its path, or the design alone."""
        roles = context.roles
        if self.renoise == "path":
            return rollout(roles.proposal, count, context.generator, base=roles.base)
        return rollout(roles.proposal, count, context.generator, states=False)

    def _redone(self, context: Context) -> int:
        """Draw n, how many of the last steps are redone: one for all chains, as p* is left alone whatever n is."""
        steps, generator = context.roles.base.process.steps, context.generator
        low, high = max(1, round(self.least * steps)), max(1, round(self.most * steps))
        return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))

    def _redo(self, context: Context, chain: Trajectory, k: int) -> Trajectory:
        """Return what replaces the chain from step `k` on, if accepted."""
        roles, generator, count = context.roles, context.generator, len(chain.designs)
        if self.renoise == "path":
            # all redone: the noise too is drawn anew, or it would never change
            start = (chain.states[k], k) if k else None
            return rollout(roles.proposal, count, generator, base=roles.base, start=start)
        start = (roles.base.process.corrupt(chain.designs, k, generator), k)
        return rollout(roles.base, count, generator, start=start, states=False)


def _score_changed(context: Context, designs: Tensor, rewards: Tensor, new: Tensor) -> Tensor:
    """Return the rewards of new designs, asking only about those that differ from the `designs` already scored."""
    changed = (new != designs).reshape(len(new), -1).any(-1)
    scores = rewards.clone()
    if changed.any():
        scores[changed] = context.target.scores(new[changed])
    return scores
