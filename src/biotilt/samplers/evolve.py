"""Evolve: an evolutionary search whose mutations are the proposal's; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from biotilt.core import Batch, Context, Draws, Sampler
from biotilt.core.search import Search, joined
from biotilt.core.selection import best_first, unique_share
from biotilt.options import BatchSize, Number, check_options
from biotilt.samplers.proposal import equal_weights


@dataclass(frozen=True)
class EvolveSampler(Search, Sampler):
    """The best `count` of the N = `factor` · `count` designs that a search scored, best first; N calls.

    The search is that of the objective of the same name, with a proposal that does not change. It goes in rounds of
    `batch` designs, and at most half of the calls are for designs of the base. It maximises; it samples no p*, and has
    no log Z. The designs are all different and count the same; where fewer exist, they come again.
    """

    factor: Annotated[Number, Field(ge=1, le=1e6)] = 8.0
    batch: BatchSize = 64

    name: ClassVar[str] = "evolve"

    def __post_init__(self) -> None:
        check_options(self, "sampler")
        self.check_search("sampler")

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        """Return `count` designs; those without a score, if they are needed, come last and count nothing."""
        calls = round(self.factor * count)
        search = replace(self, start=min(self.start, max(1, calls // 2)))
        memory: Batch = {}
        while calls > 0:
            rows, _ = search.generation(context, memory, min(self.batch, calls))
            if not len(rows["key"]):
                break
            memory = joined(memory, rows)
            calls -= len(rows["key"])
        scored = best_first(memory["rewards"])
        others = (~memory["rewards"].isfinite()).nonzero().squeeze(-1)
        best = torch.cat([scored, others])
        best = best[torch.arange(count, device=best.device) % len(best)]
        rewards = memory["rewards"][best]
        unique = unique_share(memory["key"][best])
        return Draws(memory["designs"][best], rewards, equal_weights(rewards), metrics={"unique": unique})
