"""How an RNA folds, by ViennaRNA (Lorenz et al. 2011); T and U, upper and lower case are the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Annotated, Any, Literal

from pydantic import Field

from biotilt.errors import ConfigError, DataError, needs_extra
from biotilt.options import Count, Number, Whole, check_options
from biotilt.rewards.generic.base import Infeasible, NotScored, digest
from biotilt.spaces.paired import partners_of

Parameters = Literal["turner2004", "turner1999", "andronescu2007", "langdon2018"]

_LOADERS: dict[Parameters, str] = {
    "turner2004": "params_load_RNA_Turner2004",
    "turner1999": "params_load_RNA_Turner1999",
    "andronescu2007": "params_load_RNA_Andronescu2007",
    "langdon2018": "params_load_RNA_Langdon2018",
}
_LOADING = Lock()
_GAS_CONSTANT = 1.98717e-3  # kcal/(mol K), as in ViennaRNA
_ZERO_CELSIUS = 273.15
_SHORTEST_HAIRPIN = 3
_PAIRS = frozenset({"AU", "UA", "CG", "GC", "GU", "UG"})


@dataclass(frozen=True)
class _Folding(ABC):
    """Options of every folding reward.

    Args:
        parameters: the set of nearest-neighbour energies: "turner2004", "turner1999", "andronescu2007" or
            "langdon2018".
        temperature: °C, in [0, 100].
        dangles: energies of unpaired neighbours of a helix, as ViennaRNA's option -d: 0, 1, 2 or 3.
    """

    parameters: Parameters = "turner2004"
    temperature: Annotated[Number, Field(ge=0, le=100)] = 37.0
    dangles: Annotated[Whole, Field(ge=0, le=3)] = 2

    name = ""
    units = ""
    differentiable = False
    batched = False
    ensemble = False  # whether the partition function is needed, which knows dangles 0 and 2 only

    def __post_init__(self) -> None:
        needs_extra("RNA", "rna")
        check_options(self, f'reward "{self.name}"')
        if self._needs_ensemble() and self.dangles % 2:
            raise ConfigError(f'reward "{self.name}": dangles = {self.dangles} must be one of (0, 2)')

    def _needs_ensemble(self) -> bool:
        return self.ensemble

    @property
    def version(self) -> str:
        return f"1-{digest(repr((self, needs_extra('RNA', 'rna').__version__)))}"

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._checked(design.upper().replace("T", "U")) for design in designs]

    def _checked(self, design: str) -> float:
        if not design or set(design) - set("ACGU"):
            return NotScored(f'"{design}" is no RNA' if design else "the design is empty")
        return self._score(design)

    @abstractmethod
    def _score(self, design: str) -> float:
        """Return the score of an RNA in capital letters."""

    def _folded(self, design: str) -> tuple[Any, str, float]:
        """Return ViennaRNA's fold compound of a design, its structure of least energy, and that energy."""
        compound = fold_compound(design, self.parameters, self.temperature, self.dangles)
        structure, energy = compound.mfe()
        if self._needs_ensemble():
            compound.exp_params_rescale(energy)  # or the sums of long designs overflow
        return compound, structure, energy


@dataclass(frozen=True)
class _Targeted(_Folding):
    """Folding rewards that compare with a `target` in dot-bracket notation, as long as the designs.

    Raises `ConfigError` when the target is missing, not balanced, or has a hairpin of fewer than three letters.
    """

    target: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.target:
            raise ConfigError(f'reward "{self.name}": target is missing; write it as "((((....))))", or set it for the '
                              'whole experiment: [design] target = "..."')  # fmt: skip
        try:
            partners = partners_of(self.target)
        except DataError as error:
            raise ConfigError(f'reward "{self.name}": target: {error}') from error
        for i, j in enumerate(partners):
            if 0 <= j - i - 1 < _SHORTEST_HAIRPIN:
                raise ConfigError(
                    f'reward "{self.name}": target: the pair of columns {i + 1} and {j + 1} is too close: '
                    f"a hairpin needs {_SHORTEST_HAIRPIN} letters between them"
                )

    def _checked(self, design: str) -> float:
        if len(design) != len(self.target):
            return NotScored(f"the design has {len(design)} letters and the target {len(self.target)}")
        return super()._checked(design)


@dataclass(frozen=True)
class EnsembleDefect(_Targeted):
    """Minus the normalised ensemble defect, in [−1, 0] (Zadeh et al. 2011): 0 when the target alone is populated.

    It is the expected share of positions that are not paired, or not unpaired, as in the target, over all
    structures at equilibrium. Options and errors: see `target_probability`.

    >>> hairpin = EnsembleDefect(target="((((....))))")
    >>> [round(score, 2) for score in hairpin(["GCGCGAAAGCGC", "AAAAAAAAAAAA"])]
    [-0.01, -0.67]
    """

    name = "ensemble_defect"
    negated = True
    ensemble = True

    def _score(self, design: str) -> float:
        compound, _, _ = self._folded(design)
        compound.pf()
        return 0.0 - compound.ensemble_defect(self.target)


@dataclass(frozen=True)
class TargetProbability(_Targeted):
    """The log-probability of the target among all structures at equilibrium, nats, in (−∞, 0].

    log p = (G − E(target)) / RT, G the free energy of the ensemble. The logarithm, as probabilities of poor designs
    are all alike 0; with α = 1 tuning gives the base's posterior, given that the molecule is found in the target.
    −inf for a design that cannot form the target's pairs.

    Options: `target`, dot-bracket; `parameters`, "turner2004", "turner1999", "andronescu2007" or "langdon2018";
    `temperature`, °C in [0, 100]; `dangles`, 0 or 2. A design of another length is not scored.

    Raises `ConfigError` for a target that is missing, not balanced or sterically impossible, and for options out of
    range.

    >>> hairpin = TargetProbability(target="((((....))))")
    >>> [round(score, 2) for score in hairpin(["GCGCGAAAGCGC", "AAAAAAAAAAAA"])]
    [-0.03, -inf]
    """

    name = "target_probability"
    units = "nats"
    ensemble = True

    def _score(self, design: str) -> float:
        if not _can_pair(design, self.target):
            return Infeasible("letters that cannot pair as the target does")
        compound, _, _ = self._folded(design)
        _, ensemble = compound.pf()
        thermal = _GAS_CONSTANT * (self.temperature + _ZERO_CELSIUS)
        return min(0.0, (ensemble - compound.eval_structure(self.target)) / thermal)


@dataclass(frozen=True)
class MFEMatch(_Targeted):
    """The share of positions that the structure of least energy has as the target, in [0, 1]: 1 = solved.

    A position agrees when it has the same partner in both, or none in both. Options and errors: see
    `target_probability`; `dangles` may be 1 and 3 too.

    >>> MFEMatch(target="((((....))))")(["GCGCGAAAGCGC", "GCGAGAAAACGC", "AAAAAAAAAAAA"])
    [1.0, 0.8333333333333334, 0.3333333333333333]
    """

    name = "mfe_match"

    def _score(self, design: str) -> float:
        _, structure, _ = self._folded(design)
        return agreement(structure, self.target)


@dataclass(frozen=True)
class FreeEnergy(_Folding):
    """The free energy of folding, kcal/mol: higher is less structure, as translated 5′ untranslated regions have.

    Options: `of`, "mfe" (the structure of least energy) or "ensemble" (all structures); `first` or `last`, fold
    only so many letters of that end (≥ 1; a shorter design is folded whole); the rest: see `target_probability`.

    >>> [round(energy, 1) for energy in FreeEnergy()(["GCGCGAAAGCGC", "AAAAAAAAAAAA"])]
    [-5.9, 0.0]
    >>> FreeEnergy(last=6)(["GCGCGAAAGCGC"])
    [0.0]
    """

    of: Literal["mfe", "ensemble"] = "mfe"
    first: Count | None = None
    last: Count | None = None

    name = "free_energy"
    units = "kcal/mol"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first is not None and self.last is not None:
            raise ConfigError('reward "free_energy": give first or last, not both')

    def _needs_ensemble(self) -> bool:
        return self.of == "ensemble"

    def _score(self, design: str) -> float:
        if self.first is not None:
            design = design[: self.first]
        elif self.last is not None:
            design = design[-self.last :]
        compound, _, energy = self._folded(design)
        return float(compound.pf()[1] if self.of == "ensemble" else energy)


def fold_compound(design: str, parameters: Parameters, temperature: float = 37.0, dangles: int = 2) -> Any:
    """Return ViennaRNA's fold compound of an RNA under a set of parameters, whatever set is loaded."""
    model, energies, weights = _parameters(parameters, float(temperature), dangles)
    compound = needs_extra("RNA", "rna").fold_compound(design, model)
    compound.params_subst(energies)
    compound.exp_params_subst(weights)
    return compound


def energies_of(design: str, parameters: Parameters, temperature: float = 37.0, dangles: int = 2) -> Any:
    """Return a fold compound that can weigh given structures and nothing else; it is made in microseconds."""
    RNA = needs_extra("RNA", "rna")
    model, energies, _ = _parameters(parameters, float(temperature), dangles)
    compound = RNA.fold_compound(design, model, RNA.OPTION_EVAL_ONLY)
    compound.params_subst(energies)
    return compound


@cache
def _parameters(parameters: Parameters, temperature: float, dangles: int) -> tuple[Any, Any, Any]:
    """Return a model of ViennaRNA with its energies and Boltzmann weights.

    ViennaRNA reads them off global tables when they are made. So the tables are changed here only, once a set, and
    put back to its default, Turner 2004.
    """
    RNA = needs_extra("RNA", "rna")
    model = RNA.md()
    model.temperature, model.dangles = temperature, dangles
    with _LOADING:
        _load(RNA, parameters)
        try:
            return model, RNA.param(model), RNA.exp_param(model)
        finally:
            _load(RNA, "turner2004")


def _load(RNA: Any, parameters: Parameters) -> None:
    load: Callable[[], int] = getattr(RNA, _LOADERS[parameters])
    if not load():
        raise ConfigError(f'ViennaRNA {RNA.__version__} cannot load its parameters "{parameters}"')
    # ViennaRNA 2.7 remembers the energies of the last model and gives them again, even after other tables are loaded;
    # energies for a model that nobody asks for take their place.
    other = RNA.md()
    other.temperature = -99.0
    RNA.param(other)
    RNA.exp_param(other)


def agreement(structure: str, target: str) -> float:
    """Return the share of positions with the same partner, or none, in two structures of one length.

    >>> agreement("(((...)))", "((.....))")
    0.7777777777777778
    """
    pairs = zip(partners_of(structure), partners_of(target), strict=True)
    return sum(one == other for one, other in pairs) / len(target)


def _can_pair(design: str, target: str) -> bool:
    return all(design[i] + design[j] in _PAIRS for i, j in enumerate(partners_of(target)) if j > i)
