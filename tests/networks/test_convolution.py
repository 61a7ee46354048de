"""Convolutions with the channels side by side in memory against torch's own."""

import pytest
import torch
from torch import nn

from biotilt.networks.convolution import Convolution

SHAPES = [(5, 7, 7, 1), (6, 6, 7, 4), (4, 3, 1, 1), (6, 6, 3, 2)]  # channels in and out, width, dilation


@pytest.mark.parametrize(("wide", "out", "kernel", "dilation"), SHAPES)
@pytest.mark.parametrize("side_by_side", [True, False])
def test_outputs_and_gradients_are_those_of_torch(wide, out, kernel, dilation, side_by_side):
    torch.manual_seed(0)
    plain = nn.Conv1d(wide, out, kernel, padding=dilation * (kernel // 2), dilation=dilation).double()
    ours = Convolution(wide, out, kernel, padding=dilation * (kernel // 2), dilation=dilation).double()
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(3, 11, wide, dtype=torch.double).transpose(1, 2)
    x = x if side_by_side else x.contiguous()
    weight = torch.randn(3, out, 11, dtype=torch.double)
    found = []
    for conv in (plain, ours):
        shown = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = conv(shown)
        (y * weight).sum().backward()
        found.append((y, shown.grad, conv.weight.grad, conv.bias.grad))
    for theirs, mine in zip(*found):
        torch.testing.assert_close(mine, theirs)


def test_outputs_lie_in_memory_as_inputs_do():
    x = torch.randn(2, 9, 4).transpose(1, 2)
    for kernel in (7, 1):
        assert Convolution(4, 6, kernel, padding=kernel // 2)(x).transpose(1, 2).is_contiguous()
