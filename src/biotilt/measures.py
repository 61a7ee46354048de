"""The measures of an experiment: those of its task, those that its file names, and those given in Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biotilt.config import Config, MeasureSection
from biotilt.core.space import Space
from biotilt.errors import ConfigError
from biotilt.evaluation.common import PANEL
from biotilt.evaluation.functions import as_measure
from biotilt.evaluation.kinds import MEASURES
from biotilt.evaluation.measure import Limit, Measure
from biotilt.evaluation.tables import COLUMNS
from biotilt.keys import read_toml
from biotilt.loading import Reference, in_python
from biotilt.options import anchored, plain
from biotilt.oracle.workers.isolation import adopt, isolated
from biotilt.tasks import find_task

TAKEN = {"name", "sequence", "condition", *COLUMNS, *(name for measure in PANEL for name in measure.columns)}
"""Columns that every table of designs may have."""
_SAID = ("header", "meaning", "written", "natural")
_LIMITS = ("at_least", "at_most", "fall", "rise", "kept", "grown")


@dataclass(frozen=True)
class Given:
    """Measures that stand beside those of an experiment's file: the `names` of all, and those given as `objects`."""

    objects: Sequence[Measure] = ()
    names: Collection[str] = ()


def with_given(data: dict[str, Any], given: Iterable[Any] | None) -> tuple[dict[str, Any], Given]:
    """Return the keys of an experiment with a section for each measure that is given, and what was given.

    A section, as in a file, is taken as it is; a text is "file.py:function", the name of a measure, or an experiment
    file, whose measures are taken; anything else is an object. A measure takes the place of one of its name.

    Raises ConfigError for what is none of these.
    """
    sections, objects, names = list(data.get("measures") or []), list[Measure](), set[str]()
    for one in given or ():
        if isinstance(one, Mapping):
            named = [plain(one, "measures")]
        elif isinstance(one, str):
            named = _sections_of(one)
        else:
            made = as_measure(one)
            objects.append(made)
            named = [{"function": f"<{made.key}, given in Python>", "name": made.key}]
        new = {_name(section) for section in named}
        sections = [section for section in sections if _name(section) not in new] + named
        names |= new
    return ({**data, "measures": sections} if sections else data), Given(objects, names)


def own_measures(
    sections: Sequence[MeasureSection],
    base: Path,
    given: Given,
    space: Space[Any],
    *,
    finished: bool = False,
) -> list[Measure]:
    """Return the measures of the sections of an experiment; what they set in this process stays with them.

    `given`: what was given beside the file. Of a `finished` run, or one that goes on, a measure of its record that
    cannot be had is one that says so when it is computed: it is no reason not to load the run.

    Raises ConfigError, which names the key, for a measure that cannot be loaded, and for a name that is taken.
    """
    found: list[Measure] = []
    for number, section in enumerate(sections):
        key = f"measures.{number}"
        try:
            with isolated() as world:
                made = _said(_load(section, base, key, given.objects, space), section)
            adopt(made, world)
        except ConfigError as error:
            if not finished or _name(section.model_dump()) in given.names:
                raise
            made = _missing(section, str(error).removeprefix(f"{key}: "))
        if made.key in TAKEN or made.key.startswith("reward_") or made.place != "more":
            raise ConfigError(f'{key}.name: tables have a column "{made.key}" already; give the measure another name')
        if made.key in [other.key for other in found]:
            raise ConfigError(f'{key}.name: another measure is called "{made.key}"; give this one another name')
        found.append(_apart(made))
    return found


def task_measures(config: Config) -> list[Measure]:
    """Return the measures of the task whose panel an experiment shows."""
    panel = config.panel or config.task
    return [] if panel is None else find_task(panel, "panel").measures(config)


def together(of_task: Sequence[Measure], own: Sequence[Measure]) -> list[Measure]:
    """Return both; one's own take the place of those of a task with their names."""
    names = {measure.key for measure in own}
    return [*(measure for measure in of_task if measure.key not in names), *own]


def _sections_of(text: str) -> list[dict[str, Any]]:
    if text.lower().endswith(".toml"):
        data, _ = read_toml(Path(text))
        sections = data.get("measures")
        if not isinstance(sections, list) or not all(isinstance(section, dict) for section in sections) or not sections:
            raise ConfigError(f"{text} names no measures: it has no [[measures]]")
        return [_whole(section, Path(text).parent) for section in sections]
    return [_whole({"function": text}, Path())] if ":" in text else [{"kind": text}]


def _whole(section: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return a section with the whole path of its file, so that it may stand in another experiment."""
    if isinstance(section.get("function"), str):
        return {**section, "function": Reference(section["function"], base, "measure", ConfigError).absolute()}
    return section


def _name(section: Any) -> str:
    """Return the name of a section as far as it says one; it was not checked yet."""
    about = section if isinstance(section, Mapping) else {}
    return str(about.get("name") or about.get("kind") or str(about.get("function")).rpartition(":")[2])


def _load(
    section: MeasureSection, base: Path, key: str, given: Sequence[Measure], space: Space[Any]
) -> Measure:  # fmt: skip
    if section.kind is not None:
        options = anchored(MEASURES.options_of(section.kind, f"{key}.kind"), section.options, base)
        kind = MEASURES.build(section.kind, options, f"{key}.options")
        if kind.reads not in ("anything", space.medium):
            raise ConfigError(
                f'{key}.kind: "{section.kind}" measures {kind.reads}, and these designs are {space.medium}'
            )
        return kind.measure()
    assert section.function is not None  # the section checked that it is one of the two
    if in_python(section.function):
        made = next((measure for measure in given if measure.key == section.name), None)
        if made is None:
            raise ConfigError(f"{key}: it was given in Python: Run.load(…, measures=[…]) shows it")
        return made
    try:
        function = Reference(section.function, base, "measure", ConfigError).load()
    except ConfigError as error:
        raise ConfigError(f"{key}.function: {error}") from error
    return as_measure(function, f"{key}.function", per_design=section.per_design)


def _said(made: Measure, section: MeasureSection) -> Measure:
    """Return a measure with what its section says of it."""
    said = {name: value for name in _SAID if (value := getattr(section, name)) is not None}
    limits = {name: value for name in _LIMITS if (value := getattr(section, name)) is not None}
    if limits:
        said["limit"] = Limit(**limits)
    return replace(made, key=section.name or made.key, **said)


def _missing(section: MeasureSection, why: str) -> Measure:
    def compute(designs: list[Any]) -> float | None:
        raise ConfigError(why)

    name = _name(section.model_dump())
    return _said(Measure(name, name.replace("_", " "), "", compute), section)


def _apart(made: Measure) -> Measure:
    """Return a measure that cannot change the run, as rewards cannot."""

    def isolating(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def compute(designs: Any) -> Any:
            with isolated(made):
                return function(designs)

        return compute

    return replace(made, compute=isolating(made.compute), each=None if made.each is None else isolating(made.each))
