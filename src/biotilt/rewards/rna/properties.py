"""Properties that can be read off a DNA or RNA string; T and U, upper and lower case are the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from biotilt.errors import ConfigError
from biotilt.options import NotNegative, Share, check_options
from biotilt.rewards.generic.base import NotScored, digest

IUPAC = {
    "A": "A",
    "C": "C",
    "G": "G",
    "T": "T",
    "R": "[AG]",
    "Y": "[CT]",
    "S": "[CG]",
    "W": "[AT]",
    "K": "[GT]",
    "M": "[AC]",
    "B": "[CGT]",
    "D": "[AGT]",
    "H": "[ACT]",
    "V": "[ACG]",
    "N": "[ACGT]",
}
_KOZAK = ("G", "C", "C", "AG", "C", "C")  # positions −6 to −1 before AUG
_KOZAK_WEIGHTS = (1, 1, 1, 3, 1, 1)


@dataclass(frozen=True)
class GCFraction:
    """The fraction of G and C in a design, or how far it lies outside a target range.

    Without `low` and `high` the score is the fraction, in [0, 1]. With either of them, in [0, 1], it is minus
    the distance to the range [low, high]: 0 inside, negative outside. An empty design is not scored.

    Raises `ConfigError` when the range is empty or outside [0, 1].

    >>> GCFraction()(["GGCA"]), GCFraction(low=0.25, high=0.5)(["GGCA", "ACGT"])
    ([0.75], [-0.25, 0.0])
    """

    low: Share | None = None
    high: Share | None = None

    name = "gc"
    differentiable = False

    def __post_init__(self) -> None:
        check_options(self, 'reward "gc"')
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigError(f'reward "gc": low = {self.low} is above high = {self.high}')

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self))}"

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(_as_dna(design)) for design in designs]

    def _score(self, design: str) -> float:
        if not design:
            return NotScored("the design is empty")
        fraction = (design.count("G") + design.count("C")) / len(design)
        if self.low is None and self.high is None:
            return fraction
        low = 0.0 if self.low is None else self.low
        high = 1.0 if self.high is None else self.high
        return min(0.0, fraction - low, high - fraction)


@dataclass(frozen=True)
class ForbiddenMotifs:
    """Minus `penalty` for each occurrence of each motif, overlapping ones included, on the given strand.

    `motifs` may use the IUPAC letters (R = A or G, N = any, ...); a motif that is listed twice counts once.
    `penalty` is >= 0. To forbid both strands, list the reverse complements too.

    Raises `ConfigError` for an empty list, an empty motif or a letter outside IUPAC.

    >>> ForbiddenMotifs(["AUA", "GRC"], penalty=2.0)(["ATATA", "GAC", "CCC"])
    [-4.0, -2.0, 0.0]
    """

    motifs: Annotated[Sequence[str], Field(min_length=1)]
    penalty: NotNegative = 1.0

    name = "forbidden_motifs"
    differentiable = False

    def __post_init__(self) -> None:
        check_options(self, 'reward "forbidden_motifs"')
        for motif in self.motifs:
            if not motif or set(_as_dna(motif)) - set(IUPAC):
                raise ConfigError(f'reward "forbidden_motifs": motif {motif!r} must be made of {"".join(IUPAC)}U')
        object.__setattr__(self, "motifs", tuple(dict.fromkeys(_as_dna(motif) for motif in self.motifs)))

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self))}"

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        # A look-ahead consumes nothing, so that overlapping occurrences are all found.
        return [re.compile(f"(?={''.join(IUPAC[letter] for letter in motif)})") for motif in self.motifs]

    def __call__(self, designs: list[str]) -> list[float]:
        counts = [sum(len(pattern.findall(_as_dna(design))) for pattern in self._patterns) for design in designs]
        return [0.0 - self.penalty * count for count in counts]


@dataclass(frozen=True)
class UpstreamAUG:
    """Minus `penalty` (>= 0) for each start codon AUG in a 5' untranslated region.

    Such a codon starts translation before the gene and lowers its expression (Kozak, 1987). The gene starts right
    after the design. `frame` "in" counts only the codons that are read in the gene's frame and may lengthen its
    protein, "out" only the others, which shift it; "any" counts all.

    >>> UpstreamAUG()(["GAUGCATGA", "GGG"])
    [-2.0, 0.0]
    >>> UpstreamAUG(frame="out")(["GAUGCATGA", "AAUGCC"]), UpstreamAUG(frame="in")(["AUGCCC"])
    ([-2.0, -1.0], [-1.0])
    """

    penalty: NotNegative = 1.0
    frame: Literal["any", "in", "out"] = "any"

    name = "upstream_aug"
    differentiable = False

    def __post_init__(self) -> None:
        check_options(self, 'reward "upstream_aug"')

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self))}"

    def __call__(self, designs: list[str]) -> list[float]:
        return [0.0 - self.penalty * self._count(_as_dna(design)) for design in designs]

    def _count(self, design: str) -> int:
        frames = {"any": (0, 1, 2), "in": (0,), "out": (1, 2)}[self.frame]
        starts = (match.start() for match in re.finditer("ATG", design))
        return sum((len(design) - start) % 3 in frames for start in starts)


@dataclass(frozen=True)
class Kozak:
    """How near the last six letters of a 5' untranslated region are to Kozak's consensus GCCRCC, in [0, 1].

    The start codon AUG follows right after the design. A match counts 1, and 3 at −3, where a purine (R) matters
    most of these positions (Kozak, 1987); the sum is divided by 8, its largest value. The weights are a plain
    choice of ours, not measurements. A design of fewer than six letters is not scored.

    >>> Kozak()(["AAGCCACC", "GCCGCC", "GCCTCC", "UUUAUU"])
    [1.0, 1.0, 0.625, 0.375]
    """

    name = "kozak"
    differentiable = False

    @property
    def version(self) -> str:
        return "1"

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(_as_dna(design)) for design in designs]

    def _score(self, design: str) -> float:
        if len(design) < len(_KOZAK):
            return NotScored(f"the design has {len(design)} letters, and a start codon's context {len(_KOZAK)}")
        found = zip(design[-len(_KOZAK) :], _KOZAK, _KOZAK_WEIGHTS)
        return sum(weight for letter, wanted, weight in found if letter in wanted) / sum(_KOZAK_WEIGHTS)


def _as_dna(design: str) -> str:
    return design.upper().replace("U", "T")
