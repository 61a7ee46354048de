"""Shared folders: a model in a process that knows nothing else draws the same designs; the card says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import biotilt
import fresh_processes
from biotilt.core import Policy
from biotilt.errors import CheckpointError, ConfigError
from biotilt.model import Model
from biotilt.models.conditions import Conditions
from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig, VectorMLP, VectorMLPConfig
from biotilt.processes import AnyOrder, Gaussian, Masked
from biotilt.spaces import Points, as_space
from biotilt.tensors import load_tensors, save_tensors


def letters(**options) -> Model:
    torch.manual_seed(0)
    return Model(Policy(AnyOrder(8, 4), CNN(CNNConfig(4, 8, channels=16, blocks=2, **options)).eval()), as_space("dna"))


def drawn_elsewhere(folder: Path) -> list:
    """Return what a fresh process draws of a folder, all it is told."""
    code = (
        "import biotilt, json, sys; m = biotilt.Model.pretrained(sys.argv[1]);"
        "print(json.dumps([m.space.key(d) for d in m.sample(6, seed=5)]))"
    )
    done = fresh_processes.run("-c", code, folder, cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def adapters(base: Model) -> Model:
    pytest.importorskip("peft")
    lora = base.with_lora(rank=2)
    for name, parameter in lora.policy.net.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return lora


def test_a_fresh_process_draws_the_same_of_adapters_held_letters_and_a_condition(tmp_path):
    torch.manual_seed(0)
    told = Model(
        Policy(Masked(8, 4, num_steps=4), MLP(MLPConfig(4, 8, width=16, conditions=2)).eval()), as_space("dna"),
        conditions=Conditions.of(["liver", "k562"], unconditional=2),
    )  # fmt: skip
    plain = letters()
    plain.save(tmp_path / "base.safetensors")
    of_file = adapters(Model.load(tmp_path / "base.safetensors"))
    held = plain.with_fixed(plain.fixed("AC..RY.."))  # two letters held, of two others a choice
    models = {"lora": of_file, "held": held, "told": told.with_condition("k562", guidance=0.5)}
    wanted = {}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        wanted[name] = [str(design) for design in model.sample(6, seed=5)]
    (tmp_path / "base.safetensors").unlink()
    for name in models:
        moved = (tmp_path / name).rename(tmp_path / f"moved-{name}")
        assert drawn_elsewhere(moved) == wanted[name], name
    assert all(d[:2] == "AC" and d[4] in "AG" and d[5] in "CT" for d in wanted["held"])


def test_points_that_are_held(tmp_path):
    torch.manual_seed(0)
    net = VectorMLP(VectorMLPConfig(3, 16, 1))
    model = Model(Policy(Gaussian(3, num_steps=4), net.eval()), Points(("x", "y", "z"), (0, 1, 2), (1, 2, 3)))
    model = model.with_fixed(model.fixed({"y": "0.3"}))
    model.save_pretrained(tmp_path / "out")
    again = Model.pretrained(tmp_path / "out").sample(5, seed=2)
    assert all((a == b).all() for a, b in zip(again, model.sample(5, seed=2)))
    assert [round(float(point[1]), 5) for point in again] == [0.3] * 5


def test_what_is_held_is_checked(tmp_path):
    letters().save(tmp_path / "plain.safetensors")
    tensors, about = load_tensors(tmp_path / "plain.safetensors")
    for held, said in (
        ({"positions": [9], "values": [1]}, "position 10 of designs of 8"),
        ({"positions": [1], "values": [1], "allowed": ["01"] * 8}, "a digit for each letter"),
        ({"positions": [1], "values": []}, "cannot hold it"),
    ):
        save_tensors(tmp_path / "odd.safetensors", tensors, about | {"held": held})
        with pytest.raises(CheckpointError, match=said):
            Model.load(tmp_path / "odd.safetensors")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes\.txt: name another folder, or say overwrite"):
        letters().save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path, overwrite=True)
    (tmp_path / "notes.txt").unlink()
    with pytest.raises(ConfigError, match="holds a model already"):
        letters().save_pretrained(tmp_path)


def test_the_card_says_what_is_known(tmp_path):
    model = letters()
    model.save_pretrained(tmp_path / "out", title="Mine", about={"Data": "ten reads", "Limits": "eight letters"})
    text = (tmp_path / "out/README.md").read_text()
    numbers = sum(parameter.numel() for parameter in model.policy.net.parameters())
    assert "# Mine" in text and "dna, 8 positions of 4 letters" in text and f"CNN, {numbers:,} numbers" in text
    assert text.index("ten reads") < text.index("eight letters") and text.endswith("eight letters\n")
    assert json.loads((tmp_path / "out/config.json").read_text())["process"] == {
        "name": "any_order", "length": 8, "letters": 4, "per_step": 1, "order": "random",
    }  # fmt: skip


def test_the_card_of_a_run_has_base_reward_alpha_kl_and_calls(tmp_path, biotilt_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    letters().save(tmp_path / "base.safetensors")
    keys = {
        "alpha": 0.25,
        "name": "more gc",
        "model": {"path": "base.safetensors"},
        "reward": {"kind": "gc"},
        "objective": {"name": "ppo", "updates": 1},
        "train": {"max_calls": 16, "batch": 8},
        "output": {"samples": 8},
        "design": {"fixed": {"7-8": "GT"}},
    }
    run = biotilt.tune(biotilt.Experiment.from_dict(keys, tmp_path), tmp_path / "run")
    run.save_pretrained(tmp_path / "early")
    assert "Nothing has been judged" in (tmp_path / "early/README.md").read_text()
    summary = run.evaluate()
    done = biotilt_cli("export", "run", "out", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["files"] == ["README.md", "config.json", "model.safetensors"]
    text = (tmp_path / "out/README.md").read_text()
    for said in ("# more gc", "`base.safetensors`", "reward: gc", "alpha: 0.2500", "ppo, updates = 1", "calls: 16",
                 "7-8 = `GT`", "held in every design: 2 positions", "came without a card"):  # fmt: skip
        assert said in text, said
    tuned = next(row for row in summary["rows"] if row["name"] == "tuned")
    cells = next(line for line in text.splitlines() if line.startswith("| tuned ")).split(" | ")
    assert float(cells[-1].strip(" |").replace("−", "-")) == pytest.approx(tuned["kl_policy_base"], rel=1e-3)
    assert drawn_elsewhere(tmp_path / "out") == run.sample(6, seed=5)
