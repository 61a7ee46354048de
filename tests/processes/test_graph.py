"""graph: steps written out again, laws of whole chains of gaussian data, masks, counts and the order of nodes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from graph_samples import KINDS, MIXED, Gaussians, generator, level, levels, parts_of
from torch import Tensor

from biotilt.core import Policy, kernel_at, rollout
from biotilt.core.fixed import Fixed
from biotilt.core.graphs import GraphLayout
from biotilt.errors import ConfigError
from biotilt.processes import PROCESSES, Graph

each_kind = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
MEAN, VARIANCE = torch.tensor([0.9, -0.4, 1.3]), torch.tensor([0.3, 0.7, 0.15])  # two nodes and their edge


def step_by_hand(process: Graph, part: str, k: int, mean: float, variance: float, x: float) -> tuple[float, float]:
    """Mean and std of one coordinate of x[k+1] given x[k] = x, for data N(mean, variance), as equations of papers."""
    grid = levels(process, part)
    (a, s), (a_next, s_next) = grid[k : k + 2]
    if process.memoryless and k == 0:
        x = 0.0
    score = -(x - a * mean) / (a * a * variance + s * s)
    x0 = (x + s * s * score) / a  # Tweedie
    if (a, s) == (a_next, s_next):  # Langevin, with 1 − β of the predictor that follows
        h = 2 * (a / grid[k + 2][0]) ** 2 * (process.snr * s) ** 2
        return x + h * score, math.sqrt(2 * h) * process.loudness
    if process.memoryless and k == 0:
        return a_next * x0, s_next
    added = s * s - (a / a_next * s_next) ** 2
    if process.predictor == "reverse" and k + 1 < process.steps:
        return (2 - a / a_next) * x + added * score, math.sqrt(added)
    covariance = a / a_next * s_next**2  # of x[k] and x[k+1], given x_0: condition on x[k]
    return a_next * x0 + covariance / s**2 * (x - a * x0), math.sqrt(s_next**2 - covariance**2 / s**2)


@each_kind
def test_every_step_is_that_of_the_equations(options, double):
    process = Graph(2, 1, num_steps=4, **options)
    net = Gaussians(process, MEAN, VARIANCE)
    x = torch.tensor([[0.3, -1.1, 0.8, 2.0], [1.7, 0.2, -0.5, 2.0]])
    for k in range(process.steps):
        kernel = kernel_at(process, net, x, k)
        for row, place in itertools.product(range(2), range(3)):
            part, mean, variance = parts_of(process)[place], float(MEAN[place]), float(VARIANCE[place])
            wanted = step_by_hand(process, part, k, mean, variance, float(x[row, place]))
            assert (float(kernel.mean[row, place]), float(kernel.std[row, place])) == pytest.approx(wanted, rel=1e-9)
        assert (kernel.std > 0).all() and (kernel.mean[:, -1] == 2).all()
    assert process.steps == len(levels(process, "node")) - 1


@each_kind
def test_x0_is_the_posterior_mean_of_the_design(options, double):
    """By regression of x[K] = a_K x_0 + s_K ε on a state that holds the same ε: x[k] = a/a_K x[K] + noise."""
    process = Graph(2, 1, num_steps=4, **options)
    x = torch.tensor([[0.3, -1.1, 0.8, 2.0]])
    for k in range(1, process.steps):
        kernel = kernel_at(process, Gaussians(process, MEAN, VARIANCE), x, k)
        for place, part in enumerate(parts_of(process)):
            grid, mean, variance = levels(process, part), float(MEAN[place]), float(VARIANCE[place])
            (a, s), (a_end, s_end) = grid[k], grid[-1]
            of_design = a_end**2 * variance + s_end**2
            slope = a / a_end * of_design / (a * a * variance + s * s)
            wanted = a_end * mean + slope * (float(x[0, place]) - a * mean)
            assert float(kernel.x0[0, place]) == pytest.approx(wanted, rel=1e-9)


def moments(policy: Policy) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance `(D − 1)` of designs, for kernels affine in the state, propagated step by step."""
    process = policy.process
    size = MEAN.numel()
    probes = torch.cat([torch.zeros(1, size), torch.eye(size)])
    probes = torch.cat([probes, torch.full((size + 1, 1), 2.0)], -1)
    start = torch.tensor([{"ve": span[1], "vp": 1.0}[law] for law, span in laws_of(process)])
    mean, covariance = torch.zeros(size), torch.diag(start.square())
    for k in range(process.steps):
        kernel = policy.kernel(probes, k)
        values = kernel.mean[:, :-1]
        matrix = (values[1:] - values[0]).T
        mean = values[0] + matrix @ mean
        covariance = matrix @ covariance @ matrix.T + torch.diag(kernel.std[0, :-1].square())
    return mean, covariance


def laws_of(process: Graph) -> list[tuple[str, tuple[float, float]]]:
    of = {"node": (process.node_law, process.node_range), "edge": (process.edge_law, process.edge_range)}
    return [of[part] for part in parts_of(process)]


def law_of_many_steps(process: Graph, place: int) -> tuple[float, float]:
    """Mean and variance of a coordinate of designs as K grows: the last noise by regression on x_1, and one step.

    x_1 is drawn as the chain begins, not from the noised data, which for so little noise is another law.
    """
    law, span = laws_of(process)[place]
    m, v = float(MEAN[place]), float(VARIANCE[place])
    a, s = level(law, span, 1.0)
    gain = a * v / (a * a * v + s * s)
    if process.memoryless:
        mean, variance = a * (m - gain * a * m), s * s  # what the network says of a state of zeros
    else:
        mean, variance = 0.0, span[1] ** 2 if law == "ve" else 1.0
    low = span[0] if law == "ve" else 0.0  # the noise that is left before the last step, of which a share remains
    shared = a * v + low**2  # covariance of the state at that level and x_1
    gain = shared / (a * a * v + s * s)
    mean, variance = m + gain * (mean - a * m), gain**2 * variance + v + low**2 - gain * shared
    kept, belief = process.remainder**2, v / (v + low**2)
    slope = belief + kept * (1 - belief)
    return m + slope * (mean - m), slope**2 * variance + kept * low**2 * (1 - kept)


@pytest.mark.parametrize("memoryless", [True, False])
@pytest.mark.parametrize("predictor", ["ancestral", "reverse"])
def test_the_law_of_designs_tends_to_what_the_noise_at_t_1_leaves_of_the_data(memoryless, predictor, double):
    """Mean and variance of every coordinate; the error falls nearly as 1/K."""
    found = []
    for steps in (20, 40, 80):
        process = Graph(2, 1, num_steps=steps, memoryless=memoryless, predictor=predictor, **MIXED)
        mean, covariance = moments(Policy(process, Gaussians(process, MEAN, VARIANCE)))
        wanted = torch.tensor([law_of_many_steps(process, place) for place in range(3)])
        found.append((torch.stack([mean, covariance.diagonal()], -1) - wanted).abs().max().item())
        assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 1e-12
    assert found[0] < 0.15
    assert found[1] < 0.62 * found[0] and found[2] < 0.62 * found[1]


def test_correctors_mend_what_the_noise_at_t_1_is_wrong_about(double):
    """Without them the mean of designs stays behind that of the data; with them it comes near."""
    behind = []
    for snr in (0.0, 0.2):
        process = Graph(2, 1, num_steps=50, memoryless=False, snr=snr, **MIXED)
        mean, _ = moments(Policy(process, Gaussians(process, MEAN, VARIANCE)))
        behind.append((mean - MEAN).abs().max().item())
    assert behind[0] > 0.05 and behind[1] < behind[0] / 5


class Messages(torch.nn.Module):
    """A network that does not know the order of nodes: sums over neighbours, products of pairs."""

    def __init__(self, layout: GraphLayout):
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        nodes, adjacency, there = self.layout.parts(x)
        told = t.view(-1, 1, 1)
        sums = torch.tanh(adjacency @ nodes * 0.3 + told) + nodes.flip(-1) * there.sum(-1).view(-1, 1, 1) / 5
        pairs = torch.sin(nodes @ nodes.mT) * 0.4 + adjacency.square() * 0.1 - told
        return self.layout.join(sums, pairs, x[:, -1])


@each_kind
def test_the_order_of_nodes_means_nothing_to_a_kernel(options, double):
    process = Graph(4, 2, counts=(0, 0, 1, 2), num_steps=3, **options)
    layout, net = process.layout, Messages(process.layout)
    x, y = process.noise(6, generator(1)).double(), process.noise(6, generator(1)).double()
    y = torch.where(layout.free(layout.counts(x)), y.roll(1, 0) * 0.5 + 0.1, y)
    order = torch.stack([torch.cat([torch.randperm(3, generator=generator(i)), torch.tensor([3])]) for i in range(6)])
    assert set(layout.counts(x).tolist()) == {3, 4}
    for k in range(process.steps):
        one, other = (kernel_at(process, net, state, k) for state in (x, layout.permuted(x, order)))
        torch.testing.assert_close(other.mean, layout.permuted(one.mean, order))
        torch.testing.assert_close(other.log_prob(layout.permuted(y, order)), one.log_prob(y))
        assert torch.equal(other.std, one.std) and (one.log_prob(y) != one.log_prob(x)).all()
        # all coordinates of a part are noised alike
        assert len(one.std[0, :8].unique()) == len(one.std[0, 8:14].unique()) == 1


def test_the_noise_is_normal_and_counts_have_their_chances():
    process = Graph(3, 2, counts=(0, 3, 1), **MIXED)
    x = process.noise(40_000, generator(2))
    assert (x[:, -1] == 2).float().mean().item() == pytest.approx(0.75, abs=0.01)
    three = x[x[:, -1] == 3][:, :-1].double()
    wide = torch.tensor([1.0] * 6 + [1.5**2] * 3)
    close = {"atol": 0.08 * 1.5**2, "rtol": 0}
    torch.testing.assert_close(three.T.cov(), torch.diag(wide).double(), **close)
    torch.testing.assert_close(three.mean(0), torch.zeros(9).double(), atol=0.06, rtol=0)
    always = Graph(3, 1).noise(5, generator())
    assert (always[:, -1] == 3).all() and (always[:, :-1] != 0).all()


@each_kind
def test_what_is_not_there_stays_away_and_costs_nothing(options):
    process = Graph(3, 2, counts=(1, 2, 1), num_steps=3, **options)
    policy = Policy(process, Messages(process.layout))
    chain = rollout(policy, 200, generator(3), base=Policy(process, Messages(process.layout)), terms=True)
    counts = chain.states[0][:, -1]
    absent = ~process.layout.free(counts.long())
    assert set(counts.tolist()) == {1, 2, 3}
    for x in [*chain.states, process.corrupt(chain.designs, 0, generator(4))]:
        assert torch.equal(x[:, -1], counts) and (x[:, :-1][absent[:, :-1]] == 0).all()
        assert (x[:, :-1][~absent[:, :-1]] != 0).all()
    kernel = policy.kernel(chain.states[1], 1)
    assert (kernel.terms(chain.states[2])[absent] == 0).all()
    alone = Graph(1, 2, num_steps=3, **options)
    one = chain.states[1][counts == 1]
    mine = kernel_at(process, lambda x, t: torch.tanh(x), one, 1).log_prob(chain.states[2][counts == 1])
    narrow = torch.tensor([0, 1, process.size - 1])
    next_one = chain.states[2][counts == 1][:, narrow]
    torch.testing.assert_close(mine, kernel_at(alone, lambda x, t: torch.tanh(x), one[:, narrow], 1).log_prob(next_one))


def test_nothing_depends_on_the_first_state_but_n():
    process = Graph(3, 1, counts=(0, 1, 1), num_steps=3)
    net = Messages(process.layout)
    x = process.noise(8, generator(5))
    x[:, -1] = 2
    x = torch.where(process.layout.free(process.layout.counts(x)), x, 0.0)
    x[:, -1] = 2
    kernel = kernel_at(process, net, x, 0)
    free = process.layout.free(torch.tensor([2]))[0]
    assert (kernel.mean[:, free] == kernel.mean[:1, free]).all()
    read = kernel_at(Graph(3, 1, counts=(0, 1, 1), num_steps=3, memoryless=False), net, x, 0)
    assert (read.mean[1:, free] != read.mean[:1, free]).all()


@each_kind
def test_corrupt_has_the_law_of_the_path_from_the_design(options, double):
    process = Graph(2, 1, num_steps=4, **options)
    design = torch.tensor([[0.4, -0.7, 1.2, 2.0]]).expand(30_000, 4)
    for k in range(process.steps + 1):
        x = process.corrupt(design, k, generator(6))
        for place, part in enumerate(parts_of(process)):
            grid = levels(process, part)
            (a, s), (a_end, s_end) = grid[k], grid[-1]
            mean, variance = a / a_end * float(design[0, place]), s * s - (a / a_end * s_end) ** 2
            if k == 0 and process.memoryless:
                law, span = laws_of(process)[place]
                mean, variance = 0.0, (span[1] if law == "ve" else 1.0) ** 2
            assert x[:, place].mean().item() == pytest.approx(mean, abs=0.03)
            assert x[:, place].var().item() == pytest.approx(variance, abs=0.05 * variance + 1e-12)
    assert torch.equal(x, design)


def test_held_coordinates_never_move():
    mask = torch.zeros(10, dtype=torch.bool)
    mask[[0, 1, 6]] = True  # the first node, and its edge to the second
    fixed = Fixed(mask, torch.linspace(0.5, 1.4, 10))
    process = Graph(3, 2, counts=(0, 1, 1), fixed=fixed, num_steps=3)
    x = process.noise(20, generator(7))
    for k in range(process.steps):
        assert torch.equal(x[:, mask], fixed.letters[mask].expand(20, -1))
        kernel = kernel_at(process, Messages(process.layout), x, k)
        assert (kernel.terms(x)[:, mask] == 0).all()
        x = kernel.sample(generator(k))
    assert torch.equal(x[:, mask], fixed.letters[mask].expand(20, -1))
    assert torch.equal(process.holding(None).noise(2, generator()), Graph(3, 2, (0, 1, 1)).noise(2, generator()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": 0}, "nodes"),
        ({"counts": (1.0, 2.0)}, "counts must be the weights of 1 … 3 nodes"),
        ({"counts": (0.0, 0.0, 0.0)}, "not all 0"),
        ({"edge_range": (1.0, 0.1)}, "edge_range must rise"),
        ({"node_law": "vpe"}, "node_law"),
        ({"remainder": 1.0}, "remainder"),
        ({"prediction": "velocity"}, "prediction"),
        ({"fixed": Fixed(torch.tensor([True, False]), torch.zeros(2))}, "fixed covers 2 coordinates"),
        ({"fixed": Fixed(torch.arange(7) == 6, torch.zeros(7))}, "said by `counts`"),
        ({"fixed": Fixed(torch.arange(7) == 2, torch.zeros(7)), "counts": (0, 1, 1)}, "graphs of 2 nodes have not"),
        ({"fixed": Fixed(torch.arange(7) == 0, torch.zeros(7).long())}, "floating-point values"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Graph(**{"nodes": 3, "features": 1, **options})


def test_it_is_built_from_a_table():
    table = {"name": "graph", "nodes": 2, "features": 1, "counts": [1, 3], "node_range": [0.1, 2], "num_steps": 5}
    assert PROCESSES.of_table(table) == Graph(2, 1, (1.0, 3.0), node_range=(0.1, 2.0), num_steps=5)
