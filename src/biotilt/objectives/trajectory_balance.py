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
    Objective,
    Round,
    Value,
    targets_of,
)
from biotilt.formulas.soft_rl import mean_within
from biotilt.objectives.chains import CHAINS, collect_chains, log_ratios
from biotilt.options import Count, Pair, Share, check_options


@dataclass(frozen=True)
class TrajectoryBalance(Objective):
    """E[ ( log Z + Σ_k log p_θ(x[k+1]|x[k])/p_pre(x[k+1]|x[k]) − r/α )² ] over whole chains, whoever drew them.

    Every term is 0 at p* and at no other policy, so no chain carries noise there. `form="learned"`: log Z is one
    more parameter. `form="log_variance"`: log Z is replaced by what is best for the batch, which leaves the
    variance over the batch of r/α − Σ_k log p_θ/p_pre (VarGrad, Richter et al. 2020, arXiv 2010.10436). Where chains
    have several targets, each has its own Z: a parameter each, or the variance within each.

    Chains are drawn by p_out, refreshed from the policy after each round, and a share 1−`beta` by p_pre; the newest
    `buffer` scored ones are kept. `updates` gradient steps of `chains` chains follow each round.
    """

    form: Literal["learned", "log_variance"] = "log_variance"
    beta: Share = 1.0
    updates: Count = 20
    chains: Pair = 32
    buffer: Pair = 4096

    value_kind: ClassVar[type[Value]] = Constant
    name: ClassVar[str] = "trajectory_balance"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    def __post_init__(self) -> None:
        check_options(self, "objective")

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
    def batch_size(self) -> int:
        return self.chains

    def columns(self, value: Value | None) -> Columns:
        return CHAINS

    def collect(self, context: Context, calls: int) -> Round:
        return collect_chains(context, calls, self.beta)

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
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
