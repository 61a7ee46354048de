"""What objectives share that learn from designs of any law: who draws them, and how they are replayed."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from biotilt.core import Batch, Context, Objective
from biotilt.core.search import Search
from biotilt.core.selection import best_first, rank_weights
from biotilt.errors import ConfigError


@dataclass(frozen=True)
class Replayed(Search, Objective, ABC):
    """An objective whose designs may come from a search, and count in its replay as often as they are good.

    `draws`: with "policy" the designs are drawn as the objective says; with "search" by the search that `evolve` learns
    from, its options beside the objective's own (`Search`): children of the best so far, and a share `fresh` of draws
    of the policy. `replay`: an update has rows drawn uniformly, or with probability ∝ 1/(`offset` + rank), the best
    first, none twice.
    """

    draws: Literal["policy", "search"] = "policy"
    replay: Literal["uniform", "rank"] = "uniform"

    @property
    def searches(self) -> bool:
        return self.draws == "search"

    @property
    def one_target(self) -> str:
        return "searches by ranking designs against each other" if self.searches else ""

    def check_search(self, where: str) -> None:
        """Raise ConfigError also for options that mean nothing beside `draws`, and a memory smaller than the start."""
        super().check_search(where)
        used = {"offset"} if self.replay == "rank" else set[str]()
        idle = {"beta"} if self.searches else {option.name for option in fields(Search)} - used
        other = "policy" if self.searches else "search"
        for option in fields(self):
            if option.name in idle and vars(self)[option.name] != option.default:
                raise ConfigError(f'{where}.{option.name}: means nothing without draws = "{other}"; leave one out')
        if self.searches and self.capacity is not None and self.capacity <= self.start:
            raise ConfigError(
                f"{where}.buffer: {self.capacity} designs are all that the search remembers, the first {self.start} of "
                "which are the base's (start): keep more, or start with fewer"
            )

    def begun(self, context: Context, designs: Tensor, scores: Tensor) -> Batch:
        return super().begun(context, designs, scores) if self.searches else {}

    def of_all(self, count: int) -> int | None:
        """Return how many rows of the replay a loss is given: `count`, or all of them, of which it draws."""
        return None if self.searches or self.replay == "rank" else count

    def replayed(self, context: Context, rows: Batch, count: int) -> Batch:
        """Return `count` of the rows that have a score, with the rewards that a loss needs, or rows drawn already."""
        if self.of_all(count) is not None:
            return rows
        rewards = context.target.finite(rows["rewards"])
        order = best_first(rewards)
        even = self.replay == "uniform"
        weights = torch.ones_like(rewards[order]) if even else rank_weights(len(order), self.offset, rewards.device)
        drawn = torch.multinomial(weights, min(count, len(order)), generator=context.generator)
        return {name: column[order[drawn]] for name, column in (rows | {"rewards": rewards}).items()}
