"""The one place where tensors come out of a pickle: public files of weights, read once, into safetensors."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from biotilt.errors import ConfigError, DataError, one_line, suggest
from biotilt.tensors import save_tensors


class Weights(NamedTuple):
    """Tensors of a public file by the names that they have there, and what else it says, as JSON holds it."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]


def restricted(path: Path) -> Mapping[str, Any]:
    """Return what a torch file holds, by the reader that builds tensors and plain values and runs nothing else.

    Raises DataError, with the reason, for a file that needs more, is damaged, or holds no table.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no file of tensors and plain values alone, so it is not read: {one_line(error)}"
        ) from error
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: holds {type(found).__name__}, not a table of weights")
    return found


def tensors_in(found: object, path: Path) -> dict[str, Tensor]:
    """Return a table of weights, checked to be one: finite floats by name; DataError otherwise."""
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: its weights are {type(found).__name__}, not a table")
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise DataError(f'{path}: "{one_line(name)}" is {type(value).__name__}, not a tensor')
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise DataError(f'{path}: the weights "{one_line(name)}" are not all finite')
        tensors[name] = value.detach()
    return tensors


def read_proteinmpnn(path: Path) -> Weights:
    """Return the weights of a file of ProteinMPNN: how many neighbours they read, and at which noise they learned."""
    found = restricted(path)
    missing = {"model_state_dict", "num_edges"} - found.keys()
    if missing:
        raise DataError(f'{path}: no file of ProteinMPNN: it has no "{min(missing)}"')
    about = {"neighbours": int(found["num_edges"]), "noise": float(found.get("noise_level", 0.0))}
    return Weights(tensors_in(found["model_state_dict"], path), about)


def read_esm(path: Path) -> Weights:
    """Return the weights of a pytorch_model.bin of Hugging Face, ESM2, DPLM or any other: a table of nothing else."""
    return Weights(tensors_in(restricted(path), path), {})


def read_evodiff(path: Path) -> Weights:
    """Return the weights of a checkpoint of EvoDiff, without the module that several GPUs put around a network."""
    found = restricted(path)
    if "model_state_dict" not in found:
        raise DataError(f'{path}: no file of EvoDiff: it has no "model_state_dict"')
    tensors = tensors_in(found["model_state_dict"], path)
    return Weights({name.removeprefix("module."): tensor for name, tensor in tensors.items()}, {})


READERS: dict[str, Callable[[Path], Weights]] = {
    "esm": read_esm,
    "evodiff": read_evodiff,
    "proteinmpnn": read_proteinmpnn,
}
"""How the public file of a family of models is read, by what `biotilt convert` calls the family."""


def convert(kind: str, path: Path, out: Path) -> Weights:
    """Write the weights of a public torch file as safetensors, under the names they have there.

    Raises ConfigError for an unknown `kind`, DataError where the file is not of that kind or would have to run code.
    """
    if kind not in READERS:
        raise ConfigError(f'nothing is known of files of "{kind}"{suggest(kind, READERS)}')
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the file to write must be called .safetensors")
    if not path.is_file():
        raise DataError(f"{path} is not a file")
    weights = READERS[kind](path)
    save_tensors(out, weights.tensors, {"kind": f"weights of {kind}"} | weights.about)
    return weights
