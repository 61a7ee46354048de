"""Moves of a search: what they hide, what stays where it is, and that what is hidden is drawn as the chain draws it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from biotilt.core import Policy, sample
from biotilt.core.fixed import Fixed
from biotilt.core.moves import LONGEST_CHANGE, Editor, Plan, children, complete
from biotilt.core.reading import Reading
from biotilt.networks.table import StateTable, Table
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.processes import AnyOrder, Finite, Flow, Gaussian, Masked, Uniform
from biotilt.testing import all_states, total_variation, transition_matrices
from biotilt.testing.gaussian import Mixture, MixtureDenoiser, affine_law

PAD, MASK = 4, 5
LAST = Reading(pad=PAD)
FIRST = Reading(pad=PAD, pads_first=True)


def editor(length: int, reading: Reading = LAST, fixed: Fixed | None = None) -> Editor:
    process = AnyOrder(length, 5, fixed=fixed)
    return Editor.of(process, process.noise(1, torch.Generator()), reading)


def held(places: dict[int, int], length: int) -> Fixed:
    mask = torch.tensor([i in places for i in range(length)])
    return Fixed(mask, torch.tensor([places.get(i, 0) for i in range(length)], dtype=torch.int8))


ROW = [0, 1, 2, 3, 0, 1, PAD, PAD]


@pytest.mark.parametrize(
    ("share", "at", "change", "expected"),
    [
        (0.3, 0.0, 0, [5, 5, 2, 3, 0, 1, 4, 4]),  # ⌈0.3 · 6⌉ = 2 tokens, from the first of 5 starts
        (0.3, 0.99, 0, [0, 1, 2, 3, 5, 5, 4, 4]),
        (0.3, 0.5, 1, [0, 1, 5, 5, 5, 0, 1, 4]),  # the third start; the tail moves
        (0.3, 0.5, -1, [0, 1, 5, 0, 1, 4, 4, 4]),
        (0.3, 0.5, -2, [0, 1, 0, 1, 4, 4, 4, 4]),
        (0.3, 0.5, 3, [0, 1, 5, 5, 5, 5, 0, 1]),  # no room for more
        (1.0, 0.0, -3, [5, 5, 5, 4, 4, 4, 4, 4]),
        (0.01, 0.0, -3, [1, 2, 3, 0, 1, 4, 4, 4]),
    ],
)
def test_a_span_is_hidden_and_given_back_longer_or_shorter(share, at, change, expected):
    assert editor(8).child(ROW, share, at, change) == expected


def test_pads_before_the_letters_make_the_beginning_move():
    row = [PAD, PAD, 0, 1, 2, 3, 0, 1]
    assert editor(8, FIRST).child(row, 0.3, 0.5, 1) == [4, 0, 1, 5, 5, 5, 0, 1]
    assert editor(8, FIRST).child(row, 0.3, 0.5, -1) == [4, 4, 4, 0, 1, 5, 0, 1]


def test_without_pads_no_length_changes():
    row = [0, 1, 2, 3, 0, 1, 2, 3]
    assert editor(8, Reading()).child(row, 0.25, 0.5, 2) == [0, 1, 2, 5, 5, 1, 2, 3]


def test_a_design_of_pads_only_grows():
    assert editor(4).child([PAD] * 4, 0.5, 0.0) == [5, 5, 4, 4]


def test_what_is_held_is_neither_hidden_nor_moved():
    row = [0, 1, 2, 3, 0, 1, PAD, PAD]
    behind = editor(8, fixed=held({5: 1}, 8))
    assert behind.child(row, 0.4, 0.0, 2) == [5, 5, 2, 3, 0, 1, 4, 4]  # it would move what is held: hidden in place
    before = editor(8, fixed=held({0: 0, 1: 1}, 8))
    assert before.child(row, 0.5, 0.0, 1) == [0, 1, 5, 5, 5, 0, 1, 4]  # two of four free tokens
    assert before.child(row, 0.5, 0.99, 0) == [0, 1, 2, 3, 5, 5, 4, 4]


def test_where_positions_have_letters_of_their_own_nothing_moves():
    allowed = torch.ones(8, 5, dtype=torch.bool)
    allowed[6, 0] = False
    fixed = Fixed(torch.zeros(8, dtype=torch.bool), torch.zeros(8, dtype=torch.int8), allowed)
    process = AnyOrder(8, 5, fixed=fixed)
    found = Editor.of(process, process.noise(1, torch.Generator()), LAST).child(ROW, 0.3, 0.5, 1)
    assert found == [0, 1, 5, 5, 0, 1, 4, 4]  # the pad of position 6 would have become a letter


def test_scattered_tokens_are_those_of_the_lowest_rank_that_are_no_pads():
    order = [5, 4, 3, 2, 6, 7, 0, 1]  # the pads come first
    assert editor(8).child(ROW, 0.5, 0.0, 2, order) == [0, 5, 5, 5, 0, 1, 4, 4]


def test_parents_are_crossed_at_one_share_of_each():
    other = [3, 3, 3, 3, PAD, PAD, PAD, PAD]
    assert editor(8).crossed(ROW, other, 0.5) == [0, 1, 2, 3, 3, 4, 4, 4]
    assert editor(8).crossed(other, ROW, 0.5) == [3, 3, 3, 0, 1, 4, 4, 4]
    assert editor(8).crossed(ROW, other, float("nan")) == ROW
    assert editor(8, Reading()).crossed([0] * 8, [1] * 8, 0.4) == [0, 0, 0, 1, 1, 1, 1, 1]
    # joined they would be longer than there is room: cut at one position
    assert editor(8).crossed([0] * 8, other, 0.9) == [0] * 7 + [4]


def test_plans_have_the_shares_that_were_asked_for():
    plan = Plan.draw(40_000, (0.1, 0.4), 0.2, 0.3, torch.Generator().manual_seed(0))
    assert plan.share.min() >= 0.1 and plan.share.max() <= 0.4 and plan.share.mean() == pytest.approx(0.25, abs=0.005)
    assert plan.scattered.float().mean() == pytest.approx(0.2, abs=0.01)
    assert (~plan.cross.isnan()).float().mean() == pytest.approx(0.3, abs=0.01)
    assert plan.cross.nanmean() == pytest.approx(0.5, abs=0.01) and plan.cross[~plan.cross.isnan()].max() < 1
    counts = {c: (plan.change == c).float().mean().item() for c in range(-LONGEST_CHANGE, LONGEST_CHANGE + 1)}
    assert counts.pop(0) == pytest.approx(0.5, abs=0.01)
    assert all(share == pytest.approx(1 / 12, abs=0.01) for share in counts.values())


PROCESSES: dict[str, Any] = {
    "one letter a step": AnyOrder(3, 2),
    "two letters a step": AnyOrder(3, 2, per_step=2),
    "masked": Masked(3, 2, num_steps=3),
    "uniform": Uniform(3, 2, num_steps=2),
}


def logits(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", PROCESSES)
def test_completions_of_a_state_have_the_law_of_the_rest_of_the_chain(name):
    """Rows at two different steps at once, each against products of transition matrices."""
    process = PROCESSES[name]
    policy = Policy(process, StateTable(2, 3, logits(27, 3, 2)))
    states = all_states(2, 3) if name != "uniform" else torch.tensor(list(itertools.product(range(2), repeat=3)))
    matrices = transition_matrices(policy, states)
    starts = {0: (0, 0, 0) if name == "uniform" else (2, 2, 2), 1: (0, 1, 1) if name == "uniform" else (2, 0, 2)}
    count = 6000
    x = torch.tensor([starts[k] for k in (0, 1) for _ in range(count)], dtype=torch.int8)
    k = torch.tensor([0, 1]).repeat_interleave(count)
    found = complete(policy, x, k, torch.Generator().manual_seed(1))
    rows = {tuple(state): place for place, state in enumerate(states.tolist())}
    for k0, start in starts.items():
        expected = torch.eye(len(states), dtype=matrices[0].dtype)[rows[start]]
        for matrix in matrices[k0:]:
            expected = expected @ matrix
        drawn = found[k0 * count : (k0 + 1) * count].tolist()
        measured = torch.bincount(torch.tensor([rows[tuple(row)] for row in drawn]), minlength=len(states)) / count
        assert total_variation(measured.to(expected), expected) < 0.03


def test_children_of_letters_differ_from_their_parent_in_one_span():
    process = AnyOrder(8, 4)
    policy = Policy(process, Uniformly())
    parents = torch.randint(4, (200, 8), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    plan = Plan.draw(200, (0.25, 0.25), 0.0, 0.0, torch.Generator().manual_seed(1))
    found = children(policy, parents, parents, plan, Reading(), torch.Generator().manual_seed(2))
    assert found.dtype == parents.dtype and (found < 4).all()
    places = [row.nonzero().flatten().tolist() for row in found != parents]
    assert all(not row or row[-1] - row[0] <= 1 for row in places) and any(len(row) == 2 for row in places)


class Uniformly(torch.nn.Module):
    """All letters the same, whatever the state."""

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*x.shape, 4)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(Finite(4, 5), Table(4, 5, logits(5, 4, 4))),
        Policy(Gaussian(3, num_steps=6), VectorMLP(VectorMLPConfig(3, 8, 1))),
    ],
    ids=["finite", "gaussian"],
)
def test_where_nothing_is_hidden_the_process_noises(policy):
    generator = torch.Generator().manual_seed(3)
    noise = policy.process.noise(30, generator)
    plan = Plan.draw(30, (0.2, 0.6), 0.5, 0.5, generator)
    found = children(policy, noise, noise, plan, Reading(), generator)
    assert found.shape == noise.shape and found.dtype == noise.dtype and not torch.equal(found, noise)


MIXED = Mixture(torch.ones(1), torch.tensor([[0.6, -0.3]]), torch.tensor([[[0.8, 0.6], [0.6, 0.7]]]))


def of_mixture(process: Any) -> Policy:
    return Policy(process, MixtureDenoiser(MIXED, process, VectorMLP(VectorMLPConfig(2, 4, 1))))


def plan_of(count: int, share: float, scattered: bool) -> Plan:
    none = torch.full((count,), torch.nan)
    zero = torch.zeros(count)
    return Plan(zero + share, zero, zero.long(), torch.full((count,), scattered), none)


@pytest.mark.parametrize("process", [Gaussian(2, num_steps=30), Flow(2, num_steps=30)], ids=["gaussian", "flow"])
def test_children_of_draws_are_draws_nearer_to_their_parents_the_less_noise_they_got(process):
    """Noising and denoising leave the base's law as it is: it is tilted by the choice of parents alone."""
    policy, count = of_mixture(process), 3000
    generator = torch.Generator().manual_seed(4)
    parents = sample(policy, count, generator)
    mean, covariance = affine_law(policy).moments()
    apart = []
    for share in (0.15, 0.5, 1.0):
        found = children(policy, parents, parents, plan_of(count, share, False), Reading(), generator)
        torch.testing.assert_close(found.mean(0).double(), mean, atol=0.07, rtol=0)
        torch.testing.assert_close(found.T.cov().double(), covariance, atol=0.08, rtol=0)
        apart.append((found - parents).square().sum(-1).mean().item())
    whole = 2 * covariance.trace().item()  # of two draws that know nothing of each other
    assert apart[0] < 0.3 * apart[1] < 0.3 * apart[2] and apart[2] == pytest.approx(whole, rel=0.15)


def test_of_scattered_coordinates_the_others_stay_and_are_read():
    """One of two coordinates is made anew beside the other, which it follows: by less than the exact 0.6/0.8."""
    policy, count = of_mixture(Gaussian(2, num_steps=30)), 2000
    generator = torch.Generator().manual_seed(5)
    parents = MIXED.sample(count, generator).float()
    found = children(policy, parents, parents, plan_of(count, 0.5, True), Reading(), generator)
    changed = found != parents
    assert (changed.sum(-1) == 1).all() and 0.4 < changed[:, 0].float().mean() < 0.6
    second = changed[:, 1]
    given, drawn = parents[second, 0] - 0.6, found[second, 1] + 0.3
    slope = (given @ drawn) / (given @ given)
    assert 0.3 < slope < 0.6 / 0.8 + 0.05
    old = parents[second, 1] + 0.3 - 0.75 * given  # what the parent had beyond what the other tells
    assert abs(torch.corrcoef(torch.stack([old, drawn - 0.75 * given]))[0, 1].item()) < 0.1
    both = plan_of(count, 0.5, True)
    both.scattered[::2] = False
    mixed = children(policy, parents, parents, both, Reading(), generator) != parents
    assert mixed[::2].all() and (mixed[1::2].sum(-1) == 1).all()


def test_held_coordinates_stay_in_either_kind_of_child():
    fixed = Fixed(torch.tensor([False, True, False]), torch.tensor([0.0, 1.5, 0.0]))
    policy = Policy(Gaussian(3, fixed=fixed, num_steps=6), VectorMLP(VectorMLPConfig(3, 8, 1)))
    generator = torch.Generator().manual_seed(6)
    parents = complete(policy, policy.process.noise(40, generator), torch.zeros(40).long(), generator)
    for scattered in (False, True):
        found = children(policy, parents, parents, plan_of(40, 0.4, scattered), Reading(), generator)
        assert (found[:, 1] == 1.5).all() and not torch.equal(found, parents)


def test_tokens_that_are_near_in_the_design_are_hidden_together():
    # a ring: the last token is beside the first
    ring = tuple((i, (i + 1) % 6, (i - 1) % 6, (i + 2) % 6, (i - 2) % 6, (i + 3) % 6) for i in range(6))
    near = Reading(near=ring)
    row = [0, 1, 2, 3, 0, 1]
    assert editor(6, near).child(row, 0.5, 0.0) == [5, 5, 2, 3, 0, 5]
    assert editor(6, near).child(row, 0.5, 0.99) == [5, 1, 2, 3, 5, 5]
    assert editor(6, near).child(row, 0.3, 0.5, change=2) == [0, 1, 2, 5, 5, 1]  # no length to change
    # what is held is passed over: of the five that are free, ⌈0.5 · 5⌉ = 3
    assert editor(6, near, held({1: 1}, 6)).child(row, 0.5, 0.0) == [5, 1, 5, 3, 0, 5]
