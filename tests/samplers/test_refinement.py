"""Iterative refinement against the law of an infinite population, written out over all designs."""

from __future__ import annotations

import math

import pytest
import torch
from sampler_problems import ALPHA, base_of, context_of, reward_of, tuned_of
from torch import Tensor

from biotilt.core import Policy
from biotilt.errors import ConfigError
from biotilt.processes import AnyOrder
from biotilt.samplers.refinement import Refinement
from biotilt.testing import (
    ExactValue,
    TableScorer,
    all_states,
    law,
    optimal_kernel,
    space,
    tilted_law,
    total_variation,
    transition_matrices,
)
from biotilt.testing.contracts import check_sampler, enumerated_answer
from biotilt.values import PosteriorMean

V = L = 3
PROCESS = AnyOrder(L, V)
BASE, REWARD = base_of(PROCESS), reward_of(PROCESS).double()
P_STAR, _ = tilted_law(law(BASE), REWARD, ALPHA)


def index_of(designs: Tensor) -> Tensor:
    return (designs.long() * torch.tensor([9, 3, 1])).sum(-1)


def found_law(designs: Tensor) -> Tensor:
    return torch.bincount(index_of(designs), minlength=27).double() / len(designs)


def redo_matrix(matrices: Tensor, hidden: int) -> Tensor:
    """Over designs: hide so many letters, every set equally likely, and reveal them by the matrices of a chain."""
    states, designs = all_states(V, L), space(PROCESS).designs
    agrees = ((states == V) | (states == states[designs][:, None])).all(-1)
    done = (agrees & ((states == V).sum(-1) == hidden)).double() / math.comb(L, hidden)
    for matrix in matrices[L - hidden :]:
        done = done @ matrix
    return done[:, designs]


def exact_context(proposal: Policy | None = None):
    value = ExactValue(BASE, REWARD, ALPHA)
    return context_of(BASE, TableScorer(PROCESS, REWARD.float()), proposal=proposal, value=value)


@pytest.mark.parametrize("tuned", [False, True])
def test_without_selection_and_with_the_soft_value_it_samples_p_star(tuned):
    sampler = Refinement(rounds=3, share=0.67, children=32, select=False)
    proposal = tuned_of(PROCESS) if tuned else None
    found = found_law(sampler.draw(exact_context(proposal), 4000).designs)
    assert total_variation(law(BASE), P_STAR) > 0.25
    # 4000 draws of p* itself are about 0.02 away
    assert total_variation(found, P_STAR) < 0.045


def test_p_star_is_left_alone_by_renoising_and_the_optimal_chain():
    """The paper's guarantee, exact: q(z|x) is the base's own law, and so undoes p* as well."""
    matrix = redo_matrix(optimal_kernel(BASE, REWARD, ALPHA), 2)
    assert (P_STAR @ matrix - P_STAR).abs().max() < 1e-6  # the base's table is float32


@pytest.mark.parametrize("share", [0.34, 0.67])
def test_selection_sharpens_beyond_p_star_by_as_much_as_the_infinite_population_says(share):
    rounds, hidden = 5, round(share * L)
    matrix = redo_matrix(optimal_kernel(BASE, REWARD, ALPHA), hidden)
    expected = P_STAR
    for _ in range(rounds):
        expected = (expected * (REWARD / ALPHA).exp()) @ matrix
        expected = expected / expected.sum()
    found = found_law(Refinement(rounds, share, children=32, distinct=False).draw(exact_context(), 6000).designs)
    assert total_variation(found, expected) < 0.045
    assert total_variation(expected, P_STAR) > 0.1
    assert found @ REWARD > P_STAR @ REWARD + 0.15 > law(BASE) @ REWARD + 0.5


def test_the_less_is_redone_the_sharper_the_limit_of_many_rounds():
    """TV to p* and mean reward with the exact value and endless populations; p* itself when all is redone."""
    found = []
    for hidden in (1, 2, 3):
        matrix, limit = redo_matrix(optimal_kernel(BASE, REWARD, ALPHA), hidden), P_STAR
        for _ in range(60):
            limit = (limit * (REWARD / ALPHA).exp()) @ matrix
            limit = limit / limit.sum()
        found.append((round(total_variation(limit, P_STAR), 2), round((limit @ REWARD).item(), 2)))
    assert found == [(0.81, 1.59), (0.35, 0.99), (0.0, 0.75)] and round((P_STAR @ REWARD).item(), 2) == 0.75


def test_one_child_is_an_evolutionary_algorithm_whose_mutations_are_the_bases():
    matrix = redo_matrix(transition_matrices(BASE, all_states(V, L)), 1)
    expected = law(BASE)
    for _ in range(2):
        expected = (expected * (REWARD / ALPHA).exp()) @ matrix
        expected = expected / expected.sum()
    context = context_of(BASE)
    found = Refinement(rounds=2, share=0.34, children=1, distinct=False).draw(context, 6000)
    assert total_variation(found_law(found.designs), expected) < 0.045
    assert context.target.scorer.calls == 6000 * 3  # type: ignore[attr-defined]


def test_a_design_counts_once_among_parents_however_often_it_is_there():
    """One of two designs makes up all but one of the population; of equal scores each is half of the parents.

    A letter in four is drawn anew, so that the rest of a parent shows which it was.
    """
    process = AnyOrder(12, 3)
    first, second = torch.zeros(1, 12, dtype=torch.int8), torch.full((1, 12), 2, dtype=torch.int8)
    population = torch.cat([first.expand(99, -1), second])
    shares = []
    for distinct in (True, False):
        context = context_of(Policy(process, Uniformly()), lambda designs: torch.zeros(len(designs)))
        sampler = Refinement(rounds=1, share=0.25, children=1, distinct=distinct)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(process), "noise", lambda self, batch, generator: population)
            patch.setattr(type(process), "steps", 12)
            drawn = sampler.draw(context, 100)
        shares.append(((drawn.designs == 2).sum(-1) > 6).float().mean().item())
        assert drawn.metrics["unique"] == len(drawn.designs.unique(dim=0)) / 100
    assert shares == pytest.approx([0.5, 0.01])


class Uniformly(torch.nn.Module):
    """All letters the same."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits.expand(*x.shape, 3)


def test_one_child_without_selection_is_the_base():
    context = context_of(BASE)
    check_sampler(
        Refinement(rounds=2, children=1, select=False),
        context,
        enumerated_answer(BASE, REWARD, 1e6),
        count=50,
        repeats=60,
    )


def test_calls_are_the_children_of_every_step():
    """From noise 3 steps, then in each of 2 rounds the last 2; of the value 1 call a child, as of the reward."""
    context = context_of(BASE, value=PosteriorMean())
    Refinement(rounds=2, share=0.67, children=4).draw(context, 5)
    assert context.target.scorer.calls == 5 * 4 * (3 + 2 * 2)  # type: ignore[attr-defined]


def test_rewards_belong_to_the_designs_and_all_count_the_same():
    context = context_of(BASE, value=PosteriorMean())
    drawn = Refinement(rounds=2).draw(context, 40)
    torch.testing.assert_close(drawn.rewards.double(), REWARD[index_of(drawn.designs)])
    assert (drawn.log_weight == 0).all() and drawn.log_z is None


def test_unscored_and_infeasible_designs_are_not_selected():
    reward = REWARD.clone()
    reward[:9] = torch.nan
    reward[9:12] = -torch.inf
    context = context_of(BASE, TableScorer(PROCESS, reward), value=PosteriorMean())
    drawn = Refinement(rounds=3, children=8).draw(context, 500)
    counts = drawn.log_weight.isfinite()
    assert torch.equal(counts, drawn.rewards.isfinite())
    # a child without a score is taken only where none has one: about 0.3^8, or where the first letter stood already
    assert counts.float().mean() > 0.9
    assert reward[index_of(drawn.designs[counts])].isfinite().all()


def test_a_reward_that_scores_nothing_selects_nothing():
    context = context_of(BASE, TableScorer(PROCESS, REWARD * torch.nan), value=PosteriorMean())
    drawn = Refinement(rounds=2).draw(context, 6)
    assert len(drawn.designs) == 6 and (drawn.log_weight == -torch.inf).all()


def test_same_seed_same_designs():
    draws = [Refinement(2).draw(context_of(BASE, value=PosteriorMean(), seed=s), 30).designs for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, r"sampler\.rounds"),
        ({"children": 0}, r"sampler\.children"),
        ({"share": 0.0}, r"sampler\.share"),
        ({"share": 1.1}, r"sampler\.share"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Refinement(**options)
