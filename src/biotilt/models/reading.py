"""What a space tells those that search among designs, in terms of states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from biotilt.core.reading import Reading, numbers
from biotilt.core.space import Measured, Related, Shaped, Space, Varying
from biotilt.spaces import Text


def reading_of(space: Space[Any], decode: Callable[[Tensor], list[Any]]) -> Reading:
    """Return the reading of states whose designs `decode` returns."""

    def keys(states: Tensor) -> Tensor:
        return numbers(space.key(design).encode() for design in decode(states)).to(states.device)

    def families(states: Tensor) -> Tensor:
        assert isinstance(space, Related)
        return numbers(space.family(design).encode() for design in decode(states)).to(states.device)

    def distance(states: Tensor) -> float:
        assert isinstance(space, Measured)
        return space.mean_distance(decode(states))

    near = space.near if isinstance(space, Shaped) else None
    apart = distance if isinstance(space, Measured) and not isinstance(space, Text) else None
    known = Reading(keys, families if isinstance(space, Related) else None, near=near, distance=apart)
    return replace(known, pad=space.pad, pads_first=space.pads_first) if isinstance(space, Varying) else known
