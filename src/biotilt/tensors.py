"""Safetensors files that survive: written whole with checksums, never executed when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from biotilt.atomic import write_atomic
from biotilt.errors import CheckpointError, one_line
from biotilt.files import parsed
from biotilt.options import shown
from biotilt.schema import StoredTensors, checked

_M = TypeVar("_M", bound=Module)
_METADATA_KEY = "biotilt"
_CHECKSUMS = "checksums"
_RESTORE = "take it from where it came, or make it again"


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any], *, keep: Path | None = None) -> None:
    """Write tensors and JSON-serialisable `metadata`, with checksums of all, as one safetensors file, whole or not at
    all. A file that it replaces is kept under the name `keep`.
    """
    from safetensors.torch import save_file

    ready: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        ready[name] = whole = tensor.detach().cpu().contiguous()
        if (place := whole.untyped_storage().data_ptr()) in places:  # the format holds no two in one place
            ready[name] = whole.clone()
        places.add(place)
    about = json.loads(json.dumps(metadata))  # as it will be read
    # in one entry: safetensors writes several in an order that changes from run to run
    text = {_METADATA_KEY: json.dumps(about | {_CHECKSUMS: _checksums(ready, about)})}
    write_atomic(path, lambda p: save_file(ready, p, metadata=text), keep=keep)


def _checksums(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> dict[str, Any]:
    """Return short SHA-256 sums: of the metadata, and of each tensor with its type and shape."""
    sums = {}
    for name, tensor in tensors.items():
        found = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        content: Any = tensor.contiguous().flatten().view(torch.uint8).numpy()
        found.update(content)
        sums[name] = found.hexdigest()[:16]
    return {"metadata": hashlib.sha256(json.dumps(metadata).encode()).hexdigest()[:16], "tensors": sums}


def load_tensors(path: Path, schema: type[StoredTensors] | None = None) -> tuple[dict[str, Tensor], Any]:
    """Read what `save_tensors` wrote: tensors, and metadata, as `schema` where one is given.

    Raises CheckpointError when the file is missing, truncated, a pickle, not one of ours, when its checksums do not
    fit (files of older versions have none), or its metadata not the schema.
    """
    tensors, text = _read(Path(path))
    if text is None:
        raise CheckpointError(f"{path} has no biotilt metadata: it does not say what model it holds")
    metadata = _metadata(path, tensors, text)
    if schema is None:
        return tensors, metadata
    if metadata.get("kind") != schema.kind:
        raise CheckpointError(f'{path} holds a "{one_line(metadata.get("kind"))}", not {schema.called}')
    return tensors, checked(metadata, schema, path, CheckpointError)


def load_described(path: Path, schema: type[StoredTensors]) -> tuple[dict[str, Tensor], Any | None]:
    """Read anybody's safetensors file as `load_tensors` does; None for the metadata of a file that has none of ours."""
    tensors, text = _read(path)
    return (tensors, None) if text is None else load_tensors(path, schema)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of anybody's safetensors file; CheckpointError when it is missing, damaged or a pickle."""
    tensors, text = _read(path)
    if text is not None:
        _metadata(path, tensors, text)
    return tensors


def _metadata(path: Path, tensors: dict[str, Tensor], text: str) -> dict[str, Any]:
    """Return our metadata; CheckpointError where they are none, or the checksums in them do not fit."""
    metadata = parsed(text, path)
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: its metadata must be an object, got {shown(metadata)}")
    if _CHECKSUMS in metadata:
        _verify(path, metadata.pop(_CHECKSUMS), _checksums(tensors, metadata))
    return metadata


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors of a safetensors file and the text of our metadata, None where it has none."""
    from safetensors import SafetensorError, safe_open

    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as handle:
            text = (handle.metadata() or {}).get(_METADATA_KEY)
            return {name: handle.get_tensor(name) for name in handle.keys()}, text  # noqa: SIM118
    # types and shapes that a header may name, and torch does not make, end in all of these
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {one_line(error)}") from error


def _refuse_pickle(path: Path) -> None:
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
        with path.open("rb") as handle:
            head = handle.read(9)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {one_line(path)}: {error}") from error
    # safetensors starts with the length of its header, eight bytes that can be any, then always a brace
    if (head[:2] == b"PK" or head[:1] == b"\x80") and head[8:] != b"{":
        raise CheckpointError(
            f"{path} is a pickle (a torch.save file), which can run code when read; biotilt reads only "
            "safetensors. Convert it with safetensors.torch.save_file in an environment you trust"
        )


def _verify(path: Path, written: Any, found: dict[str, Any]) -> None:
    """Raise CheckpointError, naming a part, where the checksums of a file are not those of its content."""
    sums = written.get("tensors") if isinstance(written, dict) else None
    if not isinstance(sums, dict) or written.get("metadata") != found["metadata"]:
        raise CheckpointError(f"{path} is damaged: the checksum of its description does not fit; {_RESTORE}")
    for name in sorted(sums.keys() | found["tensors"].keys()):
        if sums.get(name) != found["tensors"].get(name):
            raise CheckpointError(f'{path} is damaged: the checksum of "{one_line(name)}" does not fit; {_RESTORE}')


def halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in float16, those in float32 that it cannot hold; numbers without a dimension stay as they are."""
    small = {name: tensor.half() for name, tensor in weights.items() if tensor.dim()}
    return weights | {name: tensor for name, tensor in small.items() if bool(tensor.isfinite().all())}


def with_weights(path: Path, make: Callable[[], _M], tensors: dict[str, Tensor]) -> _M:
    """Return the network that `make` builds with the weights of a file, in float32.

    Raises CheckpointError when names or shapes of the weights are not those of the network, which is found before the
    network takes any memory, or a weight is not finite.
    """
    try:
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in make().state_dict().items()}
    except RuntimeError as error:  # more elements than an integer counts
        raise CheckpointError(f"{path} describes a network that no machine holds: {one_line(error)}") from error
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors or name not in wanted:
            fault = f'it {"lacks" if name in wanted else "also holds"} "{one_line(name)}"'
        elif tensors[name].shape != wanted[name]:
            fault = f'"{name}" has the shape {shown(list(tensors[name].shape))}, not {shown(list(wanted[name]))}'
        elif not tensors[name].is_floating_point():
            fault = f'"{name}" is of {tensors[name].dtype}'
        elif not bool(tensors[name].float().isfinite().all()):
            raise CheckpointError(f'{path}: the weights "{name}" are not all finite, so the model is of no use')
        else:
            continue
        raise CheckpointError(f"{path}: the weights do not fit the network it describes: {fault}")
    network = make()
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network


def ensemble(path: Path, makes: Sequence[Callable[[], _M]], tensors: dict[str, Tensor]) -> list[_M]:
    """Return the networks of an ensemble, as `with_weights` does; the weights of member i begin with "i."."""
    split: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        member, _, rest = name.partition(".")
        split.setdefault(member, {})[rest] = tensor
    if extra := sorted(split.keys() - {str(i) for i in range(len(makes))}):
        raise CheckpointError(f'{path} describes {len(makes)} members, and also holds weights "{one_line(extra[0])}"')
    return [with_weights(path, make, split.get(str(i), {})) for i, make in enumerate(makes)]
