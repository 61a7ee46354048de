"""Chains of schedulers: every step has the mean and the width of diffusers' own `step`, whatever the network says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from path_samples import generator
from torch import Tensor

from biotilt.core import Policy, sample
from biotilt.errors import ConfigError
from biotilt.processes import DDPM, FlowEuler

schedulers = pytest.importorskip("diffusers.schedulers")
ROWS, SIZE = 3, 4


class Fed:
    """A noise that is fed to the scheduler in place of a random one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.noise = torch.zeros(ROWS, SIZE)
        for module in (
            "scheduling_ddpm", "scheduling_ddim", "scheduling_flow_match_euler_discrete",
        ):  # fmt: skip
            monkeypatch.setattr(f"diffusers.schedulers.{module}.randn_tensor", lambda *_, **__: self.noise)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Fed:
    return Fed(monkeypatch)


def said(k: int) -> tuple[Tensor, Tensor]:
    """Random states and outputs, of which some lie outside the range of images."""
    draw = generator(k)
    return 1.3 * torch.randn(ROWS, SIZE, generator=draw), 0.8 * torch.randn(ROWS, SIZE, generator=draw)


def compare(process: Any, theirs: Any, fed: Fed, **step: float) -> list[float]:
    """Hold every step against the scheduler's; return the widths of the steps."""
    theirs.set_timesteps(process.num_steps)
    assert len(theirs.timesteps) == process.steps
    widths = []
    for k, t in enumerate(theirs.timesteps):
        x, output = said(k)
        shown = process.inputs(x, k)
        assert torch.equal(shown.x, x)
        torch.testing.assert_close(shown.t * process.num_train_timesteps, t.expand(ROWS).float(), atol=1e-3, rtol=1e-6)
        results = []
        for size in (0.0, 1.0):
            fed.noise = torch.full((ROWS, SIZE), size)
            if hasattr(theirs, "_step_index"):
                theirs._step_index = k
            results.append(theirs.step(output, t, x, **step).prev_sample)
        kernel, width = process.kernel_of(output, x, k), (results[1] - results[0]).mean().item()
        torch.testing.assert_close(kernel.mean, results[0], atol=1e-5, rtol=1e-5)
        silent = width < 1e-6
        wanted = process.last_std if silent and process.eta > 0 else width
        assert kernel.std.flatten()[0].item() == pytest.approx(wanted, abs=1e-5)
        widths.append(math.nan if silent else width)
    return widths


COMMON: list[dict[str, Any]] = [
    {"num_train_timesteps": 1000},
    {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
     "steps_offset": 1},
    {"num_train_timesteps": 200, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "clip_sample_range": 0.7},
    {"num_train_timesteps": 30, "trained_betas": [0.002 * (i + 1) for i in range(30)], "timestep_spacing": "linspace"},
    {"num_train_timesteps": 1000, "timestep_spacing": "trailing", "clip_sample": True},
]  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("config", COMMON, ids=lambda c: c.get("beta_schedule", c.get("timestep_spacing", "linear")))
@pytest.mark.parametrize("num_steps", [7, 20])
def test_every_step_is_the_schedulers(config: Any, prediction: str, num_steps: int, fed: Fed) -> None:
    given = {"clip_sample": False} | config | {"prediction_type": prediction}
    ours = {"size": SIZE, "num_steps": num_steps} | given | {"trained_betas": tuple(given.get("trained_betas", ()))}
    for variance in ("fixed_small", "fixed_small_log", "fixed_large"):
        theirs = schedulers.DDPMScheduler(**given, variance_type=variance)
        widths = compare(DDPM(**ours, variance_type=variance), theirs, fed)
        assert sum(math.isnan(width) for width in widths) <= 1
    for one in (True, False):
        theirs = schedulers.DDIMScheduler(**given, set_alpha_to_one=one)
        for eta in (0.0, 0.6, 1.0):
            process = DDPM(**ours, sampler="ddim", eta=eta, set_alpha_to_one=one)
            widths = compare(process, theirs, fed, eta=eta)
            assert all(map(math.isnan, widths)) if eta == 0 else sum(map(math.isnan, widths)) <= 1


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("clip", [True, False])
def test_zero_terminal_snr(prediction: str, spacing: str, clip: bool, fed: Fed) -> None:
    given: dict[str, Any] = {
        "prediction_type": prediction, "timestep_spacing": spacing, "clip_sample": clip, "rescale_betas_zero_snr": True,
    }  # fmt: skip
    process = DDPM(size=SIZE, num_steps=10, **given)
    assert process._chain.signal[0] == 0
    compare(process, schedulers.DDPMScheduler(**given), fed)
    compare(replace(process, sampler="ddim", eta=0.5), schedulers.DDIMScheduler(**given), fed, eta=0.5)
    with pytest.raises(ConfigError, match=r'"epsilon" says nothing of the image.*"v_prediction"'):
        replace(process, prediction_type="epsilon")
    leading = {"timestep_spacing": "leading", "prediction_type": "epsilon", "rescale_betas_zero_snr": True}
    compare(DDPM(size=SIZE, num_steps=10, **leading), schedulers.DDPMScheduler(**leading, clip_sample=False), fed)


@pytest.mark.parametrize(("shift", "num_steps"), [(1.0, 6), (3.0, 6), (3.0, 28)])
def test_flow_matching_without_noise_is_the_scheduler(shift: float, num_steps: int, fed: Fed) -> None:
    process = FlowEuler(size=SIZE, num_steps=num_steps, eta=0.0, shift=shift)
    compare(process, schedulers.FlowMatchEulerDiscreteScheduler(shift=shift), fed)


class Exact(torch.nn.Module):
    """What is known of designs N(0.5, 0.3²) at a noise level, E[x_0|x], said as the process wants it."""

    mean, variance = 0.5, 0.09

    def __init__(self, process: Any):
        super().__init__()
        self.process = process

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        chain = self.process._chain
        place = (chain.time.float().unsqueeze(0) - t.unsqueeze(1)).abs().argmin(1)
        a, s = (table.float()[place].unsqueeze(1) for table in (chain.signal, chain.spread))
        x0 = self.mean + a * self.variance / (a**2 * self.variance + s**2) * (x - a * self.mean)
        eps = (x - a * x0) / s
        if self.process.name == "flow_euler":
            return eps - x0
        return eps if self.process.prediction_type == "epsilon" else a * eps - s * x0


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "process",
    [
        FlowEuler(size=1, num_steps=60, shift=1.5, last_std=0.01),
        DDPM(size=1, num_steps=100, sampler="ddim", prediction_type="v_prediction", last_std=0.01),
    ],
    ids=lambda process: process.name,
)
def test_designs_have_the_same_law_for_every_level_of_noise(process: Any, eta: float) -> None:
    process = replace(process, eta=eta)
    designs = sample(Policy(process, Exact(process)), 3000, generator(1))
    assert designs.mean().item() == pytest.approx(0.5, abs=0.02)
    assert designs.std().item() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    "process",
    [
        DDPM(size=1, num_steps=20, num_train_timesteps=20, beta_start=0.03, beta_end=0.4, last_std=0.1),
        DDPM(
            size=1,
            num_steps=20,
            num_train_timesteps=20,
            beta_start=0.03,
            beta_end=0.4,
            variance_type="fixed_large",
            last_std=0.1,
        ),
        FlowEuler(size=1, num_steps=20, num_train_timesteps=10, last_std=0.1),
    ],
    ids=["small", "large", "flow"],
)
def test_the_loss_bounds_the_likelihood(process: Any) -> None:
    """−log p(y) by carrying the law of the chain over a grid."""
    net, grid = Exact(process), torch.linspace(-5, 5, 1001).unsqueeze(1)
    law = torch.distributions.Normal(0, 1).log_prob(grid).exp().squeeze(1)
    for k in range(process.steps):
        kernel = process.kernel_of(net(*process.inputs(grid, k)), grid, k)
        steps = torch.distributions.Normal(kernel.mean, kernel.std).log_prob(grid.T).exp()
        law = (law.unsqueeze(1) * steps).sum(0) * 0.01
    assert law.sum().item() * 0.01 == pytest.approx(1, abs=1e-3)
    for design in (0.1, 0.7):
        exact = -law[round((design + 5) / 0.01)].log().item()
        loss = process.denoising_loss(net, torch.full((20_000, 1), design), generator(0))
        error = loss.std().item() / len(loss) ** 0.5
        assert exact - 3 * error < loss.mean().item() < exact + 0.5


def test_clipping_takes_no_gradient_from_the_loss() -> None:
    process = DDPM(size=2, num_steps=5, clip_sample=True, clip_sample_range=0.1)
    net = torch.nn.Linear(2, 2)
    design = torch.full((8, 2), 0.05)
    loss = process.denoising_loss(lambda x, t: net(x), design, generator(0))
    free = replace(process, clip_sample=False).denoising_loss(lambda x, t: net(x), design, generator(0))
    torch.testing.assert_close(loss, free)
    gradients = torch.autograd.grad(loss.sum(), net.parameters())
    assert all(bool((gradient != 0).all()) for gradient in gradients)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 40, "num_train_timesteps": 30}, "40 of 30 noise levels"),
        ({"trained_betas": (0.1, 0.2)}, "2, not one of 1000 levels"),
        ({"eta": 0.5}, 'take sampler = "ddim"'),
        ({"steps_offset": 100}, "leads beyond the last noise level"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DDPM(**({"size": 2, "num_steps": 10} | options))
