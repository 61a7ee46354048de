"""Eterna100: how many of 100 RNA design puzzles are solved with 10,000 folds each, by `InverseFolding`.

    python benchmarks/eterna100.py --data FOLDER --out benchmarks/results/eterna100.jsonl
    python benchmarks/eterna100.py --data FOLDER --out benchmarks/results/eterna100.jsonl --table
    python benchmarks/eterna100.py --data FOLDER --bound
    python benchmarks/eterna100.py --data FOLDER --published

FOLDER holds `eterna100_puzzles.tsv.gz` and `results.tsv.gz` (Koodli et al. 2021). Solved are its V1 targets under the
energies of ViennaRNA 1.8.5, as its "V1/Vienna1" columns state: Turner 1999 with dangles = 1. `--bound` folds the
sample solutions listed there under these settings, to see that they are the same; `--published` counts the same 100
targets in the published runs under these energies, of any trial. A puzzle is solved when the structure of least
energy is the target. A fold is one computation of a structure of least energy, of the molecule or of a part of it; a
puzzle ends when solved, after `--folds` folds or after `--seconds` of processor time, and its line says which. Shorter
puzzles come first. A run that was stopped goes on with the puzzles and seeds that have no line yet; what was not
solved with less is begun again, and its new line takes the place of the old one.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from biotilt.rewards.rna.folding import MFEMatch
from biotilt.rewards.rna.inverse import InverseFolding

ENERGIES: dict[str, Any] = {"parameters": "turner1999", "dangles": 1}
PUZZLES = 100
Row = dict[str, Any]


def puzzles(data: Path) -> list[dict[str, str]]:
    """Return the rows of the benchmark, shortest target first."""
    with gzip.open(data / "eterna100_puzzles.tsv.gz", "rt", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    return sorted(rows, key=lambda row: len(row["Secondary Structure V1"]))


def bound(data: Path) -> str:
    """Return how many sample solutions of the benchmark fold into their targets under our settings."""
    solved, unlike = 0, []
    for row in puzzles(data):
        target, rna = row["Secondary Structure V1"], row["Sample Solution (V1/Vienna1)"]
        good = len(rna) == len(target) and MFEMatch(target=target, **ENERGIES)([rna]) == [1.0]
        solved += good
        if not good:
            why = "does not fold into its target" if len(rna) == len(target) else f'no sequence of its length: "{rna}"'
            unlike.append(f"  {row['Puzzle #']} {row['Puzzle Name']}: {why}")
    return "\n".join([f"{solved} of 100 sample solutions fold into their V1 target", *unlike])


def published(data: Path) -> str:
    """Return how many of the V1 targets each published algorithm solved under the same energies, in any trial."""
    targets = {row["Secondary Structure V1"] for row in puzzles(data)}
    solved: dict[tuple[str, str], set[str]] = {}
    with gzip.open(data / "results.tsv.gz", "rt", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            if row["Folder"] == "vienna1" and row["Target Structure"] in targets:
                names = solved.setdefault((row["Algorithm"], row["Variant"]), set())
                if row["Success"] and float(row["Success"]) > 0:
                    names.add(row["Target Structure"])
    counts = sorted(((len(names), *name) for name, names in solved.items()), reverse=True)
    return "\n".join(f"{count:>3} of {len(targets)}  {name} {variant}" for count, name, variant in counts)


def finished(out: Path) -> list[Row]:
    """Return the last line of each seed and puzzle."""
    if not out.is_file():
        return []
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return list({(row["seed"], row["puzzle"]): row for row in rows}.values())


def waiting(data: Path, out: Path, options: argparse.Namespace) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each seed and puzzle that has no line yet, or was not solved with fewer folds and seconds than now."""
    done = {
        (row["seed"], row["puzzle"])
        for row in finished(out)
        if row["solved"] or (row["max_folds"] >= options.folds and row["max_seconds"] >= options.seconds)
    }
    for seed in options.seeds:
        for row in puzzles(data):
            if (seed, row["Puzzle #"]) not in done and (not options.puzzles or row["Puzzle #"] in options.puzzles):
                yield seed, row


def line_of(row: dict[str, str], seed: int, folds: int, seconds: float) -> Row:
    """Return the line of a puzzle; that it is solved is judged anew, by the reward."""
    target = row["Secondary Structure V1"]
    found = InverseFolding(target, **ENERGIES, seed=seed).search(folds, seconds)
    solved = MFEMatch(target=target, **ENERGIES)([found.rna]) == [1.0]
    about = {"puzzle": row["Puzzle #"], "name": row["Puzzle Name"], "length": len(target), "seed": seed}
    return about | asdict(found) | {"solved": solved, "max_folds": folds, "max_seconds": seconds}


def table(rows: list[Row]) -> str:
    """Return the count of each seed, of any seed, and what was not solved or not run."""
    lines = []
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        stopped = Counter(row["stopped"] for row in mine if not row["solved"])
        folds = sorted(row["folds"] for row in mine if row["solved"])
        lines.append(
            f"seed {seed}: {len(folds)} of {len(mine)} solved, median {folds[len(folds) // 2] if folds else 0} folds; "
            f"not solved: {stopped['folds']} out of folds, {stopped['time']} out of time; "
            f"not run: {PUZZLES - len(mine)}"
        )
    solved = {row["puzzle"] for row in rows if row["solved"]}
    lines.append(f"any seed: {len(solved)} of {len({row['puzzle'] for row in rows})}")
    for row in sorted(rows, key=lambda row: (row["length"], row["seed"])):
        if not row["solved"]:
            lines.append(
                f"  seed {row['seed']} {row['puzzle']:>3} {row['name']} ({row['length']} nt): {row['mispaired']} "
                f"mispaired after {row['folds']} folds, {row['seconds']:.0f} s ({row['stopped']})"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/eterna100.jsonl"))
    parser.add_argument("--folds", type=int, default=10_000, help="of a puzzle")
    parser.add_argument("--seconds", type=float, default=120.0, help="of a puzzle")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--puzzles", nargs="+", help="numbers of the puzzles; all by default")
    parser.add_argument("--table", action="store_true", help="print what is in the file and end")
    parser.add_argument("--bound", action="store_true", help="fold the benchmark's sample solutions and end")
    parser.add_argument("--published", action="store_true", help="count the published solutions and end")
    options = parser.parse_args()
    if options.table or options.bound or options.published:
        print(table(finished(options.out)) if options.table else (bound if options.bound else published)(options.data))
        return
    for seed, row in waiting(options.data, options.out, options):
        line = json.dumps(line_of(row, seed, options.folds, options.seconds))
        with options.out.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
