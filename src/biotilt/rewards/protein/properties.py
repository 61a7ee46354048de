"""Properties that can be read off a protein sequence, by ProtParam as Biopython has it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from biotilt.errors import needs_extra
from biotilt.options import Number, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.rewards.generic.ranges import check_range, label_of, within
from biotilt.spaces import PROTEIN


@dataclass(frozen=True)
class _Property(ABC):
    """A number of a sequence of the 20 residues, or minus its distance to the range [low, high] where either is given.

    A design that is empty, or has another letter, is not scored. Raises ConfigError when the range is empty or no
    finite numbers, or when Biopython is missing (`pip install biotite biopython`).
    """

    low: float | None = None
    high: float | None = None

    name: ClassVar[str]
    units: ClassVar[str] = ""
    differentiable: ClassVar[bool] = False
    label = property(label_of)
    sign: ClassVar[float] = 1.0  # of the property in a score without a range: −1 where less is better

    def __post_init__(self) -> None:
        needs_extra("Bio.SeqUtils.ProtParam", "protein")
        check_options(self, f'reward "{self.name}"')
        check_range(self)

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self) + needs_extra('Bio', 'protein').__version__)}"

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(design.upper()) for design in designs]

    def _score(self, design: str) -> float:
        if not design:
            return NotScored("the design is empty")
        if wrong := PROTEIN.wrong_columns(design):
            return NotScored(f"column {wrong[0]}: {PROTEIN.explain(design[wrong[0] - 1])}")
        value = float(self.property(needs_extra("Bio.SeqUtils.ProtParam", "protein").ProteinAnalysis(design)))
        distance = within(value, self.low, self.high)
        return self.sign * value if distance is None else distance

    @abstractmethod
    def property(self, analysis: Any) -> float:
        """Return the property of Biopython's ProteinAnalysis."""


@dataclass(frozen=True)
class Instability(_Property):
    """Minus the instability index; proteins with an index above 40 tend to be short-lived in vitro.

    A sum of weights of neighbouring residues, 10/L Σ DIWV (Guruprasad et al. 1990, Protein Eng 4:155). With a range,
    which is one of the index itself: minus the distance to it, such as `high = 40`.

    >>> Instability()(["AA"]), Instability(high=40.0)(["AA"])
    ([-5.0], [0.0])
    """

    name = "instability"
    sign = -1.0
    negated = True

    def property(self, analysis: Any) -> float:
        return analysis.instability_index()


@dataclass(frozen=True)
class IsoelectricPoint(_Property):
    """The pH at which a protein has no net charge, by the pKₐ of Bjellqvist et al. 1993; or the distance to a range.

    Biopython searches between 4.05 and 12.

    >>> IsoelectricPoint(low=6.0, high=8.0)(["KDKD"])
    [0.0]
    """

    name = "isoelectric_point"
    units = "pH"

    def property(self, analysis: Any) -> float:
        return analysis.isoelectric_point()


@dataclass(frozen=True)
class Gravy(_Property):
    """The grand average of hydropathy: the mean of Kyte and Doolittle's (1982) values, −4.5 to 4.5; or a range.

    >>> Gravy()(["IR"])
    [0.0]
    """

    name = "gravy"
    units = "Kyte-Doolittle"

    def property(self, analysis: Any) -> float:
        return analysis.gravy()


@dataclass(frozen=True)
class Aromaticity(_Property):
    """The share of F, W and Y, in [0, 1] (Lobry and Gautier 1994); or minus its distance to a range.

    >>> Aromaticity()(["AAFY"])
    [0.5]
    """

    name = "aromaticity"
    units = "share of residues"

    def property(self, analysis: Any) -> float:
        return analysis.aromaticity()


@dataclass(frozen=True)
class MolecularWeight(_Property):
    """The average mass in Da of a protein with its water; or minus its distance to a range.

    >>> [round(mass, 1) for mass in MolecularWeight()(["G"])]
    [75.1]
    """

    name = "molecular_weight"
    units = "Da"

    def property(self, analysis: Any) -> float:
        return analysis.molecular_weight()


@dataclass(frozen=True)
class NetCharge(_Property):
    """The net charge at `ph`, by the pKₐ of Bjellqvist et al. 1993; or minus its distance to the range [low, high].

    >>> [round(charge, 2) for charge in NetCharge()(["GGKKDK"])]  # 3 K, 1 D, the ends: 2.99 − 1.00 + 0.56 − 1.00
    [1.55]
    >>> NetCharge(low=-9.0)(["GG"])
    [0.0]
    """

    ph: Annotated[Number, Field(ge=0, le=14)] = 7.4

    name = "net_charge"
    units = "elementary charges"

    def property(self, analysis: Any) -> float:
        return analysis.charge_at_pH(self.ph)
