"""ProteinMPNN on real structures: how much of the native sequence it recovers, and how likely it finds that.

    python benchmarks/recovery.py --data FOLDER --out benchmarks/results/recovery.jsonl

FOLDER holds structures (.pdb, .cif, also .gz). A line for each of them and each of `--weights`: the share of residues
that `--designs` designs at temperature 0.1, eight residues revealed at once, have in common with the native sequence,
and the mean log p of the native sequence, nats a residue, at temperature 1. A run that was stopped goes on with what
has no line yet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from biotilt.errors import BiotiltError
from biotilt.models.likelihood import BackboneLikelihood
from biotilt.models.proteinmpnn import PUBLISHED, ProteinMPNN
from biotilt.spaces.residues import Residues

Row = dict[str, Any]
PUBLISHED_RECOVERY = {"table": "47.9 %", "natives": "52.4 %"}  # Dauparas et al. 2022: its table 1, and its abstract


def structures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if any(path.name.endswith(end) for end in (".pdb", ".pdb.gz", ".cif", ".cif.gz")):
            yield path


def recovery(path: Path, weights: str, designs: int) -> Row:
    """Return how alike designs and the native sequence are, and how likely the latter is."""
    start = time.process_time()
    model = ProteinMPNN(str(path), weights).build().with_process(per_step=8)
    assert isinstance(model.space, Residues)
    native = model.space.native
    drawn = model.sample(designs)
    shares = [sum(a == b for a, b in zip(design, native)) / len(native) for design in drawn]
    likelihood = BackboneLikelihood(str(path), weights, orders=2)([native])[0]
    return {
        "structure": path.name, "weights": weights, "residues": len(native), "designs": designs,
        "recovery": statistics.fmean(shares), "native_log_p": likelihood, "cpu_s": time.process_time() - start,
    }  # fmt: skip


def table(rows: list[Row]) -> list[list[str]]:
    """Return the cells of the table: a row a structure, and the mean over all residues; columns for each weights."""
    found = [row for row in rows if "error" not in row]
    weights = list(dict.fromkeys(row["weights"] for row in found))
    cells = [["", "residues", *(f"{what}, `{name}`" for name in weights for what in ("recovery", "log p, native"))]]
    for structure in dict.fromkeys(row["structure"] for row in found):
        of = {row["weights"]: row for row in found if row["structure"] == structure}
        shown = structure.partition(".")[0].removesuffix("_clean")
        cells.append([shown, str(of[weights[0]]["residues"]), *_pair(weights, lambda name, key, of=of: of[name][key])])
    total = sum(row["residues"] for row in found if row["weights"] == weights[0])
    cells.append(["all residues", f"{total:,}", *_pair(weights, lambda name, key: mean(rows, name, key))])
    return cells


def mean(rows: list[Row], weights: str, key: str) -> float:
    """Return the mean over all residues of a number of these weights."""
    found = [row for row in rows if row["weights"] == weights and "error" not in row]
    return sum(row[key] * row["residues"] for row in found) / sum(row["residues"] for row in found)


def _pair(weights: list[str], of: Callable[[str, str], float]) -> list[str]:
    """Return the cells of recovery and of log p for each of the weights."""
    return [
        cell for name in weights
        for cell in (f"{of(name, 'recovery'):.0%}", f"{of(name, 'native_log_p'):.2f}".replace("-", "−"))
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--designs", type=int, default=2)
    parser.add_argument("--weights", nargs="+", default=["vanilla/v_48_002", "vanilla/v_48_020"], choices=PUBLISHED)
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    known = {(row["structure"], row["weights"]) for row in done}
    for path in structures(options.data):
        for weights in options.weights:
            if (path.name, weights) in known:
                continue
            try:
                row = recovery(path, weights, options.designs)
            except BiotiltError as error:
                row = {"structure": path.name, "weights": weights, "error": str(error)}
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
