"""One call, several outputs: sources that give named numbers of a design, and rewards that are one of them.

A source is asked once for a design, however many rewards, constraints and tables read its columns.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from biotilt.errors import ConfigError, RewardError, suggest
from biotilt.options import Count, build_options, check_option
from biotilt.rewards.generic.base import Compound, Infeasible, NamedReward, NotScored, as_score, digest, source_version
from biotilt.rewards.generic.section import Section

Marks = Mapping[str, tuple[float, str]]  # of each column of one design: score, and the reason of NaN or −inf
WHOLE = ""  # the only column of a reward that gives one number


@dataclass(frozen=True)
class Source:
    """What gives several named numbers of a design in one call; `column` makes a reward of one of them.

    `function` takes a list of designs and returns a list with one mapping, name -> number, a design; with
    `batched=False` it takes one design and returns one mapping. NaN in a column: not scored in that column only. A
    design of which nothing can be said gets None, `NotScored` or `Infeasible` in place of its mapping.

    `columns` are the names, where they are known before the first answer, and `column_units` the units of those that
    have one. `name` and `own_version` are the key of the cache. A noisy source is asked `repeats` times, and each
    column is averaged.

    >>> both = Source(lambda designs: [{"length": len(d), "a": d.count("A")} for d in designs], "both", "1")
    >>> both.column("a")(["AAC", "G"])
    [2.0, 0.0]
    """

    function: Callable[..., Any]
    name: str
    own_version: str
    columns: tuple[str, ...] = ()
    batched: bool = True
    repeats: int = 1
    imports: tuple[str, ...] = ()
    reads: str = "anything"
    column_units: Mapping[str, str] = field(default_factory=dict, hash=False)

    several = True

    def __post_init__(self) -> None:
        check_option(Count, self.repeats, f'reward "{self.name}"', "repeats")

    @property
    def version(self) -> str:
        return self.own_version if self.repeats == 1 else f"{self.own_version}-{digest(repr(self.repeats))}"

    @property
    def key(self) -> tuple[str, str]:
        """Name and version, by which the cache knows it."""
        return self.name, self.version

    @property
    def deterministic(self) -> bool:
        return self.repeats == 1

    def __call__(self, designs: list[Any]) -> list[Any]:
        return self.function(designs) if self.batched else [self.function(design) for design in designs]

    def column(self, name: str) -> Column:
        """Return the reward that is this column; ConfigError, with the nearest name, where it is known to be none."""
        return Column(self, name)

    def asked(self, repeats: int) -> Source:
        """Return the same, asked so often for a design; 1 leaves what it says itself."""
        return self if repeats == 1 else replace(self, repeats=repeats)


@dataclass(frozen=True)
class Column:
    """The column called `column` of a source as a reward; higher is better.

    Its name is "source.column" and its version the source's. Raises ConfigError for a column that the source does not
    declare.
    """

    part: Source
    column: str

    differentiable = False

    def __post_init__(self) -> None:
        if self.part.columns and self.column not in self.part.columns:
            raise ConfigError(
                f'reward "{self.part.name}" has no column "{self.column}"{suggest(self.column, self.part.columns)}'
            )

    @property
    def name(self) -> str:
        return f"{self.part.name}.{self.column}"

    @property
    def version(self) -> str:
        return self.part.version

    @property
    def batched(self) -> bool:
        return self.part.batched

    @property
    def repeats(self) -> int:
        return self.part.repeats

    @property
    def deterministic(self) -> bool:
        return self.part.deterministic

    @property
    def units(self) -> str:
        return self.part.column_units.get(self.column, "")

    @property
    def imports(self) -> tuple[str, ...]:
        return self.part.imports

    @property
    def reads(self) -> str:
        return self.part.reads

    def __call__(self, designs: list[str]) -> list[float]:
        """Ask the source itself, once; an oracle asks it for all who read its columns."""
        rows = self.part(designs)
        names = dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row)
        if names and self.column not in names:
            raise RewardError(f'reward "{self.part.name}" gives no column "{self.column}"{suggest(self.column, names)}')
        return [self._read(row) for row in rows]

    def _read(self, row: Any) -> float:
        if not isinstance(row, Mapping):
            return as_score(row)
        return as_score(row[self.column]) if self.column in row else NotScored(f'no column "{self.column}"')


class GivesColumns(ABC):
    """A kind of reward that can give several named numbers a design; `[reward] column` then picks one."""

    @classmethod
    @abstractmethod
    def source_of(cls, section: Section) -> Source:
        """Return what gives them, as a section says; ConfigError names the key when something is missing."""


class Several(GivesColumns):
    """One that is a dataclass of its options."""

    @classmethod
    def source_of(cls, section: Section) -> Source:
        return build_options(cls, section.options, f"{section.key}.options").source()

    @abstractmethod
    def source(self) -> Source:
        """Return what gives them, with the name and version that the cache knows it by."""


def columns(
    *names: str,
    name: str = "",
    version: str = "",
    per_design: bool = False,
    repeats: int = 1,
    reads: str = "anything",
) -> Callable[[Callable[..., Any]], Source]:
    """Turn a function that returns several named numbers a design into a `Source`; use it as `@columns("a", "b")`.

    Names that are given are checked before anything is scored; none are needed. `name`, `version`, `per_design`,
    `repeats` and `reads` are as those of `@reward`.

    >>> @columns("gc", "length", version="1", per_design=True)
    ... def counts(design):
    ...     return {"gc": design.count("G") + design.count("C"), "length": len(design)}
    >>> counts.column("gc")(["GCA"]), counts.column("gc").name
    ([2.0], 'counts.gc')
    """

    def wrap(function: Callable[..., Any]) -> Source:
        called = name or getattr(function, "__name__", type(function).__name__)
        known = version or source_version(function)
        return Source(function, called, known, names, not per_design, repeats, reads=reads)

    return wrap


@dataclass(frozen=True)
class Plan:
    """What has to be asked for a reward with columns: each of `parts` once a design; `wanted` columns of each.

    Parts are sources, and rewards of one number, whose only column is called `WHOLE`.
    """

    reward: NamedReward
    parts: tuple[Source | NamedReward, ...]
    wanted: tuple[tuple[str, ...], ...]

    def combine(self, designs: Sequence[str], answers: Sequence[Mapping[str, Marks]]) -> list[float]:
        """Return the scores of designs, given what each part said of each: design -> column -> (score, reason)."""
        tables = {_key(part): answer for part, answer in zip(self.parts, answers)}

        def filled(reward: NamedReward) -> NamedReward:
            if isinstance(reward, Compound) and _has_column(reward):
                return reward.with_children([filled(child) for child in reward.children()])
            part, column = (reward.part, reward.column) if isinstance(reward, Column) else (reward, WHOLE)
            table = tables[_key(part)]
            return _Known(reward.name, reward.version, {design: _score(*table[design][column]) for design in designs})

        return filled(self.reward)(list(designs))


def plan(reward: NamedReward) -> Plan | None:
    """Return what has to be asked for a reward that reads columns; None for any other, which is asked as a whole.

    Raises ConfigError where repeats are declared of a reward made of columns: they are the source's.
    """
    if not _has_column(reward):
        return None
    found: dict[Any, tuple[Source | NamedReward, list[str]]] = {}
    for leaf in _leaves(reward):
        part, column = (leaf.part, leaf.column) if isinstance(leaf, Column) else (leaf, WHOLE)
        _, wanted = found.setdefault(_key(part), (part, []))
        if column not in wanted:
            wanted.append(column)
    return Plan(reward, tuple(p for p, _ in found.values()), tuple(tuple(wanted) for _, wanted in found.values()))


def sources(rewards: Sequence[NamedReward]) -> list[Source]:
    """Return the sources whose columns these rewards read, each once."""
    parts = [part for made in map(plan, rewards) if made for part in made.parts if isinstance(part, Source)]
    return list({_key(part): part for part in parts}.values())


@dataclass(frozen=True)
class _Known:
    """A reward of which the scores are known already."""

    name: str
    version: str
    scores: Mapping[str, float]

    differentiable = False

    def __call__(self, designs: list[str]) -> list[float]:
        return [self.scores[design] for design in designs]


def _key(part: Source | NamedReward) -> tuple[str, str]:
    return part.name, part.version


def _has_column(reward: NamedReward) -> bool:
    return isinstance(reward, Column) or (isinstance(reward, Compound) and any(map(_has_column, reward.children())))


def _leaves(reward: NamedReward) -> Iterator[NamedReward]:
    if not (isinstance(reward, Compound) and _has_column(reward)):
        yield reward
        return
    if reward.times > 1:
        raise ConfigError(
            f'reward "{reward.name}": repeats = {reward.times} must stand where its columns are named: their source is '
            "what is asked so often"
        )
    for child in reward.children():
        yield from _leaves(child)


def _score(value: float, reason: str) -> float:
    if math.isnan(value):
        return NotScored(reason)
    return Infeasible(reason) if value == -math.inf and reason else value
