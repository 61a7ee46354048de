"""The surrogate value: its fit by longhand, what it never asks, and that it finds the reward's differences."""

from __future__ import annotations

import pytest
import torch

from biotilt.core import Context, Policy, Replay, Roles, RollIn, Target
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder, Finite
from biotilt.testing import all_designs
from biotilt.values import SurrogateConfig, SurrogateQ
from biotilt.values.foresight import Foresight

ALPHA, LENGTH, LETTERS = 0.5, 3, 2
REWARD = torch.tensor([0.3, -1.2, 0.8, 2.0, -0.4, 0.1, 1.1, -0.9])


class Lookup:
    def __init__(self):
        self.asked = 0

    def __call__(self, designs):
        self.asked += len(designs)
        return REWARD[(designs.long() * torch.tensor([4, 2, 1])).sum(-1)]


@pytest.fixture
def parts():
    process = AnyOrder(LENGTH, LETTERS)
    shape = StateTable(LETTERS, LENGTH).logits.shape
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    base = Policy(process, StateTable(LETTERS, LENGTH, logits))
    value = SurrogateQ(
        StateTable(LETTERS, LENGTH, torch.zeros(shape)), process, SurrogateConfig(lr=0.05, imagine=6, keep=8)
    )
    context = Context(Roles.start(base), Target(Lookup(), ALPHA), torch.Generator().manual_seed(0), Replay(None), value)
    return base, value, context


def gathered(base, value, context, count):
    return value.gather(context, RollIn(), count).rows


def test_only_the_roll_in_is_scored_and_the_newest_imagined_designs_are_kept(parts):
    base, value, context = parts
    rows = gathered(base, value, context, 5)
    assert context.target.scorer.asked == 5
    assert len(rows["designs"]) == 5
    assert (value.imagined[:2] == -1).all() and (value.imagined[2:] >= 0).all()  # 6 of 8 places are filled
    before = value.imagined.clone()
    gathered(base, value, context, 5)
    assert context.target.scorer.asked == 10
    assert torch.equal(value.imagined[:2], before[-2:])


def test_what_is_scored_is_imagined_too_unless_the_base_drew_it(parts):
    _, value, context = parts
    with torch.no_grad():  # p_out is not the base, so ℓ tells who drew a design
        context.roles.proposal.net.logits.add_(torch.randn(value.net.logits.shape, generator=context.generator))
    rows = value.gather(context, RollIn(beta=0.5), 6).rows
    assert torch.equal(value.imagined[-6:][:3], rows["designs"][:3])
    assert torch.equal(value.imagined_terms[-6:][:3], rows["terms"][:3]) and (rows["terms"][:3] != 0).all()
    assert (rows["terms"][3:] == 0).all()
    assert rows["rewards"].tolist() == pytest.approx(Lookup()(rows["designs"]).tolist())
    assert context.target.scorer.asked == 6
    # with more calls than designs to imagine all are imagined, and the newest stay
    rows = value.gather(context, RollIn(), 7).rows
    assert torch.equal(value.imagined[-7:], rows["designs"])


@pytest.mark.parametrize("hidings", [1, 2, 3])
def test_each_imagined_design_is_hidden_so_many_times_and_the_policy_sees_the_first(parts, hidings):
    base, value, context = parts
    value.config = SurrogateConfig(imagine=40, keep=40, hidings=hidings)
    rows = gathered(base, value, context, 12)
    asked = {"net": [], "surrogate": []}
    for name, seen in asked.items():
        getattr(value, name).register_forward_hook(lambda net, shown, output, seen=seen: seen.append(shown[0]))
    lesson = value.lesson(context, rows)
    fitted, guessed = asked["surrogate"]
    (hidden,) = asked["net"]
    assert torch.equal(fitted, rows["designs"][: 12 // hidings])
    assert torch.equal(lesson.x, hidden[: 12 // hidings]) and lesson.q.shape[:1] == lesson.k.shape == (12 // hidings,)
    shown = hidden != LETTERS
    assert torch.equal(hidden[shown], guessed.repeat(hidings, 1)[shown])  # states of those designs, and of no others
    if hidings > 1:
        assert not torch.equal(hidden[: len(guessed)], hidden[len(guessed) : 2 * len(guessed)])


def test_the_prediction_is_the_sum_of_the_picked_outputs(parts):
    _, value, _ = parts
    designs = all_designs(LETTERS, LENGTH)
    with torch.no_grad():
        value.surrogate.logits.normal_(generator=torch.Generator().manual_seed(9))
    outputs = value.surrogate(designs, torch.zeros(len(designs)))
    by_hand = [sum(outputs[b, i, designs[b, i]].item() for i in range(LENGTH)) for b in range(len(designs))]
    assert value.predict(designs).tolist() == pytest.approx(by_hand, abs=1e-6)


def test_the_loss_is_the_surrogates_error_plus_the_regression_on_its_guesses(parts):
    base, value, context = parts
    rows = gathered(base, value, context, 64)
    lesson = value.lesson(context, rows)
    scaled = rows["rewards"] / ALPHA
    # both networks start at zero: the surrogate misses each standardised reward it is shown, half of them, by all of
    # it, and guesses the mean for every imagined design, of which the zero Q misses nothing (ℓ = 0 here)
    assert value.centre.item() == pytest.approx(scaled.mean().item())
    assert value.spread.item() == pytest.approx(scaled.std(correction=0).item())
    missed = (scaled[:32] - scaled.mean()) / scaled.std(correction=0)
    assert lesson.loss.item() == pytest.approx(missed.square().mean().item(), abs=1e-5)
    assert not lesson.q.requires_grad


def test_the_surrogate_and_then_q_learn_the_reward(parts):
    base, value, context = parts
    optimiser = torch.optim.Adam([p for p in value.parameters() if p.requires_grad], 0.05)
    for _ in range(60):
        rows = gathered(base, value, context, 64)
        for _ in range(5):
            optimiser.zero_grad()
            value.lesson(context, rows).loss.backward()
            optimiser.step()
    designs = all_designs(LETTERS, LENGTH)
    guess = (value.predict(designs) * value.spread + value.centre) * ALPHA
    # every design was scored many times and the table can hold any function: what is left is the optimiser's
    assert guess.tolist() == pytest.approx(REWARD.tolist(), abs=0.05)
    # one letter hidden in 0?1: Q's difference over the letter is the reward's, in units of α, nothing to come
    q = value.action_value(context, torch.tensor([[0, 2, 1]], dtype=torch.int8), 2)[0, 1]
    assert (q[1] - q[0]).item() == pytest.approx((REWARD[3] - REWARD[1]).item() / ALPHA, abs=0.5)


def test_a_process_without_hidden_letters_and_bad_options_are_refused():
    with pytest.raises(ConfigError, match="reveals hidden letters"):
        SurrogateQ(torch.nn.Linear(1, 1), Finite(4, 2))
    with pytest.raises(ConfigError, match="imagine"):
        SurrogateConfig(imagine=0)


def test_scores_are_foreseen_before_they_are_learned(parts):
    """Both networks start at zero: in the second round each score is taken for the mean of the first."""
    _, value, context = parts
    assert "value_held_out" not in value.gather(context, RollIn(), 40).metrics
    first = torch.tensor([0.5, 1.5])
    value.set_units(first / ALPHA)
    found = value.gather(context, RollIn(), 40)
    rewards = found.rows["rewards"].double()
    expected = (rewards - 1.0).square().mean() / rewards.var(correction=0)
    assert found.metrics["value_held_out"] == pytest.approx(expected.item(), rel=1e-5)


def test_older_rounds_count_half_as_much_each_round_later():
    foresight = Foresight()
    foresight.observe(torch.zeros(2), torch.tensor([1.0, -1.0]))
    found = foresight.observe(torch.zeros(3), torch.tensor([3.0, -3.0, float("nan")]))
    # half of 2 scores of error 1, and 2 of error 9: mean 0, so error and variance are one
    assert found == {"value_held_out": pytest.approx(1.0)}
    found = foresight.observe(torch.full((2,), 2.0), torch.tensor([2.0, 4.0]))
    squares, error = (0.25 * 2 + 0.5 * 18 + 20), (0.25 * 2 + 0.5 * 18 + 4)
    count, mean = 0.25 * 2 + 0.5 * 2 + 2, 6 / 3.5
    assert found["value_held_out"] == pytest.approx(error / count / (squares / count - mean**2))
