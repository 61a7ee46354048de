"""The rewards that an experiment file can name, and their construction from its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from biotilt.errors import ConfigError, suggest
from biotilt.rewards.base import NamedReward
from biotilt.rewards.rna import ForbiddenMotifs, GCFraction, UpstreamAUG

REWARDS: dict[str, Callable[..., NamedReward]] = {
    kind.name: kind for kind in (GCFraction, ForbiddenMotifs, UpstreamAUG)
}


def build(name: str, options: Mapping[str, Any]) -> NamedReward:
    """Build the reward called `name` from the options of an experiment file.

    Raises `ConfigError`, with the nearest valid name, for an unknown reward or option, and for an option that
    is missing or out of range.

    >>> build("gc", {"low": 0.4, "high": 0.6})
    GCFraction(low=0.4, high=0.6)
    """
    if name not in REWARDS:
        raise ConfigError(f'unknown reward "{name}"{suggest(name, REWARDS)}')
    fields = dataclasses.fields(REWARDS[name])  # pyright: ignore[reportArgumentType]
    valid = [field.name for field in fields]
    for option in options:
        if option not in valid:
            raise ConfigError(f'reward "{name}": unknown option "{option}"{suggest(option, valid)}')
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in options]
    if missing:
        raise ConfigError(f'reward "{name}": option "{missing[0]}" is missing')
    return REWARDS[name](**options)
