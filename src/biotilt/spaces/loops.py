"""The loops of an RNA's secondary structure: what lies between its pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from biotilt.spaces.paired import partners_of

OUTSIDE = -1


@dataclass(frozen=True)
class Loops:
    """The loops of a `structure` in dot-bracket notation; each is named by the first position of the pair around it.

    `OUTSIDE` names what no pair is around. A stack of two pairs is a loop without unpaired positions.

    >>> loops = Loops(".((...)(...)).")
    >>> loops.around
    (-1, -1, 1, 2, 2, 2, 1, 1, 7, 7, 7, 1, -1, -1)
    >>> loops.members[1]
    (1, 2, 6, 7, 11, 12)
    >>> loops.touching(7), loops.touching(13)
    ((1, 7), (-1,))
    """

    structure: str

    @cached_property
    def partners(self) -> tuple[int, ...]:
        """The partner of each position, −1 for none."""
        return partners_of(self.structure)

    @cached_property
    def around(self) -> tuple[int, ...]:
        """The loop each position is in: the innermost pair around it, where a pair is not around itself."""
        found, opened = list[int](), [OUTSIDE]
        for i, j in enumerate(self.partners):
            if 0 <= j < i:
                opened.pop()
            found.append(opened[-1])
            if j > i:
                opened.append(i)
        return tuple(found)

    @cached_property
    def members(self) -> dict[int, tuple[int, ...]]:
        """The positions of each loop in order, with those of the pair around it."""
        found: dict[int, list[int]] = {}
        for i, (loop, j) in enumerate(zip(self.around, self.partners)):
            found.setdefault(loop, []).append(i)
            if j >= 0:
                found.setdefault(min(i, j), []).append(i)
        return {loop: tuple(positions) for loop, positions in found.items()}

    @cached_property
    def neighbours(self) -> dict[int, tuple[int, ...]]:
        """The loops on the other sides of the pairs of each loop."""
        found: dict[int, list[int]] = {loop: [] for loop in self.members}
        for i, j in enumerate(self.partners):
            if j > i:
                found[i].append(self.around[i])
                found[self.around[i]].append(i)
        return {loop: tuple(near) for loop, near in found.items()}

    @cached_property
    def beside_pairs(self) -> tuple[bool, ...]:
        """Whether a position is unpaired and next to a paired one: its letter enters the energy of a loop."""
        paired = [False, *(j >= 0 for j in self.partners), False]
        return tuple(not paired[i + 1] and (paired[i] or paired[i + 2]) for i in range(len(self.partners)))

    @cached_property
    def in_stems(self) -> tuple[bool, ...]:
        """Whether a position is paired, and a pair is stacked on each side of its own."""
        return tuple(
            j >= 0 and all(self.stacks(loop) for loop in self.touching(i)) for i, j in enumerate(self.partners)
        )

    def touching(self, position: int) -> tuple[int, ...]:
        """Return the loops that a position is in: two where it is paired."""
        j = self.partners[position]
        return (self.around[position],) if j < 0 else (self.around[position], min(position, j))

    def stacks(self, loop: int) -> bool:
        """Return whether a loop is between two pairs that are stacked."""
        return (
            loop != OUTSIDE and len(self.members[loop]) == 4 and all(self.partners[i] >= 0 for i in self.members[loop])
        )
