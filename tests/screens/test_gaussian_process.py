"""The gaussian process against closed forms, and its growing factor against one made at once."""

from __future__ import annotations

import math

import pytest
import torch

from biotilt.core import View
from biotilt.screens.gaussian_process import GaussianProcess, most_likely
from biotilt.screens.kernels import Coordinates, Counts, Kmers, Pooled, Similarity, Tanimoto, similarity, tanimoto
from biotilt.spaces import DNA, Letters, Padded, Points
from biotilt.spaces.selfies import Selfies

torch_double = torch.float64


class Given(Similarity):
    """exp(−(a − b)²) of single numbers."""

    name, reads = "given", "numbers"

    def __init__(self):
        pass

    @classmethod
    def fits(cls, view):
        return True

    def read(self, states):
        return (states.double(),)

    def compare(self, a, b):
        return ((a[0].unsqueeze(1) - b[0]).square(),)

    def settings(self, known):
        return [(0.5,), (1.0,), (3.0,)]

    def alike(self, compared, setting):
        return (-compared[0] * setting[0]).exp()


def numbers(*values):
    return (torch.tensor(values, dtype=torch_double),)


def test_the_posterior_of_two_points_is_what_two_equations_say():
    process = GaussianProcess(Given(), (1.0,), noise=0.5)
    process.add(numbers(0.0, 1.0))
    process.condition(torch.tensor([2.0, 5.0], dtype=torch_double))
    c = math.exp(-1)  # A = [[1.5, c], [c, 1.5]]: its inverse, by hand, is [[1.5, −c], [−c, 1.5]]/(2.25 − c²)
    det = 2.25 - c * c
    # both rows of the inverse have the same sum, so the mean is the plain one, and y − m = ∓1.5
    weight = 1.5 * (1.5 + c) / det
    assert process.mean == pytest.approx(3.5)
    assert process.variance == pytest.approx(1.5 * weight)
    near, far = math.exp(-(0.25**2)), math.exp(-(0.75**2))
    mean, deviation = process.predict(numbers(0.25))
    assert mean.item() == pytest.approx(3.5 - weight * near + weight * far)
    known = (1.5 * near**2 - 2 * c * near * far + 1.5 * far**2) / det
    assert deviation.item() == pytest.approx(math.sqrt(1.5 * weight * (1 - known)))


def test_the_likelihood_is_that_of_a_normal_law_at_the_best_mean_and_scale():
    process = GaussianProcess(Given(), (1.0,), noise=0.2)
    x, y = numbers(0.0, 0.3, 2.0), torch.tensor([1.0, 0.5, -1.0], dtype=torch_double)
    process.add(x)
    found = process.condition(y)

    def log_density(mean, variance):
        covariance = variance * (Given().between(x, x, (1.0,)) + 0.2 * torch.eye(3))
        law = torch.distributions.MultivariateNormal(torch.full((3,), mean, dtype=torch_double), covariance)
        return law.log_prob(y).item()

    assert found == pytest.approx(log_density(process.mean, process.variance))
    around = [(0.01, 1.0), (-0.01, 1.0), (0.0, 1.02), (0.0, 0.98)]
    assert all(log_density(process.mean + d, process.variance * f) < found for d, f in around)


def test_rows_added_bit_by_bit_are_rows_added_at_once():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, generator=draw).double(), torch.randn(40, generator=draw).double()
    grown, whole = (GaussianProcess(Given(), (1.0,), noise=0.1) for _ in range(2))
    for part in x.split([7, 20, 1, 12]):
        grown.add((part,))
    whole.add((x,))
    assert grown.condition(y) == pytest.approx(whole.condition(y), abs=1e-8)
    new = (torch.linspace(-3, 3, 9).double(),)
    for ours, theirs in zip(grown.predict(new), whole.predict(new)):
        assert (ours - theirs).abs().max() < 1e-8
    assert (grown.covariance(new) - whole.covariance(new)).abs().max() < 1e-8
    assert grown.covariance(new).diagonal().sqrt().allclose(grown.predict(new)[1], atol=1e-8)


def test_the_setting_is_that_of_the_largest_likelihood():
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(60, generator=draw).double() * 10
    factor = torch.linalg.cholesky(Given().between((x,), (x,), (3.0,)) + 1e-3 * torch.eye(60))
    y = factor @ torch.randn(60, generator=draw).double()
    found = most_likely(Given(), (x,), y)
    assert found.setting == (3.0,) and found.noise == 0.01
    likelihoods = []
    for setting in Given().settings(()):
        process = GaussianProcess(Given(), setting, 0.01)
        process.add((x,))
        likelihoods.append(process.condition(y))
    assert max(likelihoods) == likelihoods[2]


def test_scores_that_are_all_the_same_are_predicted():
    process = most_likely(Given(), numbers(0.0, 1.0, 2.0), torch.full((3,), 4.0, dtype=torch_double))
    mean, deviation = process.predict(numbers(0.5))
    assert mean.item() == pytest.approx(4.0) and deviation.item() < 1e-6


def test_tanimoto_counts_by_hand():
    a = torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    b = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [3.0, 0.0, 1.0]])
    # (1 + 0 + 1) / (3 + 2 + 1); nothing in common with nothing; itself; two designs without any part
    assert tanimoto(a, b).tolist() == [[2 / 6, 0.0, 1.0], [0.0, 1.0, 0.0]]


def test_tanimoto_is_the_sum_of_minima_over_the_sum_of_maxima():
    draw = torch.Generator().manual_seed(2)
    a, b = (torch.poisson(torch.full((n, 30), 0.7), generator=draw) for n in (20, 11))
    low = torch.minimum(a.unsqueeze(1), b).sum(-1)
    high = torch.maximum(a.unsqueeze(1), b).sum(-1)
    assert tanimoto(a, b).allclose((low / high).double())


def view(space, embed=None):
    return View(space, space.decode, embed)


def states_of(space, count, length):
    draw = torch.Generator().manual_seed(3)
    if isinstance(space, Points):
        return torch.randn(count, length, generator=draw)
    return torch.randint(len(space.symbols), (count, length), generator=draw)


MOLECULES = Selfies(("[C]", "[O]", "[N]", "[=C]", "[Ring1]", "[Branch1]", "[=O]"), 9)
CASES = [
    (Kmers, Letters(DNA), 12), (Kmers, Padded(DNA, 10), 10), (Counts, Letters(DNA), 12), (Tanimoto, MOLECULES, 9),
    (Counts, MOLECULES, 9), (Kmers, MOLECULES, 9), (Coordinates, Points(("x", "y", "z")), 3),
    (Pooled, Letters(DNA), 12),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "space", "length"), CASES)
def test_kernels_are_symmetric_and_positive_semi_definite_with_a_diagonal_of_ones(kind, space, length):
    kernel = kind(view(space, lambda states: torch.sin(states.double())))
    states = states_of(space, 60, length)
    features = kernel.read(states)
    compared = kernel.compare(features, features)
    settings = kernel.settings(compared)
    assert settings
    for setting in settings:
        matrix = kernel.alike(compared, setting)
        assert matrix.dtype == torch.float64 and matrix.allclose(matrix.T)
        assert (matrix.diagonal() - 1).abs().max() < 1e-9
        assert torch.linalg.eigvalsh(matrix).min() > -1e-9
        some = kernel.between(tuple(part[:5] for part in features), features, setting)
        assert some.allclose(matrix[:5])


def test_positions_count_where_a_space_has_them():
    kernel = Kmers(view(Letters(DNA)))
    a, b, c = (kernel.read(Letters(DNA).encode([text])) for text in ("ACGTACGT", "CGTACGTA", "ACGTACGA"))
    only_words, only_positions = (1.0, 2.0, 1.0), (0.0, 2.0, 0.25)
    assert kernel.between(a, c, only_positions).item() == pytest.approx(math.exp(-1 / 8 / 0.25))
    assert kernel.between(a, b, only_positions).item() == pytest.approx(math.exp(-1 / 0.25))
    assert kernel.between(a, b, only_words) > kernel.between(a, c, only_words)


def test_the_kernel_is_by_default_that_of_the_space():
    assert isinstance(similarity(None, view(Letters(DNA))), Kmers)
    assert type(similarity(None, view(MOLECULES))) is Counts
    assert isinstance(similarity(None, view(Points(("x", "y")))), Coordinates)
