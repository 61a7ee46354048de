"""Adapters that are nil: the base has them and does not compute them."""

from __future__ import annotations

import pytest
import torch

from biotilt.core import Policy, Roles
from biotilt.model import Model
from biotilt.networks import CNN, CNNConfig
from biotilt.processes import AnyOrder
from biotilt.spaces import as_space

pytest.importorskip("peft")

STATES = torch.tensor([[0, 4, 2, 4, 1, 3, 4, 0], [4] * 8], dtype=torch.int8)
TIMES = torch.tensor([3 / 8, 1.0])


def model() -> Model:
    torch.manual_seed(0)
    return Model(Policy(AnyOrder(8, 4), CNN(CNNConfig(4, 8, channels=16, blocks=2)).eval()), as_space("dna"))


def test_the_base_does_not_compute_adapters_that_are_nil():
    lora = model().with_lora(rank=2)
    roles = Roles.start(lora.policy)
    asked = {"base": 0, "policy": 0}
    for name in asked:
        for path, layer in getattr(roles, name).net.named_modules():
            if path.endswith("lora_A.default"):
                layer.register_forward_hook(lambda *_, name=name: asked.update({name: asked[name] + 1}))
    expected = model().policy.net(STATES, TIMES)
    assert torch.equal(roles.base.net(STATES, TIMES), expected)
    assert torch.equal(roles.policy.net(STATES, TIMES), expected)
    assert asked["base"] == 0 < asked["policy"]


def test_a_base_with_adapters_that_were_trained_keeps_them():
    lora = model().with_lora(rank=2)
    torch.nn.init.ones_(lora.policy.net.get_parameter("head.3.lora_B.default.weight"))
    said = Roles.start(lora.policy).base.net(STATES, TIMES)
    assert torch.equal(said, lora.policy.net(STATES, TIMES))
    assert not torch.allclose(said, model().policy.net(STATES, TIMES))
