"""Files that survive: written whole or not at all, and never executed when read."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from biotilt.atomic import write_atomic
from biotilt.errors import BiotiltError, CheckpointError, ConfigError, DataError, one_line
from biotilt.options import shown
from biotilt.schema import StoredTensors, checked

LARGEST_TEXT = 1 << 30  # bytes, unpacked: a library of a million designs has a tenth of it

_M = TypeVar("_M", bound=Module)
_METADATA_KEY = "biotilt"
_CHECKSUMS = "checksums"
_RESTORE = "take it from where it came, or make it again"
_GZIP = b"\x1f\x8b"
_NO_TEXT = {  # how files start that people take for text
    b"PK\x03\x04": "a zip archive (an Excel workbook is one); save it as text, a table as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save it as text, a table as CSV in UTF-8",
    b"\xfd7zXZ": "compressed with xz; unpack it, or compress it with gzip",
    b"BZh": "compressed with bzip2; unpack it, or compress it with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it, or compress it with gzip",
    b"%PDF": "a PDF",
}
_ENCODINGS = {  # byte-order marks; UTF-32 before UTF-16, whose mark it starts with
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    write_atomic(path, lambda p: p.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))


def strict_json(value: Any) -> str:
    """Return JSON that every reader takes, two spaces a level: NaN and the infinities become null.

    >>> print(strict_json([1.5, float("nan")]))
    [
      1.5,
      null
    ]
    """
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, whole or not at all."""
    write_text(path, strict_json(value) + "\n")


def read_text(
    path: str | Path,
    *,
    error: type[BiotiltError] = DataError,
    missing: str = "",
    line_ends: bool = False,
    any_bytes: bool = False,
) -> str:
    """Return the text of a file in UTF-8, with or without a byte-order mark; a .gz file is unpacked.

    Args:
        path: the file.
        error: what is raised.
        missing: what to do when there is no such file, for the message.
        line_ends: keep those of Windows and old Macs; without it all lines end in "\\n".
        any_bytes: replace bytes that are not UTF-8 instead of refusing them. For files whose numbers count and
            whose remarks do not, such as coordinates.

    Raises:
        `error`: the file is missing, a folder or unreadable, holds more than `LARGEST_TEXT` bytes, is compressed
            where its suffix does not say so (or the reverse), or is in another encoding, which is named with the line.
    """
    path, where = Path(path), shown_path(path)
    data = _bytes_of(path, error, missing)
    for start, what in _NO_TEXT.items():
        if data.startswith(start):
            raise error(f"{where}: no text file: it is {what}")
    if name := next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), None):
        raise error(f"{where}:1: the file is in {name}, not in UTF-8; save it as UTF-8")
    if (at := data.find(b"\0")) >= 0:
        likely = "it looks like UTF-16; save it as UTF-8" if b"\0" in data[:2] else "it is binary, or damaged"
        raise error(f"{where}:{_line(data, at)}: a NUL byte, which no text has: {likely}")
    try:
        text = data.decode("utf-8-sig", errors="replace" if any_bytes else "strict")
    except UnicodeDecodeError as wrong:
        # counted in `wrong.object`: the decoder has taken a byte-order mark off before it counts
        byte, line = wrong.object[wrong.start], _line(wrong.object, wrong.start)
        likely = "Windows-1252 or Latin-1" if byte >= 0xA0 else "Windows-1252 or Mac Roman"
        raise error(
            f"{where}:{line}: byte 0x{byte:02x} is not UTF-8, it looks like {likely}; save the file as UTF-8"
        ) from wrong
    return text if line_ends else text.replace("\r\n", "\n").replace("\r", "\n")


def shown_path(path: str | Path) -> str:
    """Return a path for a message of one line: line breaks and other signs that cannot be printed are escaped.

    >>> print(shown_path("a\\nb.csv"))
    a\\nb.csv
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(path))


def _bytes_of(path: Path, error: type[BiotiltError], missing: str) -> bytes:
    """Return what a file holds, unpacked where its suffix is .gz, up to the most that is allowed."""
    where, is_gz = shown_path(path), path.suffix.lower() == ".gz"
    try:
        if not path.is_file():
            raise error(_why_no_file(path) + (missing if not path.exists() else ""))
        with path.open("rb") as handle:
            packed = handle.read(2) == _GZIP
            size = handle.seek(0, os.SEEK_END)
            handle.seek(0)
            if packed and not is_gz:
                raise error(f"{where}: compressed with gzip, but its name does not end in .gz; rename it")
            if size and is_gz and not packed:
                raise error(f"{where}: not a gzip file, though its name ends in .gz; rename it or compress it")
            with gzip.open(handle) if packed else handle as source:
                data = source.read(LARGEST_TEXT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as wrong:
        raise error(f"{where}: not a whole gzip file: {wrong}") from wrong
    except (OSError, ValueError) as wrong:  # ValueError: a NUL in the path
        raise error(f"{where}: cannot be read: {getattr(wrong, 'strerror', None) or wrong}") from wrong
    if len(data) > LARGEST_TEXT:
        unpacked = " once unpacked" if packed else ""
        raise error(f"{where}: more than {LARGEST_TEXT / 2**30:g} GiB{unpacked}, the most that is read; split it")
    return data


def _why_no_file(path: Path) -> str:
    if not path.exists():
        return f"{shown_path(path)} does not exist"
    what = "a folder" if path.is_dir() else "a device or a pipe"
    return f"{shown_path(path)}: cannot be read: it is {what}, not a file"


def _line(data: bytes, at: int) -> int:
    return data[:at].count(b"\n") + 1


def read_json(path: Path, schema: Any = None) -> Any:
    """Read JSON, as `schema` where one is given (a pydantic model or a type).

    Raises CheckpointError, in one line with file and place, when it is missing, damaged or does not fit.
    """
    content = _parsed(read_text(path, error=CheckpointError), path)
    return content if schema is None else checked(content, schema, shown_path(path), CheckpointError)


def _parsed(text: str, path: Path) -> Any:
    """Return the content of JSON; CheckpointError when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits, and thousands of brackets
        raise CheckpointError(f"{path} is not valid JSON: {one_line(error)}") from error


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
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as handle:
            text = (handle.metadata() or {}).get(_METADATA_KEY)
            if text is None:
                raise CheckpointError(f"{path} has no biotilt metadata: it does not say what model it holds")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    # types and shapes that a header may name, and torch does not make, end in all of these
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {one_line(error)}") from error
    metadata = _parsed(text, path)
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: its metadata must be an object, got {shown(metadata)}")
    if _CHECKSUMS in metadata:
        _verify(path, metadata.pop(_CHECKSUMS), _checksums(tensors, metadata))
    if schema is None:
        return tensors, metadata
    if metadata.get("kind") != schema.kind:
        raise CheckpointError(f'{path} holds a "{one_line(metadata.get("kind"))}", not {schema.called}')
    return tensors, checked(metadata, schema, path, CheckpointError)


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


@contextlib.contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Turn an error about what a file describes into a CheckpointError that names the file."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise CheckpointError(f"{path}: {error}") from error


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
