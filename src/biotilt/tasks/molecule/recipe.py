"""The recipe of the shipped `molecule` generator: `python -m biotilt.tasks.molecule.recipe --data FOLDER`.

FOLDER holds `moses_test.csv.gz` and `moses_test_scaffolds.csv.gz`, column `SMILES` (MOSES, Polykovskiy et al. 2020).
Rows of the first train the generator. Rows of the second, whose scaffolds are not among those of the first, are the
real molecules that samples are compared with. It needs `pip install rdkit selfies vina meeko gemmi fcd` and `fcd`.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

import torch

from biotilt.errors import DataError
from biotilt.files import read_json, read_text, write_json
from biotilt.fitting import Split, pretrain_model
from biotilt.model import Model
from biotilt.spaces.selfies import Selfies
from biotilt.tasks.molecule.quality import compare, save_reference
from biotilt.training import PretrainConfig
from biotilt.training.pretrain import validation_bound

TRAINING = "moses_test.csv.gz"
UNSEEN = "moses_test_scaffolds.csv.gz"
TRAINED_ON = 100_000  # rows of the file, chosen by seed
LENGTH = 52  # tokens; a few molecules in 100,000 are longer
SAMPLES = 5000

NOTES = [
    "Data: MOSES (Polykovskiy D et al., Molecular Sets, Front Pharmacol 11:565644, 2020; MIT licence), lead-like "
    "molecules of ZINC without charges and stereochemistry.",
    "QED, SA, logP and alerts are rules computed from the drawn structure, not measurements.",
]


def read_molecules(path: Path) -> list[str]:
    """Return the column SMILES of a gzipped CSV file."""
    text = io.StringIO(read_text(path, line_ends=True), newline="")
    return [row["SMILES"] for row in csv.DictReader(text)]


def training_rows(path: Path, count: int, seed: int) -> list[str]:
    """Return `count` rows drawn at random, without the molecules that are too long for a state."""
    rows = read_molecules(path)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
    space = Selfies.of_molecules(rows[:1000], LENGTH)
    kept = []
    for i in order.tolist():
        try:
            space.encode([rows[i]])
        except DataError as error:
            if "tokens, and at most" in str(error):
                continue
        kept.append(rows[i])
    print(f"{count - len(kept)} of {count} molecules are longer than {LENGTH} tokens and are left out", flush=True)
    return kept


def make_generator(rows: list[str], out: Path, steps: int) -> None:
    """Pretrain the generator and write it with the card of its likelihoods."""
    model, metrics = pretrain_model(
        rows,
        Selfies.of_molecules(rows, LENGTH),
        network={"channels": 96, "blocks": 9, "kernel": 5, "dilations": (1, 2, 4)},
        process={"name": "any_order", "per_step": 2},
        config=PretrainConfig(steps=steps, check_every=500, bfloat16=True),
        split=Split(validation=0.02, test=0.05, identity=None),
        report=lambda step, train, val: print(f"{step}: train {train:.2f} validation {val:.2f}", flush=True),
    )
    model.save(out / "generator.safetensors", half=True)
    write_json(out / "generator.json", {"metrics": metrics, "notes": NOTES})


def describe_generator(rows: list[str], unseen: list[str], out: Path) -> None:
    """Compare samples with molecules of unseen scaffolds; complete the card and write `quality.json`."""
    model = Model.load(out / "generator.safetensors")
    card = read_json(out / "generator.json")
    order = torch.randperm(len(unseen), generator=torch.Generator().manual_seed(1)).tolist()
    real = [unseen[i] for i in order[: 2 * SAMPLES]]
    save_reference(out / "reference.safetensors", rows, real[:SAMPLES])
    metrics = card["metrics"] | compare(model.sample(SAMPLES, seed=1), real[:SAMPLES], real[SAMPLES:], rows)
    metrics["unseen_scaffolds_nats"] = _nats(model, real[:2000])
    write_json(out / "generator.json", card | {"metrics": metrics})
    write_json(out / "quality.json", {"good_for": GOOD_FOR, "measured": {SHOWN[key]: metrics[key] for key in SHOWN}})


GOOD_FOR = "lead-like molecules of up to 52 SELFIES tokens, toward QED, SA, logP, similarity or docking"
SHOWN = {
    "unseen_scaffolds_nats": "nats a molecule, scaffolds it never saw",
    "test_nats_of_letter_frequencies": "the same of token frequencies",
    "valid": "valid",
    "unique": "unique of 5,000",
    "novel": "not in its training set",
    "diversity": "internal diversity",
    "real_diversity": "internal diversity of real molecules",
    "fcd": "FCD to unseen scaffolds",
    "real_fcd": "FCD between two real samples of that size",
}


def _nats(model: Model, molecules: list[str]) -> float:
    """Return the bound on −log p of those molecules that fit into a state."""
    fitting = []
    for molecule in molecules:
        try:
            fitting.append(model.space.encode([molecule]))
        except DataError:  # too long, or with a token that no training molecule has: reported as none
            continue
    return validation_bound(model.policy, torch.cat(fitting))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", choices=["generator", "cards"], help="train only, or compare only")
    parser.add_argument("--steps", type=int, default=4500, help="updates")
    options = parser.parse_args()
    rows = training_rows(options.data / TRAINING, TRAINED_ON, seed=0)
    if options.only != "cards":
        make_generator(rows, options.out, options.steps)
    if options.only != "generator":
        describe_generator(rows, read_molecules(options.data / UNSEEN), options.out)


if __name__ == "__main__":
    main()
