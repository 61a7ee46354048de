"""What screens share that rank designs by a prediction: a share at random, how well it did, and when it rests."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from biotilt.core import Batch, Screen, View
from biotilt.formulas.acquisition import lead_and_error, rank_correlation
from biotilt.options import Number, Pair, Rate, check_options

REMEMBERED = 256  # picks that are judged
FEWEST = 24  # of them at random, before it is judged
RETRY = 64  # designs that it was right about, although it did not choose, before it chooses again


@dataclass(frozen=True)
class RankingOptions:
    """`factor` · n designs are drawn for n calls; a share `at_random` of the calls goes to designs that are not ranked.

    It begins to choose when `start` designs were scored, and knows at most `rows` of them: where there are more, it
    forgets a quarter, keeping the best half and of the others a random part.
    """

    factor: Annotated[Number, Field(ge=1, le=1000)] = 4.0
    at_random: Rate = 0.125
    start: Pair = 64
    rows: Pair = 600

    def __post_init__(self) -> None:
        check_options(self, "screen")


class RankingScreen(Screen):
    """Ranks designs that are new by what they promise, and keeps an account of how that turned out.

    Of n designs a share `at_random` is drawn uniformly from all that are new, the rest are the most promising of the
    others. Designs that it knows, or that are proposed twice, are chosen only where there are not enough new ones.

    It rests where its own picks score no better than those at random: when the lead of the means is below its standard
    error (Welch), over its newest 256 picks of which 24 or more were at random. While it rests every design drawn is
    scored; it goes on to predict and to learn, and chooses again when over the newest 64 designs Spearman's ρ between
    prediction and score exceeds 2/√63, twice what chance spreads. Infeasible designs count in means as `floored`.

    Designs are kept, and shown to `predict` and `promise`, in the memory of the processor, wherever the networks are.
    """

    def __init__(self, options: RankingOptions, view: View):
        self.options, self.view = options, view
        self.designs, self.scores = torch.zeros(0), torch.zeros(0, dtype=torch.float64)
        self.known: set[str] = set()
        self.seen, self.resting, self.told = 0, False, False
        # a row a pick: prediction, score, whether it was at random, the number of the choice
        self.picks = torch.zeros(0, 4, dtype=torch.float64)
        self.choices = 0
        self._pending: dict[str, bool] = {}

    @abstractmethod
    def fit(self, new: int, *, again: bool) -> None:
        """Learn from `designs` and `scores`, of which the last `new` are; `again`: earlier ones were forgotten."""

    @abstractmethod
    def predict(self, designs: Tensor) -> Tensor:
        """Return the scores `(N,)` that it expects."""

    @abstractmethod
    def promise(self, designs: Tensor, count: int, generator: Generator) -> Tensor:
        """Return `(N,)` by which designs are ranked, the largest first; `count` of them will be scored."""

    @property
    def ready(self) -> bool:
        """Whether it knows enough designs to predict others."""
        return int(self.scores.isfinite().sum()) >= self.options.start

    def proposals(self, count: int) -> int:
        return round(self.options.factor * count) if self.ready and not self.resting else count

    @torch.no_grad()
    def choose(self, designs: Tensor, count: int, generator: Generator) -> Tensor:
        drawn, device = designs.cpu(), designs.device
        keys = self._keys(drawn)
        first = self._new(keys)
        order = torch.randperm(len(designs), generator=generator, device=generator.device).tolist()
        new = [i for i in order if i in first]
        at_random = new[: max(1, round(self.options.at_random * count))]
        rest = torch.tensor(new[len(at_random) :], dtype=torch.int64)
        picked = list(at_random)
        if len(rest) and len(picked) < count:
            promise = self.promise(drawn[rest], count - len(picked), generator).cpu()
            picked += rest[promise.argsort(descending=True, stable=True)].tolist()
        picked = (picked + [i for i in order if i not in first])[:count]
        chance = set(at_random)
        self._pending = {keys[i]: i in chance for i in picked if i in first}
        return torch.tensor(sorted(picked), device=device)

    @torch.no_grad()
    def learn(self, designs: Tensor, scores: Tensor) -> None:
        designs, scores = designs.cpu(), scores.detach().double().cpu()
        keys = self._keys(designs)
        new = [i for i in self._new(keys) if not scores[i].isnan()]
        if not new:
            return
        rows, scored = designs[new], scores[new]
        if self.ready:
            self._account([keys[i] for i in new], self.predict(rows).double().cpu(), scored)
        self.seen += len(new)
        self.known.update(keys[i] for i in new)
        self.designs = torch.cat([self.designs, rows]) if len(self.scores) else rows.clone()
        self.scores = torch.cat([self.scores, scored])
        forgot = len(self.scores) > self.options.rows
        if forgot:
            self._forget()
        if self.ready:
            self.fit(len(new), again=forgot)

    def figures(self) -> dict[str, float]:
        own, chance = self._ours(), self.picks[self.picks[:, 2] == 1]
        newest = own[own[:, 3] == self.choices]
        found = {
            "screen/on": float(self.ready and not self.resting), "screen/rows": float(len(self.scores)),
            "screen/rank": rank_correlation(newest[:, 0], newest[:, 1]),
            "screen/rank_random": rank_correlation(chance[:, 0], chance[:, 1]),
        }  # fmt: skip
        if len(own) > 1 and len(chance) > 1:
            found["screen/lead"] = lead_and_error(self.floored(own[:, 1]), self.floored(chance[:, 1]))[0]
        return {key: value for key, value in found.items() if value == value}

    def state(self) -> Batch:
        counts = torch.tensor([self.seen, self.resting, self.told, self.choices], dtype=torch.int64)
        return {"designs": self.designs, "scores": self.scores, "picks": self.picks, "counts": counts}

    def load_state(self, state: Batch) -> None:
        self.designs, self.scores = state["designs"].cpu(), state["scores"].cpu()
        self.picks, counts = state["picks"].cpu(), state["counts"].tolist()
        if self.picks.dim() != 2 or self.picks.shape[1] != 4 or len(self.designs) != len(self.scores):
            raise ValueError("what the screen kept of its picks or designs has another shape")
        self.seen, self.resting, self.told, self.choices = counts[0], bool(counts[1]), bool(counts[2]), counts[3]
        self.known = set(self._keys(self.designs)) if len(self.scores) else set()
        self._pending = {}

    def floored(self, scores: Tensor) -> Tensor:
        """Return scores with what stands for infeasible: the worst feasible one known less the spread of these."""
        feasible = self.scores[self.scores.isfinite()]
        if not len(feasible):
            return torch.zeros_like(scores)
        floor = feasible.min() - feasible.std(correction=0)
        return torch.where(scores == -torch.inf, floor, scores)

    def _keys(self, designs: Tensor) -> list[str]:
        return [self.view.space.key(design) for design in self.view.decode(designs)]

    def _new(self, keys: Sequence[str]) -> dict[int, None]:
        """Return the places, in order, at which a design stands that it does not know, each once."""
        first: dict[str, int] = {}
        for place, key in enumerate(keys):
            first.setdefault(key, place)
        return dict.fromkeys(place for key, place in first.items() if key not in self.known)

    def _ours(self) -> Tensor:
        return self.picks[self.picks[:, 2] == 0]

    def _account(self, keys: Sequence[str], predicted: Tensor, scores: Tensor) -> None:
        """Remember how predictions turned out, and decide whether it goes on to choose."""
        judged = [i for i, key in enumerate(keys) if self.resting or key in self._pending]
        if not judged:  # nobody asked which to score
            return
        self.choices += 1
        chance = torch.tensor([self.resting or self._pending[keys[i]] for i in judged]).double()
        rows = torch.stack([predicted[judged], scores[judged], chance, torch.full_like(chance, self.choices)], 1)
        self.picks, self._pending = torch.cat([self.picks, rows])[-REMEMBERED:], {}
        if self.resting:
            newest = self.picks[-RETRY:]
            rank = rank_correlation(newest[:, 0], newest[:, 1]) if len(newest) == RETRY else 0.0
            if rank > 2 / (RETRY - 1) ** 0.5:
                self.resting, self.picks = False, self.picks[:0]
            return
        own, others = self._ours(), self.picks[self.picks[:, 2] == 1]
        if len(own) > 1 and len(others) >= FEWEST:
            lead, error = lead_and_error(self.floored(own[:, 1]), self.floored(others[:, 1]))
            if lead <= error:
                self._rest(lead, error)

    def _rest(self, lead: float, error: float) -> None:
        self.resting, self.picks = True, self.picks[:0]
        if not self.told:
            warnings.warn(
                f'the screen "{self.name}" is of no use for now: what it chose scores {lead:.3g} more than what chance '
                f"chose, with a standard error of {error:.3g}; it rests until its predictions are right again",
                stacklevel=2,
            )
        self.told = True

    def _forget(self) -> None:
        """Keep the best of all designs, and as many of the others at random, three quarters of `rows` in all."""
        keep = self.options.rows * 3 // 4
        order = self.scores.argsort(descending=True, stable=True)
        best, others = order[: keep // 2], order[keep // 2 :]
        draw = torch.Generator().manual_seed(self.seen)
        kept = torch.cat([best, others[torch.randperm(len(others), generator=draw)[: keep - len(best)]]])
        kept = kept.sort().values
        self.designs, self.scores = self.designs[kept], self.scores[kept]
        self.known = set(self._keys(self.designs))
