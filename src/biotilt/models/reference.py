"""No pretrained model: a random walk with gaussian ends is the base, for a density known up to its constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.models.checks import ROWS, device_of
from biotilt.models.origin import SourceOrigin
from biotilt.networks import VectorMLP, VectorMLPConfig
from biotilt.options import Depth, Positive, Steps, Width, check_options
from biotilt.processes import RandomWalk
from biotilt.rewards import GaussianBase, LogDensity
from biotilt.spaces import Points


@dataclass(frozen=True)
class Reference:
    """Points of `size` coordinates, N(0, `scale`² I) in a walk of `steps` steps; `width` and `depth` of the network.

    The network returns 0 at first, whatever its other layers, which are drawn from a fixed seed. `scale` should cover
    where the density is, and `scale`/√`steps` be smaller than what is to be resolved.

    >>> [point.shape for point in Reference(size=3).build().sample(2)]
    [(3,), (3,)]
    """

    size: Width
    scale: Positive = 1.0
    steps: Steps = 50
    width: Width = 128
    depth: Depth = 3

    name: ClassVar[str] = "reference"

    def __post_init__(self) -> None:
        check_options(self, "model.options")

    def build(self) -> Model:
        """Return the model of the random walk, whose designs are points with columns x1, x2, …"""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = VectorMLP(VectorMLPConfig(self.size, self.width, self.depth)).blank()
        process = RandomWalk(self.size, self.scale, self.steps)
        columns = tuple(f"x{i}" for i in range(1, self.size + 1))
        return Model(Policy(process, net), Points(columns), SourceOrigin(self.name, dict(vars(self))))


def log_density(model: Model, function: Callable[[Any], Any]) -> LogDensity:
    """Return the reward log ρ − log p_pre of points, by which p* at alpha = 1 is ρ/Z: `function` is log ρ.

    Raises ConfigError when the model is not a random walk that nothing has been learned for, or `function` does not
    return one number a point.
    """
    return LogDensity.of(function, base_density(model))


@torch.no_grad()
def base_density(model: Model) -> GaussianBase:
    """Return the density of an untrained random walk's designs; ConfigError for any other model."""
    process, net, space = model.policy.process, model.policy.net, model.space
    if not isinstance(process, RandomWalk) or not isinstance(space, Points):
        raise ConfigError(
            'a log_density is weighed against a base whose density is known: [model] source = "reference", not '
            f'the process "{process.name}"'
        )
    generator = torch.Generator().manual_seed(0)
    x = process.scale * torch.randn(ROWS, process.size, generator=generator).to(device_of(net))
    if any(bool(net(*process.inputs(x, k)).any()) for k in (0, process.steps - 1)):
        raise ConfigError(
            "a log_density is weighed against a base whose density is known, and this network has been trained: take "
            '[model] source = "reference", and a tuned run as the proposal (--proposal)'
        )
    free = (True,) * process.size if process.fixed is None else tuple((~process.fixed.mask).tolist())
    std = tuple(process.scale * scale for scale in space.scale)
    return GaussianBase(tuple(space.centre), std, free)
