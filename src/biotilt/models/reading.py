"""What a space tells those that search among designs, in terms of states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from biotilt.core.reading import Reading, numbers
from biotilt.core.space import Related, Shaped, Space, Varying


def reading_of(space: Space[Any], decode: Callable[[Tensor], list[Any]]) -> Reading:
    """Return the reading of states whose designs `decode` returns."""

    def keys(states: Tensor) -> Tensor:
        return numbers(space.key(design).encode() for design in decode(states)).to(states.device)

    def families(states: Tensor) -> Tensor:
        assert isinstance(space, Related)
        return numbers(space.family(design).encode() for design in decode(states)).to(states.device)

    near = space.near if isinstance(space, Shaped) else None
    known = Reading(keys, families if isinstance(space, Related) else None, near=near)
    return replace(known, pad=space.pad, pads_first=space.pads_first) if isinstance(space, Varying) else known
