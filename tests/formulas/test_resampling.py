"""Systematic resampling against N w, integrated over its one random number, and against multinomial draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from biotilt.formulas.resampling import log_mean_error, log_mean_exp, systematic_resample

WEIGHTS = torch.tensor([0.05, 0.4, 0.0, 0.13, 0.3, 0.02, 0.1, 0.0])
LOG_WEIGHT = WEIGHTS.log() + 7.0  # any constant: weights need not be normalised


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(log_weight: Tensor, seeds: int) -> Tensor:
    drawn = generator()
    size = len(log_weight)
    rows = [systematic_resample(log_weight, drawn).bincount(minlength=size) for _ in range(seeds)]
    return torch.stack(rows).double()


def test_counts_are_unbiased_and_steadier_than_multinomial():
    found = counts(LOG_WEIGHT, 4000)
    expected = len(WEIGHTS) * WEIGHTS.double()
    assert (found.sum(1) == len(WEIGHTS)).all()
    off = (found.mean(0) - expected).abs()
    assert (off <= 4 * found.std(0) / math.sqrt(4000) + 1e-9).all()
    multinomial = expected * (1 - WEIGHTS.double())
    varied = WEIGHTS > 0
    assert (found.var(0)[varied] < 0.75 * multinomial[varied]).sum() >= 4
    assert (found.var(0)[varied] < 1.05 * multinomial[varied]).all()


def test_every_count_is_rounded_down_or_up():
    found = counts(LOG_WEIGHT, 300)
    expected = len(WEIGHTS) * WEIGHTS.double()
    assert ((found >= (expected - 1e-6).floor()) & (found <= (expected + 1e-6).ceil())).all()
    assert len(found.unique(dim=0)) > 3


def test_equal_weights_keep_every_particle():
    assert systematic_resample(torch.full((64,), -1234.5), generator()).tolist() == list(range(64))


def test_what_weighs_nothing_is_never_drawn():
    """Also at the end, where the last tooth of the comb may round up to 1."""
    log_weight = torch.full((1000,), -torch.inf)
    log_weight[[3, 500]] = torch.tensor([0.0, 1.0])
    for seed in range(50):
        assert set(systematic_resample(log_weight, generator(seed)).tolist()) <= {3, 500}


@pytest.mark.parametrize("shift", [0.0, 1 - 2**-24])
def test_the_first_and_the_last_tooth_find_a_particle_that_weighs(monkeypatch, shift):
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.tensor(shift))
    log_weight = torch.zeros(999)
    log_weight[:5] = log_weight[-5:] = -torch.inf
    drawn = systematic_resample(log_weight, generator())
    assert drawn.min() == 5 and drawn.max() == 993


def test_weights_of_any_size():
    """exp would overflow, and underflow."""
    for shift in (-1e4, 1e4):
        drawn = systematic_resample(torch.tensor([0.0, 1.0, -50.0]).log_softmax(0) + shift, generator())
        assert drawn.max() < 2


@pytest.mark.parametrize("bad", [-torch.inf, torch.nan])
def test_no_weight_at_all_is_refused(bad):
    with pytest.raises(ValueError, match="no particle has a weight"):
        systematic_resample(torch.full((4,), bad), generator())


def test_log_mean_exp():
    x = torch.tensor([[0.0, -torch.inf], [math.log(3.0), -torch.inf]])
    torch.testing.assert_close(log_mean_exp(x), torch.tensor([math.log(2.0), -torch.inf]))
    torch.testing.assert_close(log_mean_exp(x + 1e4, 1)[0], torch.tensor(1e4 - math.log(2.0)))


def test_the_error_of_a_mean_is_the_textbook_one_in_any_unit():
    weights = torch.tensor([0.5, 2.0, 0.0, 7.0, 1.1], dtype=torch.float64)
    expected = (weights.std() / math.sqrt(5) / weights.mean()).item()
    for shift in (0.0, 3e3):
        assert log_mean_error(weights.log() + shift) == pytest.approx(expected, rel=1e-9)
    assert log_mean_error(torch.zeros(4)) == pytest.approx(0, abs=1e-7)
    assert log_mean_error(torch.zeros(1)) is None and log_mean_error(torch.full((3,), -torch.inf)) is None


def test_the_error_after_resampling_is_the_spread_over_runs():
    """Particles on three states, weighed, drawn anew and weighed again: the variance of Ẑ/Z over 20,000 runs."""
    g, runs, count = generator(), 20_000, 12
    start, first = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 1.0, 2.2])
    move, second = torch.tensor([[0.8, 0.2], [0.3, 0.7], [0.5, 0.5]]), torch.tensor([0.3, 1.4])
    state = torch.multinomial(start.expand(runs, 3), count, replacement=True, generator=g)
    weight = first[state]
    kept = torch.multinomial(weight, count, replacement=True, generator=g)
    after = torch.multinomial(move[state.gather(1, kept)].flatten(0, 1), 1, generator=g).view(runs, count)
    last = second[after]
    estimates = (weight.mean(1) * last.mean(1)).double()
    z = (start * first) @ move @ second
    assert estimates.mean().item() == pytest.approx(z.item(), rel=0.01)
    spread = (estimates.std() / z).item()
    told = [log_mean_error(w.log(), k, 1) for w, k in zip(last[:4000], kept[:4000])]
    rms = math.sqrt(sum(t * t for t in told if t is not None) / len(told))
    assert rms == pytest.approx(spread, rel=0.08)
    assert log_mean_error(last[0].log(), kept[0], 1) > log_mean_error(last[0].log())  # type: ignore[operator]
