"""Points whose tilted law is known: a 2-D and a 10-D mixture under an exact denoiser, and the distance to p*.

    python benchmarks/continuous.py --space mixture_2d --process gaussian --objective vidd --calls 7680

p* tilts the law of the K-step chain, not of the mixture, so its points are drawn by importance resampling of a large
sample of that chain: with many steps the two are close, and `Mixture.tilted` has the closed form for the 10-D one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from biotilt.core import Context, Policy, Replay, Roles, sample
from biotilt.networks import VectorMLP, VectorMLPConfig, like
from biotilt.plugins import registry
from biotilt.processes import Flow, Gaussian
from biotilt.testing import FunctionScorer, Mixture, MixtureDenoiser
from biotilt.training import TrainConfig, Trainer
from biotilt.values import VALUES, build_value

DRAWN = 8000  # points of a policy, and of p*, that are compared


@dataclass
class Continuous:
    """A base whose chain is exact for a mixture, a differentiable reward of points `(B, D)`, and α.

    `pool`: how many designs of the base stand for its law.
    """

    name: str
    base: Policy
    reward: Callable[[Tensor], Tensor]
    alpha: float
    pool: int = 200_000

    def scorer(self) -> FunctionScorer:
        return FunctionScorer(self.reward)

    @cached_property
    def base_points(self) -> Tensor:
        return sample(self.base, self.pool, torch.Generator().manual_seed(77), chunk=10_000).double()

    @cached_property
    def _log_weight(self) -> Tensor:
        return self.reward(self.base_points) / self.alpha

    @cached_property
    def target(self) -> Tensor:
        """Points of p* `(DRAWN, D)`."""
        generator = torch.Generator().manual_seed(78)
        rows = torch.multinomial(self._log_weight.softmax(0), DRAWN, replacement=False, generator=generator)
        return self.base_points[rows]

    @cached_property
    def expected_reward(self) -> float:
        """E_{p*}[r]."""
        return (self._log_weight.softmax(0) * self._log_weight).sum().item() * self.alpha

    @property
    def log_z(self) -> float:
        return self._log_weight.exp().mean().log().item()

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


def _process(which: str, size: int, steps: int) -> Gaussian | Flow:
    return Gaussian(size, num_steps=steps) if which == "gaussian" else Flow(size, num_steps=steps)


def mixture_2d(which: str = "gaussian", alpha: float = 0.5) -> Continuous:
    """Three unequal clusters, and a wavy reward that prefers another part than the heaviest; 25 steps."""
    designs = Mixture(
        torch.tensor([0.5, 0.3, 0.2]),
        torch.tensor([[-1.5, -0.8], [1.4, -0.2], [0.2, 1.6]]),
        torch.tensor([[[0.25, 0.1], [0.1, 0.2]], [[0.15, -0.05], [-0.05, 0.3]], [[0.3, 0.0], [0.0, 0.1]]]),
    )
    process = _process(which, 2, 25)

    def reward(x: Tensor) -> Tensor:
        return torch.sin(1.7 * x[:, 0]) + 0.6 * x[:, 1] - 0.15 * x.square().sum(-1)

    net = MixtureDenoiser(designs, process, _correction(2))
    return Continuous("mixture_2d", Policy(process, net).frozen_copy(), reward, alpha)


def mixture_10d(which: str = "gaussian", alpha: float = 1.0) -> Continuous:
    """Four clusters in ten dimensions; a quadratic reward, so that the tilt of the mixture has a closed form."""
    designs, linear, quadratic = closed_form_10d()
    process = _process(which, 10, 25)

    def reward(x: Tensor) -> Tensor:
        return x @ linear.to(x) - ((x @ quadratic.to(x)) * x).sum(-1) / 2

    net = MixtureDenoiser(designs, process, _correction(10))
    return Continuous("mixture_10d", Policy(process, net).frozen_copy(), reward, alpha)


def closed_form_10d() -> tuple[Mixture, Tensor, Tensor]:
    """Return the mixture, b and A of r(x) = b·x − ½ xᵀ A x: `Mixture.tilted(b, A, alpha)` is its tilt."""
    generator = torch.Generator().manual_seed(5)
    means = 1.1 * torch.randn(4, 10, generator=generator)
    factors = 0.25 * torch.randn(4, 10, 10, generator=generator) / 10**0.5
    covariances = factors @ factors.mT + 0.15 * torch.eye(10)
    bend = 0.3 * torch.randn(10, 10, generator=generator) / 10**0.5
    linear = 0.5 * torch.randn(10, generator=generator)
    return Mixture(torch.tensor([0.4, 0.3, 0.2, 0.1]), means, covariances), linear, bend @ bend.mT


def _correction(size: int) -> VectorMLP:
    torch.manual_seed(0)
    return VectorMLP(VectorMLPConfig(size, width=64, depth=2))


SPACES: dict[str, Callable[..., Continuous]] = {"mixture_2d": mixture_2d, "mixture_10d": mixture_10d}
# VIDD's value is of the policy that drew the data, so it is learned from recent rounds and followed by half.
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "vidd": {
        "objective": {"value": "return", "mirror": 0.5, "updates": 30, "refresh": 30, "states": 256, "buffer": 1024},
        "value": {"lr": 0.003},
    },
    "ppo": {"objective": {"updates": 16, "states": 256}},
}


def run(space: Continuous, name: str, calls: int, seed: int, points: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Tune once; return distances over the base's at about `points` places of the budget."""
    given = DEFAULTS.get(name, {})
    objective = registry("objectives")[name](**given.get("objective", {}) | changes)
    kind = getattr(objective, "value", None)
    options = VALUES[kind](**given.get("value", {})) if kind else None
    torch.manual_seed(seed)
    value = build_value(kind, lambda: like(space.base.net), space.base.process, options)
    scorer, roles = space.scorer(), Roles.start(space.base)
    generator = torch.Generator().manual_seed(seed)
    context = Context(roles, scorer, space.alpha, generator, Replay(objective.capacity), value)
    config = TrainConfig(max_calls=calls, batch=64, lr=3e-3, ema=0.99)
    trainer, curve = Trainer(context, objective, config, scorer), []
    marks = {round(config.rounds * (i + 1) / points) for i in range(points)}

    def report(row: dict[str, float]) -> None:
        if row["round"] in marks:
            tuned = Policy(space.base.process, trainer.average)
            found = space.distances(tuned, torch.Generator().manual_seed(1000 + seed))
            curve.append({"calls": scorer.calls, **found, "ratio": found["distance"] / space.base_distance})

    trainer.report = report
    started = time.perf_counter()
    trainer.run()
    return {"objective": name, "seed": seed, "curve": curve, "seconds": time.perf_counter() - started}


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
    known = {"base_distance": space.base_distance, "log_z": space.log_z, "expected_reward": space.expected_reward}
    print(json.dumps({"space": space.name, "process": options.process, "effective": space.effective} | known))
    for seed in range(options.seeds):
        print(json.dumps(run(space, options.objective, options.calls, seed, options.points, changes)), flush=True)


if __name__ == "__main__":
    main()
