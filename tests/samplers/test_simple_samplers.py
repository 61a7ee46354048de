"""Ancestral, best-of-N and importance sampling, each recomputed from the same random numbers by another route."""

from __future__ import annotations

import math

import pytest
import torch
from sampler_problems import ALPHA, PROCESSES, base_of, context_of, generator, normal, reward_of, tuned_of

from biotilt.core import Capability, Density, Limited, Policy, rollout, sample
from biotilt.errors import ConfigError, RewardError
from biotilt.networks.table import Table
from biotilt.processes import Finite
from biotilt.samplers import SAMPLERS, Ancestral, BestOfN, Importance
from biotilt.testing import TableScorer, law, tilted_law, total_variation
from biotilt.testing.contracts import check_sampler, enumerated_answer

FINITE, MASKED = PROCESSES["finite"], PROCESSES["masked"]


def test_ancestral_is_the_proposal_and_asks_nothing():
    context = context_of(base_of(MASKED), proposal=tuned_of(MASKED))
    drawn = Ancestral().draw(context, 700)
    assert torch.equal(drawn.designs, sample(tuned_of(MASKED), 700, generator()))
    assert context.target.scorer.calls == 0 and drawn.rewards.isnan().all() and drawn.log_z is None  # type: ignore[attr-defined]
    assert drawn.log_weight.tolist() == [0.0] * 700


@pytest.mark.parametrize("factor", [1, 2.5, 4])
def test_best_of_n_by_longhand(factor):
    base = base_of(MASKED)
    context = context_of(base)
    drawn = BestOfN(factor).draw(context, 40)
    total = round(factor * 40)
    designs = sample(base, total, generator())
    scores = TableScorer(MASKED, reward_of(MASKED))(designs).tolist()
    assert context.target.scorer.calls == total  # type: ignore[attr-defined]
    order = sorted(range(total), key=lambda i: -scores[i])[:40]
    assert drawn.designs.tolist() == [designs[i].tolist() for i in order]
    assert drawn.rewards.tolist() == [scores[i] for i in order]
    assert drawn.log_weight.tolist() == [0.0] * 40
    assert drawn.log_z == pytest.approx(math.log(sum(math.exp(s / ALPHA) for s in scores) / total), abs=1e-5)


@pytest.mark.parametrize("factor", [0.5, math.nan])
def test_best_of_n_draws_at_least_as_many_as_it_keeps(factor):
    with pytest.raises(ConfigError, match=r"sampler\.factor"):
        BestOfN(factor)


def test_best_of_n_keeps_what_it_can():
    """Unscored and infeasible designs come last and weigh nothing; none usable is no error."""
    reward = torch.tensor([math.nan, -math.inf, 1.0, math.nan, 2.0])
    uniform = Policy(Finite(5, 1), Table(5, 1))
    drawn = BestOfN(1).draw(context_of(uniform, TableScorer(FINITE, reward)), 200)
    kept = drawn.rewards.isfinite()
    assert 0 < kept.sum() < 200 and kept[: kept.sum()].all()
    assert torch.equal(drawn.log_weight, torch.where(kept, 0.0, -torch.inf))
    share = [(drawn.designs == i).float().mean().item() for i in (2, 4)]
    exact = sum(s * math.exp(r / ALPHA) for s, r in zip(share, (1, 2)))
    assert drawn.log_z == pytest.approx(math.log(exact), abs=1e-5)
    nothing = BestOfN(2).draw(context_of(uniform, TableScorer(FINITE, torch.full((5,), math.nan))), 6)
    assert len(nothing.designs) == 6 and nothing.log_z == -math.inf


class NoLogProb(Finite, Limited):
    def remedies(self) -> dict[type[Capability], str]:
        return {Density: "draw with noise"}


def test_best_of_n_of_a_tuned_proposal_without_log_probabilities_has_no_log_z():
    process = NoLogProb(5, 3)
    base, tuned = Policy(process, base_of(FINITE).net), Policy(process, tuned_of(FINITE).net)
    assert BestOfN().draw(context_of(base, proposal=tuned), 4).log_z is None
    assert BestOfN().draw(context_of(base), 4).log_z is not None


@pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))
def test_importance_weights_by_longhand(process):
    base, tuned = base_of(process), tuned_of(process)
    drawn = Importance().draw(context_of(base, proposal=tuned), 300)
    chain = rollout(tuned, 300, generator(), base=base)
    assert torch.equal(drawn.designs, chain.designs) and chain.log_ratio is not None
    rewards = TableScorer(process, reward_of(process))(chain.designs)
    expected = rewards / ALPHA - chain.log_ratio.sum(0)
    torch.testing.assert_close(drawn.log_weight, expected, atol=1e-5, rtol=1e-5)
    weights = expected.exp()
    assert drawn.log_z == pytest.approx(weights.mean().log().item(), abs=1e-5)
    assert drawn.metrics["ess"] == pytest.approx((weights.sum() ** 2 / weights.square().sum() / 300).item(), rel=1e-4)


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))
@pytest.mark.parametrize("sampler", [Importance(), BestOfN(3)], ids=lambda s: s.name)
def test_unbiased(sampler, process, tuned):
    base = base_of(process)
    context = context_of(base, proposal=tuned_of(process) if tuned else None)
    answer = enumerated_answer(base, reward_of(process), ALPHA)
    check_sampler(sampler, context, answer, repeats=100, weighted=sampler.name == "importance")


def test_importance_sampling_tends_to_p_star_in_chunks():
    """More designs than one chunk; an infeasible and an unscored design have no mass."""
    reward = reward_of(FINITE)
    reward[[1, 3]] = torch.tensor([math.nan, -math.inf])
    drawn = Importance().draw(
        context_of(base_of(FINITE), TableScorer(FINITE, reward), proposal=tuned_of(FINITE)), 40_001
    )
    found = torch.zeros(5, dtype=torch.float64)
    found.index_add_(0, drawn.designs.long(), drawn.log_weight.double().softmax(0))
    exact, log_z = tilted_law(law(base_of(FINITE)), reward.masked_fill(reward.isnan(), -torch.inf), ALPHA)
    assert total_variation(found, exact) < 0.02
    assert drawn.log_z == pytest.approx(log_z, abs=0.05)
    assert (drawn.rewards[drawn.designs == 3] == -torch.inf).all()


@pytest.mark.parametrize("reward", [math.nan, -math.inf])
def test_no_weight_at_all_is_said(reward):
    context = context_of(base_of(FINITE), TableScorer(FINITE, torch.full((5,), reward)))
    with pytest.raises(RewardError, match="none of 20 designs has a weight"):
        Importance().draw(context, 20)


def test_a_scorer_of_the_wrong_shape_is_refused():
    context = context_of(base_of(FINITE), lambda designs: normal(len(designs), 1, seed=0))
    with pytest.raises(ValueError, match="shape"):
        Importance().draw(context, 4)


def test_the_registry_knows_them_by_name():
    for sampler in (Ancestral, BestOfN, Importance):
        assert SAMPLERS[sampler.name] is sampler
