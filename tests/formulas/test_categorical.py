"""Categorical formulas against longhand sums, frequencies and integers."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.formulas.categorical import (
    draw,
    draw_straight_through,
    geometric_mixture,
    kl_categorical,
    log_choose,
    neg_log_prob,
    stratified_uniform,
)

P = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.0, 0.05, 0.25, 0.7]])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draw_has_the_given_frequencies():
    n = 40_000
    drawn = draw(P.log().expand(n, 2, 4), generator())
    assert drawn.shape == (n, 2)
    for row in range(2):
        frequency = torch.bincount(drawn[:, row], minlength=4) / n
        # four standard errors of a frequency are at most 0.01 here
        assert (frequency - P[row]).abs().max() < 0.01
        assert (frequency[P[row] == 0] == 0).all()


def test_draw_inverts_the_cumulative_sum():
    """The same uniform numbers, compared with the edges 0.6, 0.9, 1 one by one."""
    u = torch.rand(200, generator=generator(3))
    expected = [0 if v < 0.6 else 1 if v < 0.9 else 2 for v in u.tolist()]
    assert draw(P[:1].log().expand(200, 4), generator(3)).tolist() == expected


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24])
def test_a_forbidden_letter_is_never_drawn(monkeypatch, u):
    """At the smallest and the largest number `torch.rand` gives, also when the sum is rounded below 1."""
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.full(tuple(shape), u))
    probabilities = torch.tensor([[0.0, 0.5, 0.4999, 0.0], [0.0, 1.0, 0.0, 0.0]])
    assert draw(probabilities.log(), generator()).tolist() == ([1, 1] if u == 0 else [2, 1])


def test_kl_by_hand():
    q = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.1, 0.2, 0.3, 0.4]])
    expected = [
        0.6 * math.log(0.6 / 0.25) + 0.3 * math.log(0.3 / 0.25) + 0.1 * math.log(0.1 / 0.25),
        0.05 * math.log(0.05 / 0.2) + 0.25 * math.log(0.25 / 0.3) + 0.7 * math.log(0.7 / 0.4),
    ]
    assert kl_categorical(P.log(), q.log()).tolist() == pytest.approx(expected, rel=1e-5)
    assert kl_categorical(P.log(), P.log()).tolist() == pytest.approx([0, 0], abs=1e-7)
    assert kl_categorical(q.log(), P.log()).tolist() == [math.inf, math.inf]


def test_kl_has_finite_gradients_where_a_letter_is_forbidden():
    """∂/∂z KL(p ‖ softmax z) = softmax z − p, also where p is 0; with the roles swapped nothing is NaN."""
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.5]], requires_grad=True)
    kl_categorical(P[:1].log(), logits.log_softmax(-1)).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - P[:1])
    forbidden = torch.tensor([[0.3, -torch.inf, 2.0]], requires_grad=True)
    kl_categorical(forbidden.log_softmax(-1), torch.tensor([[0.2, 0.3, 0.5]]).log()).sum().backward()
    assert forbidden.grad is not None and not forbidden.grad.isnan().any()


def test_geometric_mixture_by_hand():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.1, 0.8])
    raw = torch.tensor([a**0.75 * b**0.25 for a, b in zip(p.tolist(), q.tolist())])
    torch.testing.assert_close(geometric_mixture(p.log(), q.log(), 0.25).exp(), raw / raw.sum())
    torch.testing.assert_close(geometric_mixture(p.log(), q.log(), 0.0).exp(), p)
    torch.testing.assert_close(geometric_mixture(p.log(), q.log(), 1.0).exp(), q)


def test_geometric_mixture_of_forbidden_letters():
    p, q = torch.tensor([0.0, 0.4, 0.6, 0.0]), torch.tensor([0.5, 0.0, 0.5, 0.0])
    assert geometric_mixture(p.log(), q.log(), 0.5).exp().tolist() == pytest.approx([0, 0, 1, 0])
    assert geometric_mixture(p.log(), q.log(), 0.0).exp().tolist() == pytest.approx(p.tolist())
    assert geometric_mixture(p.log(), q.log(), 1.0).exp().tolist() == pytest.approx(q.tolist())


def test_neg_log_prob_by_hand():
    logits = torch.tensor([[[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]]])
    letters = torch.tensor([[1, 0]], dtype=torch.int8)
    first = math.log(math.e + math.e**2 + math.exp(0.5)) - 2
    second = math.log(2 + math.e**3)
    assert neg_log_prob(logits, letters)[0].tolist() == pytest.approx([first, second])


def test_log_choose_against_integers():
    pairs = [(n, m) for n in range(13) for m in range(n + 1)] + [(120, 60), (50, 5)]
    n, m = (torch.tensor(column) for column in zip(*pairs))
    expected = [math.log(math.comb(*pair)) for pair in pairs]
    assert log_choose(n, m).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_stratified_uniform_has_one_in_every_stratum(batch):
    u = stratified_uniform(batch, generator(5))
    assert (u * batch).long().sort().values.tolist() == list(range(batch))
    assert ((u >= 0) & (u < 1)).all()


def test_stratified_uniform_is_shuffled_and_not_on_a_grid():
    u = stratified_uniform(64, generator(6))
    assert not torch.equal(u, u.sort().values)
    offsets = u * 64 % 1
    assert offsets.std() > 0.2 and 0.35 < offsets.mean() < 0.65


def test_a_straight_through_draw_is_one_hot_with_the_given_frequencies():
    n = 40_000
    drawn = draw_straight_through(P.log().expand(n, 2, 4), generator(), 0.7)
    assert ((drawn == 0) | (drawn == 1)).all() and (drawn.sum(-1) == 1).all()
    assert (drawn.mean(0) - P).abs().max() < 0.01
    assert (drawn.mean(0)[P == 0] == 0).all()


def test_the_slope_of_a_straight_through_draw_is_that_of_the_softmax(monkeypatch):
    """With every u = e^(−1) the Gumbel noise is 0: softmax(log p / τ), by hand for three letters."""
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.full(shape, math.exp(-1)))
    log_p = torch.tensor([0.5, 0.3, 0.2]).log().requires_grad_()
    y = draw_straight_through(log_p, generator(), 0.5)
    assert y.tolist() == [1, 0, 0]
    weight = torch.tensor([1.0, -2.0, 4.0])
    (slope,) = torch.autograd.grad((y * weight).sum(), log_p)
    soft = torch.tensor([0.25, 0.09, 0.04]) / 0.38
    torch.testing.assert_close(slope, 2 * soft * (weight - (soft * weight).sum()))


def test_a_straight_through_draw_survives_the_smallest_number(monkeypatch):
    """u = 0 at the only letter that is allowed: still that letter, and no gradient is NaN."""
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.zeros(shape))
    logits = torch.tensor([0.0, -torch.inf], requires_grad=True)
    y = draw_straight_through(logits.log_softmax(-1), generator(), 1.0)
    y[0].backward()
    assert y.tolist() == [1, 0]
    assert logits.grad is not None and logits.grad.isfinite().all()
