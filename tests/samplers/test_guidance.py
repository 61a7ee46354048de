"""Guidance by gradients: closed forms of letters and of gaussians, and weights that are right whatever the gradient."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from sampler_problems import ALPHA, PROCESSES, base_of, context_of, generator, normal, reward_of, tuned_of
from torch import Tensor, nn

from biotilt.core import Context, Parts, Policy, Roles, Target, check_parts
from biotilt.errors import ConfigError, RewardError
from biotilt.networks.table import StateTable
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.processes import AnyOrder, Finite
from biotilt.processes.flow import Flow
from biotilt.processes.gaussian import Gaussian
from biotilt.processes.uniform import Uniform
from biotilt.samplers.guidance import Guidance
from biotilt.samplers.guided import draw_guided
from biotilt.testing import FunctionScorer, TableScorer, all_designs, law, tilted_law
from biotilt.testing.contracts import Answer, check_sampler, enumerated_answer
from biotilt.testing.gaussian import Mixture, MixtureDenoiser, affine_law

LETTERS = {name: PROCESSES[name] for name in ("one letter a step", "two letters a step", "masked")}


class Undecided(nn.Module):
    """The same letters at every state: the design's letters are independent, whatever is known."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits.expand(len(x), *self.logits.shape)


class Mixed(nn.Module):
    """Letters that depend on the state, one-hot or not, smoothly."""

    def __init__(self, length: int, letters: int):
        super().__init__()
        self.weight = nn.Parameter(0.7 * normal(length * (letters + 1), length * letters, seed=4))
        self.length, self.letters = length, letters

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if not x.is_floating_point():
            x = nn.functional.one_hot(x.long(), self.letters + 1).to(self.weight.dtype)
        return (x.flatten(1) @ self.weight).tanh().unflatten(1, (self.length, self.letters)) * 2


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", LETTERS)
def test_additive_rewards_of_independent_letters_are_guided_exactly(name):
    """r = Σ_i w[i, x_i] and a product law: p* is the product of p_i exp(w_i/α), and every weight is Z."""
    process, table, logits = LETTERS[name], normal(3, 3, seed=5), normal(3, 3, seed=6)
    designs = all_designs(3, 3).long()
    reward = table[torch.arange(3), designs].sum(-1)
    log_z = (logits.log_softmax(-1) + table / ALPHA).logsumexp(-1).sum()
    context = context_of(Policy(process, Undecided(logits)), TableScorer(process, reward))
    drawn = Guidance().draw(context, 2000)
    torch.testing.assert_close(drawn.log_weight, log_z.expand(2000), atol=1e-9, rtol=0)
    assert drawn.log_z == pytest.approx(log_z.item(), abs=1e-9) and drawn.metrics["ess"] == pytest.approx(1)
    observed = torch.stack([(drawn.designs == a).double().mean(0) for a in range(3)], -1)
    expected = (logits + table / ALPHA).softmax(-1)
    assert ((observed - expected).abs() < 4.5 * (expected * (1 - expected) / 2000).sqrt()).all()


@pytest.mark.usefixtures("double")
def test_the_score_of_a_hidden_letter_is_the_mean_reward_of_designs_that_have_it():
    """Summed over all letters of the other hidden position, by hand; scale and α divide out as they should."""
    process = AnyOrder(3, 3)
    base, reward = base_of(process), reward_of(process).double()
    context = context_of(base, TableScorer(process, reward))
    x = torch.tensor([[3, 1, 3]], dtype=torch.int8)
    kernel = base.kernel(x, 1)
    got = Guidance(scale=1.5)._score(context, kernel, x, 1)
    first, last = kernel.x0[0, 0].exp(), kernel.x0[0, 2].exp()
    table = reward.view(3, 3, 3)[:, 1]
    torch.testing.assert_close(got[0, 0], 1.5 / ALPHA * table @ last)
    torch.testing.assert_close(got[0, 2], 1.5 / ALPHA * first @ table)


@pytest.mark.usefixtures("double")
def test_the_score_of_letters_that_are_replaced_goes_through_the_network():
    """Against finite differences of r(x̂0) along every channel of the state; the mask's channel is left out."""
    process = Uniform(2, 3, num_steps=4)
    base, reward = Policy(process, Mixed(2, 3)), normal(9, seed=2)
    scorer = TableScorer(process, reward)
    x = torch.tensor([[2, 0]], dtype=torch.int8)
    got = Guidance()._score(context_of(base, scorer), base.kernel(x, 2), x, 2)
    state = process.relaxed(x)
    for i in range(2):
        for a in range(3):
            ends = []
            for step in (1e-6, -1e-6):
                moved = state.clone()
                moved[0, i, a] += step
                ends.append(scorer.relaxed(base.kernel(moved, 2).expected()).item())
            assert got[0, i, a].item() == pytest.approx((ends[0] - ends[1]) / 2e-6 / ALPHA, abs=1e-6)


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("name", LETTERS)
def test_weights_are_unbiased(name, tuned):
    process = LETTERS[name]
    base, reward = base_of(process), reward_of(process)
    reward[4], reward[11] = torch.nan, -torch.inf
    relaxed = TableScorer(process, reward.nan_to_num(0.0, neginf=-1.0)).relaxed

    class Scorer(TableScorer):
        """A table with holes, and a smooth surrogate without."""

        def relaxed(self, designs: Tensor) -> Tensor:
            return relaxed(designs)

    proposal = tuned_of(process) if tuned else None
    context = context_of(base, Scorer(process, reward), proposal=proposal)
    check_sampler(Guidance(), context, enumerated_answer(base, reward, ALPHA), count=100, repeats=60)


def test_weights_are_unbiased_for_letters_that_are_replaced():
    process = Uniform(2, 3, num_steps=3)
    base, reward = Policy(process, Mixed(2, 3)), normal(9, seed=2)
    context = context_of(base, TableScorer(process, reward))
    check_sampler(Guidance(), context, enumerated_answer(base, reward, ALPHA), count=100, repeats=60)


@pytest.mark.parametrize("name", LETTERS)
def test_guided_designs_are_nearer_to_p_star_than_the_base(name):
    """Without weights, that is; where letters come one a step, the weights are also more even than unguided ones."""
    process = LETTERS[name]
    base, reward = base_of(process), reward_of(process)
    p_star, _ = tilted_law(law(base), reward, ALPHA)
    place = torch.tensor([9, 3, 1])
    drawn = Guidance(correct=False).draw(context_of(base), 4000)
    found = torch.bincount((drawn.designs.long() * place).sum(-1), minlength=27) / 4000
    away = [(p - p_star).abs().sum().item() / 2 for p in (law(base), found)]
    assert away[1] < 0.7 * away[0]
    assert drawn.log_z is None and (drawn.log_weight == 0).all()
    even = [Guidance(scale=s).draw(context_of(base), 2000).metrics["ess"] for s in (0.0, 1.0)]
    assert name != "one letter a step" or even[1] > 1.5 * even[0]


PRIOR = Mixture(torch.ones(1), torch.tensor([[0.5, -1.0]]), torch.tensor([[[0.7, 0.3], [0.3, 0.5]]]))
SLOPE = torch.tensor([1.0, -1.4], dtype=torch.float64)


def gaussian_context(process: Gaussian | Flow, seed: int = 0) -> tuple[Context, Policy]:
    base = Policy(process, MixtureDenoiser(PRIOR, process, VectorMLP(VectorMLPConfig(2, 4, 1)).double()))
    scorer = FunctionScorer(lambda x: x @ SLOPE.to(x))
    return Context(Roles.start(base), Target(scorer, ALPHA), generator(seed)), base


def guided_mean(base: Policy) -> tuple[Tensor, Tensor]:
    """The mean and covariance of the guided chain for r = w·x: x̂0 = J x + c gives q = Jᵀ w/α at every state."""
    mean, covariance = torch.zeros(2), torch.eye(2)
    probes = torch.cat([torch.zeros(1, 2), torch.eye(2)])
    for k in range(base.process.steps):
        kernel = base.kernel(probes, k)
        step, guess = kernel.mean.detach(), kernel.x0.detach()
        matrix, jacobian = (step[1:] - step[0]).T, (guess[1:] - guess[0]).T
        variance = kernel.std[0].square()
        mean = step[0] + matrix @ mean + variance * jacobian.T @ SLOPE / ALPHA
        covariance = matrix @ covariance @ matrix.T + variance * torch.eye(2)
    return mean, covariance


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("process", [Gaussian(2, num_steps=12), Flow(2, num_steps=12)], ids=["gaussian", "flow"])
def test_a_linear_reward_of_a_gaussian_moves_the_mean_as_the_closed_form_says(process):
    context, base = gaussian_context(process)
    mean, covariance = guided_mean(base)
    drawn = Guidance(correct=False).draw(context, 4000)
    error = (covariance.diagonal() / 4000).sqrt()
    assert ((drawn.designs.mean(0) - mean).abs() < 4.5 * error).all()
    assert ((drawn.designs.var(0) / covariance.diagonal() - 1).abs() < 5 * math.sqrt(2 / 4000)).all()


@pytest.mark.usefixtures("double")
def test_guidance_of_a_gaussian_is_exact_as_steps_grow_finer():
    """p* of a linear reward is the gaussian whose mean is moved by C w/α; the error is of first order in 1/K."""
    errors = []
    for steps in (10, 20, 40, 80):
        _, base = gaussian_context(Gaussian(2, num_steps=steps))
        exact = affine_law(base)
        target = exact.means[0] + exact.covariances[0] @ SLOPE / ALPHA
        errors.append((guided_mean(base)[0] - target).norm().item() / (target - exact.means[0]).norm().item())
    assert errors[-1] < 0.05
    assert all(0.4 < after / before < 0.65 for before, after in itertools.pairwise(errors))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("process", [Gaussian(2, num_steps=5), Flow(2, num_steps=5)], ids=["gaussian", "flow"])
def test_weights_make_points_exact_at_any_number_of_steps(process):
    context, base = gaussian_context(process)
    p_star, log_z = affine_law(base).tilted(SLOPE, torch.zeros(2, 2), ALPHA)
    mean, covariance = p_star.moments()
    answer = Answer(
        log_z,
        lambda x: torch.cat([x, x[:, :1] * x], -1),
        torch.cat([mean, covariance[0] + mean[0] * mean]),
    )
    check_sampler(Guidance(), context, answer, count=64, repeats=50)
    plain, guided = (Guidance(scale=s).draw(context, 3000).metrics["ess"] for s in (0.0, 1.0))
    assert guided > 1.4 * plain


def test_calls_are_one_relaxed_score_a_step_and_one_a_design():
    base = base_of(AnyOrder(3, 3))
    context = context_of(base)
    Guidance().draw(context, 7)
    assert context.target.scorer.calls == 7 * 3 + 7  # type: ignore[attr-defined]


def test_a_gradient_that_is_no_number_leaves_the_step_to_the_proposal():
    process = AnyOrder(3, 3)
    base = base_of(process)
    context = context_of(base)
    drawn = draw_guided(context, 3000, lambda kernel, x, k: kernel.x0 * torch.nan, True)
    torch.testing.assert_close(drawn.log_weight, drawn.rewards / ALPHA)


def test_nothing_scored_is_an_error_with_weights_and_no_weight_without():
    process = AnyOrder(3, 3)
    scorer = TableScorer(process, torch.full((27,), torch.nan))
    with pytest.raises(RewardError, match="none of 5 designs has a weight"):
        Guidance().draw(context_of(base_of(process), scorer), 5)
    drawn = Guidance(correct=False).draw(context_of(base_of(process), scorer), 5)
    assert (drawn.log_weight == -torch.inf).all()


def test_parts_that_cannot_be_guided_are_refused():
    known = (AnyOrder, Finite, Gaussian)
    with pytest.raises(ConfigError, match="cannot be differentiated"):
        check_parts(Guidance(), Parts(AnyOrder(3, 3), known=known))
    with pytest.raises(ConfigError, match=r"expected.*finite.*any_order, gaussian"):
        check_parts(Guidance(), Parts(Finite(3, 2), differentiable=True, known=known))
    with pytest.raises(ConfigError, match="set eta"):
        check_parts(Guidance(), Parts(Gaussian(2, eta=0.0), differentiable=True, known=known))
    check_parts(Guidance(), Parts(Gaussian(2), differentiable=True, known=known))
    with pytest.raises(ConfigError, match=r"sampler\.scale"):
        Guidance(scale=-1.0)


def test_no_gradient_reaches_a_network():
    context = context_of(base_of(AnyOrder(3, 3)))
    base = Policy(AnyOrder(3, 3), StateTable(3, 3))
    base.net.requires_grad_(True)
    context.roles.proposal = base
    Guidance().draw(context, 5)
    assert base.net.logits.grad is None
