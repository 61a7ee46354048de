"""Noise that is the same on every device."""

from __future__ import annotations

import pytest
import torch

from biotilt.testing import same_noise


def drawn(device: str) -> list[torch.Tensor]:
    generator = torch.Generator(device).manual_seed(3)
    where = generator.device
    weights = torch.tensor([0.2, 0.5, 0.3], device=where)
    return [
        torch.rand(4, generator=generator, device=where),
        torch.randn(2, 3, generator=generator, device=where, dtype=torch.float64),
        torch.randint(9, (5,), generator=generator, device=where),
        torch.randperm(6, generator=generator, device=where),
        torch.multinomial(weights, 8, replacement=True, generator=generator),
    ]


def test_the_processor_draws_what_it_always_does():
    plain = drawn("cpu")
    with same_noise():
        placed = drawn("cpu")
    for ours, theirs in zip(plain, placed):
        assert torch.equal(ours, theirs)
    assert type(torch.Generator()) is torch.Generator  # as before


def test_another_device_is_given_what_the_processor_draws():
    with same_noise():  # tensors of "meta" have no values: where they are is all that can be told of them
        generator = torch.Generator("meta").manual_seed(3)
        assert torch.rand(4, generator=generator, device=generator.device).device.type == "meta"
        assert torch.equal(generator.get_state()[:8], torch.Generator().manual_seed(3).get_state()[:8])
        with pytest.raises(RuntimeError, match="a generator of meta cannot draw on cpu"):
            torch.rand(4, generator=generator)
        with pytest.raises(RuntimeError, match="cannot draw on meta"):
            torch.rand(4, generator=torch.Generator(), device="meta")
