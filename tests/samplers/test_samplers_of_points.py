"""The same samplers on points: one gaussian, tilted in closed form by a quadratic reward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sampler_problems import context_of
from torch import Tensor

from biotilt.core import Context, Policy, Target
from biotilt.core.reading import Reading, of_states
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.processes import Flow, Gaussian
from biotilt.samplers import SMC, SVDD, BestOfN, EvolveSampler, Importance
from biotilt.testing import FunctionScorer
from biotilt.testing.contracts import Answer, check_sampler
from biotilt.testing.gaussian import Mixture, MixtureDenoiser, affine_law
from biotilt.values import PosteriorMean

ALPHA = 0.8
DESIGNS = Mixture(torch.ones(1), torch.tensor([[0.6, -0.3]]), torch.tensor([[[0.8, 0.3], [0.3, 0.5]]]))
LINEAR = torch.tensor([0.5, -0.4], dtype=torch.float64)
QUADRATIC = torch.tensor([[0.4, 0.1], [0.1, 0.2]], dtype=torch.float64)


def reward(x: Tensor) -> Tensor:
    x = x.double()
    return x @ LINEAR - ((x @ QUADRATIC) * x).sum(-1) / 2


def f(x: Tensor) -> Tensor:
    return torch.cat([x, x.square()], -1)


def policy_of(process: Any, shift: float) -> Policy:
    net = MixtureDenoiser(DESIGNS, process, VectorMLP(VectorMLPConfig(2, 4, 1)))
    last = [module for module in net.correction.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias += shift * torch.tensor([1.0, -0.5])
    return Policy(process, net)


# what the network says is moved a little; of a gaussian's ε, 0.01 is much: near t = 1 it moves x̂0 by 64 times that
@pytest.mark.parametrize(
    ("process", "shift"),
    [(Gaussian(2, num_steps=4), 0.0), (Gaussian(2, num_steps=4), 0.01), (Flow(2, num_steps=4), 0.15)],
    ids=["gaussian", "gaussian, tuned", "flow, tuned"],
)
@pytest.mark.parametrize(
    ("sampler", "value"),
    [
        (Importance(), None),
        (BestOfN(2), None),
        (SVDD(3), PosteriorMean()),
        (SMC(), PosteriorMean()),
    ],
    ids=["importance", "best_of_n", "svdd", "smc"],
)
def test_unbiased(sampler, value, process, shift):
    base = policy_of(process, 0.0)
    target, log_z = affine_law(base).tilted(LINEAR, QUADRATIC, ALPHA)
    mean, covariance = target.moments()
    answer = Answer(log_z, f, torch.cat([mean, covariance.diagonal() + mean.square()]))
    context = context_of(
        base, FunctionScorer(reward), proposal=policy_of(process, shift) if shift else None, value=value
    )
    context.target = Target(context.target.scorer, ALPHA)
    check_sampler(sampler, context, answer, repeats=50, weighted=sampler.name != "best_of_n")


@pytest.mark.parametrize("process", [Gaussian(2, num_steps=12), Flow(2, num_steps=12)], ids=["gaussian", "flow"])
@pytest.mark.parametrize("scattered", [0.0, 0.4])
def test_the_search_goes_beyond_as_many_draws_and_asks_about_no_point_twice(process, scattered):
    """A tilted gaussian, whose best point is in closed form, six standard deviations out."""
    asked: list[Tensor] = []
    best = torch.tensor([4.0, -4.0])

    def score(x: Tensor) -> Tensor:
        asked.append(x)
        return -(x - best).square().sum(-1)

    search = EvolveSampler(factor=20, parents=20, most=0.6, start=40, batch=20, scattered=scattered)
    drawn = search.draw(points_context(process, score), 12)
    whole = torch.cat(asked)
    assert len(whole) == len(whole.unique(dim=0)) == 240
    drawn_alone = BestOfN(20).draw(points_context(process, score), 12)
    assert drawn.rewards.mean() > drawn_alone.rewards.mean() + 4
    torch.testing.assert_close(drawn.rewards, score(drawn.designs))
    assert (drawn.rewards.diff() <= 0).all()


def test_two_states_of_one_design_are_asked_about_once():
    """Points that are rounded to tenths before they mean something: the space says which are one design."""
    asked: list[Tensor] = []

    def score(x: Tensor) -> Tensor:
        asked.append((10 * x).round())
        return x.sum(-1)

    context = points_context(Gaussian(2, num_steps=12), score)
    context.reading = Reading(keys=lambda states: of_states((10 * states).round() + 0.0))
    EvolveSampler(factor=8, start=20, batch=16, parents=5, least=0.1, most=0.2).draw(context, 8)
    whole = torch.cat(asked) + 0.0
    assert len(whole) == len(whole.unique(dim=0)) == 64


def points_context(process: Any, score: Any) -> Context:
    context = context_of(policy_of(process, 0.0), FunctionScorer(score))
    context.target = Target(FunctionScorer(score), ALPHA)
    return context
