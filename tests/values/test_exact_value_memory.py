"""Exact values read nothing that was not written first."""

from __future__ import annotations

import pytest
import torch

from biotilt.core import Policy
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder
from biotilt.testing import reveal_soft_values, soft_values


@pytest.fixture
def fresh_memory_is_nan():
    """In this mode torch fills memory that nobody initialised with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def test_soft_values_of_a_reveal_chain_read_no_fresh_memory(fresh_memory_is_nan):
    """A shown position leads to the state itself, with probability 0, before its value is known."""
    assert torch.empty(3).isnan().all()
    generator = torch.Generator().manual_seed(0)
    base = Policy(AnyOrder(2, 2), StateTable(2, 2, torch.randn(9, 2, 2, generator=generator)))
    reward = torch.tensor([0.5, -1.0, 2.0, 0.1])
    fast = reveal_soft_values(base, reward, 0.5)
    assert fast.isfinite().all()
    generic = soft_values(base, reward, 0.5)
    torch.testing.assert_close(fast[8], generic[0, 8], atol=1e-5, rtol=1e-5)
