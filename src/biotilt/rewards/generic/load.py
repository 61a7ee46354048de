"""Rewards written by users, named in an experiment as "module:function" or "file.py:function"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biotilt.errors import ConfigError, RewardError
from biotilt.loading import Reference
from biotilt.rewards.generic.base import Compound, Named, NamedReward
from biotilt.rewards.generic.columns import Several, Source, columns
from biotilt.rewards.generic.functions import FunctionReward, reward


def load_function(reference: str, base: Path = Path(), *, per_design: bool = False) -> NamedReward:
    """Load the reward that `reference` names, and wrap it when it is a plain function.

    `reference` is "module:function", where the module can be imported, or "path/file.py:function", where a
    relative path starts at the folder `base` (that of the experiment file). `per_design` says that a plain
    function takes one design; an object that already has a name and a version is kept as it is.

    Raises `RewardError`, which names the reference, when the module or the function is not there, when
    importing fails (with the original error, its file and its line), and when the object cannot be called.

    >>> load_function("math:sqrt", per_design=True)(["4"])
    Traceback (most recent call last):
    TypeError: must be real number, not str
    """
    found = Reference(reference, base, "reward", RewardError).load()
    if isinstance(found, Source):
        known = f", one of {', '.join(found.columns)}" if found.columns else ""
        raise ConfigError(f'"{reference}" gives several columns; name the one that is the score{known}')
    return _as_reward(found, per_design)


def load_source(reference: str, base: Path = Path(), *, per_design: bool = False) -> Source:
    """Load what gives several named scores a design, as `load_function` loads a reward.

    A plain function, or one with `@reward`, gives mappings, name -> number. Raises `RewardError` as `load_function`
    does, and `ConfigError` for a reward made of others or declared to be minimised, which gives one number.
    """
    found = Reference(reference, base, "reward", RewardError).load()
    if isinstance(found, Source | Several):
        return found if isinstance(found, Source) else found.source()
    if not isinstance(found, Named):
        return columns(per_design=per_design)(found)
    if isinstance(found, Compound):
        raise ConfigError(f'"{reference}" gives one score; decorate a function that returns mappings with @columns')
    if isinstance(found, FunctionReward):
        return Source(found.function, found.name, found.version, batched=found.batched, reads=found.reads)
    return Source(found, found.name, found.version, batched=not per_design)


def _as_reward(found: Any, per_design: bool) -> NamedReward:
    if not isinstance(found, Named):
        return reward(per_design=per_design)(found)
    if not isinstance(found, NamedReward):
        return FunctionReward(found, found.name, found.version, batched=not per_design)
    return found
