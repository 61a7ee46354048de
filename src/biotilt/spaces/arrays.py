"""Designs as arrays: points with named coordinates, and images."""

from __future__ import annotations

import base64
import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.core.space import Held, Measured, Medium, Pictured, Record
from biotilt.digits import pretty
from biotilt.errors import ConfigError, DataError, suggest
from biotilt.options import Length, Number, Whole, Word
from biotilt.spaces.array_files import check_array_output, write_images, write_points
from biotilt.spaces.distances import euclidean
from biotilt.spaces.pictures import contact_sheet, scatter

LEVELS = 255  # of a pixel in a PNG file
_SHOWN = 6  # coordinates in a label


class Arrays(Measured[np.ndarray], Pictured[np.ndarray]):
    """Designs as float32 arrays of one `shape`; their states are points `(B, D)`, D = `size`."""

    distance_is: ClassVar[str] = "the Euclidean distance between them"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def mean_distance(self, designs: Sequence[np.ndarray]) -> float:
        return euclidean(designs)[0]

    def nearest_distances(self, designs: Sequence[np.ndarray]) -> list[float]:
        return euclidean(designs)[1]

    def check_output(self, path: Path) -> None:
        check_array_output(Path(path))

    def _stacked(self, designs: Sequence[np.ndarray]) -> np.ndarray:
        """Return `(B, *shape)` float64; DataError names the design of another shape, or with a number that is none."""
        if not len(designs):
            raise DataError("there are no designs to encode")
        for row, design in enumerate(designs, 1):
            if np.shape(design) != self.shape:
                raise DataError(f"design {row} has the shape {np.shape(design)}, not {self.shape}")
        stacked = np.stack([np.asarray(design, dtype=np.float64) for design in designs])
        if wrong := np.argwhere(~np.isfinite(stacked)).tolist():
            raise DataError(f"design {wrong[0][0] + 1} has a value that is no finite number")
        return stacked

    def _checked(self, states: Tensor) -> np.ndarray:
        """Return states `(B, D)` as float64; DataError for another shape, or numbers that are none."""
        return checked_points(states, self.size).double().numpy()


@dataclass(frozen=True)
class PointsOptions:
    """What a file says of points."""

    columns: Annotated[list[Word], Field(max_length=65_536)]
    centre: list[Number]
    scale: list[Number]


@dataclass(frozen=True)
class Points(Arrays, Held[np.ndarray]):
    """Points with named `columns`; states are standardised: design = centre + scale · state, each `(D,)`.

    Designs are float32 arrays `(D,)` in the data's own units. What is held is named by column, {"x" = "0.5"}.

    Raises:
        ConfigError: no column, one twice, or as many numbers are not given, finite and with scales > 0.

    >>> space = Points(("x", "y"), (1.0, 0.0), (2.0, 1.0))
    >>> space.encode([np.array([3.0, -1.0])]).tolist(), space.decode(torch.tensor([[1.0, -1.0]]))[0].tolist()
    ([[1.0, -1.0]], [3.0, -1.0])
    >>> space.key(np.array([0.1, 3.0])), space.design_of("0.1,3.0").dtype
    ('0.1,3.0', dtype('float32'))
    """

    columns: tuple[str, ...]
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    kind: ClassVar[str] = "points"
    Options: ClassVar[type] = PointsOptions
    medium: ClassVar[Medium] = "points"
    held_by: ClassVar[Literal["fixed", "scaffold"]] = "fixed"

    def __post_init__(self) -> None:
        names = tuple(self.columns)
        object.__setattr__(self, "columns", names)
        object.__setattr__(self, "centre", tuple(self.centre) or (0.0,) * len(names))
        object.__setattr__(self, "scale", tuple(self.scale) or (1.0,) * len(names))
        if not names or len(set(names)) < len(names) or {len(self.centre), len(self.scale)} != {len(names)}:
            raise ConfigError(
                f"points: different columns are needed, with a centre and a scale each, got {len(names)} columns, "
                f"{len(self.centre)} centres and {len(self.scale)} scales"
            )
        if not all(map(math.isfinite, (*self.centre, *self.scale))) or min(self.scale) <= 0:
            raise ConfigError("points: centres and scales must be finite, and scales above 0")

    @classmethod
    def of_data(cls, data: np.ndarray, columns: Sequence[str]) -> Points:
        """Return the space in which data `(N, D)` have mean 0 and standard deviation 1 in every column.

        Raises DataError when a column has one value only.
        """
        scale = data.std(0)
        if flat := [name for name, spread in zip(columns, scale) if not spread > 0]:
            raise DataError(f"column {flat[0]!r} has the same value in every row: leave it out")
        return cls(tuple(columns), tuple(data.mean(0).tolist()), tuple(scale.tolist()))

    @property
    def name(self) -> str:
        return "points"

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.columns),)

    def encode(self, designs: Sequence[np.ndarray]) -> Tensor:
        """Return states `(B, D)`, float32."""
        states = (self._stacked(designs) - np.array(self.centre)) / np.array(self.scale)
        return torch.from_numpy(states).float()

    def decode(self, states: Tensor) -> list[np.ndarray]:
        points = self._checked(states) * np.array(self.scale) + np.array(self.centre)
        return list(points.astype(np.float32))

    def relaxed(self, designs: Tensor) -> Tensor:
        """Return points `(B, D)` in the data's units, with gradients."""
        scale, centre = (torch.tensor(values).to(designs) for values in (self.scale, self.centre))
        return designs * scale + centre

    def key(self, design: np.ndarray) -> str:
        """Return the coordinates, each with as many digits as tell its float32 from every other."""
        return ",".join(str(value) for value in np.asarray(design, dtype=np.float32) + np.float32(0))  # no −0

    def design_of(self, key: str) -> np.ndarray:
        return np.array([float(value) for value in key.split(",")], dtype=np.float32)

    def label(self, design: np.ndarray) -> str:
        shown = ", ".join(pretty(float(value)) for value in design[:_SHOWN])
        return f"({shown}{', …' if len(design) > _SHOWN else ''})"

    def fixed(self, given: str | Mapping[str, str], length: int) -> Fixed:
        """Return what a table {"x" = "0.5"} of columns and values holds."""
        if isinstance(given, str):
            raise ConfigError('design.fixed: of points, a table of columns and values is held, {x = "0.5"}')
        mask, values = torch.zeros(self.size, dtype=torch.bool), torch.zeros(self.size)
        for column, text in given.items():
            if column not in self.columns:
                raise ConfigError(f'design.fixed: no column "{column}"{suggest(column, self.columns)}')
            place = self.columns.index(column)
            try:
                value = float(text)
            except ValueError:
                raise ConfigError(f'design.fixed: "{column}" needs a number, got "{text}"') from None
            mask[place], values[place] = True, (value - self.centre[place]) / self.scale[place]
        return Fixed(mask, values)

    def write(self, path: Path, records: Sequence[Record[np.ndarray]]) -> None:
        write_points(Path(path), self.columns, records)

    def picture(self, sets: Mapping[str, Sequence[np.ndarray]]) -> str:
        """Return a scatter plot of the first two coordinates; of one, each over its place in the row."""
        pairs = {
            title: [(float(p[0]), float(p[1]) if len(p) > 1 else 0.0) for p in some] for title, some in sets.items()
        }
        return scatter(pairs, self.columns[0], self.columns[1] if len(self.columns) > 1 else "")

    def spec(self) -> dict[str, Any]:
        numbers = {"centre": list(self.centre), "scale": list(self.scale)}
        return {"kind": "points", "columns": list(self.columns), **numbers}


class Pictures(Arrays):
    """Designs as images, float32 arrays `(H, W, C)` of multiples of 1/255 in [0, 1], whatever their states are."""

    height: int
    width: int
    colours: int

    medium: ClassVar[Medium] = "images"

    @property
    def name(self) -> str:
        return "images"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.colours)

    def key(self, design: np.ndarray) -> str:
        """Return the pixels, a byte each, in base64."""
        return base64.b64encode(_bytes(design).tobytes()).decode("ascii")

    def design_of(self, key: str) -> np.ndarray:
        levels = np.frombuffer(base64.b64decode(key), dtype=np.uint8).reshape(self.shape)
        return (levels / LEVELS).astype(np.float32)

    def label(self, design: np.ndarray) -> str:
        return f"image {hashlib.sha256(_bytes(design).tobytes()).hexdigest()[:8]}"

    def write(self, path: Path, records: Sequence[Record[np.ndarray]]) -> None:
        write_images(Path(path), [Record(r.name, _bytes(r.design), r.values) for r in records])

    def picture(self, sets: Mapping[str, Sequence[np.ndarray]]) -> str:
        return contact_sheet({title: [_bytes(design) for design in some] for title, some in sets.items()})

    def _pixels(self, designs: Sequence[np.ndarray]) -> np.ndarray:
        """Return pixels `(B, H, W, C)`, float64; DataError where one is outside [0, 1]."""
        pixels = self._stacked(designs)
        if pixels.min() < 0 or pixels.max() > 1:
            raise DataError(f"pixels must be in [0, 1], and are from {pixels.min():g} to {pixels.max():g}")
        return pixels

    def _designs(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return designs of pixels `(B, H, W, C)`, cut to [0, 1] and rounded to the levels of a file."""
        return list((np.rint(np.clip(pixels, 0, 1) * LEVELS) / LEVELS).astype(np.float32))


@dataclass(frozen=True)
class ImagesOptions:
    """What a file says of images."""

    height: Length
    width: Length
    colours: Annotated[Whole, Field(ge=1, le=4)]


@dataclass(frozen=True)
class Images(Pictures):
    """Images of `height` × `width` pixels in `colours` = 1 (grey), 3 (RGB) or 4 (RGBA).

    Designs are float32 arrays `(H, W, C)` of multiples of 1/255 in [0, 1]: what a PNG file holds, and nothing between,
    so that a file is its design. States are flat, from −1, black, to 1.

    >>> space = Images(1, 2, 1)
    >>> [round(float(pixel), 4) for pixel in space.decode(torch.tensor([[-1.5, 0.0]]))[0].ravel()]
    [0.0, 0.502]
    >>> [round(float(pixel), 4) for pixel in space.design_of(space.key(np.array([[[0.2], [1.0]]]))).ravel()]
    [0.2, 1.0]
    """

    height: int
    width: int
    colours: int = 1

    kind: ClassVar[str] = "images"
    Options: ClassVar[type] = ImagesOptions

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.colours not in (1, 3, 4):
            raise ConfigError(
                f"images need a height and a width ≥ 1 and 1, 3 or 4 colours, got {self.height}, {self.width} and "
                f"{self.colours}"
            )

    def encode(self, designs: Sequence[np.ndarray]) -> Tensor:
        """Return states `(B, H·W·C)`, float32; DataError where a pixel is outside [0, 1]."""
        pixels = self._pixels(designs)
        return torch.from_numpy(pixels.reshape(len(pixels), -1) * 2 - 1).float()

    def decode(self, states: Tensor) -> list[np.ndarray]:
        return self._designs(((self._checked(states) + 1) / 2).reshape(-1, *self.shape))

    def sizes(self, states: Tensor) -> dict[str, int]:
        return super().sizes(states) | {"height": self.height, "width": self.width, "colours": self.colours}

    def relaxed(self, designs: Tensor) -> Tensor:
        """Return pixels `(B, H, W, C)` with gradients: neither rounded nor clipped, which would have none."""
        return ((designs + 1) / 2).unflatten(1, self.shape)

    def spec(self) -> dict[str, Any]:
        return {"kind": "images", "height": self.height, "width": self.width, "colours": self.colours}


def checked_points(states: Tensor, size: int) -> Tensor:
    """Return states `(B, D)`, D = `size`, on the processor; DataError for another shape, or numbers that are none."""
    if states.ndim != 2 or states.shape[1] != size or not states.is_floating_point():
        raise DataError(f"decode takes floats of shape (B, {size}), not {states.dtype} {tuple(states.shape)}")
    if not bool(states.isfinite().all()):
        row = int((~states.isfinite()).any(-1).nonzero()[0]) + 1
        raise DataError(f"design {row} is not finite: the chain diverged; a lower learning rate may help")
    return states.detach().cpu()


def _bytes(design: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(design, dtype=np.float64) * LEVELS).astype(np.uint8)
