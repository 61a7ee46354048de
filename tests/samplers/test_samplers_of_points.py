"""The same samplers on points: one gaussian, tilted in closed form by a quadratic reward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sampler_problems import context_of
from torch import Tensor

from biotilt.core import Policy, Target
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.processes import Flow, Gaussian
from biotilt.samplers import SMC, SVDD, BestOfN, Importance
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
