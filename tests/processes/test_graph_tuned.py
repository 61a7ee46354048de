"""What tunes and what steers works on graphs: p* in closed form, unbiased samplers, and every objective that may."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from graph_samples import MIXED, Gaussians, generator
from torch import Tensor, nn

from biotilt.core import Context, Policy, Replay, Roles, Target, check_parts
from biotilt.core.parts import Parts
from biotilt.networks import GraphScores, GraphScoresConfig
from biotilt.objectives import PPO, VIDD, AdjointMatching, RewardBackprop, RewardWeighted
from biotilt.processes import Graph
from biotilt.samplers import SMC, SVDD, Importance
from biotilt.testing import FunctionScorer
from biotilt.testing.contracts import Answer, check_sampler
from biotilt.testing.gaussian import Mixture
from biotilt.training import TrainConfig, Trainer
from biotilt.values import PosteriorMean

ALPHA = 0.5
MEAN, VARIANCE = torch.tensor([0.9, -0.4, 1.3]), torch.tensor([0.3, 0.7, 0.15])
LINEAR = torch.tensor([0.6, -0.3, 0.8])


class Shifts(nn.Module):
    """A number for every coordinate and level: what a linear reward asks of a gaussian."""

    def __init__(self, process: Graph):
        super().__init__()
        self.levels = process.num_steps
        self.table = nn.Parameter(torch.zeros(self.levels + 1, process.size))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.table[(t * self.levels).round().long()]


class Counted(FunctionScorer):
    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        self.calls = state["calls"]


def law_of(policy: Policy, count: int) -> tuple[Tensor, Tensor]:
    """Exact mean and variance of the coordinates of designs of so many nodes, for kernels affine in each of them."""
    process = policy.process
    probes = torch.zeros(2, process.size)
    probes[1] = process.layout.free(torch.tensor([count]))[0].to(probes)
    probes[:, -1] = count
    mean, variance = torch.zeros(process.size), torch.zeros(process.size)  # x[0] is not read
    for k in range(process.steps):
        kernel = policy.kernel(probes, k)
        slope = kernel.mean[1] - kernel.mean[0]
        mean, variance = kernel.mean[0] + slope * mean, slope.square() * variance + kernel.std[0].square()
    return mean[:-1].detach(), variance[:-1].detach()


def test_tuning_reaches_p_star_of_every_number_of_nodes(double):
    """A linear reward tilts gaussians by a shift: mean + variance · b/α, whatever the number of nodes."""
    process = Graph(2, 1, counts=(1, 2), num_steps=3, prediction="x0", **MIXED)
    base = Policy(process, Gaussians(process, MEAN, VARIANCE, Shifts(process)))
    scorer = Counted(lambda x: x[:, :-1] @ LINEAR.to(x))
    objective = AdjointMatching(updates=5, states=128)
    context = Context(Roles.start(base), Target(scorer, ALPHA), generator(), Replay(objective.capacity))
    config = TrainConfig(max_calls=960, batch=32, lr=0.05, schedule="cosine", clip=100.0, ema=0.95)
    tuned = Policy(process, Trainer(context, objective, config, scorer).run())
    for count, there in ((1, [0]), (2, [0, 1, 2])):
        mean, variance = law_of(base, count)
        found, width = law_of(tuned, count)
        wanted = mean + variance * LINEAR / ALPHA
        assert (wanted - mean)[there].abs().min() > 0.15
        torch.testing.assert_close(found[there], wanted[there], atol=0.02, rtol=0)
        torch.testing.assert_close(width[there], variance[there])
    drawn = tuned.process.noise(4_000, generator(1))[:, -1]
    assert (drawn == 2).double().mean().item() == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize(("sampler", "snr"), [(Importance(), 0.0), (SVDD(3), 0.2), (SMC(), 0.2)])
def test_samplers_are_unbiased_with_and_without_correctors(sampler, snr):
    process = Graph(2, 1, num_steps=2, snr=snr, **MIXED)
    base = Policy(process, Gaussians(process, MEAN, VARIANCE, Shifts(process)))
    mean, variance = law_of(base, 2)
    law = Mixture(torch.ones(1), mean.unsqueeze(0), torch.diag(variance).unsqueeze(0))
    target, log_z = law.tilted(LINEAR / 2, torch.zeros(3, 3), ALPHA)
    wanted, covariance = target.moments()

    def f(x: Tensor) -> Tensor:
        return torch.cat([x[:, :-1], x[:, :-1].square()], -1)

    answer = Answer(log_z, f, torch.cat([wanted, covariance.diagonal() + wanted.square()]))
    scorer = FunctionScorer(lambda x: x[:, :-1] @ LINEAR / 2)
    value = None if sampler.name == "importance" else PosteriorMean()
    context = Context(Roles.start(base), Target(scorer, ALPHA), generator(), value=value)
    check_sampler(sampler, context, answer, repeats=50)


@pytest.mark.parametrize(
    "objective",
    [
        VIDD(value="posterior_mean", teacher="sampled", updates=2, states=16),
        PPO(updates=2),
        RewardWeighted(updates=2),
        RewardBackprop(),
    ],
    ids=lambda objective: objective.name,
)
def test_objectives_take_graphs_and_move_both_networks(objective: Any):
    torch.manual_seed(0)
    process = Graph(4, 2, counts=(0, 0, 1, 1), num_steps=3, snr=0.2)
    net = GraphScores(GraphScoresConfig(4, 2, width=4, attention=4, heads=2, layers=2, channels=2, last=2, time=True))
    base = Policy(process, net.eval())
    value = PosteriorMean() if objective.name == "vidd" else None
    check_parts(objective, Parts(process, value, differentiable=True))
    scorer = Counted(lambda x: x[:, 0] - x[:, -2].square())
    context = Context(Roles.start(base), Target(scorer, ALPHA), generator(), Replay(objective.capacity), value)
    config = TrainConfig(max_calls=16, batch=8, lr=0.01)
    tuned = Trainer(context, objective, config, scorer).run()
    moved = {name for name, weight in tuned.named_parameters() if not torch.equal(weight, net.get_parameter(name))}
    assert {name.split(".")[0] for name in moved} == {"time", "node_layers", "of_nodes", "edge_layers", "of_edges"}
