"""ADMET endpoints of molecules by the networks of the package `admet-ai`, which brings their weights.

Ten networks say all 41 endpoints of a molecule at once (five for those that are probabilities, five for the others;
Swanson et al. 2024, Bioinformatics 40:btae416). So this is a source of columns: rewards, constraints, judges and
measures that read its endpoints share one call, and each process remembers the molecules that it was asked last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import Any, ClassVar

import numpy as np
import torch

from biotilt.errors import ConfigError, needs_extra
from biotilt.options import Flag, Text, build_options, check_options
from biotilt.rewards.generic.base import NamedReward, NotScored, digest
from biotilt.rewards.generic.columns import GivesColumns, Source
from biotilt.rewards.generic.section import FromSection, Section
from biotilt.rewards.molecule.endpoints import NAMES, PERCENTILE, units_of
from biotilt.rewards.molecule.properties import parse

EXTRA = "admet"
BATCH = 64  # molecules that the networks see at once
REMEMBERED = 20_000  # molecules, of those asked last

Row = Mapping[str, float]


@dataclass(frozen=True)
class ADMETOptions:
    """Options of the endpoints.

    `percentiles`: each endpoint has a second column, NAME_drugbank_approved_percentile: the share of 2,845 approved
    drugs, per cent, of which the networks say less. `device`: where the networks compute, "cpu" or "cuda". Sections
    that share calls say both alike.

    Raises ConfigError, when built, where admet-ai is not installed.
    """

    percentiles: Flag = False
    device: Text = "cpu"

    def __post_init__(self) -> None:
        check_options(self, 'reward "admet"')
        _versions()

    def source(self) -> Source:
        """Return what gives all endpoints of a molecule in one call, by their names."""
        percentiles = tuple(name + PERCENTILE for name in NAMES) if self.percentiles else ()
        columns = (*NAMES, *percentiles)
        return Source(
            _Endpoints(self.percentiles, self.device), "admet", f"1-{digest(repr((self.percentiles, _versions())))}",
            columns, imports=("admet_ai",), reads="text", column_units={name: units_of(name) for name in columns},
        )  # fmt: skip


class ADMET(FromSection, GivesColumns):
    """One of the 41 endpoints of ADMET-AI, named by `column`: hERG, Solubility_AqSolDB, Caco2_Wang, CYP3A4_Veith, …

    Sections that read other endpoints share its call. Higher scores are better here as everywhere: for a reward out of
    an endpoint that should be low say `direction = "minimise"`; a constraint bounds the endpoint as it is.
    """

    name: ClassVar[str] = "admet"
    takes: ClassVar[frozenset[str]] = frozenset({"options"})
    Options: ClassVar[type] = ADMETOptions

    @classmethod
    def of_section(cls, section: Section) -> NamedReward:
        raise ConfigError(
            f'{section.key}.column: admet gives {len(NAMES)} endpoints; name one of them, such as column = "hERG" '
            f"({', '.join(NAMES)})"
        )

    @classmethod
    def source_of(cls, section: Section) -> Source:
        return build_options(ADMETOptions, section.options, f"{section.key}.options").source()


@dataclass(frozen=True)
class _Endpoints:
    """The function of the source: SMILES to endpoints; what is no molecule is not scored."""

    percentiles: bool
    device: str

    def __call__(self, designs: list[str]) -> list[Any]:
        return _networks(self.percentiles, self.device).rows(designs)


class _Networks:
    """The networks of a process, and what they said of the molecules asked last."""

    def __init__(self, percentiles: bool, device: str) -> None:
        package = needs_extra("admet_ai", EXTRA)
        drugs = {} if percentiles else {"drugbank_path": None}
        with torch.random.fork_rng(devices=[]):  # networks are drawn before their weights are read
            self._model = package.ADMETModel(include_physchem=False, num_workers=0, **drugs)
        self._device = torch.device(device)
        for networks in self._model.model_lists:
            for network in networks:
                network.to(self._device).eval()  # they are loaded as they were trained, with dropout
        self._drugs = {name: np.sort(self._model.drugbank[name]) for name in NAMES} if percentiles else {}
        self._known: OrderedDict[str, Row] = OrderedDict()

    def rows(self, designs: Sequence[str]) -> list[Row | NotScored]:
        """Return the endpoints of each design by name; of each molecule once."""
        fresh = {}
        for design in dict.fromkeys(designs):
            if design in self._known:
                self._known.move_to_end(design)
            elif design and (molecule := parse(design)) is not None:
                fresh[design] = molecule
        found = dict(zip(fresh, self._predicted(list(fresh.values()))))
        rows = [found[d] if d in found else self._known.get(d) or _reason(d) for d in designs]
        self._known |= found
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return rows

    @torch.inference_mode()
    def _predicted(self, molecules: Sequence[Any]) -> list[Row]:
        # not by the package's own `predict`: it makes all graphs anew for each of the ten networks, and prints bars
        data = needs_extra("chemprop.data", EXTRA)
        rows: list[Row] = []
        for start in range(0, len(molecules), BATCH):
            part = molecules[start : start + BATCH]
            graphs = data.MoleculeDataset([data.MoleculeDatapoint(mol=molecule) for molecule in part])
            batch = data.collate_batch([graphs[place] for place in range(len(part))])
            batch.bmg.to(self._device)
            columns: dict[str, np.ndarray] = {}
            for names, networks in zip(self._model.task_lists, self._model.model_lists):
                said = torch.stack([network.predict_step(batch, 0) for network in networks]).mean(0)
                columns |= zip(names, said.double().cpu().numpy().T)
            columns |= {name + PERCENTILE: _percentiles(drugs, columns[name]) for name, drugs in self._drugs.items()}
            rows += [{name: float(values[place]) for name, values in columns.items()} for place in range(len(part))]
        return rows


@cache
def _networks(percentiles: bool, device: str) -> _Networks:
    """Return the networks of this process: some ten seconds, paid once."""
    return _Networks(percentiles, device)


def _percentiles(drugs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the per cent of drugs, sorted, below each value; those that are equal count half.

    >>> _percentiles(np.array([1.0, 2.0, 2.0, 5.0]), np.array([0.0, 2.0, 9.0])).tolist()
    [0.0, 50.0, 100.0]
    """
    below, up_to = (np.searchsorted(drugs, values, side) for side in ("left", "right"))
    return 50.0 * (below + up_to) / len(drugs)


def _reason(design: str) -> NotScored:
    return NotScored("the design is not a valid molecule" if design else "the design is empty")


@cache
def _versions() -> tuple[str, ...]:
    """Return the versions that scores depend on; ConfigError where a package is missing. Neither is imported."""
    try:
        return package_version("admet-ai"), package_version("chemprop")
    except PackageNotFoundError:
        needs_extra("admet_ai", EXTRA)
        raise
