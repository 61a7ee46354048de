"""Docking checked: our scores against published ones of the same molecules, and their noise between seeds.

    python benchmarks/docking.py --data FOLDER --out benchmarks/results/docking.jsonl

FOLDER holds receptors and tables of docked ligands (see its SOURCE.txt): FREED's JAK2 (QuickVina 2, exhaustiveness 1)
with the receptor and box of MOOD, and DOCKSTRING's JAK2 (Vina, larger box). Molecules are drawn at random from each
table by seed. One line a molecule is written, and one with the summary of each table. Size alone explains part of any
docking score, so its correlation stands beside ours. About six minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr

from biotilt.files import write_json, write_text
from biotilt.rewards.molecule.docking import Vina
from biotilt.rewards.molecule.properties import HeavyAtoms

Row = dict[str, Any]


def tables(data: Path) -> dict[str, tuple[dict[str, Any], list[tuple[str, float]]]]:
    """Return for each table the options of receptor and box, and (SMILES, published kcal/mol)."""
    box = json.loads((data / "boxes_mood.json").read_text())["jak2"]
    freed = [(row["SMILES"], float(row["Docking1"])) for row in _rows(data / "freed_docked_jak2.csv.gz")]
    excape = _rows(data / "dockstring_excape_docked.csv.gz")
    dockstring = [(row["smiles"], float(row["score"])) for row in excape if row["target"] == "JAK2" and row["score"]]
    return {
        "freed_jak2": (
            {"receptor": str(data / "receptors_mood/jak2.pdbqt.gz"), "center": box["center"], "size": box["size"]},
            [(s, y) for s, y in freed if y < 0],  # 99.9 marks a docking that failed
        ),
        "dockstring_jak2": (
            {"receptor": str(data / "dockstring/JAK2_target.pdbqt.gz"), "box": str(data / "dockstring/JAK2_conf.txt")},
            [(s, y) for s, y in dockstring if y < 0],
        ),
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as handle:
        return list(csv.DictReader(handle))


def dock(rows: list[tuple[str, float]], repeated: int, seeds: int, options: dict[str, Any]) -> list[Row]:
    """Score every molecule with seed 1, and the first `repeated` of them with the other seeds."""
    found: list[Row] = [{"smiles": s, "published": y, "scores": [], "seconds": 0.0} for s, y in rows]
    for seed in range(1, seeds + 1):
        reward = Vina(**options, seed=seed)
        reward(["C"])  # the maps are made with the first ligand
        for row in found if seed == 1 else found[:repeated]:
            started = time.perf_counter()
            score = reward([row["smiles"]])[0]
            row["seconds"] += time.perf_counter() - started
            row["scores"].append(score)
            if score != score:
                row["reason"] = getattr(score, "reason", "")
    return found


def summary(name: str, found: list[Row], repeated: int, options: dict[str, Any]) -> Row:
    """Return correlations with the published scores, and the noise between seeds."""
    scored = [row for row in found if row["scores"][0] == row["scores"][0]]
    ours, published = [row["scores"][0] for row in scored], [-row["published"] for row in scored]
    atoms = HeavyAtoms()([row["smiles"] for row in scored])
    again = [row["scores"] for row in found[:repeated] if all(score == score for score in row["scores"])]
    columns = list(zip(*again))
    return {
        "summary": name,
        "options": {key: value for key, value in options.items() if key not in ("receptor", "box")},
        "molecules": len(found),
        "not_scored": len(found) - len(scored),
        "spearman_with_published": spearman(ours, published),
        "spearman_of_size_with_published": spearman(atoms, published),
        "spearman_of_size_with_ours": spearman(atoms, ours),
        "spearman_at_equal_size": partial_spearman(ours, published, atoms),
        "mean_ours_minus_published": statistics.fmean(a - b for a, b in zip(ours, published)),
        "repeated_molecules": len(again),
        "seeds": len(columns),
        "sd_between_seeds": statistics.fmean(statistics.variance(scores) for scores in again) ** 0.5,
        "largest_spread_between_seeds": max(max(scores) - min(scores) for scores in again),
        "sd_between_molecules": statistics.stdev(columns[0]),
        "spearman_between_seeds": statistics.fmean(
            spearman(columns[i], columns[j]) for i in range(len(columns)) for j in range(i)
        ),
        "seconds_a_docking": sum(row["seconds"] for row in found) / sum(len(row["scores"]) for row in found),
    }


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the rank correlation of two columns."""
    return float(spearmanr(a, b)[0])  # pyright: ignore[reportArgumentType]


def partial_spearman(a: list[float], b: list[float], given: list[float]) -> float:
    """Return the rank correlation of a and b at equal values of a third variable (partial correlation of ranks)."""
    ab, ac, bc = (spearman(x, y) for x, y in ((a, b), (a, given), (b, given)))
    return (ab - ac * bc) / ((1 - ac**2) * (1 - bc**2)) ** 0.5


def quality(summaries: list[Row]) -> dict[str, Any]:
    """Return what `biotilt task list` shows of the task `docking`, from the summaries of the tables."""
    measured: dict[str, float] = {}
    for row in summaries:
        measured[f"Spearman with published scores, {row['summary']}"] = row["spearman_with_published"]
        measured[f"Spearman between seeds, {row['summary']}"] = row["spearman_between_seeds"]
        measured[f"kcal/mol between seeds (SD), {row['summary']}"] = row["sd_between_seeds"]
    return {"good_for": "molecules that dock to a receptor of your own (AutoDock Vina)", "measured": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docking.jsonl"))
    parser.add_argument("--molecules", type=int, default=120, help="of each table")
    parser.add_argument("--repeated", type=int, default=40, help="of them are docked with every seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quality", type=Path, help="where to write the card that `biotilt task list` shows")
    parser.add_argument("--only", help="one table: freed_jak2 or dockstring_jak2")
    parser.add_argument("--exhaustiveness", type=int, default=1)
    parser.add_argument("--max-evals", type=int, default=100_000)
    arguments = parser.parse_args()
    lines = []
    for name, (options, rows) in tables(arguments.data).items():
        if arguments.only not in (None, name):
            continue
        options = options | {"exhaustiveness": arguments.exhaustiveness, "max_evals": arguments.max_evals}
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: arguments.molecules]
        found = dock([rows[i] for i in order.tolist()], arguments.repeated, arguments.seeds, options)
        about = summary(name, found, arguments.repeated, options)
        print(json.dumps(about, indent=2), flush=True)
        for row in found:
            row["scores"] = [score if score == score else None for score in row["scores"]]
        lines += [{"table": name} | row for row in found] + [about]
    if arguments.quality is not None:
        write_json(arguments.quality, quality([line for line in lines if "summary" in line]))
    write_text(arguments.out, "".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
