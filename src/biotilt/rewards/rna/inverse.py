"""Inverse folding: a search for an RNA whose structure of least energy is the one you name."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from biotilt.options import Number, Seed, Whole, check_options
from biotilt.rewards.rna.folding import MFEMatch, Parameters
from biotilt.rewards.rna.rewriting import LONG, Rewriting
from biotilt.rewards.rna.windows import Fault, Folded, Window, Windows
from biotilt.spaces.loops import Loops
from biotilt.spaces.paired import Paired

MISPAIRED = 0.1  # kcal/mol that a mispaired position costs beside the gap
HOT, COLD = 0.5, 0.1  # kcal/mol, temperatures of the search of a window
FIRST, MORE, MOST = 60, 1.5, 2000  # folds of a window: the first time, by what they grow, and at most
TRIES = 6  # moves a fold, of those that are ruled out without one
REACH = 3  # loops, stacked pairs among them, that a window reaches beyond a fault
SMALLER = 0.7  # of a window: what is left to mend lies in windows of their own
STARTS = 4
AFRESH = 3  # a window starts afresh every so many times
SWEEPS, ROUNDS = 2, 2  # of the parts of a long molecule, and of each part in one
RETURN = 12  # rounds until the search goes on from the best RNA


@dataclass(frozen=True)
class Found:
    """The best `rna` of a search, by its mispaired positions and the `gap` E(target) − E(least), kcal/mol.

    `stopped`: "solved", "folds" or "time". `folds`: structures of least energy computed, those of parts too;
    `seconds`: processor time.
    """

    rna: str
    solved: bool
    stopped: Literal["solved", "folds", "time"]
    folds: int
    mispaired: int
    gap: float
    seconds: float


@dataclass(frozen=True)
class InverseFolding:
    """Search for an RNA whose structure of least energy is the target, fault by fault.

    The molecule is folded, and its faults are taken apart: two do not touch that lie under different pairs which both
    structures have. Each is mended in a window: the loops up to `REACH` away, with a hairpin in place of whatever hangs
    on them, which folds in a fraction of the time; one that is right alone and wrong in the molecule gets wider. What
    mended a window is tried first where the target has the same part again. In a window: Metropolis search over
    cost(x) = gap + `MISPAIRED` · #mispaired with falling temperature, whose moves rewrite letters of the loops that
    touch a fault (`Rewriting`). A move that wrong structures found before rule out, by their energies alone, is
    rejected without a fold, which changes nothing else: the gap cannot be less than theirs.

    It samples no law, and no generator takes part in it.

    Args:
        target: the structure, dot-bracket.
        parameters, temperature, dangles: as for the rewards of folding.
        seed: the same gives the same search, until time ends it.
        scaffold: letters that stay, and "." for the others; both letters of a pair, or none.

    Raises ConfigError or DataError for a target that no RNA can have, and for a scaffold that does not fit.

    >>> found = InverseFolding("((((....))))...((((....))))").search(folds=100)
    >>> found.solved, found.mispaired, found.gap
    (True, 0, 0.0)
    """

    target: str
    parameters: Parameters = "turner2004"
    temperature: Annotated[Number, Field(ge=0, le=100)] = 37.0
    dangles: Annotated[Whole, Field(ge=0, le=3)] = 2
    seed: Seed = 0
    scaffold: str | None = None

    def __post_init__(self) -> None:
        check_options(self, "inverse folding")
        MFEMatch(self.parameters, self.temperature, self.dangles, self.target)
        if self.scaffold is not None:
            space = Paired(self.target)
            space.fixed(self.scaffold, space.length)

    def search(self, folds: int = 10_000, seconds: float = math.inf) -> Found:
        """Return the best RNA found in so many folds (≥ 1) and seconds of processor time."""
        return _Search(self, folds, seconds).run()


class _Spent(Exception):
    """The folds or the time are spent; says which."""


class _Search:
    """One search: the RNA it is at, and what it knows of each window."""

    def __init__(self, options: InverseFolding, folds: int, seconds: float) -> None:
        self.most_folds, self.most_seconds, self.began = folds, seconds, time.process_time()
        self.folds, self.sweeps, self.best_rna = 0, 0, list[str]()
        self.draws = random.Random(options.seed)
        loops = Loops(options.target)
        self.moves = Rewriting(loops, self.draws, options.scaffold)
        self.windows = Windows(loops, options.parameters, options.temperature, options.dangles)
        self.best = Folded(self.windows.whole, math.inf, {}, (0,))
        self.last: dict[Window, tuple[str, Folded]] = {}
        self.visits = Counter[Window]()
        self.reach: dict[int, int] = {}

    def run(self) -> Found:
        stopped: Any = "solved"
        try:
            self._go_on(self._first())
        except _Spent as reason:
            stopped = str(reason)
        best = self.best
        seconds = round(time.process_time() - self.began, 1)
        return Found(
            "".join(self.best_rna), not best.wrong, stopped, self.folds, len(best.wrong), round(best.gap, 2), seconds
        )

    def _first(self) -> list[str]:
        for _ in range(STARTS):
            letters = self.moves.fresh()
            if not self._fold(letters, self.windows.whole).wrong:
                break
        return self.best_rna

    def _go_on(self, letters: list[str]) -> None:
        """Mend one fault after another until the RNA folds as it should."""
        rounds = 0
        while (folded := self._fold(letters, self.windows.whole)).wrong:
            self._check_time()
            for window, faults in self._apart(folded):
                if len(window.places) >= LONG and self.sweeps < SWEEPS:
                    self.sweeps += 1
                    letters = self._swept(letters, window)
                else:
                    letters = self._mend(letters, window, faults)
            rounds += 1
            if rounds % RETURN == 0:
                letters = self.best_rna

    def _mended(self, letters: list[str], folded: Folded) -> list[str]:
        """Return the RNA with each fault of a window searched once."""
        for window, faults in self._apart(folded):
            letters = self._mend(letters, window, faults)
        return letters

    def _swept(self, letters: list[str], window: Window) -> list[str]:
        """Return the RNA with each part of a long window right alone, small ones first, as far as a few rounds go."""
        reach = REACH
        while parts := self._parts(window, reach):
            for part in parts:
                for _ in range(ROUNDS):
                    folded = self._fold(letters, part)
                    if not folded.wrong:
                        break
                    letters = self._mended(letters, folded)
            reach *= 2
        return letters

    def _parts(self, window: Window, reach: int) -> list[Window]:
        parts = self.windows.parts(window, reach)
        return [part for part in parts if len(part.places) < SMALLER * len(window.places)]

    def _apart(self, folded: Folded) -> list[tuple[Window, list[Fault]]]:
        """Return the windows of the faults, none within another, with what is wrong in each."""
        found: dict[Window, list[Fault]] = {}
        for fault in self.windows.faults(folded):
            window = self.windows.around(fault, self.reach.get(fault.under, REACH))
            found.setdefault(window, []).append(fault)
        return [(one, faults) for one, faults in found.items() if not any(one.inside < other.inside for other in found)]

    def _mend(self, letters: list[str], window: Window, faults: list[Fault]) -> list[str]:
        """Return the RNA with a window searched."""
        self.visits[window] += 1
        visits, start = self.visits[window], letters
        if visits % AFRESH == 0:
            wrong = [i for fault in faults for i in fault.wrong]
            places = window.free if len(window.places) < LONG else window.free & set(self.moves.loops_at(wrong))
            start = self.moves.afresh(letters, places)
        found, right = self._anneal(start, window, min(round(FIRST * MORE**visits), MOST))
        if right and found == letters:  # right alone, wrong in the molecule
            self.reach |= {fault.under: 2 * self.reach.get(fault.under, REACH) for fault in faults}
        return found

    def _anneal(self, letters: list[str], window: Window, folds: int) -> tuple[list[str], bool]:
        """Return the best RNA of a search of one window, and whether the window is right."""
        here = self._fold(letters, window)
        best, best_letters, start = here, letters, self.folds
        for tries in range(TRIES * folds):
            if not here.wrong or self.folds - start >= folds:
                break
            done = max((self.folds - start) / folds, tries / (TRIES * folds))
            limit = _cost(here) - HOT * (COLD / HOT) ** done * math.log(1 - self.draws.random())
            proposal = self.moves.rewritten(letters, here)
            if proposal == letters or self.windows.least_gap(proposal, window, limit - MISPAIRED) > limit - MISPAIRED:
                self._check_time()
                continue
            there = self._fold(proposal, window)
            if _cost(there) > limit:
                continue
            here, letters = there, proposal
            if _cost(here) <= _cost(best):
                best, best_letters = here, letters
                if self._smaller(here):
                    break
        return best_letters, not best.wrong

    def _smaller(self, folded: Folded) -> bool:
        """Return whether all that is wrong in a window lies in much smaller ones."""
        return all(len(one.places) < SMALLER * len(folded.window.places) for one, _ in self._apart(folded))

    def _fold(self, letters: list[str], window: Window) -> Folded:
        """Return how a window folds; what it was when last asked about costs no fold."""
        design = window.design(letters)
        known = self.last.get(window)
        if known is not None and known[0] == design:
            return known[1]
        if self.folds:
            self._check_time()
            if self.folds >= self.most_folds:
                raise _Spent("folds")
        self.folds += 1
        folded = self.windows.fold(letters, window)
        self.last[window] = design, folded
        if window == self.windows.whole and _cost(folded) < _cost(self.best):
            self.best, self.best_rna = folded, letters
        return folded

    def _check_time(self) -> None:
        if time.process_time() - self.began > self.most_seconds:
            raise _Spent("time")


def _cost(folded: Folded) -> float:
    """Return the cost of an RNA, 0 for one that is right (several structures may have the least energy)."""
    return folded.gap + MISPAIRED * len(folded.wrong) if folded.wrong else 0.0
