"""Generators of labelled designs: from a table with a column of labels to designs of one, in Python and by commands."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import biotilt
from biotilt.core import Policy
from biotilt.errors import ConfigError, DataError
from biotilt.finetuning import finetune
from biotilt.fitting import Split, pretrain_model
from biotilt.labelled import Labelled
from biotilt.model import Model
from biotilt.networks import UNet, UNetConfig
from biotilt.processes import AnyOrder
from biotilt.spaces import Images
from biotilt.training import PretrainConfig

LENGTH = 4
LAWS = {"liver": [0.6, 0.2, 0.1, 0.1], "k562": [0.1, 0.2, 0.15, 0.55]}  # of A, C, G, T at every position
COUNTS = {"liver": 1500, "k562": 500}
SHARES = {name: count / 2000 for name, count in COUNTS.items()}
LETTERS = "ACGT"


def labelled_designs() -> tuple[list[str], list[str]]:
    draw = random.Random(5)
    rows = [
        ("".join(draw.choices(LETTERS, LAWS[name], k=LENGTH)), name)
        for name, count in COUNTS.items()
        for _ in range(count)
    ]
    draw.shuffle(rows)
    designs, labels = zip(*rows)
    return list(designs), list(labels)


@pytest.fixture(scope="module")
def learned() -> tuple[Model, dict[str, float]]:
    designs, labels = labelled_designs()
    return pretrain_model(
        designs,
        "dna",
        network={"name": "mlp", "width": 32, "depth": 1},
        process={"name": "any_order"},
        config=PretrainConfig(steps=800, warmup=20, lr=0.01, batch=256, ema=0.99),
        split=Split(identity=None),
        labels=labels,
        label_dropout=0.2,
    )


def frequencies(designs: list[str]) -> Tensor:
    text = "".join(designs)
    return torch.tensor([text.count(letter) / len(text) for letter in LETTERS])


# Of 4 letters in 1,660 designs, of which 415 are of k562, a frequency has a standard error of at most
# √(0.25/1,660) = 0.012, 2,000 samples add √(0.25/8,000) = 0.006; the rest is left to a short training.
CLOSE = 0.05


@pytest.mark.parametrize("name", LAWS)
def test_designs_of_a_label_have_its_frequencies(learned, name):
    model, _ = learned
    drawn = model.with_condition(name).sample(2000, seed=3)
    assert (frequencies(drawn) - torch.tensor(LAWS[name])).abs().max() < CLOSE


def test_designs_of_no_label_are_those_of_all(learned):
    model, _ = learned
    mixture = sum(SHARES[name] * torch.tensor(law) for name, law in LAWS.items())
    drawn = model.sample(2000, seed=4)
    assert (frequencies(drawn) - mixture).abs().max() < CLOSE
    # a design of one label or the other: letters of one design go together
    mean = sum(SHARES[name] * law[3] ** 2 for name, law in LAWS.items())
    pairs = sum(design[0] == design[3] == "T" for design in drawn) / 2000
    assert abs(pairs - mean) < 0.04
    assert pairs > frequencies(drawn)[3] ** 2 + 0.015


def test_guidance_is_that_of_the_laws(learned):
    """The first letter that is revealed knows nothing else: p ∝ p(letter | label)^(1 + w) / p(letter)^w."""
    model, _ = learned
    mixture = sum(SHARES[name] * torch.tensor(law) for name, law in LAWS.items())
    for name, law in LAWS.items():
        guided = torch.tensor(law) ** 2.5 / mixture**1.5
        policy = model.with_condition(name, guidance=1.5).policy
        first = policy.kernel(policy.process.noise(1, torch.Generator().manual_seed(0)), 0).x0[0].exp()
        assert (first - guided / guided.sum()).abs().max() < 0.08


def test_nats_are_those_of_designs_with_their_labels(learned):
    _, metrics = learned
    entropy = -sum(SHARES[name] * LENGTH * sum(p * torch.tensor(p).log() for p in law) for name, law in LAWS.items())
    # designs with a label need its entropy, 4.6 nats; 200 of them vary by 1.3 / √200 = 0.1
    assert abs(metrics["test_nats"] - entropy) < 0.3
    assert metrics["test_nats"] < metrics["test_nats_of_letter_frequencies"] - 0.3


def test_a_file_knows_the_labels(learned, tmp_path):
    model, _ = learned
    model.save(tmp_path / "g.safetensors")
    loaded = Model.load(tmp_path / "g.safetensors")
    assert loaded.conditions is not None and loaded.conditions.labels == ["k562", "liver"]
    told = loaded.with_condition("liver", guidance=0.5)
    assert told.sample(9, seed=1) == model.with_condition("liver", guidance=0.5).sample(9, seed=1)


def test_labels_are_forgotten_as_often_as_said():
    labels = Labelled.of(["b", "a", "b", "b"], 4, 0.3)
    assert labels.names == ("a", "b") and labels.index.tolist() == [1, 0, 1, 1]
    bare = torch.zeros(4, 3, dtype=torch.int8)
    policy, told, change = labels.telling(Policy(AnyOrder(length=3, letters=4), torch.nn.Identity()), bare)
    mark = policy.process.mark  # type: ignore[attr-defined]
    assert torch.equal(told, mark.write(bare, labels.index))
    assert policy.process.weights == pytest.approx((0.7 * 0.25, 0.7 * 0.75, 0.3))
    states = mark.write(torch.zeros(4000, 3, dtype=torch.int8), labels.index.repeat(1000))
    bare, index = mark.read(change(states, torch.Generator().manual_seed(0)))
    assert torch.equal(bare, torch.zeros_like(bare))
    forgotten = index == 2
    assert abs(forgotten.double().mean() - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    assert torch.equal(index[~forgotten], labels.index.repeat(1000)[~forgotten])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": ["a"] * 39}, DataError, "40 designs have 39 labels"),
        ({"labels": ["a"] * 40}, DataError, 'have the label "a": there is nothing to tell apart'),
        ({"labels": ["a", " "] * 20}, DataError, "design 2 has no label"),
        ({"label_dropout": 0.0}, ConfigError, r"pretrain\.label_dropout: must be > 0"),
        ({"label_dropout": 1.0}, ConfigError, r"pretrain\.label_dropout: must be < 1"),
        ({"network": {"conditions": 3}}, ConfigError, r"network\.conditions: the labels say how many"),
        ({"network": {"name": "structured"}}, ConfigError, 'network: "structured" takes no labels'),
    ],
)
def test_labels_that_cannot_be_learned(changes, error, message):
    draw = random.Random(0)
    designs = ["".join(draw.choices(LETTERS, k=6)) for _ in range(40)]
    given = {"labels": ["a", "b"] * 20, "split": Split(identity=None)} | changes
    with pytest.raises(error, match=message):
        pretrain_model(designs, "dna", config=PretrainConfig(steps=1, warmup=1), **given)


def test_a_label_that_no_design_of_the_training_part_has():
    labels = Labelled.of(["a", "c", "b", "a", "c"], 5, 0.1)
    labels.check(torch.tensor([0, 1, 2]))
    with pytest.raises(DataError, match='no design of the training part has the label "c", of 2 in all'):
        labels.check(torch.tensor([0, 2, 3]))


def of_law(law: list[float], count: int) -> list[str]:
    draw = random.Random(9)
    return ["".join(draw.choices(LETTERS, law, k=LENGTH)) for _ in range(count)]


MORE = PretrainConfig(steps=250, warmup=10, lr=0.01, batch=128, ema=0.98)
APART = Split(identity=None)


def test_a_model_learns_further_designs_of_each_label(learned):
    model, _ = learned
    new = {"k562": [0.05, 0.8, 0.1, 0.05], "liver": [0.1, 0.05, 0.05, 0.8]}
    designs = [design for law in new.values() for design in of_law(law, 400)]
    labels = [name for name in new for _ in range(400)]
    tuned, metrics = finetune(model, designs, labels=labels, config=MORE, split=APART)
    assert metrics["test_nats"] < metrics["test_nats_before"] - 1
    assert tuned.told is None and tuned.conditions is model.conditions
    for name, law in new.items():
        found = frequencies(tuned.with_condition(name).sample(2000))
        torch.testing.assert_close(found, torch.tensor(law), atol=0.06, rtol=0)
    before = frequencies(model.with_condition("k562").sample(2000))  # the one that was given stays
    torch.testing.assert_close(before, torch.tensor(LAWS["k562"]), atol=CLOSE, rtol=0)


def test_what_a_model_was_told_it_is_told_again(learned):
    model, few = learned[0], PretrainConfig(steps=2, warmup=1, batch=8)
    told = model.with_condition({"liver": 3, "k562": 1}, guidance=0.5)
    tuned, _ = finetune(told, of_law(LAWS["liver"], 40), labels=["liver"] * 40, config=few, split=APART)
    assert tuned.told == told.told
    with pytest.raises(ConfigError, match="name the one that these designs have, or their labels"):
        finetune(told, of_law(LAWS["liver"], 40), config=few, split=APART)


class TwoClasses(torch.nn.Module):
    """Frequencies of letters for each of two classes, and no class for none: told another number it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = torch.nn.Embedding(2, 4)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        return self.letters(condition).unsqueeze(1).expand(-1, tokens.shape[1], -1)


def test_a_network_that_knows_nothing_for_none_is_always_told_the_label():
    model = biotilt.wrap(TwoClasses(), space="dna", length=LENGTH, conditions=["liver", "k562"])
    designs, labels = labelled_designs()
    tuned, _ = finetune(model, designs[:400], labels=labels[:400], config=MORE, split=APART)
    for name, law in LAWS.items():
        found = frequencies(tuned.with_condition(name).sample(1000))
        torch.testing.assert_close(found, torch.tensor(law), atol=0.1, rtol=0)


def test_labels_that_a_model_does_not_know_are_refused(learned):
    model, few = learned[0], PretrainConfig(steps=2, warmup=1, batch=8)
    designs = of_law(LAWS["liver"], 40)
    with pytest.raises(ConfigError, match=r'labels: the network knows no condition "livre"; did you mean "liver"'):
        finetune(model, designs, labels=["livre"] * 40, config=few, split=APART)
    bare = pretrain_model(designs, "dna", network={"channels": 4, "blocks": 1}, config=few, split=APART)[0]
    with pytest.raises(ConfigError, match=r"labels: this model takes no conditions.* without --from"):
        finetune(bare, designs, labels=["liver"] * 40, config=few, split=APART)


def test_points_and_images_have_labels_too():
    draw = np.random.default_rng(0)
    images = list(draw.random((40, 4, 4, 1), dtype=np.float32))
    few = PretrainConfig(steps=2, warmup=1, batch=8)
    model, _ = pretrain_model(images, Images(4, 4, 1), config=few, labels=[0, 1] * 20, network={"channels": 4})
    assert model.with_condition(1, guidance=1.0).sample(2)[0].shape == (4, 4, 1)


def test_a_network_of_images_hears_its_class():
    torch.manual_seed(0)
    net = UNet(UNetConfig(4, 4, 1, channels=4, conditions=2))
    torch.nn.init.normal_(net.condition.weight)
    x, t = torch.randn(3, 16), torch.rand(3)
    untold = net(x, t)
    assert torch.allclose(untold, net(x, t, torch.tensor([2, 2, 2])))
    told = net(x, t, torch.tensor([0, 1, 0]))
    assert torch.allclose(told[1:2], net(x[1:2], t[1:2], torch.tensor([1])), atol=1e-6)
    assert not torch.allclose(told, untold)


EXPERIMENT = """
alpha = 0.1
[model]
path = "g.safetensors"
condition = "k562"
guidance = 1.0
[reward]
kind = "gc"
[objective]
name = "ppo"
[train]
max_calls = 32
batch = 16
[output]
samples = 16
"""


def test_from_a_table_to_a_tuned_generator_by_commands(biotilt_cli, tmp_path: Path):
    designs, labels = labelled_designs()
    rows = [f"{design},{name}" for design, name in zip(designs[:400], labels)]
    (tmp_path / "d.csv").write_text("sequence,tissue\n" + "\n".join(rows) + "\n")
    small = ["--network", "mlp", "--set", "network.width=16", "--steps", "100", "--lr", "0.01", "--identity", "1"]
    words = ["pretrain", "d.csv", "--alphabet", "dna", "--labels", "tissue", "--label-dropout", "0.2", *small]
    done = biotilt_cli(*words, "--out", "g.safetensors", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["options"]["labels"] == "tissue"
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    done = biotilt_cli("tune", "e.toml", "--folder", "run", "--json")
    assert done.exit_code == 0, done.stderr
    done = biotilt_cli("sample", "run", "--count", "5", "--json")
    assert json.loads(done.stdout)["conditions"] == ["k562"] * 5
    assert biotilt.load_model(tmp_path / "run").told.guidance == 1.0
    further = ["pretrain", "d.csv", "--from", "g.safetensors", "--labels", "tissue", "--steps", "5", "--identity", "1"]
    done = biotilt_cli(*further, "--out", "f.safetensors", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["options"]["labels"] == "tissue"
    assert Model.load(tmp_path / "f.safetensors").with_condition("liver").sample(1)
    wrong = biotilt_cli(*[word if word != "tissue" else "tisue" for word in words], "--out", "h.safetensors")
    assert wrong.exit_code == 2 and "no column 'tisue'; columns found: sequence, tissue" in wrong.stderr


def test_a_column_of_labels_is_no_coordinate(biotilt_cli, tmp_path: Path):
    draw = random.Random(1)
    rows = [f"{draw.gauss(0, 1)},{draw.gauss(2, 1)},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "p.csv").write_text("x,y,which\n" + "\n".join(rows) + "\n")
    words = ["pretrain", "p.csv", "--space", "points", "--labels", "which", "--steps", "2", "--out", "p.safetensors"]
    done = biotilt_cli(*words)
    assert done.exit_code == 0, done.stderr
    assert "told one of 2 labels, a, b" in done.stdout
    assert Model.load(tmp_path / "p.safetensors").with_condition("b").sample(1)[0].shape == (2,)
    (tmp_path / "gap.csv").write_text("x,y,which\n1,2,a\n3,4,\n")
    done = biotilt_cli("pretrain", "gap.csv", *words[2:])
    assert done.exit_code == 2 and "gap.csv:3: the label (column 'which') is empty" in done.stderr


def test_labels_need_a_table(biotilt_cli, tmp_path: Path):
    (tmp_path / "d.fasta").write_text(">a\nACGT\n>b\nACGA\n")
    done = biotilt_cli("pretrain", "d.fasta", "--alphabet", "dna", "--labels", "tissue", "--out", "g.safetensors")
    assert done.exit_code == 2
    assert "labels stand in a column of a table (CSV or TSV), and d.fasta is none" in done.stderr
