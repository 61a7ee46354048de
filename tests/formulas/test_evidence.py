"""The sandwich of log p, with the chain's law by pushing mass and the bounds by every hidden set."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy
from biotilt.core.fixed import Fixed
from biotilt.formulas.evidence import evidence_lower, evidence_upper
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder, Masked
from biotilt.processes.revealing import RevealingProcess
from biotilt.testing import all_designs, law

L, V = 3, 2
DESIGNS = all_designs(V, L)
PROCESSES = [
    AnyOrder(L, V), AnyOrder(L, V, per_step=2), AnyOrder(L, V, order="left_to_right"),
    Masked(L, V, num_steps=2), Masked(L, V, num_steps=5, schedule="cosine"),
]  # fmt: skip
IDS = ["one letter", "two letters", "from left", "masked K=2", "masked K=5"]
each = pytest.mark.parametrize("process", PROCESSES, ids=IDS)

pytestmark = pytest.mark.usefixtures("double")


def random_policy(process: RevealingProcess, seed: int, size: float = 1.5) -> Policy:
    """A table that is no joint law's: the probability of a letter depends on what is shown, inconsistently."""
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(((V + 1) ** L, L, V), generator=generator, dtype=torch.float64)
    return Policy(process, StateTable(V, L, logits))


def share_hidden(process: RevealingProcess, k: int, hidden: tuple[bool, ...]) -> float:
    """The probability that noising to step k hides exactly these positions."""
    count = sum(hidden)
    if isinstance(process, AnyOrder) and process.order == "left_to_right":
        return float(hidden == tuple(place >= k for place in range(L)))
    if isinstance(process, AnyOrder):
        return 1 / math.comb(L, count) if count == L - k * process.per_step else 0.0
    t = 1 - k / process.steps
    clean = {"loglinear": 1 - t, "cosine": 1 - math.cos((1 - t) * math.pi / 2)}[process.schedule]  # type: ignore[attr-defined]
    return (1 - clean) ** count * clean ** (L - count)


def every_draw(policy: Policy, designs: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities and weights `(M, B, L)` of every step and hidden set, so that their mean is the expectation."""
    process = policy.process
    log_probs, weights = [], []
    for k, hidden in itertools.product(range(process.steps), itertools.product([False, True], repeat=L)):
        x = designs.masked_fill(torch.tensor(hidden), V)
        kernel = policy.kernel(x, k)
        chance = share_hidden(process, k, hidden) * kernel.reveal_probability()  # type: ignore[arg-type, attr-defined]
        log_probs.append(kernel.terms(designs))  # type: ignore[attr-defined]
        weights.append(torch.tensor(hidden) * chance.expand(len(designs), L))
    return torch.stack(log_probs), torch.stack(weights) * len(weights)


@each
def test_every_position_is_revealed_once(process):
    _, weight = every_draw(random_policy(process, 0), DESIGNS)
    torch.testing.assert_close(weight.mean(0), torch.ones(len(DESIGNS), L))


@pytest.mark.parametrize("seed", range(20))
@each
def test_log_p_lies_between_the_bounds(process, seed):
    """For any network, with β = the number of positions or more; several positions revealed in a step included."""
    policy = random_policy(process, seed)
    log_p = law(policy).log()
    log_prob, weight = (part.detach() for part in every_draw(policy, DESIGNS))
    lower = evidence_lower(log_prob, weight)
    uppers = [evidence_upper(log_prob, weight, beta) for beta in (L, 4.0, 9.0)]
    assert (lower <= log_p + 1e-9).all() and (log_p <= uppers[0] + 1e-9).all()
    assert (uppers[0] <= uppers[1] + 1e-9).all() and (uppers[1] <= uppers[2] + 1e-9).all()
    if process.one_chain:  # no order to be uncertain of
        torch.testing.assert_close(lower, log_p)
        torch.testing.assert_close(uppers[0], log_p)
    else:
        assert (log_p - lower).max() > 0.05 and (uppers[0] - log_p).max() > 0.05


def test_bounds_are_tight_where_the_context_does_not_matter():
    letters = torch.randn(1, L, V, generator=torch.Generator().manual_seed(3))
    policy = Policy(AnyOrder(L, V), StateTable(V, L, letters.expand((V + 1) ** L, L, V)))
    log_prob, weight = every_draw(policy, DESIGNS)
    log_p = law(policy).log()
    torch.testing.assert_close(evidence_lower(log_prob, weight), log_p)
    for beta in (1.0, 3.0):
        torch.testing.assert_close(evidence_upper(log_prob, weight, beta), log_p)


def test_a_small_power_may_lie_below_log_p():
    """Two positions: context helps the first letter (0.2 → 0.8) and harms the second (0.8 → 0.2), by hand.

    p = ½(0.2 · 0.2 + 0.8 · 0.8) = 0.34; the published form at β = 1 is 0.5 · 0.5 = 0.25; at β = 2 it is the root
    of the mean square, 0.34, both times, and a bound.
    """
    # both hidden; the first shown last; the second shown last
    log_prob = torch.tensor([[[0.2, 0.8]], [[0.8, 1.0]], [[1.0, 0.2]]]).log()
    weight = torch.tensor([[[1.5, 1.5]], [[1.5, 0.0]], [[0.0, 1.5]]])
    p = 0.5 * (0.2 * 0.2 + 0.8 * 0.8)
    assert evidence_upper(log_prob, weight, 1.0).exp().item() == pytest.approx(0.25)
    assert evidence_upper(log_prob, weight, 2.0).exp().item() == pytest.approx(0.34)
    assert 0.25 < p <= 0.34 + 1e-12


def test_positions_never_hidden_count_nothing_and_give_no_nan():
    log_prob = torch.full((2, 1, 2), -1.0, requires_grad=True)
    weight = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]])
    upper = evidence_upper(log_prob, weight, 2.0)
    assert upper.tolist() == [-1.0]
    upper.sum().backward()
    # a mean over draws in proportion to the weight, as all letters are as likely
    torch.testing.assert_close(log_prob.grad, torch.tensor([[[0.25, 0.0]], [[0.75, 0.0]]]))


@each
def test_draws_of_the_process_have_the_enumerated_expectation(process):
    """`letter_evidence` itself: 20 000 draws of one design, for both bounds and for the weights."""
    policy = random_policy(process, 4, size=0.8)
    design = torch.tensor([[1, 0, 1]], dtype=torch.int8)
    exact = every_draw(policy, design)
    drawn = process.letter_evidence(policy.net, design, torch.Generator().manual_seed(0), 20_000)
    assert drawn[0].shape == drawn[1].shape == (20_000, 1, L)
    torch.testing.assert_close(drawn[1].mean(0), torch.ones(1, L), atol=0.05, rtol=0)
    assert evidence_lower(*drawn).item() == pytest.approx(evidence_lower(*exact).item(), abs=0.05)
    for beta in (1.0, 3.0):
        assert evidence_upper(*drawn, beta).item() == pytest.approx(evidence_upper(*exact, beta).item(), abs=0.03)


def test_few_draws_cover_the_steps():
    """Stratified: of L draws of a one-letter chain, one hides one position, one two, one three, for every design."""
    process = AnyOrder(L, V)
    _, weight = process.letter_evidence(random_policy(process, 0).net, DESIGNS, torch.Generator().manual_seed(1), L)
    assert ((weight > 0).sum(-1).sort(0).values == torch.tensor([[1], [2], [3]])).all()


def test_held_positions_carry_no_evidence():
    fixed = Fixed(torch.tensor([False, True, False]), torch.tensor([0, 1, 0], dtype=torch.int8))
    process = AnyOrder(L, V, fixed=fixed)
    design = torch.tensor([[1, 1, 0]], dtype=torch.int8)
    log_prob, weight = process.letter_evidence(
        random_policy(process, 0).net, design, torch.Generator().manual_seed(1), 8
    )
    assert (weight[..., 1] == 0).all() and (log_prob[..., 1] == 0).all()
    assert evidence_upper(log_prob, weight, 2.0).isfinite().all()
