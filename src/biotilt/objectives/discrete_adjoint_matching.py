"""Discrete adjoint matching (arXiv 2602.07132): rates matched to the base's times an estimated ratio of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import (
    Batch,
    Capability,
    Columns,
    Context,
    Density,
    Metrics,
    Objective,
    Round,
    Value,
    drop_unscored,
)
from biotilt.errors import ConfigError
from biotilt.options import Count, Pair, check_options


@dataclass(frozen=True)
class DiscreteAdjointMatching(Objective):
    """E_{y∼p_out(·|x)}[ ρ − ŵ log ρ ],  ρ = p_θ(y|x)/p_out(y|x), whose minimum is at ρ = ŵ, step by step.

    The optimum is p*(y|x) = p_pre(y|x) φ(y)/φ(x), with φ(x) = exp(v(x)/α) = E_pre[exp(r/α) | x]. From a state x of a
    chain of p_out, at a uniform step k, M = `group` chains are completed by p_out. Completion i gives an unbiased
    estimate f_i = p_pre(path)/p_out(path) · exp(r_i/α) of φ(x), the mean over i is φ̂(x), and ŵ_i = f_i/φ̂(x) estimates
    p*/p_out: for the first step E[f_i|y]/φ(x) = p_pre(y|x) φ(y) / (p_out(y|x) φ(x)).

    * At p_out = p_θ = p* every f_i of a group is φ(x), so every ŵ and ρ is 1 and the gradient is 0 sample by sample.
      p_out follows the policy after each round.
    * Σ_y p_θ(y|x) = 1, so E[ρ] is constant: the term changes no expected gradient, it only takes the noise away. What
      is left is the cross-entropy to φ(x)/φ̂(x) · p*(·|x). A φ̂ that does not depend on y would only weigh states; here
      y is one of M that make it, which shrinks ŵ toward 1 by O(1/M): slower steps, the same fixed point.
    * Later steps of a completion keep ŵ_i: given x[j], E[ŵ|y] is p*(y|x[j])/p_out(y|x[j]) times a weight of x[j].

    Every process with a log-probability fits, of letters or points, and no gradient of the reward is asked for. The
    fixed point is p* for kernels that represent it; for letters drawn independently in a step, a projection (a floor).

    From the paper (So, Karrer, Fan, Chen and Liu), for Markov chains in continuous time: u* = u_base φ(y)/φ(x); the
    importance-weighted discrete adjoint, one completion of y over a mean of completions of x; the generalised KL
    u − w + w log(w/u) with y drawn from the model and divided by its probability, which is ρ − ŵ log ρ here. Read in
    summaries and others' code, not in the paper's text. Ours: steps of discrete time with normalised kernels and
    path weights in place of jump rates; one group for both sides of the ratio (the paper's needs 1 + K rewards a
    label); labels for all later steps; chains of the last round in place of a replay buffer.

    Each round scores `calls` // `group` groups and makes `updates` updates on `states` transitions of them.
    """

    group: Pair = 8
    updates: Count = 8
    states: Count = 256

    name: ClassVar[str] = "discrete_adjoint_matching"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def capacity(self) -> None:
        """On-policy: only the last round is kept, one row a transition."""
        return None

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> int:
        return self.states

    def columns(self, value: Value | None) -> Columns:
        return {"x": "states", "y": "states", "k": "int", "log_out": "float", "weight": "float"}

    @torch.no_grad()
    def collect(self, context: Context, calls: int) -> Round:
        starts = calls // self.group
        if starts == 0:
            raise ConfigError(
                f"objective.group = {self.group} designs are scored from one state, but a round has {calls} calls; "
                f"raise train.batch to {self.group} or more"
            )
        generator, steps = context.generator, context.roles.base.process.steps
        k = torch.randint(steps, (starts,), generator=generator, device=generator.device)
        x = self._reach(context, k)
        rows, designs = self._complete(context, x.repeat_interleave(self.group, 0), k.repeat_interleave(self.group))
        path = rows.pop("path")
        log_ratio = rows.pop("log_ratio")
        log_weight = log_ratio.new_zeros(len(designs)).index_add_(0, path, log_ratio)
        rewards = context.target.rewards(designs)
        weight = _relative((log_weight + rewards / context.target.alpha).view(starts, self.group))
        rows["weight"] = weight.flatten()[path]
        # step j is in the path of a start with probability (j + 1)/K
        path_kl = -(log_ratio * steps / (rows["k"] + 1)).sum().item() / len(designs)
        ess = (1 / weight.square().nanmean(-1)).nanmean().item()
        return Round(drop_unscored(rows), designs, {"reward": rewards.nanmean().item(), "kl": path_kl, "ess": ess})

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        log_prob = context.roles.policy.log_prob(rows["x"], rows["k"], rows["y"])
        log_rho = log_prob - rows["log_out"]
        loss = (log_rho.exp() - rows["weight"] * log_rho).mean()
        return loss, {"distil": loss.item()}

    def _reach(self, context: Context, k: Tensor) -> Tensor:
        """Return states of chains of p_out, each drawn as far as its step `k` `(B,)` and no further."""
        policy, generator = context.roles.proposal, context.generator
        x = policy.process.noise(len(k), generator).clone()
        for step in range(int(k.max())):
            on = k > step
            x[on] = policy.kernel(x[on], step).sample(generator)
        return x

    def _complete(self, context: Context, x: Tensor, k: Tensor) -> tuple[Batch, Tensor]:
        """Draw p_out from states at steps `k` `(B,)` to the end: rows of all steps, `path` the chain, and designs."""
        roles, found = context.roles, []
        x, path = x.clone(), torch.arange(len(x), device=x.device)
        while len(path := path[k[path] < roles.base.process.steps]):
            here, step = x[path], k[path]
            kernel = roles.proposal.kernel_as(Density, here, step)
            y = kernel.sample(context.generator)
            log_out = kernel.log_prob(y)
            log_ratio = roles.base.log_prob(here, step, y) - log_out
            found.append({"x": here, "y": y, "k": step, "path": path, "log_out": log_out, "log_ratio": log_ratio})
            x[path], k = y, k + 1
        return {key: torch.cat([rows[key] for rows in found]) for key in found[0]}, x


def _relative(log_f: Tensor) -> Tensor:
    """Return f over its mean in each group `(S, M)`, of those scored; NaN where not scored."""
    scored = ~log_f.isnan()
    weight = log_f.masked_fill(~scored, -torch.inf).softmax(-1) * scored.sum(-1, keepdim=True)
    return weight.where(scored, torch.nan)
