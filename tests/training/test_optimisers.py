"""Muon: its step of a matrix is the nearest orthogonal matrix, by Newton-Schulz, and other weights follow AdamW."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from biotilt.errors import ConfigError
from biotilt.networks import MLP, MLPConfig, Transformer, TransformerConfig
from biotilt.training import PretrainConfig
from biotilt.training.optimisers import optimisers_of

CPU = torch.device("cpu")
CONFIG = PretrainConfig(lr=0.01, weight_decay=0.0, optimiser="muon")


def stepped(config: PretrainConfig) -> Transformer:
    """Return a network after one step."""
    torch.manual_seed(0)
    net = Transformer(TransformerConfig(3, 5, width=8, blocks=2, heads=2))
    x = torch.randint(0, 4, (6, 5), generator=torch.Generator().manual_seed(1))
    net(x, torch.zeros(6)).square().mean().backward()
    for optimiser in optimisers_of(net, config, CPU).values():
        optimiser.step()
    return net


def test_the_step_of_a_matrix_is_nearly_the_orthogonal_part_of_its_gradient():
    torch.manual_seed(0)
    net = Transformer(TransformerConfig(3, 5, width=8, blocks=1, heads=2))
    weights = dict(net.named_parameters())["blocks.0.up.weight"]  # 32 by 8
    left, right = torch.linalg.qr(torch.randn(32, 8))[0], torch.linalg.qr(torch.randn(8, 8))[0]
    weights.grad = 3.0 * left @ torch.linspace(0.1, 1.0, 8).diag() @ right.T
    before = weights.detach().clone()
    optimisers_of(net, CONFIG, CPU)["muon"].step()
    # of the size of a step of AdamW: root of the mean square 0.2 times the rate
    step = (before - weights.detach()) / (0.01 * 0.2 * 32**0.5)
    along = left.T @ step @ right
    # five rounds of its polynomial bring singular values of 0.03 to 1 into (0.65, 1.25); in 16 bits
    assert ((along.diagonal() - 0.95).abs() < 0.35).all()
    assert (along - along.diagonal().diag()).abs().max() < 0.05
    assert (step - left @ along @ right.T).abs().max() < 0.05


def test_other_weights_follow_adamw():
    net = stepped(CONFIG)
    plain = stepped(replace(CONFIG, optimiser="adamw"))
    known = dict(plain.named_parameters())
    for name, weights in net.named_parameters():
        matrix = name.startswith("blocks.") and weights.ndim == 2
        assert torch.equal(weights, known[name]) != matrix, name


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"MLP has no blocks with matrices for muon; take adamw"):
        optimisers_of(MLP(MLPConfig(3, 5)), CONFIG, CPU)
