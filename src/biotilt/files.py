"""Files that survive: written whole or not at all, and never executed when read."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from biotilt.errors import BiotiltError, CheckpointError

_METADATA_KEY = "biotilt"


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary name in the folder of `path`, then rename: nobody sees half a file.

    Raises BiotiltError with the path when the disk is full or the folder cannot be written; whatever was at
    `path` before is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # safetensors writes files that only their owner can read
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, BiotiltError) or not isinstance(error, Exception):
            raise
        # safetensors reports a full disk as its own error type, hence the broad catch
        raise BiotiltError(f"cannot write {path}: {error}; nothing was replaced. Free some space or choose "
                           "another folder, then resume") from error  # fmt: skip


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # a parent that is a file, say: the first error is the one to tell
        path.unlink()


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


def read_json(path: Path) -> Any:
    """Read JSON; CheckpointError with file and line when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON-serialisable `metadata` as one safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = {_METADATA_KEY: json.dumps(metadata)}
    write_atomic(path, lambda p: save_file(ready, p, metadata=text))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises CheckpointError when the file is missing, truncated, a pickle, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    with path.open("rb") as handle:
        head = handle.read(9)
    # safetensors starts with the length of its header, eight bytes that can be any, then always a brace
    if (head[:2] == b"PK" or head[:1] == b"\x80") and head[8:] != b"{":
        raise CheckpointError(
            f"{path} is a pickle (a torch.save file), which can run code when read; biotilt reads only "
            "safetensors. Convert it with safetensors.torch.save_file in an environment you trust"
        )
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = (handle.metadata() or {}).get(_METADATA_KEY)
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error
    if metadata is None:
        raise CheckpointError(f"{path} has no biotilt metadata: it does not say what model it holds")
    return tensors, json.loads(metadata)
