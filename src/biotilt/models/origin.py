"""Where a network comes from that is not stored whole, so that another process can build it again."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

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


@torch.no_grad()
def fingerprint(net: nn.Module) -> str:
    """Return a hash of the tensors that training leaves alone: frozen parameters and stored buffers, by name."""
    own = {parameter.data_ptr() for parameter in net.parameters() if parameter.requires_grad}  # by any name
    found = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        if tensor.data_ptr() not in own:
            content: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(content)
    return found.hexdigest()
