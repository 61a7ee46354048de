"""Whether a reward reads what a generator designs: asked when an experiment is built."""

from __future__ import annotations

from typing import Any

from biotilt.core.space import Space
from biotilt.declared import Declaration
from biotilt.errors import ConfigError

ANYTHING = "anything"


def check_reads(reward: Any, space: Space[Any], key: str) -> None:
    """Raise ConfigError, naming the key of the reward, when it reads other designs than those of the space."""
    reads = Declaration.by(reward).reads
    if reads not in (ANYTHING, space.medium):
        raise ConfigError(
            f'{key}: "{reward.name}" reads {reads}, and what this generator designs are {space.medium}; take a reward '
            f'of {space.medium}, such as a Python function (one that is an object says reads = "{space.medium}")'
        )
