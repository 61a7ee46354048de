"""Properties that can be read off a DNA or RNA string; T and U, upper and lower case are the same."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from biotilt.errors import ConfigError
from biotilt.rewards.base import NotScored, digest

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


@dataclass(frozen=True)
class GCFraction:
    """The fraction of G and C in a design, or how far it lies outside a target range.

    Without `low` and `high` the score is the fraction, in [0, 1]. With either of them, in [0, 1], it is minus
    the distance to the range [low, high]: 0 inside, negative outside. An empty design is not scored.

    Raises `ConfigError` when the range is empty or outside [0, 1].

    >>> GCFraction()(["GGCA"]), GCFraction(low=0.25, high=0.5)(["GGCA", "ACGT"])
    ([0.75], [-0.25, 0.0])
    """

    low: float | None = None
    high: float | None = None

    name = "gc"
    differentiable = False

    def __post_init__(self) -> None:
        for key in ("low", "high"):
            if getattr(self, key) is not None:
                _set_number(self, key, at_most=1.0)
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

    motifs: Sequence[str]
    penalty: float = 1.0

    name = "forbidden_motifs"
    differentiable = False

    def __post_init__(self) -> None:
        if isinstance(self.motifs, str) or not self.motifs:
            raise ConfigError(f'reward "forbidden_motifs": motifs = {self.motifs!r} must be a list of motifs')
        _set_number(self, "penalty")
        for motif in self.motifs:
            if not isinstance(motif, str) or not motif or set(_as_dna(motif)) - set(IUPAC):
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
    """Minus `penalty` (>= 0) for each start codon AUG in a 5' untranslated region, whatever its frame.

    Such a codon starts translation before the gene and lowers its expression (Kozak, 1987).

    >>> UpstreamAUG()(["GAUGCATGA", "GGG"])
    [-2.0, 0.0]
    """

    penalty: float = 1.0

    name = "upstream_aug"
    differentiable = False

    def __post_init__(self) -> None:
        _set_number(self, "penalty")

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self))}"

    def __call__(self, designs: list[str]) -> list[float]:
        return [0.0 - self.penalty * _as_dna(design).count("ATG") for design in designs]


def _as_dna(design: str) -> str:
    return design.upper().replace("U", "T")


def _set_number(reward: GCFraction | ForbiddenMotifs | UpstreamAUG, key: str, at_most: float = math.inf) -> None:
    """Check an option's range and store it as a float, so that 0 and 0.0 give one version."""
    value = getattr(reward, key)
    number = isinstance(value, int | float) and not isinstance(value, bool) and value != math.inf
    if not number or not 0 <= value <= at_most:
        limits = f"in [0, {at_most:g}]" if at_most < math.inf else ">= 0"
        raise ConfigError(f'reward "{reward.name}": {key} = {value!r} must be a number {limits}')
    object.__setattr__(reward, key, float(value))
