"""Values that ask the oracle: every row of a round is recomputed by hand, and every call is counted."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, RollIn, Seen, StateValue, Target
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable, Table
from biotilt.objectives import VIDD
from biotilt.processes import AnyOrder, Finite, Masked
from biotilt.testing import all_designs, all_states, reveal_soft_values
from biotilt.testing.exact import lexicographic_index
from biotilt.values import MonteCarlo, PosteriorMean

ALPHA = 0.5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def policy(seed: int, process: Any = None) -> Policy:
    logits = torch.randn(27, 3, 2, generator=generator(seed))
    return Policy(process or AnyOrder(3, 2), StateTable(2, 3, logits))


REWARD = torch.tensor([0.3, -1.2, 0.9, 2.0, -0.4, 0.1, 1.4, -2.2])


class Oracle:
    """A table of rewards that counts and remembers what it was asked."""

    def __init__(self, reward: Tensor = REWARD):
        self.reward, self.calls, self.asked = reward, 0, []

    def __call__(self, designs: Tensor) -> Tensor:
        assert (designs < 2).all(), "a hidden letter reached the oracle"
        self.calls += len(designs)
        self.asked.append(designs)
        return self.reward[lexicographic_index(designs, 2)]


def context_of(value: Any, oracle: Oracle, process: Any = None) -> Context:
    base = policy(1, process)
    roles = Roles.start(base)
    roles.proposal = policy(2, process).frozen_copy()
    return Context(roles, Target(oracle, ALPHA), generator(), Replay(None), value)


def most_likely(x: Tensor, net: StateTable) -> Tensor:
    """Fill in the hidden letters of one state, position by position."""
    logits = net(x.unsqueeze(0), torch.zeros(1))[0]
    return torch.tensor([int(x[i]) if x[i] < 2 else int(logits[i, 1] > logits[i, 0]) for i in range(3)])


@pytest.mark.parametrize("process", [AnyOrder(3, 2), Masked(3, 2, num_steps=4)], ids=["any_order", "masked"])
@pytest.mark.parametrize(("beta", "anchored"), [(1.0, True), (1.0, False), (0.0, True), (0.5, True)])
def test_rows_of_posterior_mean(process, beta, anchored):
    oracle = Oracle()
    context = context_of(PosteriorMean(0), oracle, process)
    collected = context.value.gather(context, RollIn(beta, anchored), 24)
    rows, net, seen = collected.rows, context.roles.proposal.net, set()
    assert collected.metrics["reward"] == pytest.approx(rows["value_y"].mean().item())
    assert ("kl" in collected.metrics) == (anchored and beta > 0)
    assert oracle.calls <= 24

    def reward(design: Tensor) -> float:
        return REWARD[int(lexicographic_index(design, 2))].item()

    for row in range(len(rows["x"])):
        x, y, k = rows["x"][row], rows["y"][row], int(rows["k"][row])
        last = k == process.steps - 1
        seen.add(last)
        assert rows["value_x"][row].item() == pytest.approx(reward(most_likely(x, net)))
        assert rows["value_y"][row].item() == pytest.approx(reward(y if last else most_likely(y, net)))
        log_p = [
            p.kernel(x.unsqueeze(0), k).log_prob(y.unsqueeze(0)) for p in (context.roles.base, context.roles.proposal)
        ]
        anchor = (log_p[0] - log_p[1]).item() if anchored else 0.0
        assert rows["log_anchor"][row].item() == pytest.approx(anchor, abs=1e-5)
        assert log_p[1].isfinite()
    assert seen == {True, False}


class Stepwise(StateValue):
    """A value that tells its state and step: 100 k + x."""

    calls = 1

    def designs(self, context: Context, here: Seen) -> Tensor:
        return -(100 * torch.as_tensor(here.k) + here.x.long()).unsqueeze(0)

    def of_rewards(self, context: Context, rewards: Tensor) -> Tensor:
        return rewards[0]


@pytest.mark.parametrize("calls", [2, 5, 60, 61])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_values_are_asked_at_the_steps_of_their_states(calls, beta):
    """v_k(x) and v_{k+1}(y); at the last step the reward of y, here −y."""
    base = Policy(Finite(5, 3), Table(5, 3))
    roles = Roles.start(base)
    context = Context(roles, Target(lambda d: -d.float(), ALPHA), generator(), Replay(None), Stepwise())
    rows = context.value.gather(context, RollIn(beta), calls).rows
    x, y, k = rows["x"].long(), rows["y"].long(), rows["k"]
    assert calls < 60 or k.unique().tolist() == [0, 1, 2]
    assert rows["value_x"].tolist() == (100 * k + x).tolist()
    assert rows["value_y"].tolist() == torch.where(k == 2, -y, 100 * (k + 1) + y).tolist()


@pytest.mark.parametrize("value", [PosteriorMean(0), PosteriorMean(3), MonteCarlo(1), MonteCarlo(4)], ids=str)
@pytest.mark.parametrize("calls", [8, 9, 30, 64])
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_a_round_never_asks_more_than_it_was_given(value, calls, beta):
    oracle = Oracle()
    context = context_of(value, oracle)
    objective = VIDD(value="monte_carlo", teacher="sampled", anchor="pretrained", beta=beta, states=8,
                     mirror=1.0, refresh=1, updates=1, buffer=64, max_log_weight=10.0)  # fmt: skip
    rows = objective.collect(context, calls).rows
    assert 0 < oracle.calls <= calls
    # a chain of three steps: at its own states four values, the last a reward; drawn aside, two of each transition
    whole = 3 * value.calls + 1 if beta else 6 * value.calls
    chains, left = divmod(calls, whole)
    assert len(rows["x"]) == 3 * chains + left // (2 * value.calls)


@pytest.mark.parametrize(("value", "needed"), [(PosteriorMean(0), 2), (PosteriorMean(5), 10), (MonteCarlo(4), 8)])
def test_a_round_too_small_for_one_transition_is_refused_before_the_oracle_is_asked(value, needed):
    oracle = Oracle()
    context = context_of(value, oracle)
    with pytest.raises(ConfigError, match=rf"train\.batch to {needed} or more"):
        value.gather(context, RollIn(), needed - 1)
    assert oracle.calls == 0
    assert len(value.gather(context, RollIn(), needed).rows["x"]) == 1


def test_posterior_mean_of_several_guesses():
    """The mean over the scored ones of what was asked, guess by guess."""
    scores = REWARD.clone()
    scores[3] = torch.nan
    oracle = Oracle(scores)
    context = context_of(PosteriorMean(6), oracle)
    x = torch.tensor([[2, 2, 2], [2, 1, 2], [0, 1, 1]], dtype=torch.int8)
    got = context.value.state_value(context, x, torch.tensor([0, 1, 2]))
    asked = torch.cat(oracle.asked).view(6, 3, 3)
    shown = x < 2
    assert (asked[:, shown] == x[shown]).all()
    assert len(asked[:, 0].unique(dim=0)) > 2
    for b in range(3):
        given = [REWARD[int(lexicographic_index(d, 2))].item() for d in asked[:, b]]
        kept = [r for d, r in zip(asked[:, b], given) if int(lexicographic_index(d, 2)) != 3]
        expected = sum(kept) / len(kept) if kept else math.nan
        assert got[b].item() == pytest.approx(expected, nan_ok=True)
    assert got[2].isnan()  # 0 1 1 is the design that cannot be scored


def test_monte_carlo_is_the_soft_mean_of_its_completions():
    """States of different steps in one call; NaN completions are left out of sum and count."""
    scores = REWARD.clone()
    scores[6] = torch.nan
    oracle = Oracle(scores)
    context = context_of(MonteCarlo(5), oracle)
    x = torch.tensor([[2, 1, 2], [2, 2, 2], [1, 1, 2], [2, 0, 2], [1, 1, 0]], dtype=torch.int8)
    k = torch.tensor([1, 0, 2, 1, 2])
    got = context.value.state_value(context, x[:4], k[:4])
    assert oracle.calls == 20
    asked = torch.cat(oracle.asked).view(5, 4, 3).transpose(0, 1)
    for b in range(4):
        assert (asked[b][:, x[b] < 2] == x[b][x[b] < 2]).all()
        weights = [math.exp(scores[int(lexicographic_index(d, 2))].item() / ALPHA) for d in asked[b]]
        kept = [w for w in weights if not math.isnan(w)]
        assert got[b].item() == pytest.approx(ALPHA * math.log(sum(kept) / len(kept)), abs=1e-5)


def test_monte_carlo_without_a_score_is_nan():
    context = context_of(MonteCarlo(3), Oracle(torch.full((8,), torch.nan)))
    assert context.value.state_value(context, torch.full((2, 3), 2, dtype=torch.int8), 0).isnan().all()


def test_monte_carlo_survives_a_small_temperature_and_infeasible_designs():
    """exp(r/α) overflows at r/α = 1000; an infeasible completion weighs nothing."""
    oracle = Oracle(torch.tensor([1.0, -torch.inf] * 4))
    context = context_of(MonteCarlo(200), oracle)
    context.target = Target(context.target.scorer, 1e-3)
    value = context.value.state_value(context, torch.full((1, 3), 2, dtype=torch.int8), 0).item()
    share = (torch.cat(oracle.asked)[:, 2] == 0).float().mean().item()
    assert 0.02 < share < 0.98
    assert value == pytest.approx(1 + 1e-3 * math.log(share), abs=1e-6)


def test_monte_carlo_goes_to_the_exact_soft_value():
    """Completions come from the base, not from the proposal."""
    context = context_of(MonteCarlo(4000), Oracle())
    exact = reveal_soft_values(context.roles.base, REWARD, ALPHA)
    wrong = reveal_soft_values(context.roles.proposal, REWARD, ALPHA)
    x = torch.tensor([[2, 2, 2], [2, 1, 2], [0, 2, 2], [2, 1, 1]], dtype=torch.int8)
    index = lexicographic_index(x, 3)
    got = context.value.state_value(context, x, torch.tensor([0, 1, 1, 2])).double()
    assert (got - exact[index]).abs().max() < 0.05
    assert (got - wrong[index]).abs().max() > 0.2


def test_the_reward_of_the_most_likely_design_is_biased():
    """Why it is only a plug-in: against the exact soft value, at the first state."""
    context = context_of(PosteriorMean(0), Oracle())
    exact = reveal_soft_values(context.roles.proposal, REWARD, ALPHA)
    start = all_states(2, 3)[-1:]
    got = context.value.state_value(context, start, 0).item()
    assert got in [pytest.approx(r) for r in REWARD.tolist()]
    assert abs(got - exact[-1].item()) > 0.1
    assert len(all_designs(2, 3)) == len(REWARD)
