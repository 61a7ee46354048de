"""Images whose states are the latents of an autoencoder, which stands between a process and what people see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from biotilt.spaces.arrays import Pictures

CHUNK = 16  # images that are decoded at a time


class Autoencoder(Protocol):
    """What turns latents `(B, D)` into pixels `(B, H, W, C)`, from −1 to 1, with gradients, and back; its `mark` is
    another for other weights."""

    @property
    def mark(self) -> str: ...
    def decoded(self, latents: Tensor) -> Tensor: ...
    def encoded(self, pixels: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Latents(Pictures):
    """Images of `height` × `width` in `colours`, whose states are `latents` numbers each, those of an autoencoder.

    The oracle, the files and the page have the decoded images; a differentiable reward reads them too, and its gradient
    flows back through the decoder. The model's source builds the autoencoder again: no file of a model holds it.
    """

    height: int
    width: int
    colours: int
    latents: int
    autoencoder: Autoencoder = field(repr=False, compare=False)

    kind: ClassVar[str] = "latents"

    @property
    def size(self) -> int:
        return self.latents

    @torch.no_grad()
    def encode(self, designs: Sequence[np.ndarray]) -> Tensor:
        """Return the latents `(B, D)`, float32, whose decoded image is near each design, as the encoder has it."""
        pixels = torch.from_numpy(self._pixels(designs) * 2 - 1).float()
        return torch.cat([self.autoencoder.encoded(part) for part in pixels.split(CHUNK)])

    @torch.no_grad()
    def decode(self, states: Tensor) -> list[np.ndarray]:
        latents = torch.from_numpy(self._checked(states)).float()
        parts = [self.autoencoder.decoded(part) for part in latents.split(CHUNK)]
        return self._designs((torch.cat(parts).double().numpy() + 1) / 2)

    def relaxed(self, designs: Tensor) -> Tensor:
        """Return decoded pixels `(B, H, W, C)` with gradients to latents: neither rounded nor cut."""
        return (self.autoencoder.decoded(designs) + 1) / 2

    def spec(self) -> dict[str, Any]:
        about = {"height": self.height, "width": self.width, "colours": self.colours, "latents": self.latents}
        return {"kind": self.kind, **about, "autoencoder": self.autoencoder.mark}
