"""Kinds of rewards that a section of an experiment file builds from more than options: parts, functions, files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from biotilt.errors import ConfigError
from biotilt.options import build_options
from biotilt.rewards.generic.base import NamedReward
from biotilt.rewards.generic.gaussian_base import GaussianBase


@dataclass(frozen=True)
class Section:
    """What a section says, its parts built; `key` says where it is, `base` is the folder that paths start at.

    `density` returns that of the base model's designs; ConfigError where it is not known. None without a model.
    `model` returns the `biotilt.Model` that the section names, or else the base; None where there is neither.
    """

    key: str
    base: Path = Path()
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[NamedReward] = ()
    weights: Sequence[float] = ()
    function: str | None = None
    per_design: bool = False
    path: str | None = None
    density: Callable[[], GaussianBase] | None = None
    model: Callable[[], Any] | None = None


class FromSection(ABC):
    """A kind that is built from a section; any other is a dataclass, built from the section's options alone.

    `takes`: the keys that it reads, of all that a section may say; what is said besides is refused.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"function", "per_design", "path", "options", "parts", "weights"})

    @classmethod
    @abstractmethod
    def of_section(cls, section: Section) -> NamedReward:
        """Build the reward; ConfigError names the key when something is missing."""


class FromParts(FromSection):
    """A kind made of several parts and their weights."""

    name: str
    takes: ClassVar[frozenset[str]] = frozenset({"parts", "weights"})

    def __init__(self, parts: Sequence[NamedReward], weights: Sequence[float] = ()) -> None: ...

    @classmethod
    def of_section(cls, section: Section) -> Any:
        if not section.parts:
            key = section.key
            raise ConfigError(f'{key}.parts: a {cls.name} needs parts, for example [[{key}.parts]] kind = "gc"')
        return cls(section.parts, section.weights)


class FromPart(FromSection):
    """A kind made of one part and of options, those of its dataclass `Options`."""

    name: str
    takes: ClassVar[frozenset[str]] = frozenset({"parts", "options"})
    Options: ClassVar[type]

    def __init__(self, part: NamedReward, **options: Any) -> None: ...

    @classmethod
    def of_section(cls, section: Section) -> Any:
        if len(section.parts) != 1:
            raise ConfigError(f"{section.key}.parts: {cls.name} needs one part, and has {len(section.parts)}")
        build_options(cls.Options, section.options, f"{section.key}.options")  # names the key of a fault
        return cls(section.parts[0], **section.options)
