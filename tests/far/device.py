"""Whole runs on a device that refuses tensors of the processor (`far.py`): they end as on the processor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.networks import CNN, CNNConfig
from biotilt.networks.conditional import Conditional
from biotilt.networks.convolution import Convolution
from biotilt.processes import AnyOrder
from biotilt.processes.conditioned import conditioned

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))

import gpu_checks  # noqa: E402
from far import far_device  # noqa: E402

CASES = list(gpu_checks.algorithms())
CPU = torch.device("cpu")


def test_the_device_refuses_what_a_card_refuses():
    with far_device() as far:
        x, generator = torch.zeros(3, 4, device=far), torch.Generator(far).manual_seed(0)
        for mixed in (
            lambda: x + torch.ones(3, 4),
            lambda: torch.stack([x, torch.zeros(3, 4)]),
            lambda: torch.where(x > 0, torch.ones(4), x),
            lambda: torch.ones(3)[torch.zeros(2, dtype=torch.long, device=far)],
            lambda: x.numpy(),
            lambda: torch.rand(3, generator=generator),
            lambda: torch.rand(3, generator=torch.Generator(), device=far),
        ):
            with pytest.raises((RuntimeError, TypeError)):
                mixed()


def test_the_device_computes_as_the_processor_does():
    with far_device() as far:
        there = torch.tensor([[1.0, 2.0], [3.0, 5.0]], device=far)
        assert (there @ there).tolist() == [[7.0, 12.0], [18.0, 31.0]]
        assert (there * torch.tensor(2.0)).sum().item() == 22.0  # numbers without a dimension may meet
        there[torch.tensor([True, False])] = 0.0
        assert there.cpu().tolist() == [[0.0, 0.0], [3.0, 5.0]]
        assert str(there.device) == "far:0" and there.cpu().device == CPU


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_every_algorithm_runs_there_and_ends_as_on_the_processor(case):
    kind, name, process, options = case
    base = gpu_checks.policies()[process]
    with far_device() as far:
        there = gpu_checks.run_once(kind, name, base, far, options)
    here = gpu_checks.run_once(kind, name, base, CPU, options)
    for key, found in here.items():
        torch.testing.assert_close(there[key], found, atol=1e-5, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("process", ["any_order", "masked", "uniform", "finite", "gaussian", "flow", "simplex"])
def test_every_process_runs_there(process):
    base = gpu_checks.policies()[process]
    for kind, name in (("objective", "ppo"), ("objective", "reward_weighted"), ("sampler", "smc")):
        try:
            here = gpu_checks.run_once(kind, name, base, CPU, {})
        except ConfigError:
            continue
        with far_device() as far:
            there = gpu_checks.run_once(kind, name, base, far, {})
        for key, found in here.items():
            torch.testing.assert_close(there[key], found, atol=1e-5, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize(
    ("kind", "name"), [("objective", "vidd"), ("objective", "trajectory_balance"), ("sampler", "svdd")]
)
def test_networks_that_are_told_a_condition_run_there(kind, name, monkeypatch):
    monkeypatch.setattr(Convolution, "forward", torch.nn.Conv1d.forward)  # ours take another way on a processor
    torch.manual_seed(1)
    process = conditioned(AnyOrder(4, 3), (0.3, 0.7))
    net = CNN(CNNConfig(3, 4, channels=8, blocks=1, conditions=2))
    base = Policy(process, Conditional(net, torch.arange(2), mark=process.mark))
    base.net.eval()
    if kind == "sampler":  # those have one target
        base = Policy(AnyOrder(4, 3), Conditional(net, torch.tensor(1)))
    here = gpu_checks.run_once(kind, name, base, CPU, {})
    with far_device() as far:
        there = gpu_checks.run_once(kind, name, base, far, {})
    for key, found in here.items():
        torch.testing.assert_close(there[key], found, atol=1e-5, rtol=1e-4, equal_nan=True)


def test_a_run_is_resumed_there():
    with far_device() as far:
        assert [line["same"] for line in gpu_checks.resumed(far)] == [True, True]
