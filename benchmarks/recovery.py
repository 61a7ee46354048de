"""ProteinMPNN on real structures: how much of the native sequence it recovers, and how likely it finds that.

    python benchmarks/recovery.py --data FOLDER --out benchmarks/results/recovery.jsonl

FOLDER holds structures (.pdb, .cif, also .gz). A line for each of them and each of `--weights`: the share of residues
that `--designs` designs at temperature 0.1, eight residues revealed at once, have in common with the native sequence,
and the mean log p of the native sequence, nats a residue, at temperature 1. The native recovery of the paper, 52.4 %,
is of its own test set. A run that was stopped goes on with what has no line yet.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biotilt.errors import BiotiltError
from biotilt.models.likelihood import BackboneLikelihood
from biotilt.models.proteinmpnn import PUBLISHED, ProteinMPNN

Row = dict[str, Any]


def structures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if any(path.name.endswith(end) for end in (".pdb", ".pdb.gz", ".cif", ".cif.gz")):
            yield path


def recovery(path: Path, weights: str, designs: int) -> Row:
    """Return how alike designs and the native sequence are, and how likely the latter is."""
    start = time.process_time()
    model = ProteinMPNN(str(path), weights).build().with_process(per_step=8)
    native = model.space.native
    drawn = model.sample(designs)
    shares = [sum(a == b for a, b in zip(design, native)) / len(native) for design in drawn]
    likelihood = BackboneLikelihood(str(path), weights, orders=2)([native])[0]
    return {
        "structure": path.name, "weights": weights, "residues": len(native), "designs": designs,
        "recovery": statistics.fmean(shares), "native_log_p": likelihood, "cpu_s": time.process_time() - start,
    }  # fmt: skip


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
