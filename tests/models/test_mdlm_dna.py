"""MDLM on DNA: its network against the equations in `mdlm`, its files, and the way of a user with one."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import acceptance
import mdlm
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from biotilt.core import needed, sample
from biotilt.errors import BiotiltError, CheckpointError, ConfigError, DataError
from biotilt.model import Model
from biotilt.models.convert import convert
from biotilt.models.mdlm_dna import MDLM
from biotilt.networks import DilatedCNN, value_network
from biotilt.processes import Masked
from biotilt.processes.masked import MaskedKernel
from biotilt.processes.schedules import MASKED_SCHEDULES

LENGTH = 21


def states(seed: int = 0, rows: int = 6) -> Tensor:
    """Some letters and masks; the first row is hidden as a whole, the second not at all."""
    x = torch.randint(5, (rows, LENGTH), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    x[0] = mdlm.MASK
    x[1] %= 4
    return x


def file(folder: Path, named: dict[str, Tensor], name: str = "w.safetensors") -> str:
    save_file(named, folder / name)
    return str(folder / name)


def letters(model: Model, x: Tensor, k: int) -> Tensor:
    with torch.no_grad():
        return needed(model.policy.kernel(x, k), MaskedKernel).log_letters.double()


@pytest.mark.parametrize("stacks", [1, 3])
def test_letters_are_those_of_the_equations(tmp_path: Path, stacks: int) -> None:
    named = mdlm.weights(stacks, stacks=stacks)
    model = MDLM(file(tmp_path, named), length=LENGTH).build()
    x = states()
    wanted = mdlm.log_posterior(named, x, torch.zeros(len(x)), stacks=stacks)[..., :4]
    for k in (0, 100):  # the noise level is told by nothing but the masks
        found = letters(model, x, k)
        hidden = x == mdlm.MASK
        torch.testing.assert_close(found[hidden], wanted[hidden], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "hidden"),
    [
        ("loglinear", lambda t: t),
        ("mdlm_cosine", lambda t: 1 - math.cos(math.pi * t / 2)),
        ("mdlm_cosine_squared", lambda t: 1 - math.cos(math.pi * t / 2) ** 2),
    ],
)
def test_a_step_is_that_of_the_original_where_the_network_is_told_the_time(
    tmp_path: Path, schedule: Any, hidden: Any
) -> None:
    """q(x_s | x_t) ∝ p(x0) (m_t − m_s) of a letter, m_s of the mask; m = (1 − eps) · hidden(t), σ = −log(1 − m)."""
    named, eps = mdlm.weights(7), 0.01
    named["backbone.time_embedder.0.W"] /= 30  # in float32 the phase of a high frequency is not known to 1e-5
    model = MDLM(file(tmp_path, named), length=LENGTH, time=True, schedule=schedule, eps=eps).build()
    model, x = model.with_process(num_steps=10), states(1)
    for k in (0, 3, 8):
        now, after = ((1 - eps) * hidden(1 - step / 10) for step in (k, k + 1))
        sigma = torch.full((len(x),), -math.log(1 - now))
        posterior = mdlm.log_posterior(named, x, sigma)
        law = posterior.exp() * (now - after)
        law[..., mdlm.MASK] = after
        law = law / law.sum(-1, keepdim=True)
        kernel = needed(model.policy.kernel(x, k), MaskedKernel)
        y = kernel.sample(torch.Generator().manual_seed(k))
        was = x == mdlm.MASK
        terms = law.gather(-1, y.long().unsqueeze(-1)).squeeze(-1).log()
        wanted = torch.where(was, terms, torch.zeros_like(terms)).sum(-1)
        torch.testing.assert_close(kernel.log_prob(y).double().detach(), wanted, atol=1e-4, rtol=1e-5)
    assert not bool((y[was] == x[was]).all()), "some letters are revealed"


@pytest.mark.parametrize(
    ("schedule", "three", "half"),
    [
        ("mdlm_cosine", math.sin(math.pi / 8), math.cos(math.pi / 4)),
        ("mdlm_cosine_squared", math.sin(math.pi / 8) ** 2, 1 / 2),
    ],
)
def test_schedules_of_mdlm_by_hand(schedule: Any, three: float, half: float) -> None:
    """With K = 4 the second step leads from a(3/4) to a(1/2); the rate is −a'/(1 − a)."""
    kernel = Masked(3, 2, num_steps=4, schedule=schedule).kernel_of(torch.zeros(1, 3, 2), torch.full((1, 3), 2), 1)
    assert kernel.reveal.item() == pytest.approx((half - three) / (1 - three), rel=1e-6)
    law = MASKED_SCHEDULES[schedule]
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(law.clean(t).sum(), t)
    torch.testing.assert_close(law.rate(t), -slope / (1 - law.clean(t)))
    assert law.clean(torch.tensor([0.0, 1.0]).double()).tolist() == pytest.approx([1, 0], abs=1e-12)
    assert law.rate(torch.tensor([1e-4, 1.0])).isfinite().all() and law.clean(torch.tensor([0.9999])).item() > 0


def test_guidance_is_that_of_log_probabilities(tmp_path: Path) -> None:
    """(1 + w) log p(x0 | c) − w log p(x0 | none), normalised: none is the class after the last."""
    named, x, w = mdlm.weights(3, classes=2), states(2), 0.3
    model = MDLM(file(tmp_path, named), length=LENGTH, labels=("low", "high")).build()
    hidden, zero = x == mdlm.MASK, torch.zeros(len(x))
    said = [mdlm.log_posterior(named, x, zero, torch.full((len(x),), c))[..., :4] for c in range(3)]
    guided = ((1 + w) * said[1] - w * said[2]).log_softmax(-1)
    cases = [
        (model, said[2]), (model.with_condition("low"), said[0]), (model.with_condition("high"), said[1]),
        (model.with_condition("high", guidance=w), guided),
    ]  # fmt: skip
    for told, wanted in cases:
        torch.testing.assert_close(letters(told, x, 5)[hidden], wanted[hidden], atol=1e-5, rtol=1e-5)
    assert (said[0] - said[1]).abs()[hidden].max() > 0.1


def test_relaxed_states_rows_by_themselves_and_the_value_of_a_state(tmp_path: Path) -> None:
    model = MDLM(file(tmp_path, mdlm.weights(4, classes=2)), length=LENGTH).build()
    net, x, t = model.policy.net, states(3), torch.zeros(6)
    assert isinstance(net, DilatedCNN)
    relaxed = needed(model.policy.process, Masked).relaxed(x).requires_grad_(True)
    together = net(relaxed, t)
    torch.testing.assert_close(together, net(x, t))
    (gradient,) = torch.autograd.grad(together[2, 10, 1], relaxed)
    assert bool(gradient[2].any()) and not bool(gradient[[0, 1, 3, 4, 5]].any())
    many, told = x.repeat(2000, 1), torch.arange(12000) % 3
    with torch.no_grad():  # so many rows go through in parts
        found = net(many, torch.zeros(12000), told)
    torch.testing.assert_close(found[9000:9006], net(many[9000:9006], t, told[9000:9006]), atol=1e-5, rtol=1e-5)
    value = value_network(model.policy)
    assert not bool(value(x, t).any()) and bool(net(x, t).any())


def checkpoint(named: dict[str, Tensor], averages: dict[str, Tensor] | None, config: Any) -> dict[str, Any]:
    """What a Lightning checkpoint of the original holds, in short."""
    found = {
        "epoch": 99, "pytorch-lightning_version": "2.1", "state_dict": named, "loops": {"fit_loop": {"state_dict": {}}},
        "hparams_name": "kwargs", "hyper_parameters": {"config": config, "eval": False},
    }  # fmt: skip
    if averages is not None:
        trained = [value for name, value in averages.items() if not name.endswith(".W")]
        found["ema"] = {"decay": 0.9999, "num_updates": 131_500, "shadow_params": trained}
    return found


CONFIG = {
    "model": {"length": LENGTH, "hidden_dim": 8}, "noise": {"type": "cosine"}, "time_conditioning": True,
    "sampling": {"steps": 16}, "callbacks": {"x": None},
}  # fmt: skip


def test_a_checkpoint_is_read_with_its_settings_and_averages(
    tmp_path: Path, omegaconf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, averages = mdlm.weights(5), mdlm.weights(6)
    averages["backbone.time_embedder.0.W"] = named["backbone.time_embedder.0.W"]  # it is never trained
    torch.save(checkpoint(named, averages, omegaconf(CONFIG)), tmp_path / "p.ckpt")
    for module in ("omegaconf", "omegaconf.dictconfig", "omegaconf.base"):
        monkeypatch.setitem(sys.modules, module, None)
    out = tmp_path / "p.safetensors"
    said = convert("mdlm_dna", tmp_path / "p.ckpt", out)
    assert said.about == {"length": LENGTH, "time": True, "noise": "cosine", "steps": 16}
    assert "by which the original samples" in said.note and "ema = true" in said.note
    raw, mean = MDLM(str(out)).build(), MDLM(str(out), ema=True).build()
    assert raw.process_options["num_steps"] == 16 and raw.process_options["schedule"] == "mdlm_cosine"
    x, k, m = states(4), 4, 0.999 * (1 - math.cos(math.pi * 0.75 / 2))
    hidden, sigma = x == mdlm.MASK, torch.full((6,), -math.log(1 - m))
    for model, weights in ((raw, named), (mean, averages)):
        wanted = mdlm.log_posterior(weights, x, sigma)[..., :4]
        torch.testing.assert_close(letters(model, x, k)[hidden], wanted[hidden], atol=2e-3, rtol=1e-3)
    untold = MDLM(str(out), time=False, schedule="loglinear").build()
    wanted = mdlm.log_posterior(named, x, torch.zeros(6))[..., :4]
    torch.testing.assert_close(letters(untold, x, k)[hidden], wanted[hidden], atol=1e-5, rtol=1e-5)


def test_weights_alone_are_read_too(tmp_path: Path) -> None:
    """As the original writes a tuned model; by whatever folder the file lies in, and under either kind of names."""
    named = mdlm.weights(8)
    torch.save(named, tmp_path / "tuned.ckpt")
    (tmp_path / "model").mkdir()
    said = convert("mdlm_dna", tmp_path / "tuned.ckpt", tmp_path / "model/tuned.safetensors")
    assert said.about == {} and "ema" not in said.note
    bare = {name.removeprefix("backbone."): value for name, value in named.items()}
    first, second = MDLM(str(tmp_path / "model")).build(), MDLM(file(tmp_path, bare)).build()
    assert needed(first.policy.process, Masked).length == 200 and first.policy.process.steps == 128
    assert first.with_process(num_steps=4).sample(2) == second.with_process(num_steps=4).sample(2)
    with pytest.raises(ConfigError, match="has no moving averages of its weights; leave the key out"):
        MDLM(str(tmp_path / "model"), ema=True).build()


class Runs:
    """A pickle of this would run a program."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("was_run"),)


def test_settings_run_nothing(tmp_path: Path, omegaconf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = mdlm.weights(9)
    torch.save(checkpoint(named, None, omegaconf({"model": Runs()})), tmp_path / "bad.ckpt")
    with pytest.raises(DataError, match="no file of tensors and plain values alone"):
        convert("mdlm_dna", tmp_path / "bad.ckpt", tmp_path / "o.safetensors")
    torch.save(checkpoint(named, mdlm.weights(9, stacks=2), omegaconf({})), tmp_path / "odd.ckpt")
    with pytest.raises(DataError, match="moving averages are not of its"):
        convert("mdlm_dna", tmp_path / "odd.ckpt", tmp_path / "o.safetensors")
    torch.save({"state_dict": {"net.a": torch.ones(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match=r'nothing in it is called "backbone\.…"'):
        convert("mdlm_dna", tmp_path / "other.ckpt", tmp_path / "o.safetensors")
    assert not (tmp_path / "was_run").exists() and not (tmp_path / "o.safetensors").exists()


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in mdlm.weights(1).items() if key != f"backbone.{name}"}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (without("norms.3.bias"), r'"backbone\.norms\.3\.bias" is missing$'),
        (without("cls") | {"backbone.attention.weight": torch.ones(2)}, r'no weights "backbone\.attention\.weight"'),
        (
            {k: v for k, v in mdlm.weights(1).items() if ".4." not in k},
            "4 layers, which are not stacks of 5",
        ),
        (
            mdlm.weights(1) | {"backbone.linear.weight": torch.ones(8, 21, 9)},
            "reads 21 kinds of letters and says 5; DNA has 4 and a mask",
        ),
        (
            mdlm.weights(1) | {"backbone.convs.2.bias": torch.ones(9)},
            r'"convs\.2\.bias" has the shape \[9\], not \[8\]',
        ),
        (mdlm.weights(1) | {"backbone.convs.2.bias": torch.full((8,), torch.nan)}, "not all finite"),
    ],
    ids=["missing", "more", "a layer short", "proteins", "shape", "not a number"],
)
def test_files_that_do_not_fit(tmp_path: Path, named: dict[str, Tensor], said: str) -> None:
    with pytest.raises(BiotiltError, match=said):
        MDLM(file(tmp_path, named)).build()


def test_names_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a pickle, biotilt convert mdlm_dna last\.ckpt last\.safetensors"):
        MDLM(str(tmp_path / "last.ckpt")).build()
    with pytest.raises(CheckpointError, match="does not exist"):
        MDLM(str(tmp_path / "no.safetensors")).build()
    with pytest.raises(ConfigError, match=r"holds 0 \.safetensors files"):
        MDLM(str(tmp_path)).build()
    path = file(tmp_path, mdlm.weights(1, classes=2))
    with pytest.raises(ConfigError, match=r"labels: 3 labels, and the network in .* knows 2 classes"):
        MDLM(path, labels=("a", "b", "c")).build()
    with pytest.raises(ConfigError, match="width must be even, got 7"):
        MDLM(file(tmp_path, mdlm.weights(1, width=7), "odd.safetensors")).build()


TOML = """
alpha = 0.05

[model]
source = "mdlm_dna"
condition = "high"
guidance = 0.3
lora = { rank = 2 }
process = { num_steps = 6 }
options = { weights = "w.safetensors", length = 21, labels = ["low", "high"] }

[reward]
kind = "gc"

[objective]
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
    """Check, tune with adapters, killed in the middle and resumed; the file gives the same designs elsewhere."""
    file(tmp_path, mdlm.weights(2, classes=2))
    (tmp_path / "mine.toml").write_text(TOML)
    acceptance.check_whole(tmp_path / "mine.toml", "w.safetensors")


def test_it_designs_from_scratch(tmp_path: Path) -> None:
    """Every letter is drawn, at every length, by the sampler of all processes."""
    model = MDLM(file(tmp_path, mdlm.weights(2)), length=5).build()
    x = sample(model.policy, 64, torch.Generator().manual_seed(0))
    assert x.shape == (64, 5) and int(x.max()) < 4
    assert len(set(model.decode(x))) > 16
