"""Best-of-N: draw N designs, score all, keep the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from biotilt.core import Context, Density, Draws, Sampler, has
from biotilt.formulas.resampling import log_mean_error, log_mean_exp
from biotilt.options import Number, check_options
from biotilt.samplers.proposal import Proposal, equal_weights


@dataclass(frozen=True)
class BestOfN(Sampler):
    """The best `count` of N = `factor` · `count` designs of the proposal, best first; N oracle calls.

    It does not sample p*. The part it keeps, 1/`factor`, has the law of the base cut off below: `KL(kept ‖ base)` =
    log `factor` for many draws, and infinite the other way. The kept count the same; unscored designs come last and
    count nothing.

    log Z = log mean exp(r/α + Σ log p_pre/p_proposal) over all N is unbiased for Z. There is none when a tuned
    proposal has no log-probabilities.
    """

    factor: Annotated[Number, Field(ge=1, le=1e6)] = 8.0

    name: ClassVar[str] = "best_of_n"

    def __post_init__(self) -> None:
        check_options(self, "sampler")

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        proposal = Proposal(context.roles)
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
