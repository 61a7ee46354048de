"""What redesigns are asked to gain or to keep: counts of residues, motifs to avoid, likeness to a sequence."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from biotilt.errors import ConfigError, suggest
from biotilt.options import Name, NotNegative, Text, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.rewards.generic.ranges import check_range, label_of, within
from biotilt.spaces import PROTEIN

# Sites by regular expression, one letter of the 20 each. Proteases as in PROSITE and ExPASy's PeptideCutter.
MOTIFS = {
    "n_glycosylation": "N[^P][ST][^P]",  # PROSITE PS00001
    "tev": "E..Y.Q[GS]",
    "thrombin": "LVPRG",
    "factor_xa": "I[DE]GR",
    "enterokinase": "DDDDK",
    "furin": "R.[KR]R",
    "prescission": "LEVLFQG",
    "dibasic": "[KR][KR]",  # where trypsin-like proteases of hosts cut
    "deamidation": "N[GS]",
    "isomerisation": "D[GS]",
    "integrin": "RGD",
}


@dataclass(frozen=True)
class _OfSequence(ABC):
    """A number of a sequence of the 20 residues; a design that is empty, or has another letter, is not scored."""

    name: ClassVar[str]
    units: ClassVar[str] = ""
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self, f'reward "{self.name}"')

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self))}"

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(str(design).upper()) for design in designs]

    def _score(self, design: str) -> float:
        if not design:
            return NotScored("the design is empty")
        if wrong := PROTEIN.wrong_columns(design):
            return NotScored(f"column {wrong[0]}: {PROTEIN.explain(design[wrong[0] - 1])}")
        return self.of(design)

    @abstractmethod
    def of(self, design: str) -> float:
        """Return the score of a design of the 20 letters."""


@dataclass(frozen=True)
class ResidueCount(_OfSequence):
    """How many residues are one of `residues`, such as "C" for cysteines; or minus its distance to [low, high].

    >>> ResidueCount("C", high=0)(["ACCA", "AAA"])
    [-2.0, 0.0]
    """

    residues: Text
    low: float | None = None
    high: float | None = None

    name = "residue_count"
    units = "residues"
    label = property(label_of)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self)
        if not self.residues or set(self.residues.upper()) - set(PROTEIN.letters):
            raise ConfigError('reward "residue_count": residues must be letters of the 20, such as "C"')

    def of(self, design: str) -> float:
        count = float(sum(letter in self.residues.upper() for letter in design))
        distance = within(count, self.low, self.high)
        return count if distance is None else distance


@dataclass(frozen=True)
class AvoidedMotifs(_OfSequence):
    """Minus the number of sites that a protein should not have, times `penalty`; 0 when there is none.

    `motifs`: names of `MOTIFS` ("n_glycosylation", "tev", "furin", "dibasic", …), or patterns in which "." is any
    residue, "[ST]" one of some and "[^P]" none of some, each of a fixed length. Sites that overlap all count.

    >>> AvoidedMotifs(("n_glycosylation", "KK"))(["NASA", "NPSA", "KKK"])
    [-1.0, 0.0, -2.0]
    """

    motifs: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)] = ("n_glycosylation",)
    penalty: NotNegative = 1.0

    name = "avoided_motifs"
    units = "sites"
    negated = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for motif in self.motifs:
            if motif not in MOTIFS and not re.fullmatch(r"(?:[A-Z.]|\[\^?[A-Z]+\])+", motif):
                raise ConfigError(
                    f'reward "{self.name}": "{motif}" is no pattern and no known motif{suggest(motif, MOTIFS)}'
                )

    def of(self, design: str) -> float:
        sites = sum(len(re.findall(f"(?={MOTIFS.get(motif, motif)})", design)) for motif in self.motifs)
        return 0.0 - self.penalty * sites


@dataclass(frozen=True)
class Identity(_OfSequence):
    """The share of positions with the letter of `reference`, in [0, 1]; or minus its distance to a range.

    Designs of another length than the reference are not scored.

    >>> Identity("MKVA")(["MKLA"]), Identity("MKVA", low=1.0)(["MKLA"])
    ([0.75], [-0.25])
    """

    reference: Text
    low: float | None = None
    high: float | None = None

    name = "identity"
    units = "share of residues"
    label = property(label_of)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self)
        if not self.reference or PROTEIN.wrong_columns(self.reference.upper()):
            raise ConfigError('reward "identity": reference must be a sequence of the 20 residues')

    def of(self, design: str) -> float:
        if len(design) != len(self.reference):
            return NotScored(f"the design has {len(design)} residues, and the reference {len(self.reference)}")
        share = sum(a == b for a, b in zip(design, self.reference.upper())) / len(design)
        distance = within(share, self.low, self.high)
        return share if distance is None else distance
