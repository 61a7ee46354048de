"""Split Gibbs against its transition matrix over all pairs of designs, and against p* as the noise falls."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from sampler_problems import generator, normal
from torch import Tensor

from biotilt.core import Context, Parts, Policy, Roles, Target, check_parts
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder, Finite, Masked
from biotilt.samplers.gibbs import SplitGibbs
from biotilt.testing import TableScorer, all_designs, tilted_law, total_variation

pytestmark = pytest.mark.usefixtures("double")

V, L, ALPHA = 3, 2, 0.6
N = V**L
DESIGNS = all_designs(V, L).long()
DISTANCE = (DESIGNS[:, None] != DESIGNS).sum(-1)


def problem() -> tuple[Tensor, Tensor]:
    """The law of the base and the reward."""
    joint = normal(N, seed=1).exp()
    return joint / joint.sum(), normal(N, seed=2)


def base_of(process: Any) -> Policy:
    return Policy(process, StateTable.of_joint(problem()[0], V, L))


def context(process: Any, scorer: Any = None, seed: int = 0) -> Context:
    scorer = scorer or TableScorer(process, problem()[1])
    return Context(Roles.start(base_of(process)), Target(scorer, ALPHA), generator(seed))


def noise_law(beta: float) -> Tensor:
    """q(z|x) `(N, N)`: each letter kept with probability 1 − β, else one of V, itself included."""
    same = 1 - beta + beta / V
    return same ** (L - DISTANCE).double() * (beta / V) ** DISTANCE.double()


def pair_law(beta: float) -> Tensor:
    """π(x, z) `(N, N)`."""
    p, reward = problem()
    joint = p[:, None] * noise_law(beta) * (reward / ALPHA).exp()
    return joint / joint.sum()


def likelihood_matrix(beta: float) -> Tensor:
    """Over pairs `(N², N²)`: one letter of z, at a place and to a value drawn uniformly, accepted or not."""
    reward, q = problem()[1], noise_law(beta)
    total = torch.zeros(N, N, N, N)
    for x, z in itertools.product(range(N), repeat=2):
        for new in (DISTANCE[z] == 1).nonzero().flatten().tolist():
            accept = (reward[new] / ALPHA).exp() * q[x, new] / ((reward[z] / ALPHA).exp() * q[x, z])
            total[x, z, x, new] = accept.clamp(max=1) / L / (V - 1)
        total[x, z, x, z] = 1 - total[x, z, x].sum()
    return total.flatten(2).flatten(0, 1)


def prior_matrix(beta: float) -> Tensor:
    """Over pairs: each place where z agrees is noise with the probability given x and z, all others are; the base
    draws x anew there, given the rest of z."""
    p, again = problem()[0], beta / V / (1 - beta + beta / V)
    total = torch.zeros(N, N, N, N)
    for x, z in itertools.product(range(N), repeat=2):
        for noise in itertools.product((False, True), repeat=L):
            chance = 1.0
            for i in range(L):
                agree = DESIGNS[x, i] == DESIGNS[z, i]
                chance *= (again if noise[i] else 1 - again) if agree else float(noise[i])
            kept = [i for i in range(L) if not noise[i]]
            match = (DESIGNS[:, kept] == DESIGNS[z, kept]).all(-1)
            total[x, z, :, z] += chance * match * p / (match * p).sum()
    return total.flatten(2).flatten(0, 1)


@pytest.mark.parametrize("beta", [0.1, 0.6])
def test_both_steps_leave_the_law_of_pairs_alone(beta):
    law = pair_law(beta).flatten()
    for matrix in (likelihood_matrix(beta), prior_matrix(beta)):
        torch.testing.assert_close(matrix.sum(-1), torch.ones(N * N))
        assert (law @ matrix - law).abs().max() < 1e-12


def test_the_law_of_x_tends_to_p_star_as_the_noise_falls():
    p, reward = problem()
    p_star, _ = tilted_law(p, reward, ALPHA)
    away = [total_variation(pair_law(beta).sum(1), p_star) for beta in (0.5, 0.1, 0.02, 0.004)]
    assert away[0] > 0.2 and away[-1] < 0.004
    # of first order in the noise
    assert all(4 < a / b < 6 for a, b in itertools.pairwise(away[1:]))
    # and 1/η, as the docstring has it, is what a changed letter costs
    for beta in (0.5, 0.1):
        q = noise_law(beta)
        cost = (q[0, 0] / q[0, 1]).log().item()
        assert cost == pytest.approx(math.log(1 + V * (1 - beta) / beta))


def chi_square(index: Tensor, expected_law: Tensor) -> tuple[float, float]:
    """The statistic of draws against a law, and a bound that one in a million honest draws exceeds."""
    expected = len(index) * expected_law
    observed = torch.bincount(index, minlength=len(expected)).double()
    dof = len(expected) - 1
    return ((observed - expected).square() / expected).sum().item(), dof + 6 * math.sqrt(2 * dof)


def index_of(designs: Tensor) -> Tensor:
    return (designs.long() * torch.tensor([3, 1])).sum(-1)


def test_a_few_rounds_have_the_law_of_the_matrices():
    rounds, moves = 2, 3
    expected = torch.diag(problem()[0]).flatten()
    for beta in (0.7, 0.3):
        expected = expected @ torch.linalg.matrix_power(likelihood_matrix(beta), moves) @ prior_matrix(beta)
    drawn = SplitGibbs(rounds, moves, first=0.7, last=0.3).draw(context(AnyOrder(L, V)), 20_000)
    statistic, bound = chi_square(index_of(drawn.designs), expected.view(N, N).sum(1))
    assert statistic < bound
    assert chi_square(index_of(drawn.designs), problem()[0])[0] > 3 * bound
    torch.testing.assert_close(drawn.rewards, problem()[1][index_of(drawn.designs)])
    assert (drawn.log_weight == 0).all() and drawn.log_z is None


@pytest.mark.parametrize(
    "process",
    [AnyOrder(L, V), Masked(L, V, num_steps=4), AnyOrder(L, V, per_step=2)],
    ids=["one letter a step", "masked", "two letters a step"],
)
def test_annealing_ends_near_p_star(process):
    """0.016 is due to the last noise and 0.01 to 5000 draws; several letters at once hardly add to it here."""
    p, reward = problem()
    p_star, _ = tilted_law(p, reward, ALPHA)
    drawn = SplitGibbs(rounds=60, last=0.02).draw(context(process), 5000)
    found = torch.bincount(index_of(drawn.designs), minlength=N) / 5000
    assert total_variation(pair_law(0.02).sum(1), p_star) == pytest.approx(0.016, abs=0.001)
    assert total_variation(found, p_star) < 0.05 < total_variation(p, p_star) / 7


def test_held_positions_never_move():
    held = Fixed(torch.tensor([False, True]), torch.tensor([0, 1], dtype=torch.int8))
    process = AnyOrder(L, V, fixed=held)
    seen: list[Tensor] = []

    def scorer(designs: Tensor) -> Tensor:
        seen.append(designs)
        return problem()[1][index_of(designs)]

    drawn = SplitGibbs(rounds=4).draw(context(process, scorer), 200)
    assert (torch.cat([drawn.designs, *seen])[:, 1] == 1).all()
    assert drawn.designs[:, 0].unique().tolist() == [0, 1, 2]


def test_letters_that_cannot_be_scored_are_not_moved_to():
    reward = problem()[1].clone()
    reward[2], reward[7] = torch.nan, -torch.inf
    seen: list[Tensor] = []

    def scorer(designs: Tensor) -> Tensor:
        seen.append(designs)
        return reward[index_of(designs)]

    drawn = SplitGibbs(rounds=60, last=0.02).draw(context(AnyOrder(L, V), scorer), 2000)
    allowed = torch.where(reward.isfinite(), reward, -torch.inf)
    p_star, _ = tilted_law(problem()[0], allowed, ALPHA)
    counts = drawn.log_weight == 0
    assert torch.equal(counts, drawn.rewards.isfinite()) and counts.double().mean() > 0.98
    found = torch.bincount(index_of(drawn.designs[counts]), minlength=N) / int(counts.sum())
    assert total_variation(found, p_star) < 0.07


def test_calls_by_hand():
    """Starts, one a move, and at the end those whose x is not the z that was scored."""
    scorer = TableScorer(AnyOrder(L, V), problem()[1])
    SplitGibbs(rounds=3, moves=4).draw(context(AnyOrder(L, V), scorer), 10)
    assert 10 * (1 + 12) <= scorer.calls <= 10 * (2 + 12)


def test_same_seed_same_designs():
    draws = [SplitGibbs(3).draw(context(AnyOrder(L, V), seed=s), 30).designs for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_processes_that_hide_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"a process with hidden letters.*any_order"):
        check_parts(SplitGibbs(), Parts(Finite(3, 2), known=(AnyOrder, Finite)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, r"sampler\.rounds"),
        ({"moves": 0}, r"sampler\.moves"),
        ({"first": 0.1, "last": 0.2}, r"sampler\.last"),
        ({"first": 1.0}, r"sampler\.first: must be < 1"),
        ({"last": 0.0}, r"sampler\.last"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SplitGibbs(**options)
