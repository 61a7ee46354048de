"""Can a small regressor predict melting temperatures? Why the task `protein` ships none.

python benchmarks/melting_temperature.py --data FOLDER [--epochs 15]

FOLDER holds `meltome_le300.csv.gz` (columns sequence, tm_c, split) of FLIP. A ridge regression on composition
and length, and an ensemble of two small convolutional networks (`biotilt.fitting.fit_oracle`), learn from the rows
of split "train", whose clusters are not in split "test". Spearman's ρ on the test rows, of all and of at most 150
residues.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from pathlib import Path

import numpy as np
import torch

from biotilt.fitting import Split, correlations, fit_oracle
from biotilt.spaces import PROTEIN, Padded
from biotilt.training import FitConfig

LONGEST, SHORT = 300, 150


def read(path: Path) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return sequences and temperatures (°C) of each split."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if set(row["sequence"]) <= set(PROTEIN.letters)]
    return {
        name: ([r["sequence"] for r in part], np.array([float(r["tm_c"]) for r in part]))
        for name in ("train", "test")
        for part in [[row for row in rows if row["split"] == name]]
    }


def features(sequences: list[str]) -> np.ndarray:
    """Return shares of the 20 residues and the logarithm of the length, `(N, 21)`."""
    return np.array([[*(s.count(a) / len(s) for a in PROTEIN.letters), np.log(len(s))] for s in sequences])


def ridge(train: tuple[list[str], np.ndarray], sequences: list[str], penalty: float = 100.0) -> np.ndarray:
    """Return predictions of a ridge regression on standardised features."""
    x, y = features(train[0]), train[1]
    mean, scale = x.mean(0), x.std(0)
    a = (x - mean) / scale
    weights = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ (y - y.mean()))
    return (features(sequences) - mean) / scale @ weights + y.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parts = read(options.data / "meltome_le300.csv.gz")
    sequences, truth = parts["test"]
    network, _ = fit_oracle(
        parts["train"][0], parts["train"][1].tolist(), Padded(PROTEIN, LONGEST), name="melting_temperature", members=2,
        architecture={"channels": 32, "layers": 1, "motifs": 48, "motif_width": 7, "pool": 50, "dropout": 0.4},
        config=FitConfig(epochs=options.epochs, batch=64, bfloat16=True),
        split=Split(validation=0.15, test=0.05, identity=None), replicates="keep", seed=options.seed,
    )  # fmt: skip
    short = np.array([len(s) <= SHORT for s in sequences])
    found: dict[str, float] = {"train": len(parts["train"][0]), "test": len(sequences), "test_short": int(short.sum())}
    with torch.no_grad():
        predictions = {"ridge": ridge(parts["train"], sequences), "network": np.array(network(sequences))}
    for name, predicted in predictions.items():
        for label, rows in (("spearman", slice(None)), ("spearman_short", short)):
            scores = correlations(torch.from_numpy(predicted[rows]), torch.from_numpy(truth[rows]))
            found[f"{name}_{label}"] = scores["spearman"]
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
