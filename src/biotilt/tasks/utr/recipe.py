"""The recipe of the shipped `utr` models: `python -m biotilt.tasks.utr.recipe --data FOLDER [--out FOLDER]`.

FOLDER holds `random50_egfp_unmod1_test.csv.gz` (20,000 random 5′UTRs) and `human50_designed_library.csv.gz`
(25,000 human 5′UTRs and variants), columns `utr` and `rl`. Nothing is shared between the three models:

* the human library is cut by clusters of near-identical sequences into a part for the generator and one for each
  oracle; the random library is cut in two halves, one for each oracle;
* the two libraries were measured apart, on different scales. Each oracle maps the human measurements onto the
  random library's scale by a straight line, fitted on its own training rows only;
* the oracles differ in architecture and seed.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from biotilt.evaluation.metrics import kmer_correlation, kmer_counts
from biotilt.evaluation.words import as_numbers, best_word_model
from biotilt.files import read_json, write_json
from biotilt.fitting import Split, correlations, fit_oracle, pretrain_model, state_of
from biotilt.model import Model
from biotilt.spaces import alphabet, numbers, read_designs
from biotilt.spaces.clusters import linked
from biotilt.training import FitConfig, PretrainConfig, resumable
from biotilt.training.pretrain import validation_bound

RANDOM = "random50_egfp_unmod1_test.csv.gz"
HUMAN = "human50_designed_library.csv.gz"
TEST_ROWS = 1000  # random sequences of its own half that each oracle never sees
AS_GIVEN = Split(identity=None)  # relatives are kept apart by `split`
Rows = list[tuple[str, float]]

NOTES = [
    "Data: Sample PJ et al., Human 5′ UTR design and variant effect prediction from a massively parallel translation "
    "assay, Nat Biotechnol 37:803 (2019), GSE114002; tables from the MTtrans repository (Clear BSD licence).",
    "Both oracles are small networks trained by the recipe of this task; their correlations with measurements stand in "
    "MODEL_CARDS.md of the task. Scores are predictions of mean ribosome load in HEK293T cells, not measurements.",
]

ORACLES: dict[str, dict[str, Any]] = {
    "optimised": {"seed": 1, "architecture": {"channels": 96, "layers": 3, "kernel": 7}},
    "held_out": {"seed": 2, "architecture": {"channels": 64, "layers": 5, "kernel": 5, "dilated": True}},
}


def read_library(path: Path) -> Rows:
    """Return (sequence, mean ribosome load) of every row."""
    records = read_designs(path, alphabet("DNA"), column="utr")
    return list(zip([r.design for r in records], numbers(records, "rl", path)))


def clusters(sequences: list[str], width: int = 25) -> list[int]:
    """Return a cluster number for each sequence: those that share a window of `width` at the same place join."""
    return linked([(start, sequence[start : start + width]) for start in (0, 12, 25)] for sequence in sequences)


def split(random: Rows, human: Rows) -> dict[str, tuple[Rows, Rows]]:
    """Return for `generator`, `optimised`, `held_out` the (random, human) rows that each may see."""
    parts: dict[str, tuple[Rows, Rows]] = {name: ([], []) for name in ("generator", "optimised", "held_out")}
    for row in random:
        parts["optimised" if hash_of(row[0]) % 2 else "held_out"][0].append(row)
    members = defaultdict(list)
    for row, cluster in zip(human, clusters([s for s, _ in human])):
        members[cluster].append(row)
    for rows in members.values():
        bucket = hash_of(min(s for s, _ in rows)) % 100
        name = "generator" if bucket < 50 else "optimised" if bucket < 75 else "held_out"
        parts[name][1].extend(rows)
    return parts


def hash_of(sequence: str) -> int:
    """Return a number by which a sequence stays on its side of a split, whatever else is in the data."""
    return int(hashlib.sha256(sequence.encode()).hexdigest()[:8], 16)


def make_generator(rows: Rows, unseen: Rows, out: Path, steps: int, device: str = "cpu") -> None:
    """Pretrain the generator on human 5′UTRs and record how its samples compare with real ones."""
    with resumable(state_of(out / "generator.safetensors")) as state:
        model, metrics = pretrain_model(
            [s for s, _ in rows],
            "DNA",
            network={"channels": 64, "blocks": 6, "kernel": 7, "dilations": (1, 2, 4)},
            process={"name": "any_order", "per_step": 5},
            config=PretrainConfig(steps=steps),
            split=AS_GIVEN,
            device=device,
            report=lambda step, train, val: print(
                f"generator {step}: train {train:.2f} validation {val:.2f}", flush=True
            ),
            state=state,
        )
        model.save(out / "generator.safetensors", half=True)
    describe_generator(rows, unseen, out, metrics)


def describe_generator(rows: Rows, unseen: Rows, out: Path, metrics: dict[str, float]) -> None:
    """Write the generator's card: how its samples and likelihoods compare with real sequences.

    `unseen` are human 5′UTRs of clusters that the generator never saw: its own random test part holds
    near-duplicates of its training sequences, so that bound is too good.
    """
    model = Model.load(out / "generator.safetensors")
    groups = {
        "samples": model.sample(2048, seed=1),
        "real": [s for s, _ in unseen],
        "high": [s for s, _ in sorted(rows, key=lambda row: row[1])[-len(rows) // 10 :]],
    }
    counts = {name: kmer_counts(group, 3, "ACGT") for name, group in groups.items()}
    tokens = model.space.encode(groups["real"])
    own = as_numbers([s for s, _ in rows], "ACGT")
    train, validation, _ = AS_GIVEN.rows(len(own), 0)
    words = best_word_model(
        [own[i] for i in train], [own[i] for i in validation], as_numbers(groups["real"], "ACGT"), 4
    )
    metrics |= {
        "unseen_clusters_nats": validation_bound(model.policy, tokens),
        "unseen_clusters_nats_of_words": words.nats,
        "words_k": words.k,
        "kmer3_samples_vs_unseen": kmer_correlation(counts["samples"], counts["real"]),
        "kmer3_high_vs_unseen": kmer_correlation(counts["high"], counts["real"]),
    }
    for name, group in groups.items():
        metrics[f"gc_{name}"] = sum(s.count("G") + s.count("C") for s in group) / (50 * len(group))
    card = {"metrics": metrics, "kmer3_high": [int(c) for c in counts["high"]], "notes": NOTES}
    write_json(out / "generator.json", card)


def calibrate(random: Rows, human: Rows, options: dict[str, Any], device: str = "cpu") -> tuple[float, float]:
    """Return slope and intercept that map human measurements onto the random library's scale."""
    reader, _ = fit_oracle(
        [s for s, _ in random], [y for _, y in random], "DNA", name="calibration", members=1,
        config=FitConfig(epochs=12), split=AS_GIVEN, replicates="keep", device=device, **options,
    )  # fmt: skip
    predicted = torch.tensor(reader([s for s, _ in human]))
    measured = torch.tensor([y for _, y in human])
    design = torch.stack([measured, torch.ones_like(measured)], 1)
    slope, intercept = torch.linalg.lstsq(design, predicted.unsqueeze(1)).solution[:, 0].tolist()
    return slope, intercept


def make_oracle(name: str, random: Rows, human: Rows, out: Path, epochs: int, device: str = "cpu") -> None:
    """Fit one oracle on its half of the random library and its part of the human one."""
    test, random = random[:TEST_ROWS], random[TEST_ROWS:]
    human_test, human = human[:TEST_ROWS], human[TEST_ROWS:]
    slope, intercept = calibrate(random, human, ORACLES[name], device)
    rows = random + [(s, slope * y + intercept) for s, y in human]
    reward, metrics = fit_oracle(
        [s for s, _ in rows], [y for _, y in rows], "DNA", name=f"utr_mrl_{name}", units="mean ribosome load",
        members=3, config=FitConfig(epochs=epochs), split=AS_GIVEN, replicates="keep", device=device, **ORACLES[name],
        report=lambda m, e, error: print(f"{name} member {m} epoch {e}: validation MSE {error:.3f}", flush=True),
    )  # fmt: skip
    for label, group in (("random", test), ("human", human_test)):
        predicted = torch.tensor(reward([s for s, _ in group]))
        scores = correlations(predicted, torch.tensor([y for _, y in group]))
        metrics |= {f"{label}_test_{key}": value for key, value in scores.items()}
    reward.save(out / f"{name}.safetensors")
    measured = max(y for _, y in test + rows)
    write_json(
        out / f"{name}.json",
        {"metrics": metrics, "calibration": [slope, intercept], "measured_max": measured},
    )


def write_quality(out: Path) -> None:
    """Write what `biotilt task list` says of the task, from the cards of its models."""
    cards = {name: read_json(out / f"{name}.json")["metrics"] for name in ("generator", *ORACLES)}
    measured = {
        "nats on unseen human sequences": cards["generator"]["unseen_clusters_nats"],
        "nats, uniform letters": cards["generator"]["nats_of_uniform_letters"],
        "3-mer r, samples to unseen real": cards["generator"]["kmer3_samples_vs_unseen"],
    }
    for name in ORACLES:
        for library in ("random", "human"):
            measured[f"Pearson, {name} oracle, {library}"] = cards[name][f"{library}_test_pearson"]
    about = "comparing ways to tune in minutes: both oracles are good on sequences like those they learned from"
    write_json(out / "quality.json", {"good_for": about, "measured": measured})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", choices=["generator", *ORACLES], help="make one model only")
    parser.add_argument("--steps", type=int, default=6000, help="generator updates")
    parser.add_argument("--epochs", type=int, default=14, help="oracle epochs")
    parser.add_argument("--device", default="cpu", help="where networks learn; another one makes other models")
    options = parser.parse_args()
    parts = split(read_library(options.data / RANDOM), read_library(options.data / HUMAN))
    unseen = parts["optimised"][1] + parts["held_out"][1]
    if options.only in (None, "generator"):
        make_generator(parts["generator"][1], unseen, options.out, options.steps, options.device)
    for name in ORACLES:
        if options.only in (None, name):
            make_oracle(name, *parts[name], options.out, options.epochs, options.device)
    write_quality(options.out)


if __name__ == "__main__":
    main()
