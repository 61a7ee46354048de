"""Moves of a search among designs: hide, or noise, a part of one, or cross two, and let a policy denoise it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from biotilt.core.capabilities import Reveals
from biotilt.core.fixed import Holding
from biotilt.core.policy import Policy
from biotilt.core.protocols import Process
from biotilt.core.reading import Reading

LONGEST_CHANGE = 3  # tokens that a move adds or takes away


@dataclass(frozen=True)
class Kept:
    """Coordinates `mask` (bool, `(B, ...)`) that rows have in common with `designs` `(B, ...)` when all is done."""

    mask: Tensor
    designs: Tensor


@torch.no_grad()
def complete(policy: Policy, x: Tensor, k: Tensor, generator: Generator, kept: Kept | None = None) -> Tensor:
    """Return designs drawn from states `(B, ...)` of the steps `k` `(B,)` in [0, K] on, each row from its own.

    A row that has reached step K, or in which nothing is hidden any more, costs nothing. What is `kept` is noised as
    far as each step is and put in the place of what was drawn (Lugmayr et al. 2022, arXiv 2201.09865, without their
    repetitions): the others are drawn beside it, and follow it less than by the law of the rest of a design.
    """
    process, x, k = policy.process, x.clone(), k.clone()
    while (going := _going(process, x, k)).any():
        rows = going.nonzero().squeeze(-1)
        x[rows] = policy.kernel(x[rows], k[rows]).sample(generator)
        k[rows] += 1
        if kept is not None:
            noised = process.corrupt(kept.designs[rows], k[rows], generator)
            x[rows] = torch.where(kept.mask[rows], noised, x[rows])
    return x


def _going(process: Process, x: Tensor, k: Tensor) -> Tensor:
    going = k < process.steps
    return going & process.hidden(x).any(-1) if isinstance(process, Reveals) else going


@dataclass(frozen=True)
class Plan:
    """How children come from parents, in numbers `(B,)` each.

    `share` in (0, 1] of what is hidden; `at` in [0, 1), where the span begins; `change`: tokens more than were hidden;
    `scattered`: hidden here and there, not in one span; `cross` in [0, 1): where parents are crossed, NaN for not.
    """

    share: Tensor
    at: Tensor
    change: Tensor
    scattered: Tensor
    cross: Tensor

    @classmethod
    def draw(
        cls, count: int, shares: tuple[float, float], scattered: float, crossover: float, generator: Generator
    ) -> Plan:
        """Draw `count` plans: shares uniform between two, no change of length half the time, else ±1…3."""
        u = torch.rand(6, count, generator=generator, device=generator.device)
        size = (u[2] * 2 * LONGEST_CHANGE).long()  # 0 … 5 stand for 1, 2, 3, −1, −2, −3
        change = torch.where(size < LONGEST_CHANGE, size + 1, LONGEST_CHANGE - 1 - size)
        return cls(
            shares[0] + u[0] * (shares[1] - shares[0]), u[1], torch.where(u[3] < 0.5, change, 0), u[4] < scattered,
            torch.where(u[5] < crossover, u[5] / max(crossover, 1e-9), torch.nan),
        )  # fmt: skip


def children(
    policy: Policy, parents: Tensor, partners: Tensor, plan: Plan, reading: Reading, generator: Generator
) -> Tensor:
    """Return designs `(B, ...)` like those of the parents, `partners` where two are crossed.

    Where letters are hidden and revealed, a span of the tokens that are no pads is hidden, and where designs differ in
    length it may be given back longer or shorter: the rest moves. Where they have a shape, such as the loops of an RNA,
    tokens that are near in it are hidden together. Elsewhere parents are noised and denoised again: see `_renoised`.
    """
    process = policy.process
    if not isinstance(process, Reveals):
        return _renoised(policy, parents, plan, generator)
    editor = Editor.of(process, process.noise(1, generator), reading)
    ranks = torch.rand(parents.shape, generator=generator, device=generator.device).argsort(-1)
    columns = (part.tolist() for part in (parents, partners, plan.share, plan.at, plan.change, plan.scattered, ranks))
    rows = [
        editor.child(editor.crossed(one, two, cut), share, at, change, rank if scattered else None)
        for (one, two, share, at, change, scattered, rank), cut in zip(zip(*columns), plan.cross.tolist())
    ]
    x = torch.tensor(rows, dtype=parents.dtype, device=parents.device)
    return complete(policy, x, process.step_of(x), generator)


def _renoised(policy: Policy, parents: Tensor, plan: Plan, generator: Generator) -> Tensor:
    """Return the parents with noise of a `share` of the steps, denoised; no two are crossed.

    The noise goes into all coordinates; of those that are `scattered`, all of it goes into a share of the coordinates,
    and the others stay.
    """
    process = policy.process
    k = process.steps - (plan.share * process.steps).ceil().long().clamp(1, process.steps)
    if parents.dim() == 1 or not plan.scattered.any():
        return complete(policy, process.corrupt(parents, k, generator), k, generator)
    flat = parents.flatten(1)
    ranks = torch.rand(flat.shape, generator=generator, device=generator.device).argsort(-1)
    stay = ranks >= (plan.share * flat.shape[1]).ceil().unsqueeze(-1)
    kept = Kept((stay & plan.scattered.unsqueeze(-1)).view_as(parents), parents)
    k = torch.where(plan.scattered, 0, k)
    return complete(policy, process.corrupt(parents, k, generator), k, generator, kept)


@dataclass(frozen=True)
class Editor:
    """Writes rows of tokens with a part hidden.

    `free`: positions that may change, by their number; `bound`: those that must keep their token, or may not have any,
    which nothing may move over; `mask`: the token of what is hidden.
    """

    length: int
    free: tuple[bool, ...]
    bound: tuple[int, ...]
    mask: int
    reading: Reading

    @classmethod
    def of(cls, process: Reveals, blank: Tensor, reading: Reading) -> Editor:
        """Return the editor of a process whose state with everything hidden is `blank` `(1, L)`."""
        free = process.hidden(blank)[0]
        loose = free.clone()
        if isinstance(process, Holding) and process.fixed is not None and process.fixed.allowed is not None:
            loose &= process.fixed.allowed.to(free.device).all(-1)
        bound = (~loose).nonzero().squeeze(-1).tolist()
        return cls(blank.shape[1], tuple(free.tolist()), tuple(bound), int(blank[0][free][0]), reading)

    def child(
        self, row: Sequence[int], share: float, at: float, change: int = 0, order: Sequence[int] | None = None
    ) -> list[int]:
        """Return a row with ⌈share · ℓ⌉ of the ℓ tokens hidden that are free and no pads: a span, or by `order`.

        A span is given back `change` tokens longer, where there is room and nothing bound would move. Where designs
        have a shape, it is the tokens nearest to one of them instead.
        """
        places = [i for i, token in enumerate(row) if self.free[i] and token != self.reading.pad]
        places = places or [i for i in range(self.length) if self.free[i]]
        size = min(len(places), max(1, math.ceil(share * len(places))))
        if order is not None:
            hidden = set(sorted(places, key=order.__getitem__)[:size])
        elif self.reading.near is not None:
            allowed = set(places)
            near = self.reading.near[places[int(at * len(places))]]
            hidden = set([i for i in near if i in allowed][:size])
        else:
            start = int(at * (len(places) - size + 1))
            hidden = set(places[start : start + size])
            if change and (moved := self._resized(row, min(hidden), max(hidden), size + change)) is not None:
                return moved
        return [self.mask if i in hidden else token for i, token in enumerate(row)]

    def crossed(self, one: Sequence[int], two: Sequence[int], cut: float) -> Sequence[int]:
        """Return the beginning of one row and the end of another, cut at the same share of each; NaN cuts nothing."""
        if math.isnan(cut):
            return one
        ours, theirs = self._word(one), self._word(two)
        joined = self._row(ours[: round(cut * len(ours))] + theirs[round(cut * len(theirs)) :])
        if self.reading.pad is not None and joined is not None and self._keeps(one, joined):
            return joined
        place = int(cut * self.length)
        return [*one[:place], *two[place:]]

    def _resized(self, row: Sequence[int], first: int, last: int, count: int) -> list[int] | None:
        """Return the row with `count` masks in place of the positions `first` to `last`; None where that cannot be."""
        if self.reading.pad is None:
            return None
        before, after = self._word(row[:first]), self._word(row[last + 1 :])
        count = max(min(count, self.length - len(before) - len(after)), 0 if before or after else 1)
        found = self._row(before + [self.mask] * count + after)
        return found if found is not None and self._keeps(row, found) else None

    def _word(self, row: Sequence[int]) -> list[int]:
        return [token for token in row if token != self.reading.pad]

    def _row(self, word: list[int]) -> list[int] | None:
        """Return a word filled up with pads; None where it is too long, or there are none."""
        pad = self.reading.pad
        if len(word) > self.length or (pad is None and len(word) < self.length):
            return None
        fill = [] if pad is None else [pad] * (self.length - len(word))
        return fill + word if self.reading.pads_first else word + fill

    def _keeps(self, row: Sequence[int], new: Sequence[int]) -> bool:
        """Return whether what is bound is where it was."""
        return all(row[i] == new[i] for i in self.bound)
