"""Reward-weighted likelihood and WDCE: weights against exact laws, gradients against sums over every hidden set."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from joint_problem import ALPHA, DESIGNS, JOINT, P_STAR, REWARD, L, V, context_of, gradient, normal, policy_of
from torch import Tensor

from biotilt.core import Context, Density, Parts, Policy, check_parts, draw_loss
from biotilt.errors import ConfigError
from biotilt.formulas.weighted import controlled_weights
from biotilt.networks.table import StateTable
from biotilt.objectives import WDCE, RewardWeighted
from biotilt.processes import AnyOrder, Finite
from biotilt.testing import reveal_law, tilted_law, total_variation
from biotilt.testing.contracts import check_gradients
from biotilt.testing.contracts.objectives import check_stationary
from biotilt.testing.exact import lexicographic_index

pytestmark = pytest.mark.usefixtures("double")

# hidden sets of three positions, and how often an update hides them, times the factor F/n of the loss
HIDDEN = [s for s in itertools.product([False, True], repeat=L) if any(s)]
SHARE = [1 / L / math.comb(L, sum(s)) * L / sum(s) for s in HIDDEN]


def expected_losses(policy: Policy) -> Tensor:
    """The mean denoising loss of every design `(V^L,)`, by every hidden set, with gradient."""
    total = torch.zeros(len(DESIGNS))
    for hidden, share in zip(HIDDEN, SHARE):
        mask = torch.tensor(hidden)
        logits = policy.net(DESIGNS.masked_fill(mask, V), torch.zeros(len(DESIGNS)))
        picked = logits.log_softmax(-1).gather(-1, DESIGNS.long().unsqueeze(-1)).squeeze(-1)
        total = total - share * (picked * mask).sum(-1)
    return total


def exact_gradient(policy: Policy, weights: Tensor) -> Tensor:
    policy.net.zero_grad()
    (weights * expected_losses(policy)).sum().backward()
    return policy.net.logits.grad.clone()  # type: ignore[union-attr, operator]


def uneven(seed: int) -> Policy:
    """Letters that are no joint law's conditionals: the probability of a design depends on the order."""
    return Policy(AnyOrder(L, V), StateTable(V, L, 0.7 * normal((V + 1) ** L, L, V, seed=seed)))


def log_weight_of(rows: dict[str, Tensor]) -> Tensor:
    """r/α less log p_mix/p_pre of the paths, where they were not all drawn by the base."""
    return rows["rewards"] / ALPHA - rows.get("log_mix", torch.zeros(()))


def weighted_law(rows: dict[str, Tensor]) -> Tensor:
    weights = controlled_weights(log_weight_of(rows), rows["log_control"], rows["scored"])
    return torch.zeros(V**L).index_add_(0, lexicographic_index(rows["designs"], V), weights)


def every_design(log_p_out: Tensor | None = None) -> dict[str, Tensor]:
    """The replay of infinitely many base designs: each once, with log p_pre in its weight; unscored ones uniform."""
    scored = torch.ones(V**L).bool()
    none = torch.zeros(V**L)
    rows = {"designs": DESIGNS, "rewards": REWARD + ALPHA * JOINT.log(), "log_mix": none, "log_control": none}
    if log_p_out is None:
        return rows | {"scored": scored}
    rows["log_control"] = log_p_out
    blank = {"designs": DESIGNS, "rewards": none, "log_mix": none, "log_control": none}
    return {k: torch.cat([v, blank[k]]) for k, v in rows.items()} | {"scored": torch.cat([scored, ~scored])}


UNIFORM = torch.full((V**L,), -L * math.log(V), dtype=torch.float64)
each = pytest.mark.parametrize("objective", [RewardWeighted(), WDCE()], ids=["reward_weighted", "wdce"])


@pytest.mark.parametrize("log_p_out", [None, UNIFORM], ids=["plain", "controlled"])
def test_stationary_at_p_star_and_nowhere_near(log_p_out):
    rows = every_design(log_p_out)
    weights = controlled_weights(log_weight_of(rows), rows["log_control"], rows["scored"])
    total = torch.zeros(V**L).index_add_(0, lexicographic_index(rows["designs"], V), weights)
    assert exact_gradient(policy_of(P_STAR), total).abs().max() < 1e-10
    assert exact_gradient(policy_of(JOINT), total).abs().max() > 0.01


@pytest.mark.parametrize("log_p_out", [None, UNIFORM], ids=["plain", "controlled"])
@each
def test_the_gradient_of_the_loss_is_that_of_the_exact_sum(objective, log_p_out):
    """A hundred thousand drawn rows against the sum over all designs and all hidden sets."""
    policy = policy_of(JOINT)
    expected = exact_gradient(policy, P_STAR)
    context = context_of(objective, policy)
    context.memory.rows = every_design(log_p_out)
    got = gradient(type(objective)(states=100_000), context)
    assert torch.nn.functional.cosine_similarity(got.flatten(), expected.flatten(), dim=0) > 0.99
    assert got.norm() / expected.norm() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("unscored", [0, 2])
@pytest.mark.parametrize("beta", [None, 0.0, 0.5, 1.0])
def test_collected_weights_estimate_p_star(beta, unscored):
    """Through `collect`, with a base and a policy whose paths to one design differ in probability."""
    base, proposal = uneven(5), uneven(6)
    exact = tilted_law(reveal_law(base), REWARD, ALPHA)[0]
    assert total_variation(reveal_law(proposal), exact) > 0.2
    objective: Any = RewardWeighted(unscored=unscored) if beta is None else WDCE(beta=beta, unscored=unscored)
    context = context_of(objective, uneven(7), base=base, proposal=proposal)
    collected = objective.collect(context, 40_000)
    assert len(collected.designs) == 40_000 and len(collected.rows["designs"]) == 40_000 * (1 + unscored)
    assert total_variation(weighted_law(collected.rows), exact) < 0.025


@each
def test_the_control_takes_the_noise_away_near_p_star(objective):
    """300 scored designs, the policy at p*: what is left is the noise of 12 000 unscored designs."""
    errors = {}
    for unscored in (0, 40):
        given = type(objective)(unscored=unscored)
        context = context_of(given, policy_of(P_STAR))
        runs = [weighted_law(given.collect(context, 300).rows) for _ in range(10)]
        errors[unscored] = sum(total_variation(run, P_STAR) for run in runs) / 10
    assert errors[40] < errors[0] / 3


@pytest.mark.parametrize("form", [{}, {"unscored": 0}])
@each
def test_contract_stationary_at_p_star(objective, form):
    """Large rounds: a letter that is seen in few of them has a skewed gradient, whose spread 64 rounds misjudge."""
    given = type(objective)(states=4096, **form)
    check_stationary(given, context_of(given, policy_of(P_STAR)), rounds=48, calls=1024)


def test_on_policy_weights_are_not_stationary_at_p_star():
    """Designs of p* weighted by e^{r/α} again: the next fixed point is p_pre e^{2r/α}."""
    twice = tilted_law(JOINT, 2 * REWARD, ALPHA)[0]
    objective = RewardWeighted(proposal="policy", distinct=False)
    context = context_of(objective, policy_of(P_STAR))
    rows = objective.collect(context, 40_000).rows
    assert total_variation(weighted_law(rows), twice) < 0.02 < 0.1 < total_variation(twice, P_STAR)


def test_of_a_policys_own_draws_each_is_learned_from_once_and_of_the_bases_as_often_as_they_came():
    generator = torch.Generator().manual_seed(1)
    for proposal in ("policy", "base"):
        objective = RewardWeighted(proposal=proposal, unscored=1)  # type: ignore[arg-type]
        context = context_of(objective, policy_of(P_STAR))
        for _ in range(4):
            collected = objective.collect(context, 50)
            context.memory.add(collected.rows)
        assert collected.metrics["unique"] == len(collected.designs.unique(dim=0)) / 50 < 0.6
        rows = context.memory.draw(None, generator)
        scored = rows["designs"][rows["scored"]]
        if proposal == "policy":
            assert 15 < len(scored) == len(scored.unique(dim=0)) <= 27
        else:
            assert len(scored) == 200


@each
def test_unscored_rewards_enter_nothing(objective):
    """The designs that start with letter 0 cannot be scored: p* is what remains of it."""

    def scorer(designs: Tensor) -> Tensor:
        return REWARD[lexicographic_index(designs, V)].masked_fill(designs[:, 0] == 0, torch.nan)

    plain = type(objective)(unscored=0)
    context = context_of(plain, policy_of(JOINT), scorer=scorer)
    collected = plain.collect(context, 20_000)
    assert 0 < len(collected.rows["designs"]) < 20_000 and (collected.rows["designs"][:, 0] != 0).all()
    remains = P_STAR * (DESIGNS[:, 0] != 0)
    assert total_variation(weighted_law(collected.rows), remains / remains.sum()) < 0.03
    assert math.isfinite(collected.metrics["reward"])
    controlled = objective.collect(context_of(objective, policy_of(JOINT), scorer=scorer), 500).rows
    assert controlled["scored"].sum() * (1 + objective.unscored) == len(controlled["scored"])


@each
def test_a_round_without_scores_leaves_no_rows(objective):
    context = context_of(objective, policy_of(JOINT), scorer=lambda d: torch.full((len(d),), torch.nan))
    collected = objective.collect(context, 16)
    assert {len(v) for v in collected.rows.values()} == {0} and math.isnan(collected.metrics["reward"])


@each
def test_a_small_temperature_and_infeasible_designs_stay_finite(objective):
    """r/α up to 10⁶ and −inf: the best design takes all the weight."""

    def scorer(designs: Tensor) -> Tensor:
        return REWARD[lexicographic_index(designs, V)].masked_fill(designs[:, 0] == 0, -torch.inf)

    context = context_of(objective, policy_of(JOINT), scorer=scorer, alpha=1e-6)
    context.memory.add(objective.collect(context, 400).rows)
    assert gradient(objective, context).isfinite().all()
    rows = context.memory.rows
    best = rows["designs"][log_weight_of(rows).masked_fill(~rows["scored"], -torch.inf).argmax()]
    assert torch.equal(best, DESIGNS[REWARD.masked_fill(DESIGNS[:, 0] == 0, -torch.inf).argmax()])
    assert draw_loss(objective, context)[1]["ess"] == pytest.approx(_share_of(best, rows), rel=1e-6)


def _share_of(best: Tensor, rows: dict[str, Tensor]) -> float:
    """With all the weight on one design: its share of the scored rows; equal weights, unless paths differ."""
    same = (rows["designs"] == best).all(-1) & rows["scored"]
    weights = log_weight_of(rows)[same].softmax(0)
    return 1 / (weights.square().sum().item() * int(rows["scored"].sum()))


@each
def test_gradients_reach_the_policy_only(objective):
    context: Context = context_of(objective, policy_of(JOINT), proposal=policy_of(P_STAR))
    context.memory.add(objective.collect(context, 64).rows)
    check_gradients(objective, context)


@each
def test_the_proposal_is_renewed_and_the_replay_holds_the_unscored_too(objective):
    given = type(objective)(refresh=3, buffer=5, unscored=4)
    context = context_of(given, policy_of(P_STAR), proposal=policy_of(JOINT))
    assert (given.refresh_every, given.batch_size, given.capacity) == (3, None, 25)
    context.memory.add(given.collect(context, 40).rows)
    assert len(context.memory) == 25 and context.memory.rows["scored"].all()  # of one round, the scored come last


def test_only_the_plain_form_needs_no_densities():
    assert RewardWeighted(unscored=0).needs == () and RewardWeighted(proposal="policy").needs == ()
    assert RewardWeighted().needs == WDCE.needs == (Density,)
    check_parts(RewardWeighted(), Parts(Finite(3, 2)))


@pytest.mark.parametrize("key", ["refresh", "updates", "states", "buffer"])
@each
def test_impossible_sizes_are_refused(objective, key):
    with pytest.raises(ConfigError, match=rf"objective\.{key}"):
        type(objective)(**{key: 0})
    with pytest.raises(ConfigError, match=r"objective\.unscored"):
        type(objective)(unscored=-1)


def test_impossible_choices_are_refused():
    with pytest.raises(ConfigError, match=r'objective\.proposal: unknown choice "polcy"; did you mean "policy"'):
        RewardWeighted(proposal="polcy")  # type: ignore[arg-type]
    for beta in (-0.1, 1.1):
        with pytest.raises(ConfigError, match=r"objective\.beta"):
            WDCE(beta=beta)
