"""Which designs are chosen, what is learned, when a screen rests, and that it goes on bit for bit."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from biotilt.core import View
from biotilt.errors import ConfigError
from biotilt.options import build_options
from biotilt.screens import GPOptions, GPScreen, RankingOptions, RankingScreen
from biotilt.screens.gp import thompson
from biotilt.screens.ranking import FEWEST, RETRY
from biotilt.spaces import DNA, Letters

SPACE = Letters(DNA)
LENGTH = 12


def view():
    return View(SPACE, SPACE.decode)


def designs(count, seed=0):
    return torch.randint(4, (count, LENGTH), generator=torch.Generator().manual_seed(seed)).to(torch.int8)


def share_of_g(states):
    return (states == 2).double().mean(-1)


@dataclass(frozen=True)
class OracleOptions(RankingOptions):
    sign: float = 1.0


class Knows(RankingScreen):
    """Predicts `sign` times the share of G: right, or exactly wrong."""

    name: ClassVar[str] = "knows"

    @classmethod
    def build(cls, options, view):
        return cls(options, view)

    def fit(self, new, *, again):
        self.fitted = (new, again, len(self.scores))

    def predict(self, designs):
        return self.options.sign * share_of_g(designs)

    def promise(self, designs, count, generator):
        return self.predict(designs)


def generator():
    return torch.Generator().manual_seed(5)


def test_of_the_new_ones_a_share_is_drawn_and_the_rest_are_the_most_promising():
    screen = Knows(OracleOptions(start=2, at_random=0.25), view())
    screen.learn(designs(4), share_of_g(designs(4)))
    assert screen.proposals(8) == 32
    drawn = designs(32, seed=1)
    counts = torch.zeros(32)
    for seed in range(300):
        picked = screen.choose(drawn, 8, torch.Generator().manual_seed(seed))
        assert len(set(picked.tolist())) == 8
        counts[picked] += 1
    promise = share_of_g(drawn)
    sixth, eighth = promise.sort(descending=True).values[[5, 7]]
    assert counts[promise > sixth].min() == 300  # whatever chance took, six more by promise
    last = counts[promise < eighth]
    assert last.sum() == pytest.approx(300 * 2 * len(last) / 32, rel=0.1)  # 2 of 32 at random, uniformly
    assert last.min() > 5


def test_what_is_known_or_proposed_twice_is_chosen_last():
    screen = Knows(OracleOptions(start=2), view())
    known = designs(4)
    screen.learn(known, share_of_g(known))
    new = designs(5, seed=2)
    drawn = torch.cat([known, new[:3], new[:3], new[3:]])
    picked = screen.choose(drawn, 5, generator())
    assert {SPACE.decode(drawn[[i]])[0] for i in picked.tolist()} == set(SPACE.decode(new))
    assert len(screen.choose(drawn, 9, generator())) == 9


def test_designs_that_were_not_scored_teach_nothing_and_infeasible_ones_count_as_bad():
    screen = Knows(OracleOptions(start=2), view())
    scores = torch.tensor([1.0, torch.nan, -torch.inf, 3.0])
    screen.learn(designs(4), scores)
    assert screen.scores.tolist() == [1.0, -torch.inf, 3.0] and screen.ready
    # the worst, 1, less the standard deviation, 1
    assert screen.floored(screen.scores).tolist() == [1.0, 0.0, 3.0]
    screen.learn(designs(4), scores)  # again
    assert len(screen.scores) == 3


def test_below_the_start_it_chooses_nothing():
    screen = Knows(OracleOptions(start=8), view())
    screen.learn(designs(7), share_of_g(designs(7)))
    assert screen.proposals(8) == 8 and screen.figures()["screen/on"] == 0.0


def test_it_keeps_the_best_half_and_some_of_the_others():
    screen = Knows(OracleOptions(start=2, rows=40), view())
    some = designs(50)
    scores = torch.arange(50.0)
    screen.learn(some[:30], scores[:30])
    assert screen.fitted == (30, False, 30)
    screen.learn(some[30:], scores[30:])
    assert len(screen.scores) == 30 and screen.fitted == (20, True, 30)
    assert set(range(35, 50)) <= set(screen.scores.tolist())
    assert {SPACE.key(d) for d in SPACE.decode(screen.designs)} == screen.known
    lower = [score for score in screen.scores.tolist() if score < 35]
    assert len(lower) == 15 and min(lower) < 12  # not the next best


def rounds(screen, count, first=0, batch=32):
    draw = torch.Generator().manual_seed(first)
    for turn in range(count):
        drawn = designs(screen.proposals(batch), seed=1000 + 100 * first + turn)
        if len(drawn) > batch:
            drawn = drawn[screen.choose(drawn, batch, draw)]
        screen.learn(drawn, share_of_g(drawn))


def test_its_figures_are_those_of_its_own_picks_and_of_the_share_at_random():
    screen = Knows(OracleOptions(start=2, at_random=0.25), view())
    screen.learn(designs(4), share_of_g(designs(4)))
    drawn = designs(128, seed=3)
    picked = screen.choose(drawn, 32, generator())
    screen.learn(drawn[picked], share_of_g(drawn[picked]))
    figures = screen.figures()
    assert figures["screen/rank"] == pytest.approx(1.0) and figures["screen/rank_random"] == pytest.approx(1.0)
    best = share_of_g(drawn)[picked]
    chance = screen.picks[screen.picks[:, 2] == 1, 1]
    lead = (best.sum() - chance.sum()) / 24 - chance.mean()
    assert len(chance) == 8 and figures["screen/lead"] == pytest.approx(lead.item())


def test_a_screen_that_is_wrong_rests_and_says_so_once():
    screen = Knows(OracleOptions(start=2, sign=-1.0, at_random=0.25), view())
    with pytest.warns(UserWarning, match='the screen "knows" is of no use for now') as told:
        rounds(screen, 6)
    assert screen.resting and screen.proposals(32) == 32 and screen.figures()["screen/on"] == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rounds(screen, 4, first=1)
    assert len(told) == 1 and screen.resting  # its ranks are still the wrong way round


def test_one_that_is_right_goes_on_and_one_that_learned_comes_back():
    screen = Knows(OracleOptions(start=2, at_random=0.25), view())
    rounds(screen, 8)
    assert not screen.resting
    screen.resting, screen.picks = True, screen.picks[:0]
    rounds(screen, RETRY // 32 - 1, first=2)
    assert screen.resting
    rounds(screen, 1, first=3)
    assert not screen.resting and len(screen.picks) == 0


def test_it_is_judged_only_by_enough_designs_at_random():
    screen = Knows(OracleOptions(start=2, sign=-1.0, at_random=0.25), view())
    screen.learn(designs(4), share_of_g(designs(4)))
    rounds(screen, math.ceil(FEWEST / 8) - 1, first=4)
    assert not screen.resting


@pytest.mark.parametrize("acquisition", ["ucb", "expected_improvement", "thompson"])
def test_a_gaussian_process_finds_what_is_worth_a_call(acquisition):
    screen = GPScreen.build(GPOptions(start=32, acquisition=acquisition), view())
    screen.learn(designs(96), share_of_g(designs(96)))
    drawn = designs(200, seed=9)
    picked = screen.choose(drawn, 40, generator())
    assert share_of_g(drawn[picked]).mean() > share_of_g(drawn).mean() + 0.08


def test_thompson_picks_have_the_covariance_of_the_posterior():
    mean = torch.tensor([0.0, 0.2, -0.1], dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(mean, covariance)
    torch.manual_seed(0)
    expected = torch.bincount(law.sample((40_000,)).argmax(1), minlength=3) / 40_000
    draw, firsts = generator(), torch.zeros(3)
    for _ in range(4000):
        firsts[thompson(mean, covariance, 1, draw).argmax()] += 1
    assert (firsts / 4000 - expected).abs().max() < 0.03
    promise = thompson(mean, covariance, 3, draw)
    assert sorted(promise.tolist()) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("acquisition", ["ucb", "thompson"])
def test_a_screen_that_was_stored_goes_on_bit_for_bit(acquisition):
    options = GPOptions(start=32, rows=150, acquisition=acquisition)
    one = GPScreen.build(options, view())
    for turn in range(7):  # rows are added, settings chosen anew, and some forgotten
        rounds(one, 1, first=10 + turn)
        other = GPScreen.build(options, view())
        other.load_state({key: value.clone() for key, value in one.state().items()})
        rounds(other, 1, first=50)
        stored = one.state()
        again = GPScreen.build(options, view())
        again.load_state({key: value.clone() for key, value in stored.items()})
        drawn = designs(128, seed=77 + turn)
        if one.ready:
            assert one.choose(drawn, 20, generator()).equal(again.choose(drawn, 20, generator()))
            assert one.predict(drawn).equal(again.predict(drawn))
        assert one.figures() == again.figures()
        assert all(value.equal(again.state()[key]) for key, value in one.state().items())


def test_a_state_that_does_not_fit_is_refused():
    screen = GPScreen.build(GPOptions(), view())
    with pytest.raises(ValueError, match="another shape"):
        screen.load_state(screen.state() | {"picks": torch.zeros(3, 2)})


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r"screen\.factor: must be ≥ 1"):
        build_options(GPOptions, {"factor": 0.5}, "screen")
    with pytest.raises(ConfigError, match=r'screen\.kernel: "values" compares numbers, which designs of "dna"'):
        GPScreen.build(GPOptions(kernel="values"), view())
