"""Positions with their own letters, and held ones: every process of letters keeps to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy, sample
from biotilt.core.fixed import FORBIDDEN, Fixed
from biotilt.processes import AnyOrder, Confidence, Masked, Remasking, Simplex, Uniform
from biotilt.processes.letters import LetterProcess
from biotilt.testing import law, space

# the first may be 0 or 2, the second is held at 1, the third may be anything but 0
ALLOWED = torch.tensor([[True, False, True], [True, True, True], [False, True, True]])
FIXED = Fixed(torch.tensor([False, True, False]), torch.tensor([0, 1, 0], dtype=torch.int8), ALLOWED)
HELD = Fixed(FIXED.mask, FIXED.letters)
ENUMERABLE: list[Any] = [
    AnyOrder(3, 3, fixed=FIXED),
    AnyOrder(3, 3, per_step=2, fixed=FIXED),
    Masked(3, 3, num_steps=3, schedule="cosine", fixed=FIXED),
    Confidence(3, 3, randomness=0.7, fixed=FIXED),
    Remasking(3, 3, num_steps=3, eta=0.5, fixed=FIXED),
    Uniform(3, 3, num_steps=3, fixed=FIXED),
]
each_enumerable = pytest.mark.parametrize("process", ENUMERABLE, ids=lambda p: f"{p.name}-{p.steps}")


def marginals() -> Tensor:
    """Laws of three letters, one a position."""
    return torch.randn(3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64).softmax(-1)


class Constant(torch.nn.Module):
    """The same logits in every state."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits.expand(len(x), *self.logits.shape)


@each_enumerable
def test_independent_letters_have_their_law_given_what_is_allowed(process):
    """The law of designs is that of each position, renormalised over its letters: by hand, of every design."""
    found = law(Policy(process, Constant(marginals().log())))
    states = space(process)
    left = marginals() * ALLOWED
    left[1] = torch.tensor([0.0, 1.0, 0.0])
    left = left / left.sum(-1, keepdim=True)
    designs = states.states[states.designs].long()
    by_hand = left[torch.arange(3), designs].prod(-1)
    assert (by_hand > 0).sum() == 2 * 1 * 2
    torch.testing.assert_close(found, by_hand, atol=1e-7, rtol=0)


class Random(torch.nn.Module):
    """Logits that depend on every coordinate of the state and on the time; with `mask`, none for some letters."""

    def __init__(self, mask: Tensor | None = None):
        super().__init__()
        self.mask = mask

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        weight = torch.randn(x[0].numel() + 1, 9, generator=torch.Generator().manual_seed(7))
        seen = torch.cat([x.flatten(1).float(), t.float().unsqueeze(-1)], -1)
        logits = (seen @ weight).sin().unflatten(-1, (3, 3)) * 2
        return logits if self.mask is None else logits.masked_fill(~self.mask, FORBIDDEN)


@each_enumerable
def test_a_network_that_depends_on_the_state_is_renormalised_in_every_step(process):
    """The same chain by a network that rules the letters out itself, in a process that holds positions only."""
    both = ALLOWED | HELD.mask.unsqueeze(-1)
    found = law(Policy(process, Random()))
    torch.testing.assert_close(found, law(Policy(process.holding(HELD), Random(both))), atol=1e-6, rtol=0)
    states = space(process)
    designs = states.states[states.designs].long()
    fine = ALLOWED[torch.arange(3), designs].all(-1) & (designs[:, 1] == 1)
    assert found[~fine].abs().max() < 1e-12 and found.sum() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("steps", [2, 30])
def test_points_of_a_simplex_end_at_letters_that_are_allowed(steps):
    process = Simplex(3, 3, num_steps=steps, fixed=FIXED)
    policy = Policy(process, Random())
    tokens = process.tokens(sample(policy, 2000, torch.Generator().manual_seed(0))).long()
    assert ALLOWED[torch.arange(3), tokens].all() and (tokens[:, 1] == 1).all()
    x = process.noise(50, torch.Generator().manual_seed(1))
    both = ALLOWED | HELD.mask.unsqueeze(-1)
    other = Policy(process.holding(HELD), Random(both))
    for k in range(process.steps):
        ours, theirs = policy.kernel(x, k), other.kernel(x, k)
        torch.testing.assert_close(ours.mean, theirs.mean)
        torch.testing.assert_close(ours.x0.exp(), theirs.x0.exp())
        x = ours.sample(torch.Generator().manual_seed(k))


@pytest.mark.parametrize(
    "process", [*ENUMERABLE, Simplex(3, 3, num_steps=3, fixed=FIXED)], ids=lambda p: f"{p.name}-{p.steps}"
)
def test_guesses_keep_to_them(process):
    policy = Policy(process, Random())
    x = process.noise(300, torch.Generator().manual_seed(0))
    for generator in (None, torch.Generator().manual_seed(1)):
        guess = policy.kernel(x, 0).guess(generator)
        tokens = (process.tokens(guess) if isinstance(process, Simplex) else guess).long()
        assert ALLOWED[torch.arange(3), tokens].all() and (tokens[:, 1] == 1).all()


def test_every_process_of_letters_is_tried():
    from biotilt.processes import PROCESSES

    tried = {process.name for process in ENUMERABLE} | {"simplex"}
    assert tried == {name for name, kind in PROCESSES.items() if issubclass(kind, LetterProcess)}
