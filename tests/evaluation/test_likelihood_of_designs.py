"""log p of designs: against the law over all designs, found by pushing mass through every state of the chain."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.core import Policy, Process
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.evaluation.likelihood import kind_for, log_likelihood
from biotilt.networks import MLP, MLPConfig, VectorMLP, VectorMLPConfig
from biotilt.processes import AnyOrder, Gaussian, Masked, RandomWalk, Uniform
from biotilt.processes.conditioned import conditioned
from biotilt.processes.gaussian_kernel import GaussianKernel
from biotilt.testing import law, space

HELD = Fixed(torch.tensor([False, True, False, False]), torch.tensor([0, 2, 0, 0], dtype=torch.int8))


def policy(process, **options) -> Policy:
    torch.manual_seed(1)
    net = MLP(MLPConfig(process.letters, process.length, width=16, **options))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # far from uniform, and from symmetric
    return Policy(process, net.eval())


def everything(chosen: Policy) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every design that has a chance, and its log p."""
    known = space(chosen.process)
    p = law(chosen)
    return known.states[known.designs][p > 0], p[p > 0].log()


def one_chain(process: Process) -> bool:
    return isinstance(process, AnyOrder) and process.order == "left_to_right"


@pytest.mark.parametrize(
    "process",
    [
        AnyOrder(4, 3), AnyOrder(4, 3, per_step=3), AnyOrder(4, 3, fixed=HELD), Masked(3, 3, num_steps=3),
        AnyOrder(4, 3, order="left_to_right"), AnyOrder(4, 3, HELD, per_step=2, order="left_to_right"),
        Masked(3, 3, num_steps=3, schedule="cosine"), Uniform(3, 3, num_steps=1), Masked(3, 3, num_steps=1),
    ],
    ids=lambda p: f"{p.name}-{p.steps}",
)  # fmt: skip
def test_exact_is_the_law(process):
    chosen = policy(process, time=not isinstance(process, AnyOrder))
    designs, wanted = everything(chosen)
    assert kind_for(chosen, "exact") == "exact" and kind_for(chosen, "auto") == (
        "exact" if process.steps == 1 or one_chain(process) else "bound"
    )
    found = log_likelihood(chosen, designs, "exact")
    assert found.error is None and found.draws == 0
    torch.testing.assert_close(found.values.double(), wanted, atol=2e-5, rtol=0)
    assert wanted.max() - wanted.min() > 1, "designs differ"


@pytest.mark.parametrize("process", [AnyOrder(4, 3), Masked(3, 3, num_steps=4), Uniform(3, 3, num_steps=4)],
                         ids=lambda p: p.name)  # fmt: skip
def test_a_bound_is_below_with_an_error_that_is_right(process):
    chosen = policy(process, time=not isinstance(process, AnyOrder))
    designs, exact = everything(chosen)
    long = log_likelihood(chosen, designs, "bound", draws=4000, seed=1)
    assert long.error is not None
    assert (long.values < exact + 4 * long.error).all()
    assert (exact - long.values).mean() > 0.01, "it is not tight"
    scaled = []
    for seed in range(12):
        short = log_likelihood(chosen, designs, "bound", draws=16, seed=seed)
        assert short.draws == 16 and short.error is not None
        scaled.append(((short.values - long.values) / short.error.square().mean().sqrt()).square().mean())
    assert 0.3 < torch.stack(scaled).mean() < 3  # draws of one seed are common to all designs: twelve are few
    assert log_likelihood(chosen, designs, "bound", draws=2).error is None


def test_a_bound_is_that_of_the_orders():
    """By hand: E over the two orders of the log of what each gives, of two letters, one revealed a step."""
    chosen = policy(AnyOrder(2, 3))
    design = torch.tensor([[2, 0]], dtype=torch.int8)

    def letter(x: list[int], place: int) -> float:
        states = torch.tensor([x], dtype=torch.int8)
        logits = chosen.net(*chosen.process.inputs(states, 0))[0, place]
        return logits.log_softmax(-1)[design[0, place]].item()

    first = letter([3, 3], 0) + letter([2, 3], 1)
    second = letter([3, 3], 1) + letter([3, 0], 0)
    assert abs(first - second) > 0.05
    found = log_likelihood(chosen, design, "bound", draws=8000)
    assert found.values.item() == pytest.approx((first + second) / 2, abs=0.05)
    exact = log_likelihood(chosen, design, "exact").values.item()
    assert exact == pytest.approx(math.log((math.exp(first) + math.exp(second)) / 2), abs=1e-5)
    pseudo = log_likelihood(chosen, design, "pseudo").values.item()
    assert pseudo == pytest.approx(letter([3, 0], 0) + letter([2, 3], 1), abs=1e-5)


def test_pseudo_leaves_held_letters_out_and_needs_letters_that_are_hidden():
    chosen = policy(AnyOrder(4, 3, fixed=HELD))
    design = torch.tensor([[1, 2, 0, 2], [0, 2, 0, 1]], dtype=torch.int8)
    wanted = torch.zeros(2)
    for place in (0, 2, 3):
        x = design.clone()
        x[:, place] = 3
        logits = chosen.net(*chosen.process.inputs(x, 2))[:, place].log_softmax(-1)
        wanted += logits.gather(-1, design[:, place, None].long())[:, 0]
    torch.testing.assert_close(log_likelihood(chosen, design, "pseudo").values, wanted)
    with pytest.raises(ConfigError, match=r'the process "uniform" has none'):
        kind_for(policy(Uniform(3, 3, num_steps=2), time=True), "pseudo")


@pytest.mark.parametrize("process", [AnyOrder(6, 4), Masked(6, 4, num_steps=9), Uniform(6, 4, num_steps=5)],
                         ids=lambda p: p.name)  # fmt: skip
def test_a_design_has_one_value_whatever_it_is_asked_with(process):
    chosen = policy(process, time=True)
    designs = torch.randint(4, (5, 6), generator=torch.Generator().manual_seed(3)).to(torch.int8)
    together = log_likelihood(chosen, designs, "bound", draws=8, seed=4).values
    alone = torch.cat([log_likelihood(chosen, row, "bound", draws=8, seed=4).values for row in designs.split(1)])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, log_likelihood(chosen, designs, "bound", draws=8, seed=5).values)


def test_points():
    torch.manual_seed(0)
    one = Policy(Gaussian(2, num_steps=1), VectorMLP(VectorMLPConfig(2, 8, 1)).eval())
    points = torch.tensor([[0.3, -1.0], [2.0, 0.5]])
    kernel = one.kernel_as(GaussianKernel, torch.zeros(1, 2), 0)
    normal = torch.distributions.Normal(kernel.mean, kernel.std)
    torch.testing.assert_close(log_likelihood(one, points, "exact").values, normal.log_prob(points).sum(-1))
    walk = Policy(RandomWalk(2, 1.5, 6), VectorMLP(VectorMLPConfig(2, 8, 1)).blank())  # its ends are N(0, 1.5² I)
    found = log_likelihood(walk, points, kind_for(walk, "auto"), draws=4000)
    wanted = torch.distributions.Normal(0, 1.5).log_prob(points).sum(-1)  # of this walk the bound is tight
    assert found.error is not None
    assert ((found.values - wanted).abs() < 6 * found.error).all() and found.error.max() < 0.1
    with pytest.raises(ConfigError, match=r"no density as it is configured.*eta.*above 0"):
        kind_for(Policy(Gaussian(2, eta=0.0), one.net), "auto")


def test_what_is_refused_says_what_to_do():
    with pytest.raises(ConfigError, match=r"at most 10 of them; these designs have 12: say estimate"):
        kind_for(policy(AnyOrder(12, 4)), "exact")
    with pytest.raises(ConfigError, match=r'"uniform" takes 4 steps: say estimate = "bound"'):
        kind_for(policy(Uniform(3, 3, num_steps=4), time=True), "exact")
    several = Policy(conditioned(AnyOrder(4, 3), (0.5, 0.5)), policy(AnyOrder(4, 3)).net)
    with pytest.raises(ConfigError, match="several conditions"):
        kind_for(several, "auto")
    with pytest.raises(ConfigError, match="none of auto, exact, bound, pseudo"):
        kind_for(policy(AnyOrder(4, 3)), "elbo")
