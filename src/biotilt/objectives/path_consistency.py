"""Path consistency learning (the tutorial, arXiv 2407.13734; Nachum et al. 2017, arXiv 1702.08892)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from biotilt.core import Batch, Capability, Columns, Context, Density, Metrics, Objective, Round, StateFunction, Value
from biotilt.objectives.chains import CHAINS, collect_chains, log_ratios, states_before
from biotilt.options import Count, Share, check_options


@dataclass(frozen=True)
class PathConsistency(Objective):
    """E[ ( v_φ(x[m]) − v_φ(x[k]) − Σ_{k≤i<m} log p_θ(x[i+1]|x[i])/p_pre(x[i+1]|x[i]) )² ],  m = min(k + span, K).

    In units of α, over every k of recorded chains, whoever drew them; v_φ(x[K]) = r/α. Every term is 0 at p* with its
    soft value, and nowhere else. `span` = 1 is detailed balance (one soft Bellman equation a step), through which a
    reward travels one step at a time; with `span` None every piece ends at the reward.

    Chains are drawn by p_out, refreshed from the policy after each round, and a share 1−`beta` by p_pre; the newest
    `buffer` scored ones are kept. `updates` gradient steps of `chains` chains follow each round.
    """

    span: Count | None = None
    beta: Share = 1.0
    updates: Count = 20
    chains: Count = 32
    buffer: Count = 4096

    name: ClassVar[str] = "path_consistency"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)
    value_kind: ClassVar[type[Value]] = StateFunction
    value: ClassVar[str] = "state"

    def __post_init__(self) -> None:
        check_options(self, "objective")

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
        value = context.value_as(StateFunction)
        value.set_units(complete)
        log_ratio = log_ratios(context.roles.policy, rows)
        before = value(*states_before(rows["chain"])).view_as(log_ratio)
        # v(x[k]) − Σ_{i<k} log p_θ/p_pre: a piece is consistent when its two ends agree in it
        potential = torch.cat([before, complete.unsqueeze(-1)], -1) - F.pad(log_ratio.cumsum(-1), (1, 0))
        steps = log_ratio.shape[-1]
        end = (torch.arange(steps, device=log_ratio.device) + (self.span or steps)).clamp(max=steps)
        error = potential[:, end] - potential[:, :-1]
        return error.square().mean(), {"log_z": before[:, 0].mean().item()}
