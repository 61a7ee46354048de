"""What sets of molecules are judged by: validity, uniqueness, novelty, diversity, scaffolds, and the FCD."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biotilt.errors import needs_extra
from biotilt.rewards.molecule.properties import EXTRA, chem, fingerprint, parse
from biotilt.tensors import load_tensors, save_tensors

REFERENCE = Path(__file__).parent / "reference.safetensors"
LARGE_RING = 8
COMPARED = 1000  # designs whose pairs are compared: half a million similarities


def distinct(designs: Sequence[str]) -> list[str]:
    """Return the different valid molecules, as canonical SMILES, in the order in which they first come."""
    molecules = (parse(design) if design else None for design in designs)
    return list(dict.fromkeys(chem().MolToSmiles(molecule) for molecule in molecules if molecule is not None))


def validity(designs: Sequence[str]) -> float:
    """Return the share of designs that are molecules."""
    return sum(bool(design) and parse(design) is not None for design in designs) / len(designs)


def uniqueness(designs: Sequence[str]) -> float | None:
    """Return the share of the valid designs that are different molecules; None where none is valid."""
    valid = sum(bool(design) and parse(design) is not None for design in designs)
    return len(distinct(designs)) / valid if valid else None


def novelty(designs: Sequence[str], known: Collection[int]) -> float | None:
    """Return the share of the different molecules whose `key` is not among `known`; None where none is valid."""
    molecules = distinct(designs)
    return sum(key(molecule) not in known for molecule in molecules) / len(molecules) if molecules else None


def key(smiles: str) -> int:
    """Return 64 bits of the SHA-256 of canonical SMILES, as a signed integer."""
    return int.from_bytes(hashlib.sha256(smiles.encode()).digest()[:8], "big", signed=True)


def diversity(designs: Sequence[str]) -> float | None:
    """Return 1 − the mean Tanimoto similarity of all pairs of the first 1,000 valid designs (Morgan, radius 2).

    Repeats count, so that one molecule drawn again and again has diversity 0. None for fewer than two designs.
    """
    bulk = needs_extra("rdkit.DataStructs", EXTRA).BulkTanimotoSimilarity
    molecules = [m for m in map(parse, filter(None, designs[:COMPARED])) if m is not None]
    prints = [fingerprint(molecule) for molecule in molecules]
    similarities = [s for i, one in enumerate(prints) for s in bulk(one, prints[:i])]
    return 1.0 - float(np.mean(similarities)) if similarities else None


def scaffolds(designs: Sequence[str]) -> float | None:
    """Return the number of different Bemis-Murcko scaffolds a different molecule; None where none is valid."""
    murcko = needs_extra("rdkit.Chem.Scaffolds.MurckoScaffold", EXTRA)
    found = [murcko.MurckoScaffoldSmiles(mol=parse(molecule)) for molecule in distinct(designs)]
    return len(set(found)) / len(found) if found else None


def ring_sizes(designs: Sequence[str]) -> dict[str, float]:
    """Return the share of rings of each size, up to "8+", among the rings of the valid designs (a smallest set)."""
    molecules = [m for m in map(parse, filter(None, designs)) if m is not None]
    sizes = [min(len(ring), LARGE_RING) for m in molecules for ring in m.GetRingInfo().AtomRings()]
    names = {size: str(size) if size < LARGE_RING else f"{size}+" for size in range(3, LARGE_RING + 1)}
    return {name: sizes.count(size) / max(len(sizes), 1) for size, name in names.items()}


def ring_distance(designs: Sequence[str], real: Sequence[str]) -> float:
    """Return the total variation between the ring sizes of designs and of real molecules, 0 to 1."""
    ours, theirs = ring_sizes(designs), ring_sizes(real)
    return sum(abs(ours[size] - theirs[size]) for size in ours) / 2


def chemnet_statistics(molecules: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean `(512,)` and covariance `(512, 512)` of ChemNet's activations, of at least two molecules."""
    fcd = needs_extra("fcd", EXTRA)
    with warnings.catch_warnings():  # fcd calls NumPy by names that are going away
        warnings.simplefilter("ignore", DeprecationWarning)
        seen = fcd.get_predictions(_chemnet(), list(molecules))
    return seen.mean(0), np.cov(seen.T)


def chemnet_distance(designs: Sequence[str], reference: tuple[np.ndarray, np.ndarray]) -> float | None:
    """Return the Fréchet ChemNet distance (Preuer et al. 2018) of the different molecules to a reference.

    It shrinks as more molecules are compared, so only sets of one size compare. None for fewer than two molecules.
    """
    molecules = distinct(designs)
    if len(molecules) < 2:
        return None
    mean, covariance = chemnet_statistics(molecules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return float(needs_extra("fcd", EXTRA).calculate_frechet_distance(mean, covariance, *reference))


@cache
def _chemnet() -> Any:
    return needs_extra("fcd", EXTRA).load_ref_model()


def keys(molecules: Sequence[str]) -> frozenset[int]:
    """Return the keys of molecules that are given as canonical SMILES."""
    return frozenset(map(key, molecules))


def save_reference(path: Path, training: Collection[int], real: Sequence[str]) -> None:
    """Write the keys of the training molecules, and what ChemNet sees in real ones, as one safetensors file."""
    mean, covariance = chemnet_statistics(real)
    tensors = {
        "training": torch.tensor(sorted(training)),
        "mean": torch.from_numpy(mean).float(),
        "covariance": torch.from_numpy(covariance).float(),
    }
    save_tensors(path, tensors, {"kind": "reference of molecules", "real": len(real)})


@cache
def known_molecules() -> frozenset[int]:
    """Return the keys of the molecules that the shipped generator was trained on."""
    return frozenset(load_tensors(REFERENCE)[0]["training"].tolist())


@cache
def real_statistics() -> tuple[np.ndarray, np.ndarray]:
    """Return what ChemNet sees in 5,000 molecules of scaffolds that the generator never saw."""
    tensors, _ = load_tensors(REFERENCE)
    return tensors["mean"].double().numpy(), tensors["covariance"].double().numpy()


def compare(
    samples: Sequence[str], real: Sequence[str], more_real: Sequence[str], training: Collection[int]
) -> dict[str, float | None]:
    """Return the figures of a generator's samples, and of real molecules as what could be reached.

    `training`: the keys of the molecules that it was trained on.
    """
    reference = chemnet_statistics(real)
    return {
        "valid": validity(samples),
        "unique": uniqueness(samples),
        "novel": novelty(samples, training),
        "diversity": diversity(samples),
        "real_diversity": diversity(real),
        "scaffolds": scaffolds(samples),
        "real_scaffolds": scaffolds(real),
        "ring_distance": ring_distance(samples, real),
        "real_ring_distance": ring_distance(more_real, real),
        "fcd": chemnet_distance(samples, reference),
        "real_fcd": chemnet_distance(more_real, reference),
    }
