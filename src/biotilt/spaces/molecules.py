"""What spaces of molecules share: canonical SMILES, the parts that molecules have in common, and their scaffolds."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biotilt.errors import needs_extra

EXTRA = "molecule"
BITS = 2048  # of a fingerprint
# A search reads the same design again and again: to know it, to compare it, to score it and to write it.
REMEMBERED = 20_000  # molecules, of those read last
_COLUMNS, _ROWS, _GAP = 4, 3, 24  # of a sheet
_WIDTH, _HEIGHT = 110, 90  # of a drawing


def chem() -> Any:
    """Return `rdkit.Chem`; ConfigError names the extra when it is missing."""
    return needs_extra("rdkit.Chem", EXTRA)


def silence() -> Any:
    """Keep RDKit from printing what is wrong with a molecule: our own messages say it."""
    return needs_extra("rdkit.rdBase", EXTRA).BlockLogs()


def scaffold_of(smiles: str) -> str:
    """Return the Bemis-Murcko scaffold of a molecule; itself where it has no ring, and "" of "".

    >>> scaffold_of("CCc1ccncc1"), scaffold_of("CCO")
    ('c1ccncc1', 'CCO')
    """
    murcko = needs_extra("rdkit.Chem.Scaffolds.MurckoScaffold", EXTRA)
    with silence():
        return murcko.MurckoScaffoldSmiles(smiles=smiles) or smiles if smiles else smiles


@lru_cache(maxsize=REMEMBERED)
def substructures(smiles: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where the count Morgan fingerprint of radius 2 is not 0, and the counts; none for what is no molecule."""
    morgan = needs_extra("rdkit.Chem.rdFingerprintGenerator", EXTRA)
    with silence():
        molecule = chem().MolFromSmiles(smiles) if smiles else None
    if molecule is None:
        return (), ()
    counts = morgan.GetMorganGenerator(radius=2, fpSize=BITS).GetCountFingerprint(molecule).GetNonzeroElements()
    return tuple(counts), tuple(counts.values())


def fingerprints(smiles: Sequence[str]) -> Tensor:
    """Return the count Morgan fingerprints `(N, BITS)` of radius 2; zeros for what is no molecule."""
    found = torch.zeros(len(smiles), BITS)
    for row, one in enumerate(smiles):
        places, counts = substructures(str(one))
        found[row, list(places)] = torch.tensor(counts, dtype=found.dtype)
    return found


def tanimoto(smiles: Sequence[str]) -> tuple[float, list[float]]:
    """Return the mean Tanimoto distance over all pairs of molecules, and each one's to its nearest other.

    1 − |a ∩ b| / |a ∪ b| of the substructures of radius 2 (Morgan) that a molecule has; 0 between two that have none,
    such as texts that are no molecules. NaN and [] for fewer than two. O(N²) time, O(N · BITS) memory.

    >>> mean, nearest = tanimoto(["CCO", "CCO", "c1ccccc1"])
    >>> round(mean, 4), nearest
    (0.6667, [0.0, 0.0, 1.0])
    """
    count = len(smiles)
    if count < 2:
        return float("nan"), []
    has = (fingerprints(smiles) > 0).numpy().astype(np.float32)  # sums of up to 2048 ones are exact
    sizes, total, nearest = has.sum(1), 0.0, list[float]()
    for row in range(count):
        shared = has @ has[row]
        either = sizes + sizes[row] - shared
        apart = np.where(either > 0, 1 - shared / np.maximum(either, 1), 0.0)
        apart[row] = 0.0
        total += float(apart.sum())
        apart[row] = np.inf  # not to itself
        nearest.append(float(apart.min()))
    return total / (count * (count - 1)), nearest


def sheet(sets: Mapping[str, Sequence[str]]) -> str:
    """Return one SVG with the first twelve molecules of each set, sets side by side, each below its title."""
    draw = needs_extra("rdkit.Chem.Draw.rdMolDraw2D", EXTRA)
    wide, parts, lowest = _COLUMNS * _WIDTH, list[str](), 0
    for place, (title, some) in enumerate(sets.items()):
        left = place * (wide + _GAP)
        parts.append(f'<text x="{left}" y="16" font-size="14">{html.escape(title)}</text>')
        for number, smiles in enumerate(some[: _COLUMNS * _ROWS]):
            row, column = divmod(number, _COLUMNS)
            x, y = left + column * _WIDTH, 24 + row * _HEIGHT
            lowest = max(lowest, y + _HEIGHT)
            with silence():
                molecule = chem().MolFromSmiles(str(smiles)) if smiles else None
            if molecule is None:
                continue
            drawer = draw.MolDraw2DSVG(_WIDTH, _HEIGHT)
            draw.PrepareAndDrawMolecule(drawer, molecule)
            drawer.FinishDrawing()
            text = drawer.GetDrawingText()
            parts.append(text[text.index("<svg") :].replace("<svg", f'<svg x="{x}" y="{y}"', 1))
    label = html.escape(f"Molecules of {', '.join(sets)}")
    size = f"0 0 {max(len(sets) * (wide + _GAP) - _GAP, 1)} {lowest + 8}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" width="100%" role="img" aria-label="{label}" '
        f'font-family="sans-serif" fill="#30343b">{"".join(parts)}</svg>'
    )
