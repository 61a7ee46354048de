"""What the generator of `rna_fold` learns from: RNAs that fold into their structure, made with ViennaRNA alone."""

from __future__ import annotations

import random
from collections.abc import Iterator

from biotilt.rewards.rna.folding import fold_compound
from biotilt.spaces.paired import partners_of

SHORTEST, LONGEST = 16, 110  # nucleotides
STABLE = 0.15  # the largest normalised ensemble defect of an example
_DEEPEST = 6
Pair = tuple[str, str]


def examples(count: int, seed: int) -> list[Pair]:
    """Return `count` different pairs of an RNA and its structure of least energy, in which it is mostly found.

    A third of the RNAs tried are of random letters; the others are written onto a random structure, with complementary
    letters where it pairs, and mostly A where not. What they are written onto is not kept: each has the structure
    that ViennaRNA gives it (Turner 2004, 37 °C). Kept are those that have pairs and an ensemble defect ≤ `STABLE`.
    """
    draws = random.Random(seed)
    found: dict[str, str] = {}
    for rna in _candidates(draws):
        compound = fold_compound(rna, "turner2004")
        structure, energy = compound.mfe()
        if "(" not in structure:
            continue
        compound.exp_params_rescale(energy)
        compound.pf()
        if compound.ensemble_defect(structure) <= STABLE:
            found[rna] = structure
        if len(found) == count:
            break
    return list(found.items())


def _candidates(draws: random.Random) -> Iterator[str]:
    while True:
        yield random_rna(draws)
        yield written_onto(random_structure(draws), draws)
        yield written_onto(random_structure(draws), draws)


def random_rna(draws: random.Random) -> str:
    """Return random letters: length and the fraction of G and C are drawn first."""
    gc = draws.uniform(0.3, 0.7)
    return "".join(draws.choices("ACGU", [1 - gc, gc, gc, 1 - gc], k=draws.randint(SHORTEST, LONGEST)))


def random_structure(draws: random.Random) -> str:
    """Return a structure of one to three stems side by side, each with loops and branches, in dot-bracket notation."""
    while True:
        stems = draws.choices([1, 2, 3], [0.7, 0.2, 0.1])[0]
        text = _gap(draws) + "".join(_stem(draws, 0) + _gap(draws) for _ in range(stems))
        if SHORTEST <= len(text) <= LONGEST:
            return text


def _stem(draws: random.Random, depth: int) -> str:
    pairs = min(2 + int(draws.expovariate(0.3)), 12)
    branching = 0.5 if depth == 0 else 0.15
    kind = draws.choices(["hairpin", "internal", "multi"], [0.4, 0.6 - branching, branching])[0]
    if depth == _DEEPEST:
        kind = "hairpin"
    if kind == "hairpin":
        inside = "." * draws.choices([3, 4, 5, 6, 7, 8, 9], [2, 6, 3, 2, 1, 1, 1])[0]
    elif kind == "internal":
        left, right = draws.choices([(0, 1), (1, 0), (1, 1), (2, 2), (1, 2), (3, 3), (2, 3), (0, 3), (4, 4)])[0]
        inside = "." * left + _stem(draws, depth + 1) + "." * right
    else:
        branches = draws.choices([2, 3, 4], [0.6, 0.3, 0.1])[0]
        inside = _gap(draws) + "".join(_stem(draws, depth + 1) + _gap(draws) for _ in range(branches))
    return "(" * pairs + inside + ")" * pairs


def _gap(draws: random.Random) -> str:
    return "." * draws.choices([0, 1, 2, 3, 4, 6], [4, 4, 2, 1, 1, 1])[0]


def written_onto(structure: str, draws: random.Random) -> str:
    """Return an RNA that could form a structure: the shares of GC pairs, wobbles and unpaired A are drawn first."""
    gc, wobble, a = draws.uniform(0.4, 0.95), draws.uniform(0.0, 0.15), draws.uniform(0.25, 0.95)
    letters = [""] * len(structure)
    for i, j in enumerate(partners_of(structure)):
        if j < 0:
            letters[i] = draws.choices("AGUC", [a, (1 - a) / 2, (1 - a) / 4, (1 - a) / 4])[0]
        elif j > i:
            kind = draws.choices(["GC", "GU", "AU"], [gc, wobble, max(1 - gc - wobble, 0.0)])[0]
            letters[i], letters[j] = kind if draws.random() < 0.5 else kind[::-1]
    return "".join(letters)
