"""The recipe of the shipped `utr_varying` models: `python -m biotilt.tasks.utr_varying.recipe --data FOLDER`.

FOLDER holds `varying_25to100.csv.gz` (7,600 human and 7,600 random 5′UTRs of 25 to 100 letters, as many of each
length) and `random50_egfp_unmod1_test.csv.gz` (random ones of 50), columns `utr` and `rl`. Nothing is shared between
the three models:

* human sequences that share a stretch of 20 letters, wherever it stands, stay together: half of these clusters are the
  generator's, a quarter each oracle's. Random sequences are cut in halves, one for each oracle;
* the two files were measured apart. Random sequences of one length have one law, so each oracle maps the 50-letter
  measurements onto the scale of this task by the mean and spread of its own random sequences of 40 to 60 letters;
* the oracles differ in architecture and seed.

Letters are counted from the start codon: shorter sequences are padded on the left. It takes about 8 minutes of a core.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch

from biotilt.evaluation.metrics import kmer_correlation, kmer_counts
from biotilt.evaluation.words import as_numbers, best_word_model
from biotilt.files import read_json, write_json
from biotilt.fitting import Split, correlations, fit_oracle, pretrain_model, state_of
from biotilt.model import Model
from biotilt.spaces import DNA, Padded, numbers, read_designs
from biotilt.spaces.clusters import linked, windows
from biotilt.tasks.utr.recipe import NOTES, RANDOM, Rows, hash_of, read_library
from biotilt.training import FitConfig, PretrainConfig, resumable
from biotilt.training.pretrain import validation_bound

VARYING = "varying_25to100.csv.gz"
SPACE = Padded(DNA, 100, side="left")
SHARED = 20  # letters
TEST_ROWS = 400  # human and random sequences, each, of its own part that an oracle never sees
SPLIT = Split(0.07, 0.01, identity=None)  # relatives are kept apart by `split`
FIFTY = 5000  # 50-letter sequences that each oracle also learns from

ORACLES: dict[str, dict[str, Any]] = {
    "optimised": {"seed": 1, "architecture": {"channels": 64, "layers": 3, "kernel": 7}},
    "held_out": {"seed": 2, "architecture": {"channels": 48, "layers": 4, "kernel": 5, "dilated": True}},
}


def read_varying(path: Path) -> tuple[Rows, Rows]:
    """Return (sequence, mean ribosome load) of the random and of the human rows."""
    records = read_designs(path, DNA, column="utr")
    rows: dict[str, Rows] = {"random": [], "human": []}
    for record, load in zip(records, numbers(records, "rl", path)):
        rows[record.values["set"]].append((record.design, load))
    return rows["random"], rows["human"]


def clusters(sequences: list[str], width: int = SHARED) -> list[int]:
    """Return a cluster number for each sequence: those that share a stretch of `width` letters, anywhere, join.

    >>> clusters(["AACCG", "TTAACC", "GGGGG"], width=4)
    [0, 0, 1]
    """
    return linked(windows(sequence, width) for sequence in sequences)


def split(random: Rows, human: Rows, fifty: Rows) -> dict[str, dict[str, Rows]]:
    """Return for `generator`, `optimised`, `held_out` the human, random and 50-letter rows that each may see."""
    parts = {name: defaultdict(list) for name in ("generator", "optimised", "held_out")}
    for kind, rows in (("random", random), ("fifty", fifty)):
        for row in rows:
            parts["optimised" if hash_of(row[0]) % 2 else "held_out"][kind].append(row)
    members = defaultdict(list)
    for row, cluster in zip(human, clusters([s for s, _ in human])):
        members[cluster].append(row)
    for rows in members.values():
        bucket = hash_of(min(s for s, _ in rows)) % 100
        part = "generator" if bucket < 50 else "optimised" if bucket < 75 else "held_out"
        parts[part]["human"] += rows
    return {name: dict(rows) for name, rows in parts.items()}


def make_generator(rows: Rows, out: Path, steps: int, device: str = "cpu") -> dict[str, float]:
    """Pretrain the generator on human 5′UTRs; return its metrics."""
    with resumable(state_of(out / "generator.safetensors")) as state:
        model, metrics = pretrain_model(
            [s for s, _ in rows],
            SPACE,
            network={"channels": 64, "blocks": 6, "kernel": 7, "dilations": (1, 2, 8)},
            process={"name": "any_order", "per_step": 5},
            config=PretrainConfig(steps=steps, batch=32, bfloat16=True),
            split=SPLIT,
            device=device,
            report=lambda step, train, val: print(
                f"generator {step}: train {train:.2f} validation {val:.2f}", flush=True
            ),
            state=state,
        )
        model.save(out / "generator.safetensors", half=True)
    return {"train_designs": metrics["train_designs"], "validation_nats": metrics["validation_nats"]}


def describe_generator(rows: Rows, unseen: Rows, out: Path, metrics: dict[str, float]) -> dict[str, float]:
    """Write the generator's card: how its samples and likelihoods compare with real sequences; return the metrics."""
    model = Model.load(out / "generator.safetensors")
    groups = {
        "samples": model.sample(2048, seed=1),
        "real": [s for s, _ in unseen],
        "high": [s for s, _ in sorted(rows, key=lambda row: row[1])[-len(rows) // 10 :]],
    }
    counts = {name: kmer_counts(group, 3, "ACGT") for name, group in groups.items()}
    own = SPACE.encode([s for s, _ in rows]).long()
    tokens = SPACE.encode(groups["real"])
    frequencies = (torch.bincount(own.flatten(), minlength=5) / own.numel()).log()
    # of each place: how many letters there are, and which; a baseline that knows the lengths
    places = torch.stack([torch.bincount(column, minlength=5) for column in own.T]) + 1.0
    by_place = (places / places.sum(-1, keepdim=True)).log()
    numbers_of = as_numbers([s for s, _ in rows], "ACGT")
    train, validation, _ = SPLIT.rows(len(rows), 0)
    words = best_word_model(
        [numbers_of[i] for i in train], [numbers_of[i] for i in validation], as_numbers(groups["real"], "ACGT"), 4
    )
    metrics |= {
        "unseen_clusters_nats": validation_bound(model.policy, tokens),
        "unseen_clusters_nats_of_letter_frequencies": -frequencies[tokens.long()].sum(-1).mean().item(),
        "unseen_clusters_nats_of_letters_by_place": -by_place.expand(len(tokens), -1, -1)
        .gather(-1, tokens.long().unsqueeze(-1)).sum((1, 2)).mean().item(),
        "unseen_clusters_nats_of_words": words.nats + words.nats_of_lengths,
        "words_k": words.k,
        "kmer3_samples_vs_unseen": kmer_correlation(counts["samples"], counts["real"]),
        "kmer3_high_vs_unseen": kmer_correlation(counts["high"], counts["real"]),
        "inner_pads": inner_pads(model),
        "in_25_to_100": statistics.fmean(25 <= len(s) <= 100 for s in groups["samples"]),
        "novel": statistics.fmean(s not in set(groups["real"]) | {s for s, _ in rows} for s in groups["samples"]),
    }  # fmt: skip
    for name, group in groups.items():
        letters = Counter("".join(group))
        metrics[f"gc_{name}"] = (letters["G"] + letters["C"]) / letters.total()
        metrics[f"length_{name}"] = statistics.fmean(map(len, group))
        metrics[f"length_sd_{name}"] = statistics.pstdev(map(len, group))
    write_json(
        out / "generator.json", {"metrics": metrics, "kmer3_high": counts["high"].tolist(), "notes": NOTES}
    )  # fmt: skip
    return metrics


def inner_pads(model: Model, count: int = 512) -> float:
    """Return the share of samples with a pad between letters: dropping it joins what real sequences have apart."""
    from biotilt.core import sample

    states = sample(model.policy, count, torch.Generator().manual_seed(2))
    letters = states != SPACE.pad
    return ((letters.cumsum(1) > 0) & ~letters).any(1).float().mean().item()


def on_one_scale(fifty: Rows, random: Rows) -> tuple[float, float]:
    """Return slope and intercept that give 50-letter loads the mean and spread of random ones of 40 to 60 letters."""
    near = [y for s, y in random if 40 <= len(s) <= 60]
    loads = [y for _, y in fifty]
    slope = statistics.stdev(near) / statistics.stdev(loads)
    return slope, statistics.fmean(near) - slope * statistics.fmean(loads)


def make_oracle(name: str, part: dict[str, Rows], out: Path, epochs: int, device: str = "cpu") -> dict[str, float]:
    """Fit one oracle on its part; return its metrics."""
    tests = {kind: part[kind][:TEST_ROWS] for kind in ("random", "human")}
    own = {kind: part[kind][TEST_ROWS:] for kind in tests}
    fifty = part["fifty"][:FIFTY]
    slope, intercept = on_one_scale(fifty, own["random"])
    rows = own["random"] + own["human"] + [(s, slope * y + intercept) for s, y in fifty]
    reward, metrics = fit_oracle(
        [s for s, _ in rows], [y for _, y in rows], SPACE, name=f"utr_varying_mrl_{name}",
        units="mean ribosome load", members=2, config=FitConfig(epochs=epochs, bfloat16=True), split=SPLIT,
        replicates="keep", device=device,
        report=lambda m, e, error: print(f"{name} member {m} epoch {e}: validation MSE {error:.3f}", flush=True),
        **ORACLES[name],
    )  # fmt: skip
    found = {"train_designs": metrics["train_designs"]}
    for kind, group in tests.items():
        predicted, measured = torch.tensor(reward([s for s, _ in group])), torch.tensor([y for _, y in group])
        found |= {f"{kind}_test_{key}": value for key, value in correlations(predicted, measured).items()}
    reward.save(out / f"{name}.safetensors")
    highest = max(y for kind in tests for _, y in part[kind])
    write_json(out / f"{name}.json", {"metrics": found, "scale": [slope, intercept], "measured_max": highest})
    return found


def write_quality(out: Path) -> None:
    """Write what `biotilt task list` shows, from the cards of the three models."""
    cards = {name: read_json(out / f"{name}.json")["metrics"] for name in ("generator", *ORACLES)}
    generator = cards["generator"]
    measured = {
        "nats on unseen human 5'UTRs": generator["unseen_clusters_nats"],
        "nats, letters by place": generator["unseen_clusters_nats_of_letters_by_place"],
        "3-mer r, samples to unseen real": generator["kmer3_samples_vs_unseen"],
        "samples of 25 to 100 letters": generator["in_25_to_100"],
        "samples that are no known 5'UTR": generator["novel"],
    }
    for name in ORACLES:
        for kind in ("human", "random"):
            measured[f"Pearson, {name} oracle, {kind}"] = cards[name][f"{kind}_test_pearson"]
    about = "tuning where length is free: 5'UTRs of 25 to 100 letters before a start codon"
    write_json(out / "quality.json", {"good_for": about, "measured": measured})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", choices=["generator", *ORACLES], help="make one model only")
    parser.add_argument("--steps", type=int, default=4000, help="generator updates")
    parser.add_argument("--epochs", type=int, default=5, help="oracle epochs")
    parser.add_argument("--device", default="cpu", help="where networks learn; another one makes other models")
    options = parser.parse_args()
    parts = split(*read_varying(options.data / VARYING), read_library(options.data / RANDOM))
    if options.only in (None, "generator"):
        unseen = parts["optimised"]["human"] + parts["held_out"]["human"]
        metrics = make_generator(parts["generator"]["human"], options.out, options.steps, options.device)
        describe_generator(parts["generator"]["human"], unseen, options.out, metrics)
    for name in ORACLES:
        if options.only in (None, name):
            make_oracle(name, parts[name], options.out, options.epochs, options.device)
    write_quality(options.out)


if __name__ == "__main__":
    main()
