"""Convolutions along a sequence whose letters keep their channels side by side in memory."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Convolution(nn.Conv1d):
    """`nn.Conv1d`, same weights and same outputs, for `(B, C, L)` that is the transposed view of `(B, L, C)`.

    Its outputs lie in memory so too. On a processor the kernels for that order are faster, forward and backward, by
    about a third at width 7 and several times at width 1, which is a product of matrices.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu":
            return super().forward(input)
        if self.kernel_size == (1,):
            return F.linear(input.transpose(1, 2), self.weight.squeeze(-1), self.bias).transpose(1, 2)
        (padding,), (dilation,) = self._padding, self.dilation
        # an image of height one: only images have kernels for channels that come last
        image, weight = input.unsqueeze(2), self.weight.unsqueeze(2)
        return F.conv2d(image, weight, self.bias, padding=(0, padding), dilation=(1, dilation)).squeeze(2)

    @property
    def _padding(self) -> tuple[int, ...]:
        assert not isinstance(self.padding, str)
        return self.padding
