"""Moves of a search for an RNA of a given structure: which letters are rewritten, and with what."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from biotilt.rewards.rna.windows import Folded
from biotilt.spaces.loops import Loops
from biotilt.spaces.paired import PAIRS

LETTERS = ("A", "G", "U", "C")
# chances of the letters above, and of GC, CG, AU, UA, GU, UG: plain choices, by what the energies reward
WITHIN_LOOPS = (88, 5, 4, 3)  # no letter here enters the energy of the target, and A pairs with little
BESIDE_PAIRS = (45, 35, 15, 5)  # mismatches of G with A or G, and of two U, hold a loop together
WITHIN_STEMS = (30, 30, 17, 17, 3, 3)
AT_LOOPS = (42, 42, 6, 6, 2, 2)  # the pairs that close a loop bear its cost
UNIFORM = 0.5  # of the moves: any letters, so that no RNA is out of reach
OF_LOOPS = 0.6  # of the moves: letters of the loops around a fault; of the others: beside it
LESS = 0.15  # weight of a position within a loop beside one whose letter matters
LOOP_LETTERS, NEAR_LETTERS = 1.5, 1.1  # mean number of further letters of a move
AT_MOST = 9  # letters of a move
REACH = 2  # positions beside a fault
LONG = 120  # letters of a window in which whole false stems are undone
OF_FALSE_STEMS = 0.35  # of the moves there


@dataclass(frozen=True)
class Rewriting:
    """Writes letters into an RNA so that the pairs of the target stay pairs; a `scaffold` says which letters stay.

    Every move that leads from one RNA to another of the free letters leads back with a chance above 0, from an RNA
    with a fault; the chances differ.
    """

    loops: Loops
    draws: random.Random
    scaffold: str | None = None

    def fresh(self) -> list[str]:
        """Return a new RNA."""
        places = range(len(self.loops.structure))
        return self._written(["A"] * len(places), places, uniform=False)

    def afresh(self, letters: Sequence[str], places: Collection[int]) -> list[str]:
        """Return the RNA with new letters at some positions and their partners."""
        return self._written(letters, places, uniform=False)

    def loops_at(self, positions: Iterable[int]) -> list[int]:
        """Return the positions of the loops that some are in."""
        return sorted({i for p in positions for loop in self.loops.touching(p) for i in self.loops.members[loop]})

    def rewritten(self, letters: Sequence[str], folded: Folded) -> list[str]:
        """Return the RNA with a few letters changed about one of the positions that are wrong in a window.

        Either letters of the loops that the position, its partner and its false partner are in, or letters beside
        these; in a long window also one strand of the false stem that it is in. It may come back as it was.
        """
        focus = self.draws.choice(folded.wrong)
        if len(folded.window.places) >= LONG and self.draws.random() < OF_FALSE_STEMS:
            return self._written(letters, false_strand(focus, folded) & folded.window.free, uniform=False)
        centres = [i for one in (focus, folded.partners[focus]) if one >= 0 for i in (one, self.loops.partners[one])]
        centres = [i for i in centres if i >= 0]
        if self.draws.random() < OF_LOOPS:
            chosen = self._of_loops(centres, folded.window.free)
        else:
            chosen = self._beside(focus, centres, folded.window.free)
        return self._written(letters, chosen, uniform=self.draws.random() < UNIFORM)

    def _of_loops(self, centres: Iterable[int], free: frozenset[int]) -> list[int]:
        loops = sorted({loop for i in centres for loop in self.loops.touching(i)})
        members = [i for loop in loops for i in self.loops.members[loop] if i in free]
        weights = [1.0 if self.loops.partners[i] >= 0 or self.loops.beside_pairs[i] else LESS for i in members]
        return self.draws.choices(members, weights, k=self._count(LOOP_LETTERS)) if members else []

    def _beside(self, focus: int, centres: Iterable[int], free: frozenset[int]) -> list[int]:
        near = sorted({i for c in centres for i in range(c - REACH, c + REACH + 1)} & free)
        count = min(self._count(NEAR_LETTERS), len(near))
        if focus in free and self.draws.random() < 0.5:
            return [focus, *self.draws.sample(near, count - 1)]
        return self.draws.sample(near, count)

    def _count(self, mean: float) -> int:
        return min(1 + int(self.draws.expovariate(1 / mean)), AT_MOST)

    def _written(self, letters: Sequence[str], chosen: Iterable[int], uniform: bool) -> list[str]:
        """Return the RNA with new letters at the chosen positions, and their partners'."""
        new = list(letters)
        for i in sorted({i if (j := self.loops.partners[i]) < 0 else min(i, j) for i in chosen}):
            places = [k for k in (i, self.loops.partners[i]) if k >= 0]
            drawn = "".join(map(self._held, places)) if not self._free(i) else self._drawn(i, uniform)
            for place, letter in zip(places, drawn, strict=True):
                new[place] = letter
        return new

    def _drawn(self, i: int, uniform: bool) -> str:
        """Return a letter, or the two letters of a pair."""
        if self.loops.partners[i] < 0:
            chances = BESIDE_PAIRS if self.loops.beside_pairs[i] else WITHIN_LOOPS
            return self.draws.choices(LETTERS, None if uniform else chances)[0]
        chances = WITHIN_STEMS if self.loops.in_stems[i] else AT_LOOPS
        return self.draws.choices(PAIRS, None if uniform else chances)[0]

    def _free(self, i: int) -> bool:
        return self.scaffold is None or self.scaffold[i] == "."

    def _held(self, i: int) -> str:
        assert self.scaffold is not None
        return self.scaffold[i].upper().replace("T", "U")


def false_strand(focus: int, folded: Folded) -> set[int]:
    """Return a wrong position with those around it whose partners follow on its own and are wrong too."""
    wrong, found = set(folded.wrong), {focus}
    for step in (1, -1):
        i = focus + step
        while i in wrong and folded.partners[i] == folded.partners[i - step] - step >= 0:
            found.add(i)
            i += step
    return found
