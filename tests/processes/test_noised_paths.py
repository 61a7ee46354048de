"""Chains drawn back from a design: those that a policy can draw, each with the chance that the noising gives it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch
from path_samples import HELD, each_path, levels
from torch import Tensor, nn

from biotilt.core import NoisedPath, Policy
from biotilt.core.fixed import Fixed
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder, Confidence, Finite, Gaussian, Masked, RandomWalk, Uniform
from biotilt.processes.conditioned import conditioned

DRAWS = 4000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chains_of(process: NoisedPath, design: list[int] | int, seed: int = 0) -> Counter[Any]:
    """How often each chain was drawn back from one design."""
    ends = torch.tensor(design, dtype=torch.int8).expand(DRAWS, *torch.tensor(design).shape)
    drawn = process.noised_path(ends, generator(seed))
    assert drawn.dtype == ends.dtype and torch.equal(drawn[-1], ends)
    return Counter(str(chain) for chain in drawn.transpose(0, 1).tolist())


def check(found: Counter[Any], expected: dict[str, float]) -> None:
    assert sum(expected.values()) == pytest.approx(1)
    assert set(found) <= set(expected)
    for chain, chance in expected.items():
        error = math.sqrt(chance * (1 - chance) / DRAWS)
        assert abs(found[chain] / DRAWS - chance) < 5 * error, chain


@pytest.mark.parametrize("per_step", [1, 2])
def test_letters_are_revealed_in_every_order_alike(per_step):
    """Three letters; two a step leave one for the last step."""
    expected: Counter[str] = Counter()
    for order in itertools.permutations(range(3)):
        chain = [[2, 0, 1] if k * per_step >= 3 else [3, 3, 3] for k in range(math.ceil(3 / per_step) + 1)]
        for k, state in enumerate(chain):
            for i in order[: k * per_step]:
                state[i] = [2, 0, 1][i]
        expected[str(chain)] += 1 / 6  # type: ignore[assignment]
    check(chains_of(AnyOrder(3, 3, per_step=per_step), [2, 0, 1]), dict(expected))


def test_letters_are_revealed_from_the_left():
    """Two a step of the free ones, and the second is held."""
    held = Fixed(torch.tensor([False, True, False, False]), torch.tensor([0, 1, 0, 0], dtype=torch.int8))
    process = AnyOrder(4, 3, per_step=2, order="left_to_right", fixed=held)
    drawn = process.noised_path(torch.tensor([[2, 1, 0, 2]], dtype=torch.int8), generator())
    assert drawn.squeeze(1).tolist() == [[3, 1, 3, 3], [2, 1, 0, 3], [2, 1, 0, 2]]


def test_masks_fall_with_the_schedule():
    """a = 0, 5/9, 8/9, 1 of the schedule 1 − t²."""
    share = [5 / 9, 3 / 9, 1 / 9]
    expected = {}
    for one, two in itertools.product(range(3), repeat=2):
        chain = [[1 if k > one else 2, 0 if k > two else 2] for k in range(4)]
        expected[str(chain)] = share[one] * share[two]
    check(chains_of(Masked(2, 2, num_steps=3, schedule="polynomial"), [1, 0]), expected)


def test_uniform_letters_are_kept_or_drawn_anew_step_by_step():
    """a = 0, 1/3, 2/3, 1: kept from x[3] to x[2] with 2/3, to x[1] with 1/2, to x[0] never."""
    expected = {}
    for path in itertools.product(range(2), repeat=3):
        chain, chance = [*path, 1], 1.0
        for k, keep in enumerate((0, 1 / 2, 2 / 3)):
            chance *= keep * (chain[k] == chain[k + 1]) + (1 - keep) / 2
        expected[str([[letter] for letter in chain])] = chance
    check(chains_of(Uniform(1, 2, num_steps=3), [1]), expected)


def test_states_are_kept_or_drawn_anew_and_begin_at_zero():
    expected = {}
    for one, two in itertools.product(range(3), repeat=2):
        law = [k / (k + 1) * (a == b) + 1 / (k + 1) / 3 for k, a, b in ((2, two, 2), (1, one, two))]
        expected[str([0, one, two, 2])] = math.prod(law)
    check(chains_of(Finite(3, 3), 2), expected)


class Told(nn.Module):
    """Logits of letters that differ from state to state and from time to time."""

    def __init__(self, letters: int, length: int):
        super().__init__()
        logits = torch.randn((letters + 1) ** length, length, letters, generator=generator(7))
        self.table = StateTable(letters, length, logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.table(x, t) * (1 + t.view(-1, 1, 1))


LETTERS = [
    AnyOrder(3, 2), AnyOrder(3, 2, per_step=2), AnyOrder(3, 2, order="left_to_right"),
    Masked(2, 3, num_steps=3, schedule="cosine"), Uniform(2, 2, num_steps=2), Confidence(3, 2, per_step=2),
]  # fmt: skip


@pytest.mark.parametrize("process", LETTERS, ids=lambda p: f"{p.name} {p.steps}")
def test_all_chains_of_a_policy_are_drawn_and_no_others(process: Any):
    """Of chains that the policy drew forwards, 4,000 of them, every one is among as many drawn back."""
    policy = Policy(process, Told(process.letters, process.length))
    with torch.no_grad():
        x = process.noise(DRAWS, generator(1))
        states = [x]
        for k in range(process.steps):
            states.append(x := policy.kernel(x, k).sample(generator(2 + k)))
        back = process.noised_path(x, generator(9))
        total = torch.zeros(DRAWS)
        for k in range(process.steps):
            total = total + policy.log_prob(back[k], k, back[k + 1])
    assert total.isfinite().all()
    ahead, behind = ({str(c) for c in part.transpose(0, 1).tolist()} for part in (torch.stack(states), back))
    seen = Counter(str(c) for c in torch.stack(states).transpose(0, 1).tolist())
    assert {chain for chain in ahead if seen[chain] > 10} <= behind


def test_held_letters_stay():
    fixed = Fixed(torch.tensor([False, True, False]), torch.tensor([0, 1, 0], dtype=torch.int8))
    for process in (AnyOrder(3, 2, fixed=fixed), Masked(3, 2, fixed=fixed, num_steps=4), Uniform(3, 2, fixed=fixed)):
        drawn = process.noised_path(torch.tensor([[1, 1, 0]], dtype=torch.int8).expand(50, 3), generator())
        assert (drawn[:, :, 1] == 1).all() and len(drawn) == process.steps + 1
        # letters that are hidden at first, or drawn anew
        assert (drawn[0, :, 0] != 1).any() and (drawn[-1] == torch.tensor([1, 1, 0])).all()
    assert AnyOrder(3, 2, fixed=fixed).noised_path(torch.tensor([[1, 1, 0]]), generator()).shape == (3, 1, 3)


def test_a_walk_is_drawn_back_as_a_bridge():
    """Var x[k] = σ² (k/K)(1 − k/K), and Cov(x[1], x[2]) = σ² (1/K)(1 − 2/K); means on the line to the end."""
    process, end = RandomWalk(2, scale=2.0, num_steps=4), torch.tensor([3.0, -1.0])
    drawn = process.noised_path(end.expand(20_000, 2), generator())
    assert torch.equal(drawn[-1], end.expand(20_000, 2)) and not drawn[0].any()
    for k in (1, 2, 3):
        torch.testing.assert_close(drawn[k].mean(0), end * k / 4, atol=0.05, rtol=0)
        torch.testing.assert_close(drawn[k].var(0), torch.full((2,), 4 * k / 4 * (1 - k / 4)), atol=0.05, rtol=0)
    both = ((drawn[1] - end / 4) * (drawn[2] - end / 2)).mean(0)
    torch.testing.assert_close(both, torch.full((2,), 4 * 0.25 * 0.5), atol=0.05, rtol=0)
    held = Fixed(torch.tensor([False, True]), torch.tensor([0.0, 5.0]))
    walk = RandomWalk(2, num_steps=4, fixed=held)
    assert (walk.noised_path(torch.tensor([[1.0, 5.0]]), generator())[:, :, 1] == 5.0).all()


@each_path
def test_points_are_drawn_back_as_the_path_noises_them(make):
    """Ancestral: x[k] = (a/a') x[k+1] + noise, so Cov(x[k], x[k+1]) = (a/a') Var x[k+1]; x[1] owes x[0] nothing."""
    process, draws, end = make(num_steps=5), 40_000, 1.4
    drawn = process.noised_path(torch.full((draws, 1), end), generator())
    a_end, s_end = levels(process)[-1]
    assert (drawn[-1] == end).all()
    variance = [s**2 - (a / a_end * s_end) ** 2 for a, s in levels(process)]
    for k, (a, _) in enumerate(levels(process)[:-1]):
        x, y = drawn[k].double(), drawn[k + 1].double()
        assert x.mean().item() == pytest.approx(a / a_end * end, abs=5 * math.sqrt(variance[k] / draws))
        assert x.var().item() == pytest.approx(variance[k], rel=5 * math.sqrt(2 / draws))
        expected = 0.0 if k == 0 else a / levels(process)[k + 1][0] * variance[k + 1]
        found = ((x - x.mean()) * (y - y.mean())).mean().item()
        assert found == pytest.approx(expected, abs=5 * math.sqrt(variance[k] * variance[k + 1] / draws) + 1e-9)
    held = Gaussian(3, HELD, num_steps=4).noised_path(torch.tensor([[0.2, -0.6, 1.0]]), generator())
    assert (held[..., 1] == HELD.letters[1]).all()


def test_chains_keep_their_condition():
    process = conditioned(AnyOrder(3, 3), (0.2, 0.8))
    assert isinstance(process, NoisedPath)
    designs = process.mark.write(torch.tensor([[2, 0, 1], [1, 1, 0]], dtype=torch.int8), torch.tensor([1, 0]))
    drawn = process.noised_path(designs, generator())
    assert torch.equal(drawn[-1], designs) and drawn.shape == (4, 2, designs.shape[1])
    states, index = zip(*(process.mark.read(state) for state in drawn))
    assert all(each.tolist() == [1, 0] for each in index) and (states[0] == 3).all()
