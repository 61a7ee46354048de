"""Oracles from measurements: whatever their units, and tested on nothing that resembles what they learned from."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch

from biotilt.core.space import Modelled
from biotilt.errors import BiotiltError, DataError
from biotilt.fitting import Split, card_of, correlations, fit_oracle, pretrain_model
from biotilt.rewards.dna.motifs import reverse_complement
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.spaces import DNA, Letters, Points
from biotilt.training import FitConfig, PretrainConfig

SMALL = {"channels": 8, "layers": 1, "kernel": 3, "hidden": 8, "dropout": 0.0}
QUICK = FitConfig(epochs=15, batch=32, lr=0.02)


def library(count: int, length: int = 20, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("ACGT", k=length)) for _ in range(count)]


def fit(sequences, values, **options):
    options = {"config": QUICK, "members": 1, "architecture": SMALL} | options
    return fit_oracle(sequences, values, "dna", name="x", **options)


# --- units ---


@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1e30])
def test_the_unit_of_the_targets_does_not_matter(unit, tmp_path):
    """Predictions scale with the unit, through the file too, and the correlation stays."""
    sequences = library(150)
    affinity = [5.0 + s.count("G") for s in sequences]
    reward, metrics = fit(sequences, affinity)
    other, scaled = fit(sequences, [unit * value for value in affinity])
    assert metrics["pearson"] > 0.9 and scaled["pearson"] == pytest.approx(metrics["pearson"], abs=0.01)
    other.save(tmp_path / "o.safetensors")
    loaded = LearnedReward.load(tmp_path / "o.safetensors")(sequences[:20])
    assert np.array(loaded) / unit == pytest.approx(np.array(reward(sequences[:20])), abs=0.2)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1e300 * i for i in range(1, 31)], "too large or too small .* other units"),
        ([1e-300 * i for i in range(1, 31)], "too large or too small .* other units"),
        ([1e38] * 15 + [-1e38] * 15, "too large or too small"),
        ([1e9 + i * 1e-3 for i in range(30)], "differ by 0.00866 only, .* subtract"),
        ([7.0] * 30, "every row has the same value, 7"),
        ([0.0] * 30, "every row has the same value, 0"),
        ([float("nan")] * 11 + [1.0, 2.0] * 9 + [3.0], "19 of 30 rows have a number"),
        ([1.0] * 29 + [float("inf")], "sequence 30: its value is infinite"),
        ([float("-inf")] + [1.0] * 29, "sequence 1: its value is infinite"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value[0]:g}",
)
def test_targets_that_nothing_can_be_learned_from(values, says):
    with pytest.raises(DataError, match=says):
        fit(library(30), values)


def test_targets_with_one_value_in_the_training_part():
    sequences = library(40)
    _, validation, test = Split().parts(Split().clusters(sequences, Letters(DNA)), 0)
    values = [float(i in {*validation.tolist(), *test.tolist()}) for i in range(40)]
    with pytest.raises(DataError, match="every row of the training part has the same value, 0"):
        fit(sequences, values)


def test_training_that_diverges_is_an_error():
    sequences = library(60)
    with pytest.raises(DataError, match=r"diverged.* lower lr"):
        fit(sequences, [float(s.count("G")) for s in sequences], config=FitConfig(epochs=2, lr=1e25))
    with pytest.raises(DataError, match=r"diverged.* lower lr"):
        pretrain_model(
            sequences, "dna", network={"channels": 4, "blocks": 1}, config=PretrainConfig(steps=3, warmup=1, lr=1e25)
        )


def test_correlations_of_tiny_huge_and_constant_numbers():
    x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    for unit in (1e-200, 1.0, 1e200):
        assert correlations(x, x * unit)["pearson"] == pytest.approx(1.0)
    assert np.isnan(correlations(torch.ones(3), x)["pearson"]) and np.isnan(correlations(x[:1], x[:1])["spearman"])


# --- replicates, strands, relatives ---


def test_a_split_divides_no_cluster_and_of_single_ones_is_that_of_rows():
    clusters = [i // 3 for i in range(120)]
    parts = Split(0.1, 0.2).parts(clusters, 5)
    assert sorted(torch.cat(parts).tolist()) == list(range(120))
    found = [{clusters[i] for i in part.tolist()} for part in parts]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    assert [len(part) for part in parts] == [84, 12, 24]
    order = torch.randperm(50, generator=torch.Generator().manual_seed(5))
    train, validation, test = Split(0.1, 0.2).rows(50, 5)  # 5 and 10 rows, as it always was
    assert torch.equal(torch.cat([validation, test, train]), order)
    assert (len(validation), len(test)) == (5, 10)


@pytest.mark.parametrize("replicates", ["mean", "keep"])
def test_random_labels_are_not_predicted_from_relatives(replicates):
    """Each of 60 labels belongs to copies, other strands and mutants: to know them by heart is of no use."""
    draw, rows = random.Random(1), []
    for parent in library(60):
        label = draw.gauss(0, 1)
        mutant = parent[:7] + draw.choice("ACGT") + parent[8:]
        rows += [(s, label + draw.gauss(0, 0.01)) for s in (parent, parent, reverse_complement(parent), mutant)]
    draw.shuffle(rows)
    sequences, values = [s for s, _ in rows], [y for _, y in rows]
    split = Split(0.1, 0.3)
    _, metrics = fit(sequences, values, split=split, replicates=replicates)
    assert metrics["clusters"] == 60 and metrics["measured"] == 240
    assert metrics["different_sequences"] == len(set(sequences)) < 240
    assert abs(metrics["pearson"]) < 0.6, "18 clusters: four standard errors are above 0.9"
    _, leaking = fit(sequences, values, split=Split(0.1, 0.3, None), replicates="keep", config=FitConfig(40, 32, 0.02))
    assert leaking["pearson"] > 0.6, "the same data, split by rows"


def test_replicates_are_averaged_or_kept():
    sequences = library(40) * 3
    values = [float(i) for i in range(120)]  # 40 apart: the mean is the second of them
    _, mean = fit(sequences, values)
    _, keep = fit(sequences, values, replicates="keep")
    assert (mean["train_designs"] + mean["test_designs"], mean["measured"]) == (38, 120)
    assert keep["test_designs"] == 3 * keep["test_sequences"] == 12
    with pytest.raises(DataError, match='replicates must be "mean" or "keep"'):
        fit(sequences, values, replicates="median")


def test_too_few_clusters_say_what_to_do():
    parents = library(4)
    sequences = [s[:-1] + letter for s in parents for letter in "ACGT"] * 2
    with pytest.raises(DataError, match=r"16 rows are too few"):
        fit(sequences, [float(i) for i in range(32)])
    with pytest.raises(DataError, match=r"32 rows are 4 clusters .* largest of 8: .* higher identity"):
        pretrain_model(sequences, "dna")


def test_commands_take_the_threshold_and_say_how_many_clusters_there_are(biotilt_cli, tmp_path):
    sequences = [s[:-1] + letter for s in library(40) for letter in "AC"]
    rows = [f"{s},{s.count('G')}" for s in sequences]
    (tmp_path / "d.csv").write_text("sequence,y\n" + "\n".join(rows) + "\n")
    command = ["fit-oracle", "d.csv", "--target", "y", "--alphabet", "dna", "--epochs", "1", "--members", "1"]
    said = biotilt_cli(*command, "--out", "o.safetensors").stdout
    assert "80 measurements of 80 sequences (the mean of replicates), split by 40 clusters of 80% identity" in said
    strict = biotilt_cli(*command, "--out", "o.safetensors", "--identity", "1", "--json")
    assert json.loads(strict.stdout)["metrics"]["clusters"] == 80
    card = json.loads((tmp_path / "o.json").read_text())
    assert (card["options"]["identity"], card["options"]["replicates"]) == (1.0, "mean")
    small = ["--steps", "2", "--channels", "4", "--blocks", "1", "--out", "g.safetensors"]
    said = biotilt_cli("pretrain", "d.csv", "--alphabet", "dna", *small).stdout
    assert "80 designs, split by 40 clusters of 80% identity" in said
    refused = biotilt_cli("pretrain", "d.csv", "--alphabet", "dna", *small, "--identity", "1.5")
    assert refused.exit_code == 2 and "split.identity: must be ≤ 1, got 1.5" in refused.stderr


# --- the card ---


@pytest.mark.parametrize("command", [["fit-oracle", "--target", "y"], ["pretrain"]], ids=["fit-oracle", "pretrain"])
def test_a_model_and_its_card_never_are_one_file(biotilt_cli, tmp_path, command):
    rows = [f"{s},{s.count('G')}" for s in library(30)]
    (tmp_path / "d.csv").write_text("sequence,y\n" + "\n".join(rows) + "\n")
    name, *more = command
    refused = biotilt_cli(name, "d.csv", *more, "--alphabet", "dna", "--out", "x.json")
    assert refused.exit_code == 2 and "call the model x.safetensors" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"], "nothing was trained or written"
    with pytest.raises(BiotiltError, match=r"call the model x\.safetensors"):
        card_of(tmp_path / "x.json")


class Flowing(Modelled[np.ndarray], Points):
    """Somebody's own kind of points."""

    @property
    def usual_process(self) -> dict[str, Any]:
        return {"name": "flow", "num_steps": 7}

    @property
    def usual_network(self) -> str:
        return "vector_mlp"


def test_a_space_of_somebody_else_says_what_its_generators_are():
    points = [np.array([row % 7, row * row % 11], dtype=np.float32) for row in range(60)]
    few = PretrainConfig(steps=2, warmup=1, batch=8)
    made, plain = (
        pretrain_model(points, kind(("a", "b")), config=few, split=Split(identity=None))[0]
        for kind in (Flowing, Points)
    )
    assert (made.policy.process.name, made.policy.process.steps) == ("flow", 7)
    assert plain.policy.process.name == "gaussian"
