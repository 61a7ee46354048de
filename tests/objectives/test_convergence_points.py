"""Through the real Trainer, backprop and adjoint matching reach the closed-form optimum of J on chains of points."""

from __future__ import annotations

import pytest
import torch
from affine_chain import optimal_means
from torch import Tensor, nn

from biotilt.core import Context, Objective, Policy, Replay, Roles, Target
from biotilt.objectives import AdjointMatching, RewardBackprop
from biotilt.processes import Flow, Gaussian
from biotilt.processes.gaussian_path import GaussianPath
from biotilt.testing import FunctionScorer
from biotilt.testing.gaussian import Mixture, MixtureDenoiser, affine_law
from biotilt.training import TrainConfig, Trainer

ALPHA, STEPS = 0.5, 4
LINEAR = torch.tensor([0.9, -0.8], dtype=torch.float64)
BENT = torch.tensor([[0.8, 0.3], [0.3, 0.4]], dtype=torch.float64)
DESIGNS = Mixture(torch.ones(1), torch.tensor([[0.4, -0.2]]), torch.tensor([[[1.0, 0.4], [0.4, 0.6]]]))

pytestmark = pytest.mark.usefixtures("double")


class StepAffine(nn.Module):
    """Points `(B, D)` and times `(B,)` → `(B, D)`, affine in the point, with weights of its own for every step."""

    def __init__(self, times: Tensor):
        super().__init__()
        self.times = times
        self.layer = nn.Linear(3 * len(times), 2, bias=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        step = (t.unsqueeze(-1) - self.times).abs().argmin(-1)
        ahead = torch.cat([x, torch.ones_like(x[:, :1])], -1)
        return self.layer(
            (nn.functional.one_hot(step, len(self.times)).to(x).unsqueeze(-1) * ahead.unsqueeze(1)).flatten(1)
        )


class Counted(FunctionScorer):
    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        self.calls = state["calls"]


def base_of(process: GaussianPath) -> Policy:
    times: list[Tensor] = []
    probe = Policy(process, Record(times))
    for k in range(process.steps):
        probe.kernel(torch.zeros(1, 2), k)
    return Policy(process, MixtureDenoiser(DESIGNS, process, StepAffine(torch.cat(times))))


class Record(nn.Module):
    def __init__(self, times: list[Tensor]):
        super().__init__()
        self.times = times

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.times.append(t)
        return x


def best_law(base: Policy, bend: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the designs of the best policy whose kernels have the widths of the base."""
    slopes, shifts, stds = [], [], []
    probes = torch.cat([torch.zeros(1, 2), torch.eye(2)])
    for k in range(base.process.steps):
        kernel = base.kernel(probes, k)
        means = kernel.mean.detach()  # type: ignore[attr-defined]
        slopes.append((means[1:] - means[0]).T)
        shifts.append(means[0])
        stds.append(float(kernel.std[0]))  # type: ignore[attr-defined]
    slope, shift = optimal_means(torch.stack(slopes), torch.stack(shifts), stds, bend * BENT / ALPHA, LINEAR / ALPHA)
    mean, covariance = torch.zeros(2), torch.eye(2)
    for k in range(base.process.steps):
        mean = slope[k] @ mean + shift[k]
        covariance = slope[k] @ covariance @ slope[k].T + stds[k] ** 2 * torch.eye(2)
    return mean, covariance


CASES = {
    "backprop": (RewardBackprop(), 32),
    "adjoint_matching": (AdjointMatching(updates=5, states=256), 64),
}


@pytest.mark.parametrize(("kind", "bend"), [(Gaussian, 0.0), (Gaussian, 1.0), (Flow, 1.0)])
@pytest.mark.parametrize("name", CASES)
def test_reaches_the_optimum(name, kind, bend):
    """A linear reward, and two that bend."""
    objective, batch = CASES[name]
    process = kind(2, num_steps=STEPS, prediction="x0", t_min=0.1)
    base = base_of(process)
    scorer = Counted(lambda x: x @ LINEAR - bend * (x @ BENT * x).sum(-1) / 2)
    rounds = 120 if objective.updates == 1 else 40
    law = affine_law(tuned(base, objective, scorer, rounds, batch))
    mean, covariance = best_law(base, bend)
    start = affine_law(base)
    assert (start.means[0] - mean).norm() > 0.25
    torch.testing.assert_close(law.means[0], mean, atol=0.02, rtol=0)
    torch.testing.assert_close(law.covariances[0], covariance, atol=0.01, rtol=0)
    assert scorer.calls == rounds * batch


@pytest.mark.parametrize("kind", [Gaussian, Flow])
def test_what_the_optimum_has_of_p_star(kind):
    """A linear reward: all of it. A quadratic one: the mean; steps of the base's width leave designs too spread."""
    spare = {}
    for steps in (4, 16):
        base = base_of(kind(2, num_steps=steps, prediction="x0", t_min=0.1))
        for bend in (0.0, 1.0):
            mean, covariance = best_law(base, bend)
            p_star, _ = affine_law(base).tilted(LINEAR, bend * BENT, ALPHA)
            torch.testing.assert_close(mean, p_star.means[0])
            spare[steps, bend] = (covariance - p_star.covariances[0]).norm().item()
    assert spare[4, 0.0] < 1e-12 and spare[4, 1.0] > 0.05
    assert spare[16, 1.0] < spare[4, 1.0] / 2


def tuned(base: Policy, objective: Objective, scorer: Counted, rounds: int, batch: int) -> Policy:
    generator = torch.Generator().manual_seed(0)
    context = Context(Roles.start(base), Target(scorer, ALPHA), generator, Replay(objective.capacity))
    config = TrainConfig(max_calls=rounds * batch, batch=batch, lr=0.05, schedule="cosine", clip=100.0, ema=0.95)
    return Policy(base.process, Trainer(context, objective, config, scorer).run())
