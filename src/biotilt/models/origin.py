"""Where a network comes from that is not one of ours, so that another process can build it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from biotilt.errors import ConfigError
from biotilt.loading import Reference


@dataclass(frozen=True)
class Origin:
    """A function of the user's that returns the model, and the options it is called with.

    `factory`: "module:function", or "file.py:function" with the whole path of the file; `options`: as JSON holds them.
    """

    factory: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, reference: str, options: dict[str, Any] | None = None, base: Path = Path()) -> Origin:
        """Return the origin that a reference names, whose relative file starts at the folder `base`."""
        return cls(Reference(reference, base, "model", ConfigError).absolute(), dict(options or {}))

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
    """The file of a generator, whose weights adapters are added to."""

    path: str


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
