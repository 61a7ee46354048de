"""Folding parts of an RNA that is to fold as a target says, and what their structures of least energy get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from biotilt.errors import needs_extra
from biotilt.rewards.rna.folding import Parameters, energies_of, fold_compound
from biotilt.spaces.loops import OUTSIDE, Loops
from biotilt.spaces.paired import PAIRS, partners_of

CAP = "GAAA"  # closes a stem that leaves a window
SMALLEST = 16  # positions under a pair that are worth leaving out


@dataclass(frozen=True)
class Window:
    """A part of the target: some of its loops, whatever hangs on them replaced by a hairpin.

    `places`: its positions in the molecule, in order, −1 for those of a hairpin; `structure`: that of the target there;
    `forced`: pairs, as indices of these, that lead out of it and are there whatever the rest does.
    """

    places: tuple[int, ...]
    structure: str
    forced: tuple[tuple[int, int], ...] = ()

    @cached_property
    def inside(self) -> frozenset[int]:
        return frozenset(self.places) - {-1}

    @cached_property
    def free(self) -> frozenset[int]:
        """The positions whose letters touch nothing outside."""
        return self.inside - {self.places[i] for pair in self.forced for i in pair}

    def design(self, rna: Sequence[str]) -> str:
        """Return the RNA that is folded in place of the whole."""
        caps = iter(CAP * self.places.count(-1))
        return "".join(rna[i] if i >= 0 else next(caps) for i in self.places)


@dataclass(frozen=True)
class Folded:
    """The structure of least energy of a window.

    `gap` ≥ 0: E(target) − E(least), kcal/mol, in the window. `partners` of its positions, −1 for none, and those that
    are `wrong` are numbered as in the molecule.
    """

    window: Window
    gap: float
    partners: dict[int, int]
    wrong: tuple[int, ...]


@dataclass(frozen=True)
class Fault:
    """Positions that are `wrong` under one pair of both structures, named by its first position, or by `OUTSIDE`."""

    under: int
    wrong: tuple[int, ...]


@dataclass
class Windows:
    """Folds windows of RNAs under a set of energies, and remembers the wrong structures that it found in each.

    `remembered`: how many structures are kept a window.
    """

    loops: Loops
    parameters: Parameters
    temperature: float
    dangles: int
    remembered: int = 40
    rivals: dict[Window, list[str]] = field(default_factory=dict)

    @cached_property
    def whole(self) -> Window:
        return Window(tuple(range(len(self.loops.structure))), self.loops.structure)

    def around(self, fault: Fault, reach: int) -> Window:
        """Return the loops that a fault touches, what is between them, and all that is at most `reach` loops away."""
        kept = set[int]()
        for i in fault.wrong:
            for loop in self.loops.touching(i):
                while loop not in kept:
                    kept.add(loop)
                    if loop in (fault.under, OUTSIDE):
                        break
                    loop = self.loops.around[loop]
        return self._grown(kept, reach)

    def parts(self, window: Window, reach: int) -> list[Window]:
        """Return the windows of all loops of another, with those at most `reach` away, innermost first; no stacks."""
        inside = [loop for loop in self.loops.members if window.inside.issuperset(self.loops.members[loop])]
        found = [self._grown({loop}, reach) for loop in sorted(inside, reverse=True) if not self.loops.stacks(loop)]
        return list(dict.fromkeys(part for part in found if part.inside < window.inside))

    def _grown(self, kept: set[int], reach: int) -> Window:
        edge = kept
        for _ in range(reach):
            edge = {near for loop in edge for near in self.loops.neighbours[loop]} - kept
            kept = kept | edge
        return self._of_loops(kept)

    def _of_loops(self, kept: set[int]) -> Window:
        """Return the window of loops that hang together."""
        partners = self.loops.partners
        outer = min(kept)
        i, last = (0, len(partners) - 1) if outer == OUTSIDE else (outer, partners[outer])
        places, structure, forced = list[int](), "", list[tuple[int, int]]()
        if outer != OUTSIDE:
            forced.append((0, -1))
        while i <= last:
            j = partners[i]
            if j > i and i not in kept and j - i > SMALLEST:
                forced.append((len(places), len(places) + len(CAP) + 1))
                places += [i, *[-1] * len(CAP), j]
                structure += "(" + "." * len(CAP) + ")"
                i = j + 1
            else:
                places.append(i)
                structure += self.loops.structure[i]
                i += 1
        return Window(tuple(places), structure, tuple((a, b % len(places)) for a, b in forced))

    def fold(self, rna: Sequence[str], window: Window) -> Folded:
        """Return the structure of least energy of a window of an RNA; one fold."""
        compound = fold_compound(window.design(rna), self.parameters, self.temperature, self.dangles)
        for i, j in window.forced:
            compound.hc_add_bp(i + 1, j + 1, _forced())
        structure, least = compound.mfe()
        gap = max(0.0, compound.eval_structure(window.structure) - least)
        found = partners_of(structure)
        partners = {i: window.places[j] if j >= 0 else -1 for i, j in zip(window.places, found) if i >= 0}
        wrong = tuple(i for i, j in partners.items() if j != self.loops.partners[i])
        if wrong:
            self._remember(window, structure)
        return Folded(window, gap, partners, wrong)

    def _remember(self, window: Window, structure: str) -> None:
        rivals = self.rivals.setdefault(window, [])
        if structure in rivals:
            rivals.remove(structure)
        rivals.insert(0, structure)
        del rivals[self.remembered :]

    def least_gap(self, rna: Sequence[str], window: Window, enough: float) -> float:
        """Return a lower bound of the gap of a window, or one above `enough`, without a fold.

        No structure has less energy than that of least energy: so E(target) − E(s) is a bound for every structure s
        that the letters can form, and the wrong ones that were found before are tried.
        """
        rivals = self.rivals.get(window)
        if not rivals:
            return 0.0
        design = window.design(rna)
        compound = energies_of(design, self.parameters, self.temperature, self.dangles)
        target, bound = compound.eval_structure(window.structure), 0.0
        for structure in rivals:
            if all(design[i] + design[j] in PAIRS for i, j in _pairs_of(structure)):
                bound = max(bound, target - compound.eval_structure(structure))
                if bound > enough:
                    self._remember(window, structure)
                    break
        return bound

    def faults(self, folded: Folded) -> list[Fault]:
        """Return the wrong positions by the innermost pair of both structures that is around them.

        Faults under different pairs do not touch: the energy between the two structures is a sum over such pairs.
        """
        found: dict[int, list[int]] = {}
        for i in folded.wrong:
            loop = self.loops.around[i if self.loops.partners[i] < 0 else min(i, self.loops.partners[i])]
            while loop != OUTSIDE and folded.partners[loop] != self.loops.partners[loop]:
                loop = self.loops.around[loop]
            found.setdefault(loop, []).append(i)
        return [Fault(loop, tuple(wrong)) for loop, wrong in found.items()]


@lru_cache(maxsize=4096)
def _pairs_of(structure: str) -> tuple[tuple[int, int], ...]:
    return tuple((i, j) for i, j in enumerate(partners_of(structure)) if j > i)


def _forced() -> int:
    RNA = needs_extra("RNA", "rna")
    return RNA.CONSTRAINT_CONTEXT_ALL_LOOPS | RNA.CONSTRAINT_CONTEXT_ENFORCE
