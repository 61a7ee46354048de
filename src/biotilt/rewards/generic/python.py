"""Python functions as a kind of reward: those that an experiment file names."""

from __future__ import annotations

from biotilt.errors import ConfigError
from biotilt.rewards.generic.base import NamedReward
from biotilt.rewards.generic.columns import GivesColumns, Source
from biotilt.rewards.generic.load import load_function, load_source
from biotilt.rewards.generic.section import FromSection, Section


class PythonFunction(FromSection, GivesColumns):
    """A function of yours: `function = "file.py:function"`."""

    name = "python"
    takes = frozenset({"function", "per_design"})

    @classmethod
    def of_section(cls, section: Section) -> NamedReward:
        function = _function(section)
        try:
            return load_function(function, section.base, per_design=section.per_design)
        except ConfigError as error:  # it gives several numbers
            raise ConfigError(f"{section.key}.column: {error}") from error

    @classmethod
    def source_of(cls, section: Section) -> Source:
        return load_source(_function(section), section.base, per_design=section.per_design)


def _function(section: Section) -> str:
    if section.function is None:
        raise ConfigError(f'{section.key}.function: this key is missing; write "file.py:function"')
    return section.function
