"""Rewards of an experiment's sections, or given as functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from biotilt.config import RewardSection
from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.model_given import load_base, with_told
from biotilt.models.reference import base_density
from biotilt.options import anchored, shown
from biotilt.oracle.workers.isolation import adopt, isolated
from biotilt.rewards import REWARDS, NamedReward
from biotilt.rewards import reward as wrap_reward
from biotilt.rewards.generic.base import Named
from biotilt.rewards.generic.columns import GivesColumns, Source
from biotilt.rewards.generic.declare import declare
from biotilt.rewards.generic.section import FromSection, Section


def load_reward(
    section: RewardSection, base: Path, key: str, target: str | None = None, model: Model | None = None
) -> NamedReward:
    """Build a reward as `build_reward` does; what its file sets in this process when it is run stays with it."""
    if section.weight != 1:
        raise ConfigError(
            f"{key}.weight: only the parts of a sum, a product or a mean have weights; leave this key out"
        )
    with isolated() as world:
        made = build_reward(section, base, key, target, model)
    adopt(made, world)
    return made


def build_reward(
    section: RewardSection, base: Path, key: str, target: str | None = None, model: Model | None = None
) -> NamedReward:
    """Build a reward from its section; ConfigError names the key when something is missing.

    `target` is given to the rewards that have an option of that name and whose section does not set it; `model`, the
    base, to those that are weighed against the density of its designs.
    """
    kind = REWARDS.find(section.kind, f"{key}.kind")
    parts = [build_reward(part, base, f"{key}.parts.{i}", target, model) for i, part in enumerate(section.parts)]
    given = Section(
        key, base, _options(section, base, target), parts, [part.weight for part in section.parts],
        section.function, section.per_design, section.path, None if model is None else lambda: base_density(model),
        _model_of(section, base, key, model),
    )  # fmt: skip
    _check_keys(section, kind, key)
    said = {name: getattr(section, name) for name in ("direction", "range", "units")}
    if section.column is not None:
        return declare(_column_of(kind, given, section), **said)
    said |= {name: getattr(section, name) for name in ("deterministic", "repeats")}
    if issubclass(kind, FromSection):
        return declare(kind.of_section(given), **said)
    return declare(REWARDS.build(section.kind, given.options, f"{key}.options"), **said)


def _model_of(section: RewardSection, base: Path, key: str, given: Model | None) -> Callable[[], Model] | None:
    """Return what loads the model that a reward's section names, or gives the base; None where there is neither."""
    said = section.model
    if said is None:
        return None if given is None else lambda: given
    if said.lora is not None:
        raise ConfigError(f"{key}.model.lora: adapters are for tuning, and nothing is tuned here; leave this key out")
    return lambda: with_told(said, load_base(said, base))


def _check_keys(section: RewardSection, kind: type, key: str) -> None:
    """Raise ConfigError for what is said of a kind that does not read it."""
    for name in meaningless(section, kind):
        where = f"{key}.parts: a weight" if name == "weights" else f"{key}.{name}: this key"
        raise ConfigError(f'{where} means nothing to a reward of kind "{section.kind}"; leave it out')


def meaningless(section: RewardSection, kind: type) -> list[str]:
    """Return what is said of a reward, the names of keys or "weights" of parts, that its kind does not read."""
    takes = kind.takes if issubclass(kind, FromSection) else frozenset({"options"})
    weights = any(part.weight != 1 for part in section.parts)
    said = {
        "function": section.function is not None, "per_design": section.per_design, "path": section.path is not None,
        "options": bool(section.options), "parts": bool(section.parts), "weights": weights,
        "model": section.model is not None,
    }  # fmt: skip
    return [name for name, given in said.items() if given and name not in takes]


def _column_of(kind: type, given: Section, section: RewardSection) -> NamedReward:
    """Return one column of what gives several, asked as often as the section says."""
    assert section.column is not None
    if not issubclass(kind, GivesColumns):
        raise ConfigError(f'{given.key}.column: a reward of kind "{section.kind}" gives one score; leave this key out')
    source = kind.source_of(given)
    try:
        return source.asked(section.repeats).column(section.column)
    except ConfigError as error:
        raise ConfigError(f"{given.key}.column: {error}") from error


def _options(section: RewardSection, base: Path, target: str | None) -> dict[str, Any]:
    """Return the options of a reward, with its target and the paths that start at the experiment."""
    options, kind = dict(section.options), REWARDS.options_of(section.kind)
    accepted = {option.name for option in fields(kind)} if is_dataclass(kind) else set()
    if target is not None and "target" in accepted:
        options = {"target": target} | options
    if "folder" in accepted:  # a program works where the experiment is
        options = {"folder": "."} | options
    return anchored(kind, options, base)


def as_reward(function: Any, key: str) -> NamedReward:
    """Return a function of designs as a reward; ConfigError, which names the key, where it is none."""
    if not callable(function):
        raise ConfigError(f"{key}: {shown(function)} is no function of a list of designs")
    if isinstance(function, Source):
        raise ConfigError(f'{key}: "{function.name}" gives several columns; give one of them, .column("…")')
    found: Any = function if isinstance(function, Named) else wrap_reward(function)
    return found
