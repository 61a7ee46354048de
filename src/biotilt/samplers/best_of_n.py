"""Best-of-N: draw N designs, score all, keep the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from biotilt.core import Context, Density, Draws, Sampler, Value, has
from biotilt.formulas.resampling import log_mean_error, log_mean_exp
from biotilt.options import Number, check_options
from biotilt.samplers.proposal import Proposal, equal_weights

PART = 64  # designs that are chosen at once, before more is known


@dataclass(frozen=True)
class BestOfN(Sampler):
    """The best `count` of N = `factor` · `count` designs of the proposal, best first; N oracle calls.

    It does not sample p*. The part it keeps, 1/`factor`, has the law of the base cut off below: `KL(kept ‖ base)` =
    log `factor` for many draws, and infinite the other way. The kept count the same; unscored designs come last and
    count nothing.

    With a screen the N are scored in parts of 64, each chosen among more designs: the law of what is kept is then not
    known, there is no log Z, and the best are better.

    log Z = log mean exp(r/α + Σ log p_pre/p_proposal) over all N is unbiased for Z. There is none when a tuned
    proposal has no log-probabilities.
    """

    factor: Annotated[Number, Field(ge=1, le=1e6)] = 8.0

    name: ClassVar[str] = "best_of_n"

    def __post_init__(self) -> None:
        check_options(self, "sampler")

    def unscreened(self, value: Value | None) -> str:
        """Nothing: it looks for the best."""
        return ""

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        proposal = Proposal(context.roles)
        if context.screen is not None:
            return self._screened(context, proposal, count)
        weighed = proposal.base is None or has(proposal.policy.process, Density)
        if not weighed:
            proposal.base = None
        designs, log_ratio = proposal.chains(context, round(self.factor * count))
        rewards = context.target.scores(designs)
        log_weight = context.target.log_weight(rewards)
        all_weights = log_weight + log_ratio
        known = (log_mean_exp(all_weights).item(), log_mean_error(all_weights)) if weighed else (None, None)
        best = log_weight.argsort(descending=True, stable=True)[:count]
        return Draws(designs[best], rewards[best], equal_weights(rewards[best]), *known)

    def _screened(self, context: Context, proposal: Proposal, count: int) -> Draws:
        """Return the best of N designs that a screen chose, part after part, from those that the proposal drew."""
        proposal.base = None  # it would be asked for a weight that is not known
        parts: list[tuple[Tensor, Tensor]] = []
        left = round(self.factor * count)
        while left:
            size = min(PART, left)
            drawn, _ = proposal.chains(context, context.proposals(size))
            designs = drawn[context.chosen(drawn, size)]
            parts.append((designs, context.scores(designs)))
            left -= size
        designs, rewards = map(torch.cat, zip(*parts))
        best = context.target.log_weight(rewards).argsort(descending=True, stable=True)[:count]
        return Draws(designs[best], rewards[best], equal_weights(rewards[best]))
