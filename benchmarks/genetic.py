"""A plain genetic algorithm on texts, the rival of the panels: it knows letters and scores, and no model."""

from __future__ import annotations

import random
from collections.abc import Sequence

FIRST, POPULATION, CHILDREN = 100, 100, 32
CROSSED = 0.5  # share of children with two parents
CHANGES = 1.5  # letters of a child that change, on average
RESIZED = 0.2  # share of the changes that insert or delete, where lengths differ
OFFSET = 5.0  # parents are drawn with probability ∝ 1/(offset + rank), as the search `evolve` draws them
TRIES = 50


class Genetic:
    """What is known of the first population: its letters, and the lengths that children may have.

    >>> algorithm = Genetic(["AAAA", "CCCC"], random.Random(0))
    >>> children = algorithm.children(["AAAA", "CCCC"], 5, {"AAAA", "CCCC"})
    >>> len(set(children)), {len(child) for child in children}, set("".join(children)) == {"A", "C"}
    (5, {4}, True)
    """

    def __init__(self, first: Sequence[str], rng: random.Random):
        self.letters = sorted(set("".join(first)))
        self.shortest, self.longest = min(map(len, first)), max(map(len, first))
        self.rng = rng

    def children(self, ranked: Sequence[str], count: int, known: set[str]) -> list[str]:
        """Return up to `count` different texts that are not `known`, of parents `ranked`, the best first."""
        parents = ranked[:POPULATION]
        weights = [1 / (OFFSET + rank) for rank in range(len(parents))]
        found: dict[str, None] = {}
        for _ in range(TRIES * count):
            if len(found) == count:
                break
            mother, father = self.rng.choices(parents, weights, k=2)
            child = self.changed(self.crossed(mother, father) if self.rng.random() < CROSSED else mother)
            if child not in known:
                found[child] = None
        return list(found)

    def crossed(self, mother: str, father: str) -> str:
        """Return the start of the one and the end of the other, of the first one's length."""
        place = self.rng.randrange(1, max(2, len(mother)))
        end = father[len(father) - len(mother) + place :] if len(father) >= len(mother) - place else ""
        return mother[:place] + end if len(end) == len(mother) - place else mother

    def changed(self, text: str) -> str:
        """Return a text with at least one change."""
        letters = list(text)
        changes = max(1, sum(self.rng.random() < CHANGES / len(text) for _ in text))
        for _ in range(changes):
            place = self.rng.randrange(len(letters))
            if self.shortest < self.longest and self.rng.random() < RESIZED:
                if len(letters) < self.longest and (len(letters) <= self.shortest or self.rng.random() < 0.5):
                    letters.insert(place, self.rng.choice(self.letters))
                elif len(letters) > self.shortest:
                    del letters[place]
            else:
                letters[place] = self.rng.choice([letter for letter in self.letters if letter != letters[place]])
        return "".join(letters)
