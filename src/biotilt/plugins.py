"""Parts that other packages bring: entry points, found by name and listed beside our own.

A package registers, say, a sampler by two lines of its `pyproject.toml`:

    [project.entry-points."biotilt.samplers"]
    my_sampler = "my_package.sampling:MySampler"

The object is a class with the `name` it is registered by (a reward: a dataclass; see `rewards.registry`). It is loaded
when an experiment names it, or when parts are listed. `biotilt.testing.contracts` is what it should keep to.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from biotilt.errors import ConfigError
from biotilt.objectives import OBJECTIVES
from biotilt.processes import PROCESSES
from biotilt.rewards import REWARDS
from biotilt.samplers import SAMPLERS

OURS: dict[str, dict[str, Any]] = {
    "processes": PROCESSES,
    "objectives": OBJECTIVES,
    "samplers": SAMPLERS,
    "rewards": REWARDS,
}


def registry(kind: str) -> dict[str, Any]:
    """Return the parts of a kind ("processes", "objectives", "samplers", "rewards") by name, plug-ins included.

    Raises ConfigError when a plug-in cannot be loaded, or takes a name that is taken.
    """
    _load(kind)
    return OURS[kind]


@cache
def _load(kind: str) -> None:
    for point in sorted(entry_points(group=f"biotilt.{kind}"), key=lambda point: point.name):
        if point.name in OURS[kind]:
            raise ConfigError(f'{_where(point)} registers "{point.name}" among the {kind}, but that name is taken')
        try:
            part = point.load()
        except Exception as error:  # whatever a stranger's import raises
            raise ConfigError(
                f"{_where(point)} cannot be loaded ({type(error).__name__}: {error}); mend or uninstall it"
            ) from error
        if getattr(part, "name", None) != point.name:
            raise ConfigError(
                f'{_where(point)} is registered as "{point.name}" but calls itself "{getattr(part, "name", None)}"'
            )
        OURS[kind][point.name] = part


def _where(point: EntryPoint) -> str:
    package = point.dist.name if point.dist is not None else "a package"
    return f"plug-in {point.value} of {package}"


def summaries(kind: str) -> dict[str, str]:
    """Return a line about each part, by name: what its file says it is, or its own docstring for rewards."""

    def line(part: Any) -> str:
        text = part.__doc__ if kind == "rewards" else sys.modules[part.__module__].__doc__
        return next(iter((text or "").strip().splitlines()), "").strip()

    return {name: line(part) for name, part in registry(kind).items()}
