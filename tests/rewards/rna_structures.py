"""Every secondary structure that a short RNA can form, by recursion over its first letter."""

from __future__ import annotations

from functools import cache

CANONICAL = {"AU", "UA", "GC", "CG", "GU", "UG"}


def every_structure(rna: str) -> list[str]:
    """All secondary structures of an RNA: canonical pairs, hairpins of three letters and more, no pseudoknots."""

    @cache
    def inside(i: int, j: int) -> tuple[str, ...]:
        if j <= i:
            return ("",)
        found = ["." + rest for rest in inside(i + 1, j)]
        for k in range(i + 4, j):
            if rna[i] + rna[k] in CANONICAL:
                found += [f"({a}){b}" for a in inside(i + 1, k) for b in inside(k + 1, j)]
        return tuple(found)

    return list(inside(0, len(rna)))
