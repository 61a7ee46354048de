"""The hash of frozen weights: that of all of them, computed once, and again whenever one of them changes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import share
from biotilt.models import origin
from biotilt.models.origin import fingerprint


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.body = nn.Parameter(torch.randn(40, 30, generator=generator), requires_grad=False)
        self.head = nn.Parameter(torch.randn(3, generator=generator))
        self.register_buffer("scale", torch.tensor(2.0))
        self.register_buffer("unstored", torch.ones(2), persistent=False)


def by_hand(net: Net) -> str:
    parts = [("body", net.body, "(40, 30)"), ("scale", net.get_buffer("scale"), "()")]
    found = b"".join(f"{name} torch.float32 {shape}".encode() + tensor.detach().numpy().tobytes()
                     for name, tensor, shape in parts)  # fmt: skip
    return hashlib.sha256(found).hexdigest()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many numbers of large tensors were read."""
    seen: list[int] = []
    content = origin._content

    def counting(tensor: Tensor) -> Any:
        if tensor.numel() > 100:
            seen.append(tensor.numel())
        return content(tensor)

    monkeypatch.setattr(origin, "_content", counting)
    return seen


def test_it_is_computed_once_for_a_network_and_its_copies(hashed: list[int]):
    net = Net()
    assert fingerprint(net) == by_hand(net) and len(hashed) == 1
    copy = share(net)
    with torch.no_grad():
        copy.get_parameter("head").add_(1)
    assert fingerprint(net) == fingerprint(copy) == by_hand(net) and len(hashed) == 1
    assert fingerprint(Net()) == by_hand(net) and len(hashed) == 2  # other tensors, of the same numbers


def changed_in_place(net: Net) -> None:
    net.body[3, 4] += 1


def loaded(net: Net) -> None:
    net.load_state_dict({name: tensor + 1 for name, tensor in net.state_dict().items()})


def changed_past_the_count(net: Net) -> None:
    net.body.data.mul_(2)  # counts no write


def data_of_another(net: Net) -> None:
    net.body.data = net.body.data + 1


def put_in_its_place(net: Net) -> None:
    net.body = nn.Parameter(net.body + 1, requires_grad=False)


def buffer_filled(net: Net) -> None:
    net.get_buffer("scale").fill_(5.0)


@pytest.mark.parametrize(
    "change",
    [changed_in_place, loaded, changed_past_the_count, data_of_another, put_in_its_place, buffer_filled],
)
@torch.no_grad()
def test_every_change_is_noticed(change):
    net = Net()
    before = fingerprint(net)
    change(net)
    assert fingerprint(net) == by_hand(net) != before


def test_what_can_be_trained_now_is_left_out():
    net = Net()
    whole = fingerprint(net)
    net.body.requires_grad_(True)
    alone = fingerprint(net)
    assert alone == hashlib.sha256(b"scale torch.float32 ()" + net.get_buffer("scale").numpy().tobytes()).hexdigest()
    net.body.requires_grad_(False)
    assert fingerprint(net) == whole != alone


def test_tensors_without_a_count_are_hashed_each_time(hashed: list[int]):
    with torch.inference_mode():
        net = Net()
    assert fingerprint(net) == fingerprint(net) == by_hand(net) and len(hashed) == 2
