"""What can be read off the pixels of an image: light, contrast and colour, with gradients; and its compressed size."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from biotilt.errors import ConfigError
from biotilt.options import Count, Share, Whole, check_options
from biotilt.rewards.generic.base import digest
from biotilt.spaces.array_files import picture_of

_LIGHT = (0.2126, 0.7152, 0.0722)  # of red, green and blue in luminance (ITU-R BT.709)
Colour = Annotated[tuple[Share, ...], Field(min_length=1, max_length=4)]


def luminance(images: Tensor) -> Tensor:
    """Return how light each pixel of images `(B, H, W, C)` is, `(B, H, W)`: the grey itself, or that of its colour."""
    if images.shape[-1] == 1:
        return images[..., 0]
    return images[..., :3] @ torch.tensor(_LIGHT).to(images)


@dataclass(frozen=True)
class _OfPixels(ABC):
    """A number of the pixels, with gradients; what is outside [0, 1] counts as what the file has, and has none."""

    name: ClassVar[str]
    reads: ClassVar[str] = "images"
    units: ClassVar[str] = ""
    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self, f'reward "{self.name}"')

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self))}"

    @torch.no_grad()
    def __call__(self, designs: list[Any]) -> list[float]:
        return self.score_one_hot(torch.from_numpy(np.stack(designs))).tolist()

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return the scores `(B,)` of images `(B, H, W, C)`, with gradients."""
        return self.of(x.clamp(0, 1))

    @abstractmethod
    def of(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Brightness(_OfPixels):
    """Mean luminance, in [0, 1]; or minus how far it is from `target`.

    >>> Brightness()([np.full((2, 2, 1), 0.25, np.float32)]), Brightness(target=0.75)([np.zeros((1, 1, 1), np.float32)])
    ([0.25], [-0.75])
    """

    target: Share | None = None

    name: ClassVar[str] = "image_brightness"

    def of(self, x: Tensor) -> Tensor:
        mean = luminance(x).mean((1, 2))
        return mean if self.target is None else -(mean - self.target).abs()


@dataclass(frozen=True)
class Contrast(_OfPixels):
    """Standard deviation of the luminance of the pixels, in [0, 0.5].

    >>> Contrast()([np.array([[[0.0], [1.0]]], np.float32)])
    [0.5]
    """

    name: ClassVar[str] = "image_contrast"

    def of(self, x: Tensor) -> Tensor:
        spread = luminance(x).flatten(1).var(1, correction=0)
        return (spread + 1e-12).sqrt()  # a plain image would have an infinite gradient


@dataclass(frozen=True)
class NearColour(_OfPixels):
    """Minus the root of the mean squared distance of the pixels from one `colour`, channels in [0, 1]: 0 is the best.

    >>> NearColour((1.0, 0.0, 0.0))([np.zeros((2, 2, 3), np.float32)])
    [-1.0]
    """

    colour: Colour

    name: ClassVar[str] = "image_colour"

    def of(self, x: Tensor) -> Tensor:
        if x.shape[-1] != len(self.colour):
            raise ConfigError(f'reward "{self.name}": colour has {len(self.colour)} channels, images {x.shape[-1]}')
        apart = (x - torch.tensor(self.colour).to(x)).square().sum(-1).mean((1, 2))
        return -(apart + 1e-12).sqrt()


@dataclass(frozen=True)
class FileSize:
    """Bytes of the image as a file, in `format` "png" or "jpeg" of a `quality` in [1, 95]: what compresses badly.

    Images are shown `scale` times as large, each pixel a square: a small one is mostly the file's own head. With
    direction = "minimise" what compresses well is sought. A black box: it has no gradient.

    >>> plain, draw = np.zeros((8, 8, 1), np.float32), np.random.default_rng(0)
    >>> sizes = FileSize("png")([plain, draw.integers(0, 255, (8, 8, 1)) / 255])
    >>> sizes[0] < sizes[1]
    True
    """

    format: Literal["png", "jpeg"] = "jpeg"
    quality: Annotated[Whole, Field(ge=1, le=95)] = 75
    scale: Count = 1

    name: ClassVar[str] = "image_file_size"
    reads: ClassVar[str] = "images"
    units: ClassVar[str] = "bytes"
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self, f'reward "{self.name}"')

    @property
    def version(self) -> str:
        return f"1-{digest(repr(self))}"

    def __call__(self, designs: list[Any]) -> list[float]:
        return [float(self._size(np.asarray(design))) for design in designs]

    def _size(self, design: np.ndarray) -> int:
        pixels = np.rint(design * 255).astype(np.uint8)
        large = pixels.repeat(self.scale, 0).repeat(self.scale, 1)
        picture, data = picture_of(large), io.BytesIO()
        if self.format == "png":
            picture.save(data, "PNG", optimize=True)
        else:
            picture.convert("L" if picture.mode == "L" else "RGB").save(data, "JPEG", quality=self.quality)
        return data.tell()
