"""Properties of molecules by RDKit: designs are SMILES; what is no molecule is not scored."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from biotilt.errors import ConfigError, DataError, needs_extra, suggest
from biotilt.options import PathText, check_options
from biotilt.rewards.generic.base import Infeasible, NotScored, digest
from biotilt.rewards.generic.ranges import check_range, label_of, within
from biotilt.spaces.tables import file_format, numbered_lines, read_table, smiles_lines

EXTRA = "molecule"
_CATALOGS = ("PAINS", "BRENK", "NIH", "ZINC", "CHEMBL")
_SMILES_COLUMNS = ("smiles", "molecule", "design", "sequence")


def chem() -> Any:
    """Return `rdkit.Chem`; ConfigError names the extra when it is missing."""
    return needs_extra("rdkit.Chem", EXTRA)


def parse(smiles: str) -> Any:
    """Return RDKit's molecule, or None for text that is no molecule; nothing is printed.

    >>> parse("CCO").GetNumAtoms(), parse("C1CC")
    (3, None)
    """
    with needs_extra("rdkit.rdBase", EXTRA).BlockLogs():
        molecule = chem().MolFromSmiles(smiles)
    return molecule if molecule is not None and molecule.GetNumAtoms() > 0 else None


@dataclass(frozen=True)
class OfMolecule(ABC):
    """A number read off a molecule; designs that are no molecule are not scored, with the reason."""

    name: ClassVar[str]
    units: ClassVar[str] = ""
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        chem()  # a missing package is found when the experiment is built
        check_options(self, f'reward "{self.name}"')

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self) + needs_extra('rdkit', EXTRA).__version__)}"

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(design) for design in designs]

    def _score(self, design: str) -> float:
        if not design:
            return NotScored("the design is empty")
        molecule = parse(design)
        if molecule is None:
            return NotScored("the design is not a valid molecule")
        score = self.measure(molecule)
        return score if isinstance(score, float) else float(score)  # float() of one with a reason would lose it

    @abstractmethod
    def measure(self, molecule: Any) -> float:
        """Return the score of a parsed molecule."""


@dataclass(frozen=True)
class Ranged(OfMolecule):
    """A property, or minus its distance to the range [low, high] where either is given."""

    low: float | None = None
    high: float | None = None

    label = property(label_of)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self)

    def measure(self, molecule: Any) -> float:
        value = self.property(molecule)
        distance = within(value, self.low, self.high)
        return value if distance is None else distance

    @abstractmethod
    def property(self, molecule: Any) -> float:
        """Return the property itself."""


@dataclass(frozen=True)
class DrugLikeness(OfMolecule):
    """QED, the quantitative estimate of drug-likeness in [0, 1] (Bickerton et al. 2012), mean weights.

    >>> [round(score, 2) for score in DrugLikeness()(["CC(=O)Oc1ccccc1C(=O)O"])]
    [0.55]
    """

    name = "qed"

    def measure(self, molecule: Any) -> float:
        return needs_extra("rdkit.Chem.QED", EXTRA).qed(molecule)


@dataclass(frozen=True)
class SyntheticAccessibility(OfMolecule):
    """Ease of synthesis (10 − SA) / 9, in [0, 1]; SA is the score of Ertl and Schuffenhauer (2009), 1 (easy) to 10.

    >>> easy, hard = SyntheticAccessibility()(["CCO", "C[C@H]1CC[C@@H]2[C@]13CC(C2(C)C)C(=C)CC3"])
    >>> easy > hard
    True
    """

    name = "sa"

    def measure(self, molecule: Any) -> float:
        return (10.0 - needs_extra("rdkit.Contrib.SA_Score.sascorer", EXTRA).calculateScore(molecule)) / 9.0


@dataclass(frozen=True)
class LogP(Ranged):
    """Octanol-water log P by Wildman and Crippen (1999); with `low` or `high`, minus the distance to that range.

    >>> LogP(low=1, high=3)(["CCCCCO", "O", "CCCCCCCCCC"])[0]
    0.0
    """

    name = "logp"

    def property(self, molecule: Any) -> float:
        return needs_extra("rdkit.Chem.Crippen", EXTRA).MolLogP(molecule)


@dataclass(frozen=True)
class PolarSurface(Ranged):
    """Topological polar surface area (Ertl et al. 2000), Å²; with `low` or `high`, minus the distance to that range.

    >>> PolarSurface()(["CCO", "CC"])
    [20.23, 0.0]
    """

    name = "tpsa"
    units = "Å²"

    def property(self, molecule: Any) -> float:
        return needs_extra("rdkit.Chem.rdMolDescriptors", EXTRA).CalcTPSA(molecule)


@dataclass(frozen=True)
class HeavyAtoms(Ranged):
    """The number of atoms other than hydrogen; with `low` or `high`, minus the distance to that range.

    Docking scores grow with size: a range keeps a tuned generator from winning by size alone.

    >>> HeavyAtoms(high=2)(["CCO", "CC"])
    [-1.0, 0.0]
    """

    name = "heavy_atoms"
    units = "atoms"

    def property(self, molecule: Any) -> float:
        return molecule.GetNumHeavyAtoms()


@dataclass(frozen=True)
class Lipinski(OfMolecule):
    """Minus the number of Lipinski's rules (1997) that are broken, 0 to −4.

    The rules: at most 500 Da, log P at most 5 (Crippen), at most 5 NH and OH, at most 10 N and O.

    >>> Lipinski()(["CCO", "C" * 40])
    [0.0, -2.0]
    """

    name = "lipinski"
    units = "rules broken"
    negated = True

    def measure(self, molecule: Any) -> float:
        counts = needs_extra("rdkit.Chem.Lipinski", EXTRA)
        weight = needs_extra("rdkit.Chem.Descriptors", EXTRA).MolWt(molecule)
        log_p = needs_extra("rdkit.Chem.Crippen", EXTRA).MolLogP(molecule)
        broken = (weight > 500, log_p > 5, counts.NHOHCount(molecule) > 5, counts.NOCount(molecule) > 10)
        return 0.0 - sum(broken)


@dataclass(frozen=True)
class Alerts(OfMolecule):
    """Minus the number of structural alerts that match, of RDKit's filter catalogues.

    Args:
        catalogs: of "PAINS" (assay interference, Baell and Holloway 2010), "BRENK" (unwanted groups, Brenk et al.
            2008), "NIH", "ZINC" and "CHEMBL".

    Raises `ConfigError` for an empty list or an unknown catalogue.

    >>> Alerts()(["c1ccccc1", "CC(=O)Cl"])
    [0.0, -1.0]
    """

    catalogs: Annotated[Sequence[str], Field(min_length=1)] = ("PAINS", "BRENK")

    name = "alerts"
    units = "alerts"
    negated = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for catalog in self.catalogs:
            if catalog not in _CATALOGS:
                raise ConfigError(f'reward "alerts": unknown catalog "{catalog}"{suggest(str(catalog), _CATALOGS)}')
        object.__setattr__(self, "catalogs", tuple(dict.fromkeys(self.catalogs)))

    def measure(self, molecule: Any) -> float:
        return 0.0 - len(_filters(tuple(self.catalogs)).GetMatches(molecule))


@dataclass(frozen=True)
class Similarity(Ranged):
    """Tanimoto similarity in [0, 1] of Morgan fingerprints (radius 2, 2,048 bits) to one molecule.

    `reference`: its SMILES, required. With `low` or `high`, minus the distance to that range. Raises `ConfigError`
    when the reference is no molecule.

    >>> Similarity(reference="CCO")(["OCC", "c1ccccc1"])
    [1.0, 0.0]
    """

    reference: str = ""

    name = "similarity"
    units = "Tanimoto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if parse(self.reference) is None:
            raise ConfigError(f'reward "similarity": reference = "{self.reference}" is not valid SMILES')

    def property(self, molecule: Any) -> float:
        return _similarities(molecule, _fingerprints((self.reference,)))[0]


@dataclass(frozen=True)
class Novelty(OfMolecule):
    """1 − the largest Tanimoto similarity (Morgan, radius 2, 2,048 bits) to any molecule of a file.

    `file`: .csv or .tsv with a column `smiles`, or .txt with one SMILES a line, each also .gz; molecules of it that
    RDKit cannot read are an error. About 5 ms a design for 100,000 molecules.

    Raises `DataError` when the file cannot be read or holds something else, with its line.
    """

    file: PathText
    _molecules: tuple[str, ...] = field(init=False, repr=False, compare=False)

    name = "novelty"
    units = "1 - Tanimoto"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_molecules", tuple(read_smiles(self.file)))

    @property
    def version(self) -> str:
        package = needs_extra("rdkit", EXTRA).__version__
        content = hashlib.sha256("\n".join(self._molecules).encode()).hexdigest()
        return f"1-{digest(content + package)}"

    def measure(self, molecule: Any) -> float:
        return 1.0 - max(_similarities(molecule, _fingerprints(self._molecules)))


@dataclass(frozen=True)
class Substructure(OfMolecule):
    """0 where a SMARTS pattern is present, −inf where it is not; with `present = false` the other way round.

    Raises `ConfigError` for a pattern that RDKit cannot read.

    >>> Substructure("c1ccncc1")(["Cc1ccncc1", "CCO"])
    [0.0, -inf]
    """

    smarts: str
    present: bool = True

    name = "substructure"

    def __post_init__(self) -> None:
        super().__post_init__()
        if pattern(self.smarts) is None:
            raise ConfigError(f'reward "substructure": smarts = "{self.smarts}" is not valid SMARTS')

    def measure(self, molecule: Any) -> float:
        if molecule.HasSubstructMatch(pattern(self.smarts)) == self.present:
            return 0.0
        return Infeasible(f"{'without' if self.present else 'with'} the substructure {self.smarts}")


KINDS = (
    DrugLikeness,
    SyntheticAccessibility,
    LogP,
    PolarSurface,
    HeavyAtoms,
    Lipinski,
    Alerts,
    Similarity,
    Novelty,
    Substructure,
)
"""The rewards of this file, for the registry."""


def read_smiles(path: str | Path) -> list[str]:
    """Return the SMILES of a file, as written; DataError with file and line for what is no molecule.

    `path`: .csv or .tsv with a column "smiles", "molecule", "design" or "sequence" (in any case), .smi (a name may
    follow on the line), or .txt (a molecule a line); each also with .gz.
    """
    path = Path(path)
    kind = file_format(path)
    if kind == "smi":
        lines = [(line, smiles) for line, smiles, _ in smiles_lines(path)]
    elif kind == "txt":
        lines = list(numbered_lines(path))
        if spaced := next((line for line, text in lines if len(text.split()) > 1), None):
            raise DataError(f"{path}:{spaced}: more than a SMILES; a file with names after the SMILES is .smi")
    else:
        header, rows = read_table(path)
        named = {column.lower(): column for column in reversed(header)}
        column = next((named[name] for name in _SMILES_COLUMNS if name in named), None)
        if column is None:
            raise DataError(f"{path}: no column of SMILES; name one of its columns ({', '.join(header)}) smiles")
        lines = [(line, row[column]) for line, row in rows]
    if not lines:
        raise DataError(f"{path} holds no molecules")
    for line, smiles in lines:
        if parse(smiles) is None:
            raise DataError(f'{path}:{line}: not valid SMILES: "{smiles}"')
    return [smiles for _, smiles in lines]


# What RDKit builds is kept once a process: rewards are sent to workers, and these objects cannot be, or slowly.
@cache
def pattern(smarts: str) -> Any:
    with needs_extra("rdkit.rdBase", EXTRA).BlockLogs():
        return chem().MolFromSmarts(smarts) if smarts else None


@cache
def _filters(catalogs: tuple[str, ...]) -> Any:
    catalog = needs_extra("rdkit.Chem.FilterCatalog", EXTRA)
    parameters = catalog.FilterCatalogParams()
    for name in catalogs:
        parameters.AddCatalog(getattr(catalog.FilterCatalogParams.FilterCatalogs, name))
    return catalog.FilterCatalog(parameters)


@cache
def _generator() -> Any:
    return needs_extra("rdkit.Chem.rdFingerprintGenerator", EXTRA).GetMorganGenerator(radius=2, fpSize=2048)


def fingerprint(molecule: Any) -> Any:
    """Return the Morgan fingerprint of a parsed molecule: radius 2, 2,048 bits."""
    return _generator().GetFingerprint(molecule)


@cache
def _fingerprints(molecules: tuple[str, ...]) -> list[Any]:
    return [fingerprint(parse(smiles)) for smiles in molecules]


def _similarities(molecule: Any, others: list[Any]) -> list[float]:
    return needs_extra("rdkit.DataStructs", EXTRA).BulkTanimotoSimilarity(fingerprint(molecule), others)
