"""What a reward says of itself beyond its name and version, whoever wrote it: read here, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from biotilt.errors import ConfigError


@dataclass(frozen=True)
class Declaration:
    """What a reward says of itself by attributes of these names, each with its default.

    `batched` (True): a call with many designs is cheaper than many calls; False: designs are asked one by one.
    `range` (None): the lowest and the highest score; any other is a slip and becomes NaN. `deterministic` (True),
    or else each design is scored `repeats` (1) times and the scores are averaged. `transient`: the kinds of
    exceptions that another attempt may not meet; by default `OSError` with `ConnectionError` and `TimeoutError`,
    but no missing file or permission. `reads` ("text"): what its designs are, as a space says (`Space.medium`), or
    "anything". `several` (False): a design gets a mapping of named scores. `conditional` (False): it reads the
    condition under which a design was drawn (`ToldText`). `imports` (): modules that workers load before they are
    asked. `units` and `label` (""): how people write the score; `negated` (False): they write minus this score.
    `guards` (False): it tells what designs should keep, not what they are to gain, so as a judge it names no winner.
    """

    name: str
    batched: bool = True
    repeats: int = 1
    range: tuple[float, float] | None = None
    transient: tuple[type[BaseException], ...] | None = None
    reads: str = "text"
    several: bool = False
    conditional: bool = False
    deterministic: bool = True
    imports: tuple[str, ...] = ()
    units: str = ""
    label: str = ""
    negated: bool = False
    guards: bool = False

    @classmethod
    def by(cls, reward: Any) -> Declaration:
        """Read what `reward` declares; ConfigError when it cannot be meant."""
        name, limits, repeats = reward.name, getattr(reward, "range", None), getattr(reward, "repeats", 1)
        if limits is not None:
            limits = tuple(limits)
            if len(limits) != 2 or not limits[0] < limits[1]:
                raise ConfigError(f'reward "{name}": range = {limits} must be (lowest, highest)')
        if not isinstance(repeats, int) or repeats < 1:
            raise ConfigError(f'reward "{name}": repeats = {repeats!r} must be a whole number >= 1')
        deterministic = bool(getattr(reward, "deterministic", True))
        return cls(
            name,
            getattr(reward, "batched", True),
            1 if deterministic else repeats,
            limits,
            getattr(reward, "transient", None),
            getattr(reward, "reads", "text"),
            getattr(reward, "several", False),
            bool(getattr(reward, "conditional", False)),
            deterministic,
            tuple(getattr(reward, "imports", ())),
            getattr(reward, "units", ""),
            getattr(reward, "label", ""),
            bool(getattr(reward, "negated", False)),
            bool(getattr(reward, "guards", False)),
        )


@runtime_checkable
class Composite(Protocol):
    """A reward that is made of others."""

    def children(self) -> Sequence[Any]:
        """Return them."""
        ...

    def with_children(self, children: Sequence[Any]) -> Self:
        """Return a copy that is made of these."""
        ...


@runtime_checkable
class Reasoned(Protocol):
    """A score that says why it is none."""

    @property
    def reason(self) -> str: ...
