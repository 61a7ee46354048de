"""Pretraining that is interrupted ends with the same bits as in one go, and takes no state of another training."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Policy
from biotilt.errors import CheckpointError, ConfigError, DataError
from biotilt.processes import AnyOrder
from biotilt.training import PretrainConfig, StateFile, pretrain, pretraining_state
from biotilt.training.pretrain import validation_bound
from biotilt.training.pretraining_state import best_weights

CONFIG = PretrainConfig(steps=23, batch=16, lr=0.02, warmup=4, decay=0.5, ema=0.8, check_every=5)


class Dropping(nn.Module):
    """Tokens `(B, 3)` of 3 kinds → logits `(B, 3, 2)`, with dropout, which draws from the global generator."""

    reads_time = False

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(3, 8), nn.Flatten(), nn.Dropout(0.3), nn.Linear(24, 6))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(x.long()).unflatten(-1, (3, 2))


class Killed(Exception):
    pass


def policy(seed: int = 0) -> Policy:
    torch.manual_seed(seed)
    return Policy(AnyOrder(3, 2), Dropping())


def designs(seed: int) -> Tensor:
    ones = torch.rand(300, 3, generator=torch.Generator().manual_seed(seed)) < torch.tensor([0.9, 0.3, 0.6])
    return ones.to(torch.int8)


TRAIN, VALIDATION = designs(1), designs(2)


def kill() -> None:
    raise Killed


def train(
    path: Path | None, *, killed_after: int = 0, by: Callable[[], None] = kill, started: Policy | None = None, **other
):
    """Return the policy, its bound, and all that was reported; `killed_after` steps something ends it."""
    made, seen = started or policy(), []

    def tell(step: int, loss: float) -> None:
        seen.append(("step", step, loss))
        if step == killed_after:
            by()

    best = pretrain(
        made,
        other.pop("designs", TRAIN),
        VALIDATION,
        replace(CONFIG, **other),
        torch.Generator().manual_seed(7),
        report=lambda *row: seen.append(("check", *row)),
        tell=tell,
        state=None if path is None else StateFile(path, lambda step: seen.append(("resumed", step))),
    )
    return made, best, seen


class Blocks(Dropping):
    """The same, with a matrix in `blocks`."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 6)])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.blocks[0](self.layers(x.long())).unflatten(-1, (3, 2))


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("places", [(1,), (5,), (9, 12), (22,), (3, 4, 5, 6)])
def test_in_parts_it_ends_with_the_same_bits_as_in_one_go(tmp_path, monkeypatch, places, optimiser):
    monkeypatch.setattr(pretraining_state, "SECONDS_BETWEEN", 0.0)

    def go(path: Path | None, killed_after: int = 0):
        torch.manual_seed(0)
        started = Policy(AnyOrder(3, 2), Blocks())
        return train(path, killed_after=killed_after, started=started, optimiser=optimiser)

    whole, best, seen = go(None)
    for place in places:
        with pytest.raises(Killed):
            go(tmp_path / "s.safetensors", killed_after=place)
        torch.manual_seed(place)  # whatever the process does in between
    resumed, again, rest = go(tmp_path / "s.safetensors")
    if places[-1] > 1:  # the step in which it was killed is done again
        assert rest[0] == ("resumed", places[-1] - 1)
    left = [row for row in seen if row[1] >= places[-1]]
    assert [row for row in rest if row[0] != "resumed"] == left  # losses and bounds, to the last digit
    assert again == best
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name


def test_without_dropout_drawn_anew_the_bits_would_differ(tmp_path, monkeypatch):
    """The test above sees the global generator: with another state the losses are others."""
    monkeypatch.setattr(pretraining_state, "SECONDS_BETWEEN", 0.0)
    _, _, seen = train(None)
    with pytest.raises(Killed):
        train(tmp_path / "s.safetensors", killed_after=9)
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    _, _, rest = train(tmp_path / "s.safetensors")
    assert [row for row in rest if row[0] == "step"] != [row for row in seen if row[0] == "step" and row[1] > 8]


@pytest.fixture
def keyboard():
    """Have Ctrl-C raise KeyboardInterrupt, also in a worker of a parallel test run, which is deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("keyboard")
def test_an_interrupt_waits_for_the_step_and_leaves_its_state(tmp_path):
    path = tmp_path / "s.safetensors"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="interrupted after step 9"):
        train(path, killed_after=9, by=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is before
    resumed, best, rest = train(path)
    whole, expected, _ = train(None)
    assert rest[0] == ("resumed", 9) and best == expected
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), resumed.net.parameters()))


@pytest.mark.usefixtures("keyboard")
def test_a_second_interrupt_ends_it_at_once(tmp_path):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "s.safetensors", killed_after=3, by=twice)


def test_what_is_finished_is_not_trained_again(tmp_path):
    path = tmp_path / "s.safetensors"
    first, best, _ = train(path)
    second, again, seen = train(path)
    assert again == best and seen == [("resumed", 23)]
    assert all(torch.equal(a, b) for a, b in zip(first.net.parameters(), second.net.parameters()))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"lr": 0.01}, r"lr \(0\.02, now 0\.01\)"),
        ({"steps": 40}, r"steps \(23, now 40\)"),
        ({"designs": TRAIN[:-1]}, "the training designs"),
        ({"started": policy(1)}, "the network's first weights"),
    ],
)
def test_the_state_of_another_training_is_refused(tmp_path, other, words):
    path = tmp_path / "s.safetensors"
    train(path)
    held = path.read_bytes()
    with pytest.raises(ConfigError, match=rf"s\.safetensors .* unfinished training .*{words}.*delete that file"):
        train(path, **other)
    assert path.read_bytes() == held


def test_what_diverged_leaves_no_state_in_the_way(tmp_path):
    path = tmp_path / "s.safetensors"
    with pytest.raises(DataError, match="training diverged"):
        train(path, lr=1e30)
    assert not path.exists()
    train(path)


def test_a_damaged_state_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    train(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        train(path)


def test_the_rate_rises_stays_and_falls():
    config = PretrainConfig(steps=1000, lr=0.5, warmup=100, decay=0.2)
    rates = [config.rate(step) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(0.005) and rates[:101] == sorted(rates[:101])
    assert rates[100:820] == [0.5] * 720
    assert rates[910] == pytest.approx(0.25, rel=0.02)  # half of the fall
    assert 0 < rates[-1] < 1e-4 and rates[820:] == sorted(rates[820:], reverse=True)
    assert [PretrainConfig(steps=10, warmup=2, decay=0.0).rate(step) for step in (3, 10)] == [2e-3, 2e-3]


def test_the_best_average_so_far_is_read_from_the_state(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining_state, "SECONDS_BETWEEN", 0.0)
    path = tmp_path / "s.safetensors"
    with pytest.raises(Killed):
        train(path, killed_after=4)
    with pytest.raises(CheckpointError, match="first look at validation"):
        best_weights(path)
    with pytest.raises(Killed):
        train(path, killed_after=9)
    weights, step = best_weights(path)
    assert step == 8
    made = policy()
    made.net.load_state_dict(weights)
    made.net.eval()
    at_5 = [row[3] for row in train(None)[2] if row[:2] == ("check", 5)]
    assert validation_bound(made, VALIDATION) == pytest.approx(at_5[0], abs=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_device_it_goes_on_and_the_network_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining_state, "SECONDS_BETWEEN", 0.0)
    path, told = tmp_path / "s.safetensors", []

    def kill(step: int, train: float, bound: float) -> None:
        told.append((step, bound))
        if step == 10 and len(told) == 2:
            raise Killed

    def once(state: StateFile | None) -> tuple[Policy, float]:
        made, generator = policy(), torch.Generator("cuda").manual_seed(7)
        torch.cuda.manual_seed(0)
        return made, pretrain(made, TRAIN, VALIDATION, CONFIG, generator, report=kill, state=state)

    with pytest.raises(Killed):
        once(StateFile(path))
    parts, best = once(StateFile(path))
    whole, expected = once(None)
    assert best == pytest.approx(expected, rel=1e-5)
    for one, other in zip(parts.net.parameters(), whole.net.parameters()):
        assert one.device.type == "cpu"
        torch.testing.assert_close(one, other)
