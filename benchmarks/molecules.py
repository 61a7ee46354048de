"""Pictures of what the generators of molecules draw: `python benchmarks/molecules.py --out docs/images`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rdkit.Chem import MolFromSmiles
from rdkit.Chem.Draw import rdMolDraw2D

from biotilt.model import Model
from biotilt.tasks import find_task

GENERATORS = ("generator", "zinc", "graph")
COLUMNS, SIDE = 5, 170  # pictures in a row, pixels


def grid(smiles: list[str]) -> bytes:
    """Return a PNG of molecules, in rows, in the order in which they came."""
    rows = -(-len(smiles) // COLUMNS)
    drawer = rdMolDraw2D.MolDraw2DCairo(COLUMNS * SIDE, rows * SIDE, SIDE, SIDE)
    drawer.DrawMolecules([MolFromSmiles(one) for one in smiles])
    drawer.FinishDrawing()
    return drawer.GetDrawingText()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in GENERATORS:
        model = Model.load(find_task("molecule").folder / f"{name}.safetensors")
        (options.out / f"molecules_{name}.png").write_bytes(grid(model.sample(options.count, seed=options.seed)))


if __name__ == "__main__":
    main()
