"""How often a scaffold that is held as SELFIES tokens is still there after decoding.

    python benchmarks/scaffolds.py --out benchmarks/results/scaffolds.jsonl

For each scaffold, tails of random tokens and tails of the shipped generator: the share of designs that keep its atoms
and which of them are bonded, and the share that matches its SMARTS with all orders of bonds and aromaticity. One
line of JSON each. About a minute of one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from biotilt.files import write_text
from biotilt.model import Model
from biotilt.rewards.molecule.properties import chem, parse
from biotilt.tasks import find_task

SCAFFOLDS = ["*c1ccncc1", "*C1CCNCC1", "O=C1CCCN1*", "*c1ccc(C(N)=O)cc1", "*c1nc2ccccc2o1"]


def kept(scaffold: str, designs: list[str]) -> dict[str, float]:
    """Return the shares of designs that keep the scaffold's skeleton, and that match it exactly."""
    molecule = parse(scaffold)
    star = next((atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0), None)
    molecule = chem().RWMol(molecule)
    if star is not None:
        molecule.RemoveAtom(star.GetIdx())
    loose: Any = chem().AdjustQueryParameters.NoAdjustments()
    loose.makeBondsGeneric = True
    patterns = {"skeleton": chem().AdjustQueryProperties(molecule, loose), "smarts": molecule}
    found = [parse(design) for design in designs]
    return {name: sum(m.HasSubstructMatch(query) for m in found) / len(found) for name, query in patterns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("scaffolds.jsonl"))
    parser.add_argument("--count", type=int, default=500, help="designs a scaffold")
    arguments = parser.parse_args()
    model = Model.load(find_task("molecule").folder / "generator.safetensors")
    space: Any = model.space
    lines = []
    for scaffold in SCAFFOLDS:
        held = space.fixed(scaffold, space.length)
        mask, letters = held.mask, held.letters
        generator = torch.Generator().manual_seed(0)
        random = torch.randint(len(space.symbols), (arguments.count, space.length), generator=generator)
        tails = {
            "random": space.decode_many(torch.where(mask, letters.long(), random)),
            "generator": model.with_fixed(held).sample(arguments.count, seed=0),
        }
        for name, designs in tails.items():
            line = {"scaffold": scaffold, "tails": name, "designs": len(designs)} | kept(scaffold, designs)
            print(json.dumps(line | {"different": len(set(designs))}), flush=True)
            lines.append(line | {"different": len(set(designs))})
    write_text(arguments.out, "".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
