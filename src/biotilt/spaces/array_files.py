"""Files of points and images: CSV, TSV and NPY tables, and PNG pictures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biotilt.atomic import check_output
from biotilt.core.space import Record
from biotilt.digits import number
from biotilt.errors import ConfigError, DataError
from biotilt.files import write_bytes
from biotilt.spaces.tables import read_table

SUFFIXES = (".csv", ".tsv", ".npy")
PICTURES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def check_array_output(path: Path) -> None:
    """Raise DataError for a suffix that arrays are not written to, and BiotiltError where nothing can be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: another kind of file; points and images are written to {', '.join(SUFFIXES)}")
    check_output(path)


def write_points(path: Path, columns: Sequence[str], records: Sequence[Record[np.ndarray]]) -> None:
    """Write points: a table of name, coordinates and values, or an NPY array `(N, D)` of the coordinates alone."""
    check_array_output(path)
    if path.suffix.lower() == ".npy":
        return _write_npy(path, np.stack([record.design for record in records]))
    cells = [[str(np.float32(value)) for value in record.design] for record in records]
    _write_table(path, columns, records, cells)


def write_images(path: Path, records: Sequence[Record[np.ndarray]]) -> None:
    """Write images of uint8 `(H, W, C)`: an NPY array, or a table of name, file and values, and PNG files.

    The PNG files go to a folder that is called as the table is, from which pictures of an earlier one are deleted.
    """
    check_array_output(path)
    if path.suffix.lower() == ".npy":
        return _write_npy(path, np.stack([record.design for record in records]))
    folder = path.with_suffix("")
    files = [f"{record.name}.png" for record in records]
    folder.mkdir(parents=True, exist_ok=True)
    for file, record in zip(files, records):
        write_bytes(folder / file, png(record.design))
    for old in folder.glob("*.png"):
        if old.name not in files:
            old.unlink()
    _write_table(path, ["file"], records, [[f"{folder.name}/{file}"] for file in files])


def png(image: np.ndarray) -> bytes:
    """Return the PNG file of an image of uint8 `(H, W, C)`."""
    data = io.BytesIO()
    picture_of(image).save(data, "PNG")
    return data.getvalue()


def picture_of(image: np.ndarray) -> Any:
    """Return an image of uint8 `(H, W, C)` as the package Pillow has it."""
    from PIL import Image

    pixels = image[..., 0] if image.shape[-1] == 1 else image
    return Image.fromarray(pixels, _MODES[image.shape[-1]])


def read_points(path: Path, columns: Sequence[str] = (), *, leave: str | None = None) -> tuple[list[str], np.ndarray]:
    """Return the names of coordinates and points `(N, D)`, float64, of a CSV, TSV or NPY file.

    `columns`: those of a table to take; left out, all but "name", "id" and `leave`. Raises DataError for what is
    no number, and ConfigError for a column that is not there.
    """
    if path.suffix.lower() == ".npy":
        data = _read_npy(path)
        if data.ndim != 2:
            raise DataError(f"{path}: points are an array (N, D), and this is {data.shape}")
        return [f"x{place + 1}" for place in range(data.shape[1])], data.astype(np.float64)
    header, rows = read_table(path)
    if missing := [name for name in columns if name not in header]:
        raise ConfigError(f"{path}: no column {missing[0]!r}; columns found: {', '.join(header)}")
    names = list(columns) or [name for name in header if name.lower() not in ("name", "id") and name != leave]
    return names, np.array(
        [[_number(cells[name], f"{path}:{line}: column {name!r}") for name in names] for line, cells in rows]
    )


def read_images(path: Path) -> np.ndarray:
    """Return images `(N, H, W, C)`, float64 in [0, 1], of a folder of pictures or an NPY file.

    An NPY file has `(N, H, W)` or `(N, H, W, C)`, integers up to 255 or floats up to 1. Raises DataError when there is
    no picture, or sizes or colours differ.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        if not files:
            raise DataError(f"{path}: there is no picture in this folder ({', '.join(PICTURES)})")
        images = [_read_picture(file) for file in files]
        for file, image in zip(files, images):
            if image.shape != images[0].shape:
                raise DataError(f"{file}: its height, width and colours are {image.shape}, others' {images[0].shape}")
        return np.stack(images) / 255
    data = _read_npy(path)
    data = data[..., None] if data.ndim == 3 else data
    if data.ndim != 4:
        raise DataError(f"{path}: images are an array (N, H, W) or (N, H, W, C), and this is {data.shape}")
    return data / 255 if np.issubdtype(data.dtype, np.integer) else data.astype(np.float64)


def _read_picture(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            mode = picture.mode if picture.mode in _MODES.values() else "RGB"
            mode = "L" if picture.mode in ("1", "I", "I;16", "F") else mode
            pixels = np.asarray(picture.convert(mode))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _read_npy(path: Path) -> np.ndarray:
    try:
        data = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an NPY array: {error}") from error
    if not isinstance(data, np.ndarray) or not np.issubdtype(data.dtype, np.number) or np.iscomplexobj(data):
        raise DataError(f"{path}: an NPY file with one array of numbers is needed")
    return data


def _write_npy(path: Path, array: np.ndarray) -> None:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    write_bytes(path, data.getvalue())


def _write_table(
    path: Path, columns: Sequence[str], records: Sequence[Record[np.ndarray]], cells: Sequence[Sequence[str]]
) -> None:
    more = list(dict.fromkeys(key for record in records for key in record.values))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
    # a coordinate may be called like a column of values
    taken = {"name", *columns}
    writer.writerow(["name", *columns, *(f"{key} (value)" if key in taken else key for key in more)])
    for record, own in zip(records, cells):
        writer.writerow([record.name, *own, *(record.values.get(key, "") for key in more)])
    write_bytes(path, text.getvalue().encode("utf-8", errors="backslashreplace"))


def _number(cell: str, where: str) -> float:
    try:
        value = number(cell)
    except ValueError as error:
        raise DataError(f"{where}: {error}; name the columns to take as space.columns") from error
    if not math.isfinite(value):
        raise DataError(f"{where}: {cell!r} is no finite number")
    return value
