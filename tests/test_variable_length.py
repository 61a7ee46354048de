"""Designs of several lengths from the data to the page, and what a task adds to the table of results."""

import json
import random
from dataclasses import replace

import pytest

import biotilt
from biotilt.errors import ConfigError, DataError
from biotilt.evaluation.measure import Measure, describe
from biotilt.fitting import Split, fit_oracle, pretrain_model
from biotilt.model import Model
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.run import load_model
from biotilt.spaces import DNA, Padded
from biotilt.training import FitConfig, PretrainConfig


def sequences(count: int) -> list[str]:
    """Return short texts and long ones: 4 letters, all A or C, or 8 letters, all G or T."""
    draw = random.Random(3)
    kinds = [("AC", 4), ("GT", 8)]
    return ["".join(draw.choices(letters, k=length)) for letters, length in draw.choices(kinds, k=count)]


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    space = Padded(DNA, 8, "left")
    network = {"channels": 16, "blocks": 2, "kernel": 5, "dilations": (1, 2)}
    config = PretrainConfig(steps=400, batch=64, lr=5e-3, warmup=20, ema=0.98)
    split = Split(identity=None)  # there are 16 short texts, so many rows are the same
    model, metrics = pretrain_model(sequences(600), space, network=network, config=config, split=split)
    path = tmp_path_factory.mktemp("model") / "g.safetensors"
    model.save(path)
    return path, metrics


def test_a_generator_learns_lengths_with_letters(generator):
    """One letter a step is exact, so samples have the two lengths, and the letters that go with each."""
    path, metrics = generator
    model = Model.load(path, per_step=1)
    assert model.space == Padded(DNA, 8, "left")
    designs = model.sample(200)
    known = [set(d) <= set("AC") if len(d) == 4 else len(d) == 8 and set(d) <= set("GT") for d in designs]
    assert sum(known) > 180
    assert 60 < sum(len(d) == 4 for d in designs) < 140
    # half the mass each: log 2 + (4 log 2 or 8 log 2), so 7 log 2 = 4.85 nats; the untrained 8 log 5 = 12.9
    assert 4.7 < metrics["test_nats"] < 6.0


def test_products_of_16_bits_learn_nearly_the_same():
    network = {"channels": 16, "blocks": 2, "kernel": 5, "dilations": (1, 2)}
    config, split = PretrainConfig(steps=40, batch=64, lr=5e-3, warmup=5, ema=0.9), Split(identity=None)
    space = Padded(DNA, 8, "left")
    found = [
        pretrain_model(sequences(600), space, network=network, config=replace(config, bfloat16=short), split=split)
        for short in (False, True)
    ]
    whole, short = (metrics["test_nats"] for _, metrics in found)
    assert whole != short and short == pytest.approx(whole, rel=0.03)
    assert short < 9, "8 log 5 = 12.9 nats before it learned anything"


def test_tuning_moves_the_length(generator, tmp_path):
    experiment = biotilt.Experiment.from_dict(
        {
            "alpha": 0.3,
            "model": {"path": str(generator[0])},
            "reward": {"kind": "gc"},
            "objective": {"name": "ppo"},
            "train": {"max_calls": 512, "batch": 64, "lr": 0.003},
            "output": {"samples": 64},
        },
        tmp_path,
        reward=lambda designs: [float(len(d)) / 8 for d in designs],
    )
    run = biotilt.tune(experiment, tmp_path / "run")
    summary = run.evaluate()
    before, after = (sum(map(len, m.sample(100, seed=1))) / 100 for m in (experiment.model, run.model))
    assert before < 6.8 < 7.2 < after
    assert load_model(tmp_path / "run").sample(3) == run.sample(3), "the space is in the tuned model's file"
    assert summary["rows"][2]["kmer3"] is None and summary["measures"] == []
    page = (tmp_path / "run/report.html").read_text()
    assert "Sequence logo" in page, "designs of several lengths are aligned for the logo"


def test_an_oracle_of_several_lengths(tmp_path):
    """The number of letters is learned, and the file brings the space back."""
    texts = sequences(300)
    space = Padded(DNA, 8, "left")
    config = FitConfig(epochs=80, lr=0.01, bfloat16=True)
    reward, metrics = fit_oracle(
        texts, [float(len(t)) for t in texts], space, name="length", members=1, config=config,
        split=Split(identity=None), replicates="keep",
        architecture={"channels": 8, "layers": 2, "kernel": 3, "hidden": 8},
    )  # fmt: skip
    assert metrics["pearson"] > 0.95
    reward.save(tmp_path / "o.safetensors")
    loaded = LearnedReward.load(tmp_path / "o.safetensors")
    scores = loaded(["ACCA", "GTTGTGTG"])
    assert abs(scores[0] - 4) < 0.6 and abs(scores[1] - 8) < 0.6
    with pytest.raises(DataError, match="has 9 letters, and at most 8 fit"):
        loaded(["GTTGTGTGG"])


def test_pretrain_says_what_to_do_with_several_lengths(biotilt_cli, tmp_path):
    (tmp_path / "d.csv").write_text("sequence\n" + "\n".join(sequences(60)) + "\n")
    command = ["pretrain", "d.csv", "--alphabet", "dna", "--out", "g.safetensors", "--steps", "3", "--identity", "1"]
    small = ["--channels", "4", "--blocks", "1"]
    refused = biotilt_cli(*command, *small)
    assert refused.exit_code == 2 and "say --pads right" in refused.stderr
    assert biotilt_cli(*command, *small, "--pads", "left", "--json").exit_code == 0
    assert Model.load(tmp_path / "g.safetensors").space == Padded(DNA, 8, "left")
    fasta = biotilt_cli("sample", "g.safetensors", "--count", "5", "--json")
    assert len(json.loads(fasta.stdout)["designs"]) == 5


def test_a_model_without_targets_or_scaffolds_says_so(generator, tmp_path):
    keys = {"alpha": 1.0, "model": {"path": str(generator[0])}, "reward": {"kind": "gc"}}
    with pytest.raises(ConfigError, match=r"design.target: this generator takes no target"):
        biotilt.Experiment.from_dict(keys | {"design": {"target": "((..))"}}, tmp_path)
    with pytest.raises(ConfigError, match=r"design.scaffold: designs of dna are held by design.fixed"):
        biotilt.Experiment.from_dict(keys | {"design": {"scaffold": "CC"}}, tmp_path)
    with pytest.raises(ConfigError, match="a scaffold or fixed positions, not both"):
        biotilt.Experiment.from_dict(keys | {"design": {"scaffold": "CC", "fixed": "A......."}}, tmp_path)


def test_measures_never_leave_a_nan_in_the_summary():
    measures = [
        Measure("length", "Length", "Mean number of letters.", lambda designs: sum(map(len, designs)) / len(designs)),
        Measure("broken", "Broken", "Not a number.", lambda designs: float("nan")),
        Measure("absent", "Absent", "Nothing to say.", lambda designs: None),
    ]
    assert {m.key: m(["A", "ACGT"]) for m in measures} == {"length": 2.5, "broken": None, "absent": None}
    assert describe(measures)[0] == {
        "key": "length", "header": "Length", "meaning": "Mean number of letters.", "written": "number",
    }  # fmt: skip
