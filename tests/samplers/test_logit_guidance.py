"""Guidance by scores alone: the scores of letters by hand and by enumeration, and weights that are right anyhow."""

from __future__ import annotations

import math

import pytest
import torch
from sampler_problems import ALPHA, PROCESSES, base_of, context_of, normal, reward_of, tuned_of
from torch import Tensor

from biotilt.core import Parts, Target, check_parts
from biotilt.errors import ConfigError
from biotilt.processes import AnyOrder, Finite, Masked
from biotilt.processes.gaussian import Gaussian
from biotilt.processes.uniform import Uniform
from biotilt.samplers.logit_guidance import LogitGuidance, letter_scores
from biotilt.testing import TableScorer, all_designs
from biotilt.testing.contracts import check_sampler, enumerated_answer

LETTERS = {name: PROCESSES[name] for name in ("one letter a step", "two letters a step", "masked")}
GUESSES = torch.tensor([[[0, 2]], [[0, 1]], [[1, 2]], [[2, 2]]])


def test_scores_of_letters_by_hand():
    """Four guesses scored 1, 3, 2 and not at all; one more of average score is counted with each letter."""
    scaled = torch.tensor([[1.0], [3.0], [2.0], [torch.nan]])
    mean = letter_scores(GUESSES, scaled, 4, "mean", shrink=1.0)
    # the mean is 2: deviations −1, 1, 0
    expected = torch.tensor([[0.0, 0, 0, 0], [0, 1 / 2, -1 / 3, 0]])
    torch.testing.assert_close(mean[0], expected)
    soft = letter_scores(GUESSES, scaled, 4, "soft", shrink=0.5)
    e, average = math.e, (math.e + math.e**3 + math.e**2) / 3

    def log(total: float, count: int) -> float:
        return math.log((total + 0.5 * average) / (count + 0.5) / average)

    first = [log(e + e**3, 2), log(e**2, 1), 0.0, 0.0]
    second = [0.0, log(e**3, 1), log(e + e**2, 2), 0.0]
    torch.testing.assert_close(soft[0], torch.tensor([first, second]))


def test_scores_stay_finite_whatever_the_rewards():
    """Rewards far apart, infeasible ones and none at all: a letter is never forbidden, which no weight could mend."""
    far = torch.tensor([[900.0], [-900.0], [-torch.inf], [torch.nan]])
    for estimate, scaled in (("soft", far), ("soft", far * torch.nan), ("mean", far), ("mean", far * torch.nan)):
        q = letter_scores(GUESSES, scaled, 3, estimate, shrink=1.0)
        assert q.isfinite().all()
    assert (letter_scores(GUESSES, far * torch.nan, 3, "soft", 1.0) == 0).all()
    assert letter_scores(GUESSES, far, 3, "soft", 1.0)[0, 0].argmax() == 0
    # 900, −900 and an infeasible guess, which counts −900: the mean is −300, and letter 1 at the left is that guess
    assert letter_scores(GUESSES, far, 3, "mean", 1.0)[0, 0, 1].item() == pytest.approx(-300)


def test_scores_do_not_change_when_a_constant_is_added_to_the_reward():
    scaled = normal(4, 1, seed=1)
    for estimate in ("mean", "soft"):
        one, other = (letter_scores(GUESSES, scaled + c, 3, estimate, 1.0) for c in (0.0, 50.0))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("double")
def test_many_guesses_give_the_conditional_means():
    """soft → log E[exp(r/α) | x_i = a]/E[exp(r/α)], mean → (E[r | x_i = a] − E[r])/α, with independent letters."""
    process = AnyOrder(3, 3)
    base = base_of(process)
    x = torch.tensor([[3, 1, 3]], dtype=torch.int8)
    kernel = base.kernel(x, 1)
    first, last = kernel.x0[0, 0].exp(), kernel.x0[0, 2].exp()
    table = reward_of(process).double().view(3, 3, 3)[:, 1]
    gain = (table / ALPHA).exp()
    soft = (gain @ last / (first @ gain @ last)).log()
    mean = (table @ last - first @ table @ last) / ALPHA
    for estimate, expected in (("soft", soft), ("mean", mean)):
        got = LogitGuidance(estimate, guesses=8000)._score(context_of(base), kernel)
        torch.testing.assert_close(got[0, 0], expected, atol=0.1, rtol=0)
        # a letter that is shown is in every guess: nothing to compare
        torch.testing.assert_close(got[0, 1], torch.zeros(3), atol=1e-9, rtol=0)


@pytest.mark.parametrize("estimate", ["mean", "soft"])
@pytest.mark.parametrize("name", LETTERS)
def test_weights_are_unbiased(name, estimate):
    process = LETTERS[name]
    base, reward = base_of(process), reward_of(process)
    reward[4], reward[11] = torch.nan, -torch.inf
    proposal = tuned_of(process) if estimate == "soft" else None
    context = context_of(base, TableScorer(process, reward), proposal=proposal)
    sampler = LogitGuidance(estimate, guesses=6)
    check_sampler(sampler, context, enumerated_answer(base, reward, ALPHA), count=100, repeats=60)


def test_more_guesses_make_weights_more_even():
    base = base_of(AnyOrder(3, 3))
    even = [
        LogitGuidance("soft", guesses=m, scale=s).draw(context_of(base), 3000).metrics["ess"]
        for m, s in ((2, 0.0), (8, 1.0), (64, 1.0))
    ]
    assert even[0] + 0.05 < even[1] < even[2] - 0.05


def test_calls_are_the_guesses_of_every_step_and_the_design():
    context = context_of(base_of(AnyOrder(3, 3)))
    LogitGuidance(guesses=5).draw(context, 7)
    assert context.target.scorer.calls == 7 * (5 * 3 + 1)  # type: ignore[attr-defined]


def test_without_correction_all_designs_count_the_same_and_score_more():
    process = AnyOrder(3, 3)
    base, reward = base_of(process), reward_of(process)
    drawn = LogitGuidance(correct=False).draw(context_of(base), 2000)
    plain = LogitGuidance(correct=False, scale=0.0).draw(context_of(base), 2000)
    assert drawn.log_z is None and (drawn.log_weight == 0).all()
    assert drawn.rewards.mean() > plain.rewards.mean() + 0.3
    index = (drawn.designs.long() * torch.tensor([9, 3, 1])).sum(-1)
    torch.testing.assert_close(drawn.rewards, reward[index])
    assert len(all_designs(3, 3)) == len(reward)


def test_processes_without_hidden_letters_are_refused():
    known = (AnyOrder, Finite, Gaussian, Masked, Uniform)
    for process in (Finite(3, 2), Gaussian(2), Uniform(3, 3)):
        with pytest.raises(ConfigError, match="processes that have it: any_order, masked"):
            check_parts(LogitGuidance(), Parts(process, known=known))
    check_parts(LogitGuidance(), Parts(Masked(3, 3), known=known))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guesses": 1}, r"sampler\.guesses"),
        ({"shrink": 0.0}, r"sampler\.shrink"),
        ({"scale": -1.0}, r"sampler\.scale"),
        ({"estimate": "sof"}, 'did you mean "soft"'),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        LogitGuidance(**options)


def test_scores_are_those_of_the_scorer_in_units_of_alpha():
    """Twice the reward at twice the temperature guides the same: the same seeds, the same designs."""
    base = base_of(AnyOrder(3, 3))
    reward = reward_of(base.process)

    def designs(factor: float) -> Tensor:
        context = context_of(base, TableScorer(base.process, factor * reward))
        context.target = Target(context.target.scorer, factor * ALPHA)
        return LogitGuidance().draw(context, 50).designs

    assert torch.equal(designs(1.0), designs(2.0))
