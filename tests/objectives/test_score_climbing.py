"""Score climbing: its chains against the matrix of a move over all designs, p* left alone, and where it ends."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from joint_problem import ALPHA, DESIGNS, JOINT, P_STAR, REWARD, L, V, context_of, policy_of
from torch import Tensor

from biotilt import Experiment
from biotilt.core import Context, Parts, Policy, Replay, Roles, Target, check_parts
from biotilt.errors import ConfigError
from biotilt.objectives import Evolve, ScoreClimbing
from biotilt.processes import Finite
from biotilt.testing import (
    TableScorer,
    all_states,
    reveal_law,
    total_variation,
    transition_matrices,
)
from biotilt.testing.exact import lexicographic_index
from biotilt.training import TrainConfig, Trainer

pytestmark = pytest.mark.usefixtures("double")


def move_matrix(least: int, most: int, reward: Tensor = REWARD) -> Tensor:
    """Over designs: hide n letters, every set equally likely, draw them anew, accept or stay; n uniform."""
    base, states = policy_of(JOINT), all_states(V, L)
    designs = lexicographic_index(DESIGNS, V + 1)
    steps = transition_matrices(base, states)
    moves = []
    for hidden in range(least, most + 1):
        agrees = ((states == V) | (states == DESIGNS[:, None])).all(-1)
        done = (agrees & ((states == V).sum(-1) == hidden)).to(steps[0]) / math.comb(L, hidden)
        for matrix in steps[L - hidden :]:
            done = done @ matrix
        taken = done[:, designs] * ((reward[None] - reward[:, None]) / ALPHA).exp().clamp(max=1).nan_to_num()
        moves.append(taken + torch.diag(1 - taken.sum(-1)))
    return torch.stack(moves).mean(0)


def law_of(designs: Tensor) -> Tensor:
    return torch.bincount(lexicographic_index(designs, V), minlength=V**L) / len(designs)


@pytest.mark.parametrize("shares", [(0.0, 0.34), (0.0, 1.0), (0.6, 0.7)])
def test_a_move_leaves_p_star_alone_and_chains_have_the_law_of_the_matrix(shares):
    objective = ScoreClimbing(*shares, buffer=20_000)
    matrix = move_matrix(max(1, round(shares[0] * L)), round(shares[1] * L))
    assert (P_STAR @ matrix - P_STAR).abs().max() < 1e-12
    context = context_of(objective, policy_of(JOINT))
    expected = JOINT
    for number in range(3):
        context.memory.add(objective.collect(context, 6000).rows)
        found = law_of(context.memory.rows["designs"][-6000:])
        # 6,000 exact draws of these laws are about 0.02 away
        assert total_variation(found, expected) < 0.04
        expected = expected @ matrix
        if number == 2:
            assert total_variation(expected, JOINT) > 0.08


def test_the_policy_is_no_part_of_the_chains():
    """Another proposal and another policy: the same states, since the base proposes."""
    objective = ScoreClimbing()
    found = []
    for policy in (policy_of(JOINT), policy_of(P_STAR)):
        context = context_of(objective, policy, seed=3)
        for _ in range(3):
            context.memory.add(objective.collect(context, 100).rows)
        found.append(context.memory.rows["designs"])
    assert torch.equal(*found)


def tuned(objective: ScoreClimbing | Evolve) -> Tensor:
    base = policy_of(JOINT)
    scorer = TableScorer(base.process, REWARD)
    memory = Replay(objective.capacity)
    context = Context(Roles.start(base), Target(scorer, ALPHA), torch.Generator().manual_seed(0), memory)
    config = TrainConfig(max_calls=15_360, batch=256, lr=0.05, warmup=5, clip=10.0, ema=0.98)
    return reveal_law(Policy(base.process, Trainer(context, objective, config, scorer).run()))  # type: ignore[arg-type]


def test_p_star_is_reached_where_evolve_goes_past_it():
    assert total_variation(JOINT, P_STAR) > 0.33
    found = tuned(ScoreClimbing(most=1.0, states=256, buffer=4096))
    assert total_variation(found, P_STAR) < 0.05
    assert total_variation(tuned(Evolve(anchor=0.0, states=256)), P_STAR) > 0.2


def test_what_has_no_score_is_rejected_and_not_learned_from():
    reward = REWARD.clone()
    reward[:9], reward[9:14] = torch.nan, -torch.inf
    objective = ScoreClimbing(most=1.0)
    context = context_of(objective, policy_of(JOINT), scorer=TableScorer(policy_of(JOINT).process, reward))
    rows = objective.collect(context, 200).rows
    context.memory.add(rows)
    for _ in range(60):
        context.memory.add(objective.collect(context, 200).rows)
    last = context.memory.rows["rewards"][-200:]
    assert not rows["rewards"].isfinite().all() and last.isfinite().all()
    loss, _ = objective.loss(context, context.memory.rows)
    assert loss.isfinite()


def test_chains_begin_again_where_nothing_has_a_score():
    objective = ScoreClimbing()
    context = context_of(objective, policy_of(JOINT))
    context.target = replace(context.target, scorer=TableScorer(policy_of(JOINT).process, REWARD * torch.nan))
    context.memory.add(objective.collect(context, 20).rows)
    assert len(context.memory) == 0


def test_a_proposal_that_is_where_it_came_from_costs_nothing():
    objective = ScoreClimbing(most=0.3)
    context = context_of(objective, policy_of(JOINT))
    for _ in range(2):
        context.memory.add(objective.collect(context, 300).rows)
    assert 300 < context.target.scorer.calls < 550  # type: ignore[attr-defined]


def test_what_does_not_fit_is_refused():
    check_parts(ScoreClimbing(), Parts(Finite(3, 2)))
    with pytest.raises(ConfigError, match=r"objective\.least must be ≤ objective\.most"):
        ScoreClimbing(least=0.6, most=0.5)
    with pytest.raises(ConfigError, match=r"objective\.buffer: 32 states are less than the 64 chains"):
        ScoreClimbing(buffer=32).check_calls(64)
    small = {"name": "score_climbing", "buffer": 32}
    with pytest.raises(ConfigError, match=r"objective\.buffer: 32 states are less than the 64 chains"):
        Experiment.for_task("utr", objective=small, train={"batch": 64})
    objective = ScoreClimbing(buffer=32)
    context = context_of(objective, policy_of(JOINT))
    with pytest.raises(ConfigError, match="the 64 chains"):
        Trainer(context, objective, TrainConfig(max_calls=64, batch=64), context.target.scorer)  # type: ignore[arg-type]
    assert context.target.scorer.calls == 0  # type: ignore[attr-defined]
