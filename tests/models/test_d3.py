"""D3: its network against the equations in `sedd`, its files, and the way of a user with one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import acceptance
import pytest
import sedd
import torch
from torch import Tensor

import biotilt
from biotilt.core import needed
from biotilt.errors import BiotiltError, ConfigError
from biotilt.model import Model
from biotilt.models.convert import convert
from biotilt.models.d3 import D3
from biotilt.networks import ScoreRatios
from biotilt.processes import Uniform
from biotilt.processes.uniform import UniformKernel

LENGTH = 21


def averaged(named: dict[str, Tensor]) -> list[Tensor]:
    """As the original keeps them: of what is trained, in the order of the weights."""
    return [value for name, value in named.items() if not name.endswith(".W")]


def file(folder: Path, named: dict[str, Tensor], averages: dict[str, Tensor] | None = None, cfg: Any = None) -> str:
    found: dict[str, Any] = dict(named)
    if averages is not None:
        found |= {"ema.decay": 0.9999, "ema.num_updates": 3, "ema.shadow_params": averaged(averages)}
    whole = {"epoch": 1, "state_dict": found} | ({} if cfg is None else {"hyper_parameters": {"cfg": cfg}})
    torch.save(whole, folder / "k562.ckpt")
    convert("d3", folder / "k562.ckpt", folder / "k562.safetensors")
    return str(folder / "k562.safetensors")


def states(seed: int = 0) -> Tensor:
    return torch.randint(4, (3, LENGTH), generator=torch.Generator().manual_seed(seed)).to(torch.int8)


def letters(model: Model, x: Tensor, k: int) -> Tensor:
    with torch.no_grad():
        return needed(model.policy.kernel(x, k), UniformKernel).log_x0.double().exp()


@pytest.mark.parametrize(("stacks", "number"), [(1, True), (2, False)])
def test_letters_are_those_of_the_equations(tmp_path: Path, stacks: int, number: bool) -> None:
    named = sedd.weights(stacks, stacks=stacks, number=number)
    model = D3(file(tmp_path, named), length=LENGTH).build()
    assert (model.conditions is not None) is number
    x, steps = states(), model.policy.process.steps
    for told in (None, 1.5) if number else (None,):
        one = model if told is None else model.with_condition(told)
        for k in (40, 90, 127):
            sigma = 1e-4 ** (k / steps) * 20 ** (1 - k / steps)
            log_s = sedd.log_ratios(named, x, torch.full((3,), sigma), torch.full((3,), told or 0.0))
            wanted = sedd.letters(log_s, x, torch.full((3,), math.exp(-sigma), dtype=torch.float64))
            torch.testing.assert_close(letters(one, x, k), wanted, atol=2e-4, rtol=0)
            net = needed(model.policy.net, ScoreRatios)
            found = net.ratios(x, torch.full((3,), 1 - k / steps), torch.full((3,), told or 0.0))
            torch.testing.assert_close(found.double(), log_s, atol=1e-5, rtol=1e-5)
            assert log_s.std() > 0.2


def test_a_checkpoint_is_read_with_its_settings_and_averages(tmp_path: Path, omegaconf: Any) -> None:
    named, averages = sedd.weights(5), sedd.weights(6)
    settings = {
        "dataset": {"sequence_length": LENGTH}, "graph": {"type": "uniform"},
        "noise": {"sigma_min": 1e-4, "sigma_max": 20},
    }  # fmt: skip
    path = file(tmp_path, named, averages, omegaconf(settings))
    x, noise = states(), torch.full((3,), 0.0447213595)  # half of the way, geometrically
    for ema, wanted in ((True, averages), (False, named)):
        model = D3(path, ema=ema).build()
        assert needed(model.policy.process, Uniform).length == LENGTH
        found = needed(model.policy.net, ScoreRatios).ratios(x, torch.full((3,), 0.5))
        torch.testing.assert_close(found.double(), sedd.log_ratios(wanted, x, noise, 0 * noise), atol=1e-5, rtol=1e-5)
    settings["noise"]["sigma_max"] = 1
    with pytest.raises(ConfigError, match=r'noise from 0\.0001 to 1 on the graph "uniform"; only 0\.0001 to 20'):
        D3(file(tmp_path, named, cfg=omegaconf(settings))).build()


def test_the_older_format_is_read_too(tmp_path: Path) -> None:
    named = sedd.weights(7)
    bare = {name.removeprefix("score_model."): value for name, value in named.items()}
    torch.save({"model": bare, "ema": {"decay": 0.9, "shadow_params": averaged(named)}, "step": 3}, tmp_path / "o.pth")
    convert("d3", tmp_path / "o.pth", tmp_path / "o.safetensors")
    (tmp_path / "other").mkdir()
    older, newer = D3(str(tmp_path / "o.safetensors")).build(), D3(file(tmp_path / "other", named)).build()
    assert needed(older.policy.process, Uniform).length == 230 and older.policy.process.steps == 128
    assert older.with_process(num_steps=4).sample(2) == newer.with_process(num_steps=4).sample(2)


def test_a_number_is_stored_with_the_model(tmp_path: Path) -> None:
    model = D3(file(tmp_path, sedd.weights(3)), length=LENGTH).build().with_process(num_steps=5).with_condition(2)
    model.save(tmp_path / "mine.safetensors")
    again = biotilt.load_model(tmp_path / "mine.safetensors")
    assert again.sample(4, seed=1) == model.sample(4, seed=1) != again.with_condition(-2).sample(4, seed=1)
    with pytest.raises(ConfigError, match='the network is told numbers, and "high" is none'):
        again.with_condition("high")


TOML = """
alpha = 0.05

[model]
source = "d3"
condition = 1.5
lora = { rank = 2 }
process = { num_steps = 6 }
options = { weights = "k562.safetensors", length = 21 }

[reward]
kind = "gc"

[objective]
name = "reward_weighted"
updates = 4
states = 8

[train]
max_calls = 32
batch = 8
lr = 0.02

[output]
samples = 8
"""


def test_the_way_of_a_user(tmp_path: Path) -> None:
    file(tmp_path, sedd.weights(2))
    (tmp_path / "mine.toml").write_text(TOML)
    acceptance.check_whole(tmp_path / "mine.toml", "k562.safetensors")


def changed(**more: Tensor | None) -> dict[str, Tensor]:
    named = {f"score_model.{name.replace('__', '.')}": value for name, value in more.items()}
    kept = {name: value for name, value in (sedd.weights(1) | named).items() if value is not None}
    return {name: value for name, value in kept.items() if isinstance(value, Tensor)}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (changed(norms__3__bias=None), r'"score_model\.norms\.3\.bias" is missing'),
        (changed(attention__weight=torch.ones(2)), r'no weights "score_model\.attention\.weight"'),
        (changed(blocks__0__norm1__weight=torch.ones(2)), "a transformer of D3; only its convolutional network"),
        (changed(linear__weight=torch.ones(8, 9, 9)), r"first layer is \[8, 9, 9\]; DNA has 4 letters"),
        (
            {name: value for name, value in sedd.weights(1).items() if ".4." not in name},
            "4 layers, which are not stacks of 5",
        ),
    ],
    ids=["missing", "more", "transformer", "proteins", "a layer short"],
)
def test_files_that_do_not_fit(tmp_path: Path, named: dict[str, Tensor], said: str) -> None:
    with pytest.raises(BiotiltError, match=said):
        D3(file(tmp_path, named)).build()


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": {"a": torch.ones(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(BiotiltError, match='it has neither "state_dict" nor "model"'):
        convert("d3", tmp_path / "other.ckpt", tmp_path / "o.safetensors")
    torch.save({"state_dict": {"net.a": torch.ones(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(BiotiltError, match=r'nothing in it is called "score_model\.…"'):
        convert("d3", tmp_path / "other.ckpt", tmp_path / "o.safetensors")
    with pytest.raises(ConfigError, match=r"biotilt convert d3 other\.ckpt other\.safetensors makes one"):
        D3(str(tmp_path / "other.ckpt")).build()
