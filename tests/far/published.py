"""Networks of published models on a device that refuses tensors of the processor (`far.py`)."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from biotilt.core import Policy
from biotilt.networks import BackboneDecoder, BackboneDecoderConfig, DilatedCNN, DilatedCNNConfig
from biotilt.networks.conditional import Conditional
from biotilt.networks.convolution import Convolution
from biotilt.processes import AnyOrder, Masked

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))

from far import far_device

gpu_checks = importlib.import_module("gpu_checks")
CPU = torch.device("cpu")


def dilated() -> Policy:
    net = DilatedCNN(DilatedCNNConfig(3, 4, 8, 1, 3, time=True, conditions=2))
    return Policy(
        Masked(4, 3, num_steps=4), Conditional(net, torch.tensor(1), unconditional=torch.tensor(2), guidance=1.0)
    )


def decoder(masks: bool) -> Policy:
    net = BackboneDecoder(BackboneDecoderConfig(3, 4, 6, 3, 8, 1, masks=masks))
    random = torch.Generator().manual_seed(0)
    near = torch.stack([torch.randperm(6, generator=random)[:3] for _ in range(6)]).float()
    owner = torch.tensor([0.0, 1.0, -1.0, 2.0, 1.0, 3.0])  # of a chain that is not designed, and of two tied residues
    said = {"neighbours": near, "owner": owner, "rank": torch.arange(6).float(), "known": torch.ones(6)}
    for name, shape in (("nodes", (6, 8)), ("edges", (6, 3, 8))):
        said[name] = torch.randn(shape, generator=random)
    net.load_state_dict(net.state_dict() | said)
    return Policy(Masked(4, 3, num_steps=4) if masks else AnyOrder(4, 3), net)


@pytest.mark.parametrize(
    "build", [dilated, partial(decoder, True), partial(decoder, False)], ids=["dilated", "masks", "order"]
)
@pytest.mark.parametrize(("kind", "name"), [("objective", "vidd"), ("sampler", "svdd")])
def test_networks_of_others_run_there(build, kind, name, monkeypatch):
    monkeypatch.setattr(Convolution, "forward", torch.nn.Conv1d.forward)
    torch.manual_seed(1)
    base = build()
    base.net.eval()
    here = gpu_checks.run_once(kind, name, base, CPU, {})
    with far_device() as far:
        there = gpu_checks.run_once(kind, name, base, far, {})
    for key, found in here.items():
        torch.testing.assert_close(there[key], found, atol=1e-5, rtol=1e-4, equal_nan=True)
