"""VIDD: distil the value-tilted policy into the weights (Su et al. 2025, arXiv 2507.00445, eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from biotilt.core import (
    Batch,
    Capability,
    Columns,
    Context,
    Density,
    Divergence,
    Gathers,
    Lesson,
    Metrics,
    Mixable,
    Objective,
    Parts,
    RollIn,
    Round,
    Teaches,
    Tiltable,
    Value,
    drop_unscored,
    needed,
)
from biotilt.errors import ConfigError
from biotilt.formulas.soft_rl import effective_fraction, vidd_log_weight
from biotilt.options import Count, Name, Number, Positive, Share, check_options


@dataclass(frozen=True)
class VIDD(Objective):
    """Forward KL from the teacher p_teacher ∝ p_out · exp(v/α) to the policy, at states of the roll-in.

    sampled:      −E_{y∼p_out} [ w(y) log p_θ(y|x) ],   w = exp((v(y) − v(x))/α)
    closed_form:  KL( p_out^(1−λ) (p_pre e^Q)^λ ‖ p_θ ),  summed over letters, no sampling noise

    Roll in from `p_pre` with probability 1−`beta`, else from `p_out`, which is refreshed from the policy every
    `refresh` updates, by default after each round. `mirror` = λ in (0, 1] is the step of mirror descent (w^λ when
    sampled).

    * `anchor="rollout"` is the paper: the teacher is re-tilted at each refresh, so the fixed point sharpens
      without end. It maximises the reward; it does not sample p*.
    * `anchor="pretrained"` tilts `p_pre` instead (w is multiplied by p_pre/p_out when sampled): the fixed point
      is p* for an exact value, whatever `beta` and `refresh`.

    `value`: posterior_mean, monte_carlo (ask the oracle about states); return, bootstrapped, mixed (learned from
    scored designs, `biotilt.values.learned`); surrogate (`biotilt.values.surrogate`); refills (a gaussian process on
    whole designs, `biotilt.values.refills`). Where nothing is hidden and
    revealed, return is the only learned one (`biotilt.values.learned_state`). `updates` gradient steps of
    `states` states follow each round of oracle calls; `buffer` scored designs (or states) are kept: all of them for
    surrogate, refills and bootstrapped, a few recent rounds for return and mixed, whose rows age with the policy.
    """

    anchor: Literal["pretrained", "rollout"] = "pretrained"
    value: Name = "surrogate"
    teacher: Literal["closed_form", "sampled"] = "closed_form"
    beta: Share = 1.0
    refresh: Count | None = None
    mirror: Annotated[Number, Field(ge=1e-6, le=1)] = 0.5
    updates: Count = 30
    states: Count = 64
    buffer: Count = 4096
    max_log_weight: Positive = 10.0

    name: ClassVar[str] = "vidd"
    value_kind: ClassVar[type[Value]] = Gathers

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def needs(self) -> tuple[type[Capability], ...]:
        """What it uses of kernels, beside what its value needs."""
        return (Density, Divergence, *([Mixable] if self.teacher == "closed_form" and self.mirror < 1 else []))

    def unscreened(self, value: Value | None) -> str:
        """A value that learns of designs alone may have them chosen; one of returns would take the choice for luck."""
        if value is not None and value.screened:
            return ""
        return f'with value="{self.value}" takes the mean over designs as they are drawn, and a choice changes it'

    @property
    def capacity(self) -> int:
        return self.buffer

    @property
    def refresh_every(self) -> int:
        return self.updates if self.refresh is None else self.refresh

    @property
    def batch_size(self) -> int:
        return self.states

    def check(self, parts: Parts) -> None:
        if self.teacher == "closed_form" and not isinstance(parts.value, Teaches):
            raise ConfigError(
                f'objective.teacher="closed_form" needs the value of every letter at once, which value="{self.value}" '
                'does not give; use teacher="sampled", or value="return", "bootstrapped" or "mixed"'
            )

    def columns(self, value: Value | None) -> Columns:
        return needed(value, Gathers).columns

    def collect(self, context: Context, calls: int) -> Round:
        roll_in = RollIn(self.beta, anchored=self.anchor == "pretrained")
        collected = context.value_as(Gathers).gather(context, roll_in, calls)
        return replace(collected, rows=drop_unscored(collected.rows))

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        if isinstance(context.value, Teaches):
            return self._from_lesson(context, context.value.lesson(context, rows))
        log_weight = vidd_log_weight(rows["value_y"], rows["value_x"], context.target.alpha)
        if self.anchor == "pretrained":
            log_weight = log_weight + rows["log_anchor"]
        return self._weighted(context, rows["x"], rows["y"], rows["k"], log_weight)

    def _from_lesson(self, context: Context, lesson: Lesson) -> tuple[Tensor, Metrics]:
        x, k, roles = lesson.x, lesson.k, context.roles
        with torch.no_grad():
            anchor = (roles.base if self.anchor == "pretrained" else roles.proposal).kernel_as(Tiltable, x, k)
            teacher = anchor.tilted(lesson.q)
            if self.teacher == "sampled" or self.mirror < 1:
                proposal = roles.proposal.kernel_as(Tiltable, x, k) if self.anchor == "pretrained" else anchor
        if self.teacher == "sampled":
            y = proposal.sample(context.generator)
            loss, metrics = self._weighted(context, x, y, k, teacher.log_prob(y) - proposal.log_prob(y))
        else:
            if self.mirror < 1:
                teacher = needed(proposal, Mixable).mix(needed(teacher, Mixable), self.mirror)
            policy = roles.policy.kernel_as(Divergence, x, k)
            loss, metrics = needed(teacher, Divergence).kl(policy).mean(), {}
        return loss + lesson.loss, metrics | {"distil": loss.item(), "value_error": lesson.loss.item()}

    def _weighted(
        self, context: Context, x: Tensor, y: Tensor, k: Tensor, log_weight: Tensor
    ) -> tuple[Tensor, Metrics]:
        """−E[ w^λ log p_θ(y|x) ], w the density of the teacher relative to p_out."""
        log_weight = (self.mirror * log_weight).clamp(max=self.max_log_weight)
        loss = -(log_weight.exp() * context.roles.policy.log_prob(x, k, y)).mean()
        return loss, {"ess": effective_fraction(log_weight).item(), "distil": loss.item()}
