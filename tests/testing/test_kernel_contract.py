"""The kernel contract passes every registered process, and catches kernels that break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.processes import (
    DDPM,
    PROCESSES,
    AnyOrder,
    Confidence,
    Finite,
    Flow,
    FlowEuler,
    Gaussian,
    Graph,
    Insertion,
    Masked,
    RandomWalk,
    Remasking,
    Simplex,
    Uniform,
)
from biotilt.processes.any_order import AnyOrderKernel
from biotilt.testing.contracts import check_kernel

HELD = Fixed(torch.tensor([False, True, False]), torch.tensor([0, 1, 0], dtype=torch.int8))
TWO_OF_THREE = Fixed(  # the first position has two letters, the second one more
    torch.tensor([False, False]),
    torch.zeros(2, dtype=torch.int8),
    torch.tensor([[True, False, True], [True, True, True]]),
)
POINT = Fixed(torch.tensor([False, True]), torch.tensor([0.0, 0.7]))
NODE = Fixed(torch.tensor([True, False, False, False]), torch.tensor([0.7, 0.0, 0.0, 0.0]))
NO_MIDDLE = (torch.tensor([False]), torch.zeros(1, dtype=torch.int8), torch.tensor([[True, False, True]]))
SMALL: dict[str, list[Any]] = {
    "any_order": [
        AnyOrder(3, 2),
        AnyOrder(3, 3, per_step=2),
        AnyOrder(3, 3, fixed=HELD),
        AnyOrder(2, 3, fixed=TWO_OF_THREE),
    ],
    "masked": [
        Masked(2, 3, num_steps=4),
        Masked(3, 2, num_steps=3, schedule="cosine", fixed=HELD),
        Masked(2, 3, num_steps=3, fixed=TWO_OF_THREE),
    ],
    "confidence": [
        Confidence(3, 3, randomness=0.6),
        Confidence(3, 2, fixed=HELD, by="entropy"),
        Confidence(2, 3, fixed=TWO_OF_THREE, temperature=2.0),
    ],
    "remasking": [
        Remasking(2, 3, num_steps=4, eta=0.8),
        Remasking(3, 2, num_steps=3, schedule="cosine", fixed=HELD, strategy="cap", eta=0.4),
        Remasking(2, 3, num_steps=4, fixed=TWO_OF_THREE, first=0.25, last=0.75, hold=0.5, eta=1.0),
    ],
    "insertion": [Insertion(3, 3), Insertion(2, 4, shortest=2)],
    "uniform": [
        Uniform(2, 3, num_steps=4),
        Uniform(3, 2, num_steps=3, fixed=HELD),
        Uniform(2, 3, num_steps=3, fixed=TWO_OF_THREE),
    ],
    "finite": [Finite(5, 3)],
    "gaussian": [Gaussian(2, num_steps=4), Gaussian(2, num_steps=4, eta=0.5, fixed=POINT)],
    "flow": [Flow(2, num_steps=4), Flow(2, num_steps=4, eta=0.7, fixed=POINT)],
    "graph": [
        Graph(2, 1, counts=(1, 0), num_steps=3, snr=0.3),  # the second node is not there
        Graph(1, 2, num_steps=3, node_law="vp", predictor="reverse", prediction="score"),
        Graph(2, 1, fixed=NODE, num_steps=3, node_law="vp", edge_range=(0.2, 1.5)),  # a node and an edge
        Graph(2, 1, fixed=NODE, num_steps=2, snr=0.2, loudness=0.7, memoryless=False, prediction="gdss"),
    ],
    "ddpm": [
        DDPM(2, num_steps=4, clip_sample=True),
        DDPM(2, num_steps=4, sampler="ddim", eta=0.6, fixed=POINT, prediction_type="v_prediction"),
    ],
    "flow_euler": [FlowEuler(2, num_steps=4), FlowEuler(2, num_steps=4, eta=0.7, shift=3.0, fixed=POINT)],
    "random_walk": [RandomWalk(2, scale=1.4, num_steps=4), RandomWalk(2, num_steps=4, fixed=POINT)],
    "simplex": [
        Simplex(1, 3, num_steps=4),
        Simplex(2, 2, num_steps=4, fixed=Fixed(torch.tensor([True, False]), torch.tensor([1, 0], dtype=torch.int8))),
        Simplex(1, 3, num_steps=2, fixed=Fixed(*NO_MIDDLE)),
    ],
}


class Net(torch.nn.Module):
    """Outputs that depend on every coordinate of the state and on the time, drawn at random."""

    def __init__(self, outputs: tuple[int, ...], seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.outputs = outputs
        self.slope = 0.4 * torch.randn(32, *outputs, generator=generator)
        self.shift = torch.randn(*outputs, generator=generator)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        features = torch.cat([x.reshape(len(x), -1).to(torch.get_default_dtype()), t.unsqueeze(-1)], 1)
        return torch.tanh(torch.einsum("bf,f...->b...", features, self.slope[: features.shape[1]]) + self.shift)


def net_of(process: Any, seed: int) -> Net:
    if isinstance(process, Finite):
        return Net((process.states,), seed)
    return Net((process.size,) if hasattr(process, "size") else (process.length, process.letters), seed)


def test_every_process_is_checked():
    assert SMALL.keys() == PROCESSES.keys()


@pytest.mark.parametrize("process", [p for group in SMALL.values() for p in group], ids=lambda p: p.name)
def test_kernels_keep_the_contract(process):
    check_kernel(process, net_of(process, 1), net_of(process, 2), torch.Generator().manual_seed(3))


def broken(change: str) -> AnyOrder:
    class Kernel(AnyOrderKernel):
        if change == "log_prob":

            def log_prob(self, y: Tensor) -> Tensor:
                return super().log_prob(y) / 3  # a mean over coordinates

        elif change == "sample":

            def sample(self, generator: torch.Generator) -> Tensor:
                y = super().sample(generator)
                return torch.where((y == 1) & self.hidden, 0, y)

        elif change == "kl":

            def kl(self, other: Any) -> Tensor:
                return super().kl(other) * 2

    class Broken(AnyOrder):
        def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> AnyOrderKernel:
            return Kernel(**vars(super().kernel_of(output, x, k)))

    return Broken(3, 2)


class Leaking(Uniform):
    """Forgets what it holds."""

    def corrupt(self, design: Tensor, k: int | Tensor, generator: torch.Generator) -> Tensor:
        return replace(self, fixed=None).noise(len(design), generator)


class Careless(Uniform):
    """Forgets which letters positions may have."""

    def _logits(self, output: Tensor) -> Tensor:
        return output


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (Careless(2, 3, num_steps=3, fixed=TWO_OF_THREE), "a letter that its position may not have"),
        (broken("log_prob"), "sums to"),
        (broken("sample"), "standard errors"),
        (broken("kl"), "kl is"),
        (Leaking(3, 2, num_steps=3, fixed=HELD), "moves a held-fixed coordinate"),
    ],
)
def test_broken_kernels_are_caught(process, message):
    with pytest.raises(AssertionError, match=message):
        check_kernel(process, net_of(process, 1), net_of(process, 2), torch.Generator().manual_seed(3))


def test_a_large_process_is_refused():
    process = AnyOrder(8, 4)
    with pytest.raises(ValueError, match="too many"):
        check_kernel(process, net_of(process, 1), net_of(process, 2), torch.Generator().manual_seed(3))
