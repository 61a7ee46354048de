"""What the panel shows of molecules, and their pictures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from biotilt.errors import ConfigError, needs_extra
from biotilt.evaluation.measure import Limit, Measure, Values
from biotilt.rewards.molecule.properties import EXTRA, Alerts, DrugLikeness, LogP, SyntheticAccessibility, parse
from biotilt.tasks.molecule import quality

_WIDTH, _HEIGHT = 260, 220  # of a picture, pixels


def measures() -> list[Measure]:
    """Return the measures that the task adds to the panel."""
    return [
        Measure(
            "valid", "valid", "Share of designs that are molecules to RDKit; higher is better.", quality.validity,
            limit=Limit(fall=0.05),
        ),
        Measure(
            "unique", "unique", "Different molecules among the valid; higher is better.", quality.uniqueness,
            limit=Limit(fall=0.05),
        ),
        Measure(
            "novel",
            "novel",
            "Share of the different molecules that the generator was not trained on.",
            lambda designs: quality.novelty(designs, quality.known_molecules()),
        ),
        Measure(
            "diversity",
            "diversity",
            "1 − mean Tanimoto similarity of all pairs (Morgan, radius 2): 0 when all are one molecule.",
            quality.diversity,
            limit=Limit(kept=0.9),
        ),
        Measure(
            "scaffolds", "scaffolds", "Different Bemis-Murcko scaffolds a molecule.", quality.scaffolds,
            limit=Limit(kept=0.8),
        ),
        Measure(
            "qed", "QED", "Mean drug-likeness, 0 to 1; higher is better.", _mean(DrugLikeness()), _each(DrugLikeness()),
        ),
        Measure(
            "sa", "SA", "Mean synthetic accessibility, 1 (easy) to 10; lower is better.",
            lambda designs: _scaled(_mean(SyntheticAccessibility())(designs)),
            lambda designs: [_scaled(ease) for ease in _each(SyntheticAccessibility())(designs)],
        ),
        Measure("logp", "log P", "Mean octanol-water log P (Crippen).", _mean(LogP()), _each(LogP())),
        Measure(
            "alerts", "alerts", "Share with a PAINS or BRENK alert; lower is better.", _alerted,
            lambda designs: [None if score is None else 0.0 - score for score in _each(Alerts())(designs)],
            limit=Limit(rise=0.1),
        ),
        Measure(
            "fcd",
            "FCD",
            "Fréchet ChemNet distance to real molecules of scaffolds that the generator never saw; lower is closer. It "
            "shrinks with the number of different molecules, so compare rows of one size only.",
            _distance,
            limit=Limit(grown=2.0),
            natural=True,
        ),
    ]  # fmt: skip


def _mean(reward: Callable[[list[str]], list[float]]) -> Callable[[list[str]], float | None]:
    def compute(designs: list[str]) -> float | None:
        scores = [score for score in reward(designs) if not math.isnan(score)]
        return statistics.fmean(scores) if scores else None

    return compute


def _each(reward: Callable[[list[str]], list[float]]) -> Callable[[list[str]], Values]:
    return lambda designs: [None if math.isnan(score) else score for score in reward(designs)]


def _scaled(ease: float | None) -> float | None:
    """Return SA on its own scale, 1 to 10, from the reward's (10 − SA) / 9."""
    return None if ease is None else 10.0 - 9.0 * ease


def _alerted(designs: list[str]) -> float | None:
    counts = [score for score in Alerts()(designs) if not math.isnan(score)]
    return sum(count < 0 for count in counts) / len(counts) if counts else None


def _distance(designs: list[str]) -> float | None:
    try:
        return quality.chemnet_distance(designs, quality.real_statistics())
    except ConfigError:  # the package is not there: the panel has a gap, and the run does not end for it
        return None


def pictures(designs: list[str]) -> list[str]:
    """Return a drawing (SVG) of each design, with its QED, SA and log P; an empty one for what is no molecule."""
    return [_drawing(design) for design in designs]


def _drawing(smiles: str) -> str:
    draw = needs_extra("rdkit.Chem.Draw.rdMolDraw2D", EXTRA)
    molecule = parse(smiles) if smiles else None
    if molecule is None:
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"/>'
    qed, ease, log_p = (kind().measure(molecule) for kind in (DrugLikeness, SyntheticAccessibility, LogP))
    drawer = draw.MolDraw2DSVG(_WIDTH, _HEIGHT)
    draw.PrepareAndDrawMolecule(drawer, molecule, legend=f"QED {qed:.2f}  SA {10 - 9 * ease:.1f}  log P {log_p:.1f}")
    drawer.FinishDrawing()
    text = drawer.GetDrawingText()
    return text[text.index("<svg") :]  # without the XML declaration, which has no place inside a page
