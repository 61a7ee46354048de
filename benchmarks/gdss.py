"""Molecules drawn from the public weights of GDSS, which have no licence and come from their authors' repository.

    python benchmarks/gdss.py --weights gdss_qm9.pth --out FILE.jsonl

A line for each number of levels of noise, with the published correctors and without. `valid`: the share of designs that
are molecules as they are drawn, without a bond taken away; `unique`: different molecules among all designs that are
one. Their Table 2 has 95.72 and 98.47 % for QM9, of 10,000 designs at 1,000 levels with correctors. `seconds` are those
of the processor, of one thread. Lines that the file has already are not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from biotilt.core import needed
from biotilt.models.convert import convert
from biotilt.models.gdss import GDSS
from biotilt.spaces.graphs import Graphs

CASES = [(200, 0.2), (200, 0.0), (50, 0.2), (50, 0.0)]  # levels, and snr of correctors


def drawn(weights: Path, steps: int, snr: float, count: int) -> dict[str, Any]:
    """Return what a set of designs is like."""
    model = GDSS(str(weights), steps=steps, snr=snr).build()
    began = time.process_time()
    designs, space = model.sample(count, seed=0), needed(model.space, Graphs)
    molecules = [str(design) for design in designs if design]
    return {
        "designs": count, "levels": steps, "snr": snr,
        "valid": sum(space.mended(design) is False for design in designs) / count,
        "molecules": len(molecules) / count, "unique": len(set(molecules)) / len(molecules),
        "seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="gdss_qm9.pth")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON a case")
    parser.add_argument("--designs", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    done = {(line["levels"], line["snr"]) for line in map(json.loads, known)}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "gdss.safetensors"
        convert("gdss", given.weights, weights)
        for steps, snr in CASES:
            if (steps, snr) not in done:
                line = json.dumps(drawn(weights, steps, snr, given.designs))
                print(line, flush=True)
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
