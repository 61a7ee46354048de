"""What a context does with a screen, and without: which designs are scored, and who learns from it."""

from __future__ import annotations

import pytest
import torch

from biotilt.core import Context, Policy, Roles, Sampler, Screen, Target, check_screened
from biotilt.errors import ConfigError
from biotilt.networks.table import Table
from biotilt.processes import AnyOrder, Finite
from biotilt.processes.conditioned import conditioned


class Last(Screen):
    """Chooses the last designs of three times as many."""

    name = "last"

    def __init__(self):
        self.learned = []

    @classmethod
    def build(cls, options, view):
        return cls()

    def proposals(self, count):
        return 3 * count

    def choose(self, designs, count, generator):
        return torch.arange(len(designs) - count, len(designs))

    def learn(self, designs, scores):
        self.learned.append((designs.tolist(), scores.tolist()))

    def figures(self):
        return {}

    def state(self):
        return {}

    def load_state(self, state):
        pass


def context(screen=None):
    base = Policy(Finite(states=3, horizon=2), Table(3, 2))
    target = Target(lambda designs: torch.tensor([1.0, -torch.inf, torch.nan])[designs], 0.5)
    return Context(Roles.start(base), target, torch.Generator().manual_seed(0), screen=screen)


def test_without_a_screen_everything_that_is_drawn_is_scored():
    plain = context()
    assert plain.proposals(5) == 5
    assert plain.chosen(torch.tensor([2, 0, 1]), 3).tolist() == [0, 1, 2]
    assert plain.scores(torch.tensor([0, 1])).tolist() == [1.0, -torch.inf]


def test_a_screen_sees_the_scores_as_they_came():
    screen = Last()
    screened = context(screen)
    designs = torch.tensor([2, 2, 2, 0, 1, 2])
    assert screened.proposals(2) == 6
    picked = designs[screened.chosen(designs, 3)]
    # infeasible: the worst of the batch less 10 α
    torch.testing.assert_close(screened.rewards(picked), torch.tensor([1.0, -4.0, torch.nan]), equal_nan=True)
    assert screen.learned[0][0] == [0, 1, 2] and screen.learned[0][1][1] == -torch.inf


def test_where_there_is_nothing_to_choose_it_is_not_asked():
    assert context(Last()).chosen(torch.tensor([1, 2]), 2).tolist() == [0, 1]


class Takes(Sampler):
    name = "takes"

    def unscreened(self, value):
        return ""

    def draw(self, context, count):
        raise NotImplementedError


class Refuses(Takes):
    name = "refuses"
    unscreened = Sampler.unscreened


def test_what_needs_the_law_of_its_designs_refuses_a_screen():
    process = Finite(states=3, horizon=2)
    check_screened(Takes(), process, None)
    with pytest.raises(ConfigError, match="screen: refuses needs designs of the law"):
        check_screened(Refuses(), process, None)


def test_several_conditions_are_refused():
    with pytest.raises(ConfigError, match="screen: designs are scored under several conditions"):
        check_screened(Takes(), conditioned(AnyOrder(3, 4), (0.5, 0.5)), None)
