"""Points whose tilted law is known: a 2-D and a 10-D mixture under an exact denoiser, and the distance to p*.

    python benchmarks/continuous.py --space mixture_2d --process gaussian --objective vidd --calls 7680

p* tilts the law of the K-step chain, not of the mixture, so its points are drawn by importance resampling of a large
sample of that chain: with many steps the two are close, and `Mixture.tilted` has the closed form for the 10-D one.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Generator, Tensor

from biotilt.core import Policy, sample
from biotilt.networks import VectorMLP, VectorMLPConfig
from biotilt.plugins import REGISTRIES
from biotilt.processes import Flow, Gaussian
from biotilt.testing import FunctionScorer, Mixture, MixtureDenoiser
from landscapes import bisect
from tuning import Groups, tune

DRAWN = 8000  # points of a policy, and of p*, that are compared
POOL = {2: 200_000, 10: 1_000_000}  # by dimension: α at a tilt of 4 nats leaves 2,700 and 2,000 of them effective


@dataclass(eq=False)
class Continuous:
    """A base whose chain is exact for a mixture, a differentiable reward of points `(B, D)`, and α.

    `base_points` `(N, D)`, float64: many designs of the base, which stand for its law.
    """

    name: str
    base: Policy
    reward: Callable[[Tensor], Tensor]
    alpha: float
    base_points: Tensor

    @classmethod
    def on(
        cls, name: str, mixture: Mixture, which: str, reward: Callable[[Tensor], Tensor], alpha: float
    ) -> Continuous:
        """Put a reward on the chain of `which` process, gaussian or flow, of 25 steps, that is exact for a mixture."""
        size = mixture.means.shape[1]
        process = {"gaussian": Gaussian, "flow": Flow}[which](size, num_steps=25)
        torch.manual_seed(0)
        net = MixtureDenoiser(mixture, process, VectorMLP(VectorMLPConfig(size, width=64, depth=2)))
        base = Policy(process, net)
        points = sample(base, POOL[size], torch.Generator().manual_seed(77), chunk=10_000)
        return cls(name, base, reward, alpha, points.double())

    def at(self, alpha: float) -> Continuous:
        """Return the same space at another temperature."""
        return replace(self, alpha=alpha)

    def tilted_by(self, nats: float) -> Continuous:
        """Return the same space at the α where KL(p* ‖ base) is so many nats."""

        def divergence(alpha: float) -> float:
            there = self.at(alpha)
            return there.expected_reward / alpha - there.log_z

        return self.at(bisect(divergence, nats))

    def scorer(self) -> FunctionScorer:
        return FunctionScorer(self.reward)

    @cached_property
    def _log_weight(self) -> Tensor:
        return self.reward(self.base_points) / self.alpha

    @cached_property
    def target(self) -> Tensor:
        """Points of p* `(DRAWN, D)`."""
        generator = torch.Generator().manual_seed(78)
        rows = torch.multinomial(self._log_weight.softmax(0), DRAWN, replacement=True, generator=generator)
        return self.base_points[rows]

    @cached_property
    def expected_reward(self) -> float:
        """E_{p*}[r]."""
        return (self._log_weight.softmax(0) * self._log_weight).sum().item() * self.alpha

    @property
    def log_z(self) -> float:
        return self._log_weight.logsumexp(0).item() - math.log(len(self.base_points))

    @property
    def effective(self) -> float:
        """The effective number of points that stand for p*."""
        return 1 / self._log_weight.softmax(0).square().sum().item()

    @cached_property
    def base_distance(self) -> float:
        return self.distances_of(self.base_points[:DRAWN], _equal(DRAWN))["distance"]

    def distances(self, policy: Policy, generator: Generator) -> dict[str, float]:
        """Return the energy distance of a policy's designs to p*, and the error of E[r]."""
        return self.distances_of(sample(policy, DRAWN, generator, chunk=DRAWN), _equal(DRAWN))

    def distances_of(self, designs: Tensor, weight: Tensor) -> dict[str, float]:
        """The same of weighted designs `(N, D)`, `(N,)` summing to 1."""
        x, weight = designs.double(), weight.double()
        across = weight @ mean_distance(x, self.target)
        # a point has no distance to itself: without these pairs the estimate is unbiased
        within = (weight @ mean_distance(x, x, weight)) / (1 - weight.square().sum())
        error = weight @ self.reward(x) - self.expected_reward
        return {"distance": (2 * across - within - self._within).item(), "reward_error": error.item()}

    def floor(self, count: int) -> float:
        """Return the mean distance, without its sign, of `count` exact draws."""
        generator = torch.Generator().manual_seed(79)
        total = 0.0
        for _ in range(20):
            rows = torch.multinomial(self._log_weight.softmax(0), count, replacement=True, generator=generator)
            total += abs(self.distances_of(self.base_points[rows], _equal(count))["distance"]) / 20
        return total

    @cached_property
    def _within(self) -> Tensor:
        return mean_distance(self.target, self.target).mean() * DRAWN / (DRAWN - 1)


def mean_distance(x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return Σ_j w_j |x_i − y_j| `(N,)`, equal weights when none are given."""
    weight = _equal(len(y)) if weight is None else weight
    return torch.cat([torch.cdist(part, y) @ weight for part in x.split(1024)])


def _equal(count: int) -> Tensor:
    return torch.full((count,), 1 / count, dtype=torch.float64)


def mixture_2d(which: str = "gaussian", alpha: float = 0.5) -> Continuous:
    """Three unequal clusters, and a wavy reward that prefers another part than the heaviest."""
    designs = Mixture(
        torch.tensor([0.5, 0.3, 0.2]),
        torch.tensor([[-1.5, -0.8], [1.4, -0.2], [0.2, 1.6]]),
        torch.tensor([[[0.25, 0.1], [0.1, 0.2]], [[0.15, -0.05], [-0.05, 0.3]], [[0.3, 0.0], [0.0, 0.1]]]),
    )

    def reward(x: Tensor) -> Tensor:
        return torch.sin(1.7 * x[:, 0]) + 0.6 * x[:, 1] - 0.15 * x.square().sum(-1)

    return Continuous.on("mixture_2d", designs, which, reward, alpha)


def mixture_10d(which: str = "gaussian", alpha: float = 1.0) -> Continuous:
    """Four clusters in ten dimensions; a quadratic reward, so that the tilt of the mixture has a closed form."""
    designs, linear, quadratic = closed_form_10d()

    def reward(x: Tensor) -> Tensor:
        return x @ linear.to(x) - ((x @ quadratic.to(x)) * x).sum(-1) / 2

    return Continuous.on("mixture_10d", designs, which, reward, alpha)


def closed_form_10d() -> tuple[Mixture, Tensor, Tensor]:
    """Return the mixture, b and A of r(x) = b·x − ½ xᵀ A x: `Mixture.tilted(b, A, alpha)` is its tilt."""
    generator = torch.Generator().manual_seed(5)
    means = 1.1 * torch.randn(4, 10, generator=generator)
    factors = 0.25 * torch.randn(4, 10, 10, generator=generator) / 10**0.5
    covariances = factors @ factors.mT + 0.15 * torch.eye(10)
    bend = 0.3 * torch.randn(10, 10, generator=generator) / 10**0.5
    linear = 0.5 * torch.randn(10, generator=generator)
    return Mixture(torch.tensor([0.4, 0.3, 0.2, 0.1]), means, covariances), linear, bend @ bend.mT


SPACES: dict[str, Callable[..., Continuous]] = {"mixture_2d": mixture_2d, "mixture_10d": mixture_10d}
# VIDD's value is of the policy that drew the data, so it is learned from recent rounds and followed by half.
DEFAULTS: dict[str, Groups] = {
    "vidd": {
        "objective": {"value": "return", "mirror": 0.5, "updates": 30, "refresh": 30, "states": 256, "buffer": 1024},
        "value": {"lr": 0.003},
    },
    "ppo": {"objective": {"updates": 16, "states": 256}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=SPACES, default="mixture_2d")
    parser.add_argument("--process", choices=["gaussian", "flow"], default="gaussian")
    parser.add_argument("--objective", default="vidd")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="an option of the objective")
    parser.add_argument("--calls", type=int, default=7680)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--points", type=int, default=4)
    options = parser.parse_args()
    space = SPACES[options.space](options.process)
    changes = {key: json.loads(value) for key, _, value in (text.partition("=") for text in options.set)}
    groups: Groups = {"train": {"lr": 0.003}} | DEFAULTS.get(options.objective, {})
    objective = REGISTRIES["objectives"][options.objective](**groups.get("objective", {}) | changes)
    known = {key: getattr(space, key) for key in ("alpha", "base_distance", "log_z", "expected_reward", "effective")}
    print(json.dumps({"space": space.name, "process": options.process} | known), flush=True)
    for seed in range(options.seeds):
        found = tune(space, objective, groups, options.calls, options.points, seed)
        print(json.dumps({"objective": options.objective, "seed": seed} | found), flush=True)


if __name__ == "__main__":
    main()
