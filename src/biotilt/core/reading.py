"""What a space tells those that search: which states are one design, which are related, which tokens are pads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

Numbers = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor], float]


def numbers(keys: Iterable[bytes]) -> Tensor:
    """Return a number of 64 bits for each key `(B,)`, int64: the same for the same key, whenever and wherever.

    >>> found = numbers([b"CCO", b"CCN", b"CCO"])
    >>> bool(found[0] == found[2]), bool(found[0] == found[1])
    (True, False)
    """
    hashed = [int.from_bytes(blake2b(key, digest_size=8).digest(), "big", signed=True) for key in keys]
    return torch.tensor(hashed, dtype=torch.int64)


def of_states(states: Tensor) -> Tensor:
    """Return the numbers `(B,)` of states `(B, ...)` each of which is a design of its own."""
    return numbers(row.tobytes() for row in states.detach().cpu().numpy()).to(states.device)


@dataclass(frozen=True)
class Reading:
    """How complete states are read, as far as a search needs to know: a space brings it, and no algorithm asks which.

    Args:
        keys: numbers `(B,)` of states `(B, ...)`, the same for states of one design.
        families: numbers `(B,)` of the families of states, such as molecules of one scaffold; None where a space knows
            none, and only likeness of tokens tells.
        pad: the token that stands for no letter; None where all designs have one length.
        pads_first: whether pads stand before the letters.
        near: for each token all tokens, itself first, by how near they are to it in the design; None where that is how
            near they are in the state.
        distance: the mean over pairs of how far apart the designs of states `(B, ...)`, B ≥ 2, are; None where
            likeness of tokens tells.
    """

    keys: Numbers = of_states
    families: Numbers | None = None
    pad: int | None = None
    pads_first: bool = False
    near: tuple[tuple[int, ...], ...] | None = None
    distance: Distance | None = None
