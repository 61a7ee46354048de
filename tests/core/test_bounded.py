"""Gradients in bounded memory: the same to rounding, with graphs that are counted as the allocator sees them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from biotilt.core import Context, Policy, Replay, Roles, Target, draw_loss, path_kl, rollout
from biotilt.core.activations import graph_size, working_bytes
from biotilt.core.bounded import bounded, call
from biotilt.core.precision import computed_in
from biotilt.networks import CNN, CNNConfig, Transformer, TransformerConfig, ValueSize, value_network
from biotilt.objectives import OBJECTIVES
from biotilt.processes import Masked
from biotilt.testing import RowCounter, Rows
from biotilt.values import VALUES


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes that tensors took at one time, beyond those there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        work()
    events: list[Any] = [e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 3))


class Told(nn.Module):
    """A network of states and times."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([x, t.unsqueeze(-1)], -1))


def test_the_bytes_of_a_row_by_hand():
    """Kept are the inputs of linear layers, two of which are the outputs of tanh that those keep too: 6 + 2 · 50."""
    told = Told()
    size = graph_size(told, torch.zeros(4, 5), torch.zeros(4), room=1e9)
    assert (size.row, size.fixed, size.blockwise) == (4 * (6 + 50 + 50), 0, False)


def test_the_bytes_of_a_row_in_16_bits_leave_out_the_copies_of_weights():
    """Those are of all rows together: weights and biases of the layers but the last matter, by 2 bytes a number."""
    told = Told()
    with computed_in("bfloat16"):
        size = graph_size(told, torch.zeros(4, 5), torch.zeros(4), room=1e9)
    assert size.row == 2 * (6 + 50 + 50)
    assert 2 * (50 * 50 + 3 * 50) <= size.fixed <= 2 * (6 * 50 + 50 * 50 + 3 * 50 + 103)


def test_the_bytes_of_a_row_without_a_graph_by_hand():
    """The middle layer reads 50 numbers and says 50."""
    assert working_bytes(Told(), torch.zeros(4, 5), torch.zeros(4)) == 2 * 4 * (50 + 50)


@pytest.mark.parametrize("rows", [1, 2, 7, 40])
@pytest.mark.parametrize("megabytes", [1e-9, 106 * 4 * 6 / 1e6, 1.0])
def test_a_network_in_parts_has_the_same_outputs_and_gradient(rows, megabytes):
    told, x, t = Told(), torch.randn(rows, 5, generator=torch.Generator().manual_seed(1)), torch.linspace(0, 1, rows)

    def gradient() -> list[Tensor]:
        told.zero_grad()
        states = x.clone().requires_grad_()
        outputs = call(told, states, t)
        # no mean over rows: a loss may tie any of them to any other
        outputs.softmax(0).square().sum().backward()
        return [outputs.detach(), states.grad, *(p.grad for p in told.parameters())]  # type: ignore[list-item]

    expected = gradient()
    with bounded(megabytes), RowCounter(told=told) as counted:
        found = gradient()
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other)
    made_twice = {1e-9: rows - 1, 1.0: 0}.get(megabytes, max(0, rows - 6))
    assert counted["told"] == Rows(graph=rows + made_twice)


def test_without_a_gradient_rows_go_through_by_as_many_as_have_room():
    told, shown, x = Told(), [], torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
    row = working_bytes(told, x, torch.zeros(9))
    told.register_forward_pre_hook(lambda module, inputs: shown.append(len(inputs[0])))
    with torch.no_grad():
        with bounded(4 * 4 * row / 1e6):
            parts = call(told, x, torch.zeros(9))
        with bounded(1.0):
            whole = call(told, x, torch.zeros(9))
    assert shown == [4, 4, 1, 9]
    torch.testing.assert_close(parts, whole)


def test_what_is_drawn_without_a_gradient_is_bounded_whatever_the_number_of_designs():
    """Four times the chains: of the network no more is there at a time, and what it says of them is small."""
    torch.manual_seed(0)
    policy = Policy(Masked(64, 4, num_steps=2), CNN(CNNConfig(4, 64, channels=128, blocks=1, kernel=3)).eval())
    found = []
    for count in (16, 64):

        def draw(count: int = count) -> None:
            with bounded(1.0):
                rollout(policy, count, torch.Generator().manual_seed(0), base=policy)
                path_kl(policy, policy, count, torch.Generator().manual_seed(0))

        draw()
        found.append(peak(draw))
    outputs = 4 * 64 * 4  # bytes of a row, a few of which are there at a time
    assert found[1] - found[0] < 48 * outputs * 12
    assert found[1] < 1e6 + 64 * outputs * 12 < 64 * 128 * 64 * 4  # one layer of all rows


NETWORKS = {
    "cnn": lambda: CNN(CNNConfig(4, 16, channels=24, blocks=12)),
    "transformer": lambda: Transformer(TransformerConfig(4, 16, width=24, blocks=12, heads=2)),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_made_again_where_one_row_has_no_room(name):
    """The same outputs and gradient; and the graph of a row is what enters the blocks, and one of them."""
    torch.manual_seed(0)
    net, generator = NETWORKS[name](), torch.Generator().manual_seed(1)
    x, t = torch.randint(5, (3, 16), generator=generator), torch.rand(3, generator=generator)

    def gradient() -> list[Tensor]:
        net.zero_grad()
        outputs = call(net, x, t)
        outputs.softmax(0).square().sum().backward()
        return [outputs.detach(), *(p.grad for p in net.parameters() if p.grad is not None)]

    whole, blocks = graph_size(net, x, t, room=1e9), graph_size(net, x, t, room=0)
    assert blocks.blockwise and blocks.row < 0.6 * whole.row
    expected = gradient()
    entered = []
    first = net.convs[0] if isinstance(net, CNN) else net.blocks[0]
    first.register_forward_pre_hook(lambda module, inputs: entered.append(len(inputs[0])))
    with bounded(3 * blocks.row / 1e6):
        found = gradient()
    assert entered == [3, 3]  # all three rows, and again in the backward pass
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_peak_of_a_deep_network_is_less_than_the_graph_of_a_row():
    torch.manual_seed(0)
    net = Transformer(TransformerConfig(4, 64, width=64, blocks=32, heads=4))
    x, t = torch.zeros(4, 64, dtype=torch.int8), torch.zeros(4)

    def update() -> None:
        with bounded(1.0):
            call(net, x, t).square().sum().backward()

    update()
    net.zero_grad()
    weights = sum(4 * p.numel() for p in net.parameters())
    row = graph_size(net, x[:1], t[:1], room=1e9).row
    assert row > 6e6
    assert peak(update) < weights + row / 2, "though there are four"


def test_what_graphs_keep_together_is_bounded():
    """Three networks of one update share the bound."""
    nets, x, t = [Told() for _ in range(3)], torch.zeros(3000, 5), torch.zeros(3000)

    def work() -> None:
        with bounded(0.5):
            sum((call(told, x, t).square().sum() for told in nets), torch.zeros(())).backward()

    assert 3 * 3000 * 106 * 4 > 3.8e6
    assert peak(work) < 1.3e6


# ---- objectives ----------------------------------------------------------------------------------------------

LENGTH, LETTERS = 8, 3
WEIGHTS = torch.linspace(-1, 1, LENGTH * LETTERS).view(LENGTH, LETTERS)


class Sum:
    """A reward of letters, complete or relaxed."""

    def __call__(self, designs: Tensor) -> Tensor:
        return WEIGHTS.gather(1, designs.long().T).sum(0)

    def relaxed(self, designs: Tensor) -> Tensor:
        return (designs * WEIGHTS).sum((1, 2))


def context_of(objective, steps: int, channels: int = 16) -> Context:
    torch.manual_seed(0)
    base = Policy(
        Masked(LENGTH, LETTERS, num_steps=steps), CNN(CNNConfig(LETTERS, LENGTH, channels=channels, blocks=3))
    )
    value = None
    if (name := objective.value_name) is not None:
        options = VALUES.options_of(name)(**({"imagine": 16, "keep": 16} if name == "surrogate" else {}))
        value = VALUES[name].build(options, base.process, lambda *size: value_network(base, ValueSize(*size)))
        for p in value.parameters() if isinstance(value, nn.Module) else ():
            p.data += 0.01  # so that no gradient is zero
    return Context(Roles.start(base), Target(Sum(), 0.5), torch.Generator().manual_seed(0), Replay(None), value)


def gradient_of(objective, context: Context) -> Tensor:
    trained = [context.roles.policy.net, *([context.value] if isinstance(context.value, nn.Module) else [])]
    for module in trained:
        module.zero_grad()
    draw_loss(objective, context)[0].backward()
    grads = [p.grad.flatten() for module in trained for p in module.parameters() if p.grad is not None]
    return torch.cat(grads)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", sorted({*OBJECTIVES} - {"adjoint_matching"}))
def test_every_objective_has_the_same_gradient_in_parts(name):
    """And the generator is where it would be, so that the next update is the same too."""
    objective = OBJECTIVES.build(name, {"steps": 3} if name == "backprop" else {}, "objective")
    context = context_of(objective, steps=4)
    context.memory.add(objective.collect(context, 16).rows)
    state = context.generator.get_state()
    expected, after = gradient_of(objective, context), context.generator.get_state()
    context.generator.set_state(state)
    with bounded(0.02), RowCounter.of(context) as rows:
        found = gradient_of(objective, context)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(context.generator.get_state(), after)
    with RowCounter.of(context) as whole:
        context.generator.set_state(state)
        gradient_of(objective, context)
    assert rows.total.graph > whole.total.graph, "some of it was made again"


@pytest.mark.parametrize("name", ["trajectory_balance", "path_consistency", "backprop"])
def test_memory_does_not_grow_with_the_number_of_steps(name):
    """Four times the steps: states and numbers a step are more, graphs are not."""
    options = {} if name == "backprop" else {"chains": 16}
    objective = OBJECTIVES.build(name, options, "objective")
    found = []
    for steps in (8, 32):
        context = context_of(objective, steps, channels=64)
        context.memory.add(objective.collect(context, 16).rows)

        def update(context: Context = context) -> None:
            with bounded(2.0):
                gradient_of(objective, context)

        update()
        found.append(peak(update))
    assert found[1] < 1.25 * found[0]
    assert found[1] < 4e6


@pytest.mark.parametrize(("rows", "given"), [(99, 0), (100, 1)])
def test_what_a_large_graph_took_is_given_back_and_of_a_small_one_not(rows, given, monkeypatch):
    """A row of this network keeps what a sine reads, 4,000 numbers of four bytes."""

    class Sine(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x, t):
            return (x + self.scale).sin()

    net, asked = Sine(), []
    monkeypatch.setattr("biotilt.core.bounded.LARGE", 100 * 16_000)
    monkeypatch.setattr("biotilt.core.bounded.give_back", lambda: asked.append(1))
    x = torch.zeros(rows, 4000)
    assert graph_size(net, x, torch.zeros(rows), room=1e9).row == 16_000
    with bounded(10):
        call(net, x, torch.zeros(rows)).sum().backward()
    assert len(asked) == given


HOLES = """
import torch
from pathlib import Path
from biotilt.core.bounded import give_back

def taken():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmRSS")).split()[1])

big = torch.ones(4_000_000)  # the C library takes blocks up to this size from its heap, once one was freed
del big
before, blocks = taken(), [torch.ones(100_000) for _ in range(500)]
kept = blocks[::50]
del blocks
holes = taken()
give_back()
print(before, holes, taken())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_holes_between_blocks_are_given_back():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    before, holes, after = map(int, done.stdout.split())
    assert holes - before > 150_000, "200 MB less ten blocks, which the heap keeps"
    assert after - before < 20_000
