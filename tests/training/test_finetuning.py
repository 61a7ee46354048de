"""A model trained further: what changes, what stays, by what it is judged, and that an interrupt costs nothing."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import sys

import pytest
import torch

import biotilt
from biotilt.core import Policy
from biotilt.errors import ConfigError, DataError
from biotilt.finetuning import finetune, start_of
from biotilt.fitting import Split, pretrain_model
from biotilt.model import Model
from biotilt.models.lora import LoRA
from biotilt.networks import CNN, CNNConfig, Transformer
from biotilt.processes import AnyOrder
from biotilt.spaces import as_space
from biotilt.tensors import load_tensors
from biotilt.training import PretrainConfig, pretrain

LENGTH, FAMILIES, EACH = 20, 40, 3


def model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    net = CNN(CNNConfig(4, LENGTH, channels=8, blocks=1))
    return Model(Policy(AnyOrder(LENGTH, 4, per_step=2), net.eval()), as_space("dna"))


def families() -> list[str]:
    """Return families of sequences that differ at one place, mostly of A, related to no other family."""
    draw = random.Random(0)
    found = []
    for _ in range(FAMILIES):
        parent = draw.choices("ACGT", [6, 2, 1, 1], k=LENGTH)
        for place in draw.sample(range(LENGTH), EACH):
            child = list(parent)
            child[place] = draw.choice([letter for letter in "ACGT" if letter != parent[place]])
            found.append("".join(child))
    return found


FEW = PretrainConfig(steps=30, batch=16, lr=0.01, warmup=2, check_every=10, ema=0.5, patience=3)


def test_the_model_learns_and_the_one_it_began_with_stays():
    base = model()
    before = copy.deepcopy(base.policy.net.state_dict())
    tuned, metrics = finetune(base, families(), config=FEW)
    assert metrics["test_nats"] < metrics["test_nats_before"] - 1
    assert sum(design.count("A") for design in tuned.sample(100)) > 800 > sum(d.count("A") for d in base.sample(100))
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.policy.net.state_dict().items())


def test_adapters_alone_change_and_alone_are_stored(tmp_path):
    pytest.importorskip("peft")
    model().save(tmp_path / "base.safetensors")
    base = Model.load(tmp_path / "base.safetensors")
    before = base.policy.net.state_dict()
    tuned, metrics = finetune(base, families(), lora=LoRA(rank=2), config=FEW)
    assert metrics["test_nats"] < metrics["test_nats_before"]
    changed = {name for name, parameter in tuned.policy.net.named_parameters() if parameter.requires_grad}
    assert changed and all("lora_" in name for name in changed)
    for name, tensor in tuned.policy.net.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, before[name.replace(".base_layer", "")]), name
    tuned.save(tmp_path / "tuned.safetensors")
    stored, about = load_tensors(tmp_path / "tuned.safetensors")
    assert stored.keys() == changed and about["origin"]["beside"] == "base.safetensors"
    assert biotilt.load_model(tmp_path / "tuned.safetensors").sample(5) == tuned.sample(5)
    with pytest.raises(ConfigError, match="has adapters already"):
        finetune(tuned, families(), lora=LoRA(rank=2), config=FEW)
    again, _ = finetune(tuned, families(), config=FEW)
    assert again.lora == tuned.lora, "its adapters were trained further"


def test_what_is_validated_on_is_no_near_copy_of_what_is_learned(monkeypatch):
    seen = {}

    def spy(policy, train, validation, *rest, **named):
        seen.update(train=train, validation=validation)
        return pretrain(policy, train, validation, *rest, **named)

    monkeypatch.setattr("biotilt.finetuning.pretrain", spy)
    designs = families()
    number = {design: row // EACH for row, design in enumerate(designs)}
    assert len(number) == len(designs)
    _, metrics = finetune(model(), designs, config=FEW, split=Split(0.2, 0.2))
    assert metrics["clusters"] <= FAMILIES
    parts = {part: as_space("dna").decode(rows) for part, rows in seen.items()}
    chosen = {part: {number[design] for design in found} for part, found in parts.items()}
    assert not chosen["train"] & chosen["validation"]
    for part, found in parts.items():
        assert len(found) == EACH * len(chosen[part]), "families stay whole"
    assert len(chosen["validation"]) >= 6
    closest = min(sum(a != b for a, b in zip(one, other)) for one in parts["train"] for other in parts["validation"])
    assert closest > LENGTH / 5, "more than a fifth of the places differ, by hand"


def test_it_ends_early_and_nothing_worse_than_what_was_there_is_kept():
    base = model()
    wild = PretrainConfig(steps=500, batch=8, lr=30.0, warmup=1, check_every=2, ema=0.0, patience=3)
    reports = []
    tuned, metrics = finetune(base, families(), config=wild, report=lambda *told: reports.append(told))
    assert metrics["steps"] == 6 == reports[-1][0], "three looks that were no better"
    assert metrics["test_nats"] == metrics["test_nats_before"]
    assert all(
        torch.equal(a, b) for a, b in zip(tuned.policy.net.state_dict().values(), base.policy.net.state_dict().values())
    )


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="designs of 20 positions, and these have 19"):
        finetune(model(), [design[1:] for design in families()], config=FEW)
    held = model().with_fixed(model().fixed("G" + "." * 19))
    designs = ["G" + design[1:] for design in families()]
    designs[4] = "T" + designs[4][1:]
    with pytest.raises(DataError, match="design 5 has other letters than the model holds"):
        finetune(held, designs, config=FEW)
    frozen = model()
    frozen.policy.net.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing of this network takes a gradient"):
        finetune(frozen, families(), config=FEW)


def test_a_transformer_is_told_where_letters_are():
    few = PretrainConfig(steps=1, batch=4, warmup=1)
    network = {"name": "transformer", "width": 8, "blocks": 1, "heads": 2}
    made, _ = pretrain_model(families(), "dna", network=network, config=few)
    assert isinstance(made.policy.net, Transformer) and made.policy.net.config.positions
    other, _ = pretrain_model(families(), "dna", network=network | {"positions": False}, config=few)
    assert isinstance(other.policy.net, Transformer) and not other.policy.net.config.positions


@pytest.fixture
def command(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ["pretrain", tiny / "data.csv", "--from", tiny / "generator.safetensors", "--out", "m.safetensors",
            "--column", "sequence", "--steps", "9", "--batch", "16"]  # fmt: skip


def test_the_command_goes_on_after_an_interrupt_and_ends_as_in_one_go(biotilt_cli, tmp_path, command, monkeypatch):
    pytest.importorskip("peft")
    done = biotilt_cli(*command, "--lora", "2", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (
        said["metrics"]["test_nats_before"] > 0
        and said["options"]["lora"] == 2
        and said["start"].endswith("generator.safetensors")
    )
    assert "ETA" in done.stderr
    whole = (tmp_path / "m.safetensors").read_bytes()
    module = sys.modules[pretrain.__module__]
    plain, before = vars(module)["_step"], signal.signal(signal.SIGINT, signal.default_int_handler)

    def pressed(loss, config, now):
        found = plain(loss, config, now)
        if now.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(module, "_step", pressed)
        first = biotilt_cli(*command, "--lora", "2")
    signal.signal(signal.SIGINT, before)
    assert first.exit_code == 130 and "the same command goes on from m.state.safetensors" in first.stderr
    held, _ = load_tensors(tmp_path / "m.state.safetensors")
    assert all("lora_" in name for name in held if name.startswith(("net/", "average/", "best/")))
    second = biotilt_cli(*command, "--lora", "2")
    assert second.exit_code == 0 and "going on after step 4 of 9" in second.stderr
    assert (tmp_path / "m.safetensors").read_bytes() == whole


def test_options_of_a_new_model_mean_nothing_beside_one(biotilt_cli, command, tiny, tmp_path):
    for option in (["--alphabet", "dna"], ["--blocks", "2"], ["--set", "network.width=3"], ["--per-step", "1"]):
        done = biotilt_cli(*command, *option)
        assert done.exit_code == 2 and f"{option[0]} says how a new model is made" in done.stderr
    alone = biotilt_cli(*command[:2], "--out", "m.safetensors", "--alphabet", "dna", "--lora", "2")
    assert alone.exit_code == 2 and "say --from MODEL too" in alone.stderr
    (tmp_path / "mine.toml").write_text(
        f'[model]\npath = "{(tiny / "generator.safetensors").as_posix()}"\nprocess = {{ per_step = 1 }}\n'
    )
    assert start_of("mine.toml").policy.process.steps == 10
    (tmp_path / "none.toml").write_text("alpha = 1\n")
    with pytest.raises(ConfigError, match=r"none\.toml has no \[model\]"):
        start_of("none.toml")
