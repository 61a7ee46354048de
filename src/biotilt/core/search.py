"""The evolutionary search of `evolve`, objective and sampler: parents of what was scored, children by re-masking."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from biotilt.core.capabilities import Reveals
from biotilt.core.moves import Plan, children
from biotilt.core.objective import Context, Metrics, Round
from biotilt.core.parts import Parts, Value
from biotilt.core.policy import sample
from biotilt.core.reading import Reading
from biotilt.core.replay import Batch, Columns
from biotilt.core.selection import best_first, first_of_each, likeness, rank_weights, without_crowds
from biotilt.errors import ConfigError
from biotilt.options import Count, CountFrom0, Few, Positive, Rate, Share

MEMORY: Columns = {"designs": "states", "rewards": "float", "key": "int", "family": "int"}
TRIES = 20  # proposals for each design that is wanted, at most
BEST = 4  # of so many proposals one is a parent of further ones
TOP = 100  # the best, whose diversity is watched
ALIKE = 0.5  # share of k-grams in common: with 50 letters about three of them differ
MOST_SOFT = 4.0  # how much wider selection becomes at most


@dataclass(frozen=True)
class Search:
    """What objective and sampler share: how children are made of the designs that were scored.

    Rows of the memory are different designs, with their rewards (NaN not scored, −inf infeasible) and the numbers by
    which the space knows them. The first `start` are the base's, and cost calls as all do. A parent is drawn of the
    best `parents` = P with probability ∝ 1/(`offset` + rank), or ∝ exp(r/α) (`select`). A child is a parent of which a
    span is denoised again by p_out: a share between `least` and `most` of its tokens that are no pads, given back up to
    three tokens longer or shorter where designs differ in length; `scattered` of the children have as many tokens
    hidden here and there, and `crossover` of them begin as one parent and end as another. Where no letters are hidden,
    such as of points, a child is a parent with the noise of such a share of the steps put back and taken away again
    by p_out; of those `scattered`, a share of the coordinates is made anew beside the others. A share `fresh` of the
    designs are new ones of p_out. No design is asked about twice.

    With a screen that chooses, the proposals come in `depth` parts: a quarter of the proposals so far, those that the
    screen chooses, are the parents of each part after the first, and no call was spent on them.

    Against collapse at most a share `crowd` of the parents are of one family, by what the space knows or else by the
    k-grams that they share; and where the best 100 have become less than `diverse` times as different from each other
    as the base's are, P and the offset grow, up to fourfold.
    """

    parents: Count = 100
    offset: Positive = 5.0
    select: Literal["rank", "reward"] = "rank"
    least: Rate = 0.03
    most: Rate = 0.35
    scattered: Share = 0.0
    crossover: Share = 0.0
    fresh: Share = 0.08
    start: CountFrom0 = 256
    crowd: Rate = 0.1
    diverse: Share = 0.5
    depth: Few = 1

    def unscreened(self, value: Value | None) -> str:
        """A screen may choose: the best are looked for."""
        return ""

    def check_search(self, where: str) -> None:
        """Raise ConfigError where options do not go together; `where`: the section of the file."""
        if self.least > self.most:
            raise ConfigError(f"{where}.least must be ≤ {where}.most, got {self.least} and {self.most}")

    def check(self, parts: Parts) -> None:
        """Raise ConfigError where two designs are to be crossed that have no beginning and no end."""
        if self.crossover > 0 and not isinstance(parts.process, Reveals):
            raise ConfigError(
                f'crossover: designs are crossed where letters are hidden and revealed, which "{parts.process.name}" '
                "does not do: leave it at 0"
            )

    def search_round(self, context: Context, calls: int) -> Round:
        """Search in the context's memory; no design found is the policy's, so that it is judged by draws of its own."""
        rows, metrics = self.generation(context, context.memory.rows, calls)
        known = context.memory.rows or rows
        if not (known["rewards"].isfinite().any() or rows["rewards"].isfinite().any()):
            rows = {name: column[:0] for name, column in rows.items()}  # nothing that could be learned from yet
        return Round(rows, rows["designs"][:0], metrics)

    def begun(self, context: Context, designs: Tensor, scores: Tensor) -> Batch:
        """Return designs that were scored already, each once, as rows of the memory; none where none has a score."""
        if not scores.isfinite().any():
            return {}
        rows = as_remembered(context, designs, scores)
        first = first_of_each(rows["key"])
        return {name: column[first] for name, column in rows.items()}

    def generation(self, context: Context, memory: Batch, calls: int) -> tuple[Batch, Metrics]:
        """Return at most `calls` new designs, scored, as rows of the memory, and figures to show."""
        designs = self._candidates(context, memory, calls)
        designs = designs[context.chosen(designs, min(calls, len(designs)))]
        rows = remembered(context, designs)
        whole = joined(memory, rows)
        order = best_first(whole["rewards"])
        metrics: Metrics = {"unique": len(whole["key"]), "new": len(designs) / calls}
        if len(order):
            best = whole["rewards"][order[:TOP]]
            metrics |= {"best": best[0].item(), "top_100": best.mean().item()}
            metrics |= {"diversity": self.diversity(context.reading, whole, order)}
        if (scored := rows["rewards"].isfinite()).any():
            metrics["reward"] = rows["rewards"][scored].mean().item()
        return rows, metrics

    @torch.no_grad()
    def _candidates(self, context: Context, memory: Batch, calls: int) -> Tensor:
        """Return designs to choose from: in `depth` parts where a screen wants to see more than `calls`."""
        count = context.proposals(calls)
        parts = self.depth if memory and count > calls else 1
        part = math.ceil(count / parts)
        designs = self.propose(context, memory, part)
        known = set(memory["key"].tolist()) if parts > 1 else set[int]()
        for _ in range(parts - 1):
            if not len(designs):
                break
            best = designs[context.chosen(designs, math.ceil(len(designs) / BEST))]
            drawn = torch.cat([designs, self._bred(context, best, torch.ones(len(best), device=best.device), part)])
            designs = drawn[_new(context.reading.keys(drawn), known)]
        return designs

    @torch.no_grad()
    def propose(self, context: Context, memory: Batch, count: int) -> Tensor:
        """Return `count` different designs `(count, ...)` that are not in the memory; fewer where none are found."""
        known = set(memory["key"].tolist()) if memory else set[int]()
        head = self.select_parents(context, memory) if memory else None
        left = max(0, self.start - len(known))
        found: list[Tensor] = []
        missing = count
        for _ in range(TRIES):
            if not missing:
                break
            base = missing if head is None or not len(head[0]) else min(missing, left)
            parts = [sample(context.roles.base, base, context.generator)] if base else []
            if head is not None and missing > base:
                parts.append(self._bred(context, memory["designs"][head[0]], head[1], missing - base))
            drawn = torch.cat(parts)
            keys = context.reading.keys(drawn)
            new = _new(keys, known)
            left -= int(new[:base].sum())
            known |= set(keys[new].tolist())
            found.append(drawn[new])
            missing -= int(new.sum())
        return torch.cat(found)

    def select_parents(self, context: Context, memory: Batch) -> tuple[Tensor, Tensor]:
        """Return rows of the memory that may be parents, the best first, and their probabilities."""
        order = best_first(memory["rewards"])
        soft = self.softening(self.diversity(context.reading, memory, order))
        count = round(self.parents * soft)
        head = order[: 3 * count]
        head = head[without_crowds(_related(context.reading, memory, head), math.ceil(self.crowd * count))][:count]
        if self.select == "rank" or not len(head):
            return head, rank_weights(len(head), self.offset * soft, head.device)
        return head, (context.target.log_weight(memory["rewards"][head]) / soft).softmax(0)

    def diversity(self, reading: Reading, memory: Batch, order: Tensor) -> float:
        """Return how different the best are from each other, as a share of how different the first in memory are."""
        designs = memory["designs"]
        first, best = designs[:TOP], designs[order[:TOP]]
        distance = reading.distance or (partial(_mean_distance, pad=reading.pad) if _has_tokens(designs) else None)
        if distance is None or min(len(first), len(best)) < 2:
            return 1.0
        start = distance(first)
        return distance(best) / start if start > 0 else 1.0

    def softening(self, diversity: float) -> float:
        """Return by what P and the offset are multiplied, in [1, 4]."""
        return min(MOST_SOFT, max(1.0, self.diverse / max(diversity, 1e-9)))

    def _bred(self, context: Context, parents: Tensor, weights: Tensor, count: int) -> Tensor:
        """Return children of parents, and fresh designs of the policy, `count` in all."""
        generator, policy = context.generator, context.roles.proposal
        fresh = int((torch.rand(count, generator=generator, device=generator.device) < self.fresh).sum())
        parts = [sample(policy, fresh, generator)] if fresh else []
        if (bred := count - fresh) > 0:
            chosen = torch.multinomial(weights, 2 * bred, replacement=True, generator=generator)
            plan = Plan.draw(bred, (self.least, self.most), self.scattered, self.crossover, generator)
            one, two = parents[chosen[:bred]], parents[chosen[bred:]]
            parts.append(children(policy, one, two, plan, context.reading, generator))
        return torch.cat(parts)


@torch.no_grad()
def remembered(context: Context, designs: Tensor) -> Batch:
    """Score designs `(B, ...)`, and return them as rows of the memory."""
    scores = context.scores(designs) if len(designs) else torch.zeros(0, device=designs.device)
    return as_remembered(context, designs, scores)


def as_remembered(context: Context, designs: Tensor, scores: Tensor) -> Batch:
    """Return designs `(B, ...)` with their scores `(B,)` as rows of the memory."""
    keys = context.reading.keys(designs)
    families = torch.zeros_like(keys) if context.reading.families is None else context.reading.families(designs)
    return {"designs": designs, "rewards": scores, "key": keys, "family": families}


def joined(memory: Batch, rows: Batch) -> Batch:
    """Return the rows of a memory, which may be empty, and new ones after them."""
    return {name: torch.cat([memory[name], rows[name]]) for name in rows} if memory else rows


def _new(keys: Tensor, known: set[int]) -> Tensor:
    """Return which rows with these keys `(B,)` are the first of a design that is not known, bool `(B,)`."""
    return first_of_each(keys) & torch.tensor([key not in known for key in keys.tolist()], device=keys.device)


def _has_tokens(designs: Tensor) -> bool:
    return designs.dim() == 2 and not designs.is_floating_point()


def _mean_distance(designs: Tensor, pad: int | None) -> float:
    """Return 1 − likeness, averaged over pairs of different rows."""
    alike, count = likeness(designs, pad), len(designs)
    return 1 - ((alike.sum() - alike.diagonal().sum()) / (count * (count - 1))).item()


def _related(reading: Reading, memory: Batch, rows: Tensor) -> Tensor:
    """Return which of some rows are of one family `(N, N)`, bool."""
    if reading.families is not None:
        family = memory["family"][rows]
        return family == family.unsqueeze(-1)
    designs = memory["designs"][rows]
    if not len(rows) or not _has_tokens(designs):
        return torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return likeness(designs, reading.pad) >= ALIKE
