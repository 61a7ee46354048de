"""What the panel shows of leads: the scaffold, a second opinion on solubility, what nobody bounded, and molecules."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

from biotilt.errors import ConfigError, needs_extra
from biotilt.evaluation.measure import Limit, Measure, Values
from biotilt.rewards.molecule.admet import ADMETOptions
from biotilt.rewards.molecule.properties import EXTRA, HeavyAtoms, LogP, parse, pattern
from biotilt.tasks.molecule import panel

ALARMS = ("AMES", "DILI", "ClinTox")  # toxicities that the task's constraints do not name
ALARM = 0.5

pictures = panel.pictures


def measures(config: Any) -> list[Measure]:
    """Return the measures that the task adds to the panel of an experiment."""
    bounded = {constraint.column for constraint in config.constraints}
    free = [name for name in ALARMS if name not in bounded]
    found = [
        _mean_of(
            "heavy_atoms", "atoms", "Mean number of heavy atoms: similarity to a large ligand grows with size.",
            _scored(HeavyAtoms()), Limit(grown=1.25),
        ),
        _mean_of(
            "esol", "log S (ESOL)",
            "Mean solubility in water, log10 mol/L, by the linear equation of Delaney (2004): a second opinion on that "
            "of the networks.", lambda designs: [_or_none(design, esol) for design in designs], Limit(fall=1.0),
        ),
    ]  # fmt: skip
    if config.design.scaffold is not None:
        found.insert(0, _scaffold(config.design.scaffold))
    if free:
        meaning = (
            f"Share with a probability above {ALARM:g} of any of {', '.join(free)}, which no constraint bounds: what "
            "bounds on some endpoints may cost on others."
        )
        found.append(_mean_of("alarms", "alarms", meaning, lambda designs: _alarmed(designs, free), Limit(rise=0.1)))
    return [*found, *panel.measures()]


def esol(molecule: Any) -> float:
    """Return log10 of the solubility in water, mol/L, by Delaney (2004, J Chem Inf Comput Sci 44:1000).

    >>> round(esol(parse("c1ccccc1")), 2)  # 0.16 − 0.63 · 1.687 − 0.0062 · 78.11 − 0.74
    -2.13
    """
    describe = needs_extra("rdkit.Chem.rdMolDescriptors", EXTRA)
    atoms = list(molecule.GetAtoms())
    aromatic = sum(atom.GetIsAromatic() for atom in atoms) / len(atoms)
    weight, rotatable = describe._CalcMolWt(molecule), describe.CalcNumRotatableBonds(molecule)
    return 0.16 - 0.63 * LogP().property(molecule) - 0.0062 * weight + 0.066 * rotatable - 0.74 * aromatic


def _scaffold(scaffold: str) -> Measure:
    smarts = _smarts(scaffold)
    return _mean_of(
        "scaffold", "scaffold", "Share of designs in which the held scaffold is found, bond orders and all.",
        lambda designs: [_or_none(design, lambda m: m.HasSubstructMatch(pattern(smarts))) for design in designs],
        Limit(fall=0.1),
    )  # fmt: skip


@cache
def _smarts(scaffold: str) -> str:
    """Return the pattern of a scaffold as designs have it; its "*" is any atom."""
    molecule = parse(scaffold)
    if molecule is None:
        raise ConfigError(f'design.scaffold: "{scaffold}" is not valid SMILES')
    return needs_extra("rdkit.Chem", EXTRA).MolToSmarts(molecule).replace("[#0]", "*")


def _alarmed(designs: list[str], endpoints: list[str]) -> Values:
    rows = ADMETOptions().source()(designs)
    return [None if isinstance(row, float) else float(any(row[name] > ALARM for name in endpoints)) for row in rows]


def _or_none(design: str, measure: Callable[[Any], float]) -> float | None:
    molecule = parse(design) if design else None
    return None if molecule is None else float(measure(molecule))


def _scored(reward: Callable[[list[str]], list[float]]) -> Callable[[list[str]], Values]:
    return lambda designs: [None if math.isnan(score) else score for score in reward(designs)]


def _mean_of(key: str, header: str, meaning: str, each: Callable[[list[str]], Values], limit: Limit) -> Measure:
    def mean(designs: list[str]) -> float | None:
        known = [value for value in each(designs) if value is not None]
        return statistics.fmean(known) if known else None

    return Measure(key, header, meaning, mean, each, limit=limit)
