"""Trajectory balance relative to the base: RTB (Venkatraman et al. 2024, arXiv 2405.20971), and without log Z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from biotilt.core import (
    Batch,
    Capability,
    Columns,
    Constant,
    Context,
    Density,
    Metrics,
    NoisedPath,
    Round,
    Value,
    targets_of,
)
from biotilt.core.search import MEMORY
from biotilt.formulas.soft_rl import mean_within
from biotilt.objectives.chains import CHAINS, collect_chains, log_ratios, noised_chains
from biotilt.objectives.replayed import Replayed
from biotilt.options import Count, Pair, Share, check_options


@dataclass(frozen=True)
class TrajectoryBalance(Replayed):
    """E[ ( log Z + Σ_k log p_θ(x[k+1]|x[k])/p_pre(x[k+1]|x[k]) − r/α )² ] over whole chains, whoever drew them.

    Every term is 0 at p* and at no other policy, so no chain carries noise there. `form="learned"`: log Z is one
    more parameter. `form="log_variance"`: log Z is replaced by what is best for the batch, which leaves the
    variance over the batch of r/α − Σ_k log p_θ/p_pre (VarGrad, Richter et al. 2020, arXiv 2010.10436). Where chains
    have several targets, each has its own Z: a parameter each, or the variance within each.

    Chains are drawn by p_out, refreshed from the policy after each round, and a share 1−`beta` by p_pre; the newest
    `buffer` scored ones are kept. `updates` gradient steps of `chains` chains follow each round. With `draws` =
    "search" designs of a search are kept, which have no chain: each update draws one anew, back from the design as the
    process noises, with a positive chance for every chain of a policy. So p* stays the fixed point. It does however
    the replay is weighed (`replay`): weights move what is learned first, and how well where the network cannot be p*.
    """

    form: Literal["learned", "log_variance"] = "log_variance"
    beta: Share = 1.0
    updates: Count = 20
    chains: Pair = 32
    buffer: Pair = 4096

    value_kind: ClassVar[type[Value]] = Constant
    name: ClassVar[str] = "trajectory_balance"

    def __post_init__(self) -> None:
        check_options(self, "objective")
        self.check_search("objective")

    @property
    def needs(self) -> tuple[type[Capability], ...]:
        return (Density, NoisedPath) if self.searches else (Density,)

    @property
    def value(self) -> str | None:
        return "log_z" if self.form == "learned" else None

    def unscreened(self, value: Value | None) -> str:
        """Nothing: whoever drew a design, its term has its minimum at the same policy."""
        return ""

    @property
    def capacity(self) -> int:
        return self.buffer

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> int | None:
        return self.of_all(self.chains)

    def columns(self, value: Value | None) -> Columns:
        return MEMORY if self.searches else CHAINS

    def collect(self, context: Context, calls: int) -> Round:
        return self.search_round(context, calls) if self.searches else collect_chains(context, calls, self.beta)

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        rows = self.replayed(context, rows, self.chains)
        if self.searches:
            rows = noised_chains(context.roles.base, rows, context.generator)
        complete = rows["rewards"] / context.target.alpha
        target = targets_of(context.roles.policy.process, rows["chain"][:, 0])
        log_z = complete - log_ratios(context.roles.policy, rows).sum(-1)
        if self.form == "learned":
            value = context.value_as(Constant)
            value.set_units(complete)
            centre = value(target)
        else:
            centre = mean_within(log_z, target)
        return (log_z - centre).square().mean(), {"log_z": centre.mean().item()}
