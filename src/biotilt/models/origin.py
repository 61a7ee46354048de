"""Where a network comes from that is not stored whole, so that another process can build it again."""

from __future__ import annotations

import hashlib
import os
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from biotilt.errors import ConfigError
from biotilt.loading import Reference
from biotilt.models.hub import is_hub
from biotilt.models.sources import MODELS, Whole
from biotilt.options import anchored


@dataclass(frozen=True)
class Origin(ABC):
    """What builds a model, as JSON can hold it: its fields are keys of `[model]` too."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def is_ours(self) -> bool:
        """Whether it runs nothing but biotilt: it needs nobody's trust, and no proof that it can be built again."""

    @abstractmethod
    def build(self) -> Any:
        """Return what it builds, which should be a model; ConfigError where it cannot."""


@dataclass(frozen=True)
class SourceOrigin(Origin):
    """A model by the name it is registered by, ours or a plug-in's, and its options."""

    source: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        return f'"{self.source}"'

    @property
    def is_ours(self) -> bool:
        return MODELS.is_ours(self.source)

    @property
    def is_whole(self) -> bool:
        """Whether a file of its model holds all of the network."""
        return issubclass(MODELS.find(self.source, "model.source"), Whole)

    def build(self) -> Any:
        return MODELS.build(self.source, self.options, "model.options", "model.source").build()


@dataclass(frozen=True)
class FactoryOrigin(Origin):
    """A function of the user's that returns the model, and the options it is called with.

    `factory`: "module:function", or "file.py:function" with the whole path of the file; `options`: as JSON holds them.
    """

    factory: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        return f'"{self.factory}"'

    @property
    def is_ours(self) -> bool:
        return False

    @classmethod
    def of(cls, reference: str, options: dict[str, Any] | None = None, base: Path = Path()) -> FactoryOrigin:
        """Return the origin that a reference names, whose relative file starts at the folder `base`.

        So do those among its options whose parameter is typed `PathText` (`biotilt.options`).
        """
        named = Reference(reference, base, "model", ConfigError)
        return cls(named.absolute(), anchored(named.load(), options, base) if options else {})

    def build(self) -> Any:
        """Import the function and call it.

        Raises ConfigError when it cannot be imported, or raises itself.
        """
        factory = Reference(self.factory, Path(), "model", ConfigError).load()
        try:
            return factory(**self.options)
        except ConfigError:
            raise
        except Exception as error:  # whatever a stranger's code raises
            raise ConfigError(f'model "{self.factory}" raised {type(error).__name__}: {error}') from error


@dataclass(frozen=True)
class FileOrigin:
    """The file of a generator, whose weights adapters are added to, or the repository of the hub that it is in."""

    path: str

    def beside(self, path: Path) -> dict[str, str]:
        """Return its place from the file `path` that is written, as JSON: none of a repository, or on another drive."""
        if is_hub(self.path):
            return {}
        try:
            return {"beside": Path(os.path.relpath(self.path, path.absolute().parent)).as_posix()}
        except ValueError:
            return {}


class _Known(NamedTuple):
    """The hash of tensors, by which it is known that they are the same: each itself, and not written to since."""

    tensors: tuple[weakref.ref[Tensor], ...]
    marks: tuple[bytes, ...]
    found: str

    def is_of(self, tensors: list[Tensor], marks: tuple[bytes, ...]) -> bool:
        same = len(tensors) == len(self.tensors) and marks == self.marks
        return same and all(ref() is tensor for ref, tensor in zip(self.tensors, tensors))


_KNOWN: deque[_Known] = deque(maxlen=4)
_LOOKED_AT = 16  # numbers of a tensor


@torch.no_grad()
def fingerprint(net: nn.Module) -> str:
    """Return a hash of the tensors that training leaves alone: frozen parameters and stored buffers, by name.

    It is computed once while these are the same tensors, of whatever network: the copies of one share them.
    """
    own = {parameter.data_ptr() for parameter in net.parameters() if parameter.requires_grad}  # by any name
    stored: Mapping[str, Tensor] = net.state_dict(keep_vars=True)
    frozen = {name: tensor for name, tensor in stored.items() if tensor.data_ptr() not in own}
    tensors = list(frozen.values())
    countable = not any(tensor.is_inference() for tensor in tensors)  # those count no writes
    marks = tuple(_mark(name, tensor) for name, tensor in frozen.items()) if countable else ()
    if countable and (known := next((each for each in _KNOWN if each.is_of(tensors, marks)), None)) is not None:
        return known.found
    found = hashlib.sha256()
    for name, tensor in frozen.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(_content(tensor))
    if countable:
        _KNOWN.append(_Known(tuple(map(weakref.ref, tensors)), marks, found.hexdigest()))
    return found.hexdigest()


def _mark(name: str, tensor: Tensor) -> bytes:
    """Return what changes when a tensor is written to: its count of writes; some numbers, as `.data` counts none."""
    some = tensor.detach().flatten()[:: max(1, tensor.numel() // _LOOKED_AT)]
    about = f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.data_ptr()} {tensor._version} "
    return about.encode() + bytes(_content(some))


def _content(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
