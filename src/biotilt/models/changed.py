"""The process of a model with other options, or another process for the same network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from biotilt.core import Process
from biotilt.core.protocols import Net, reads_time
from biotilt.errors import ConfigError
from biotilt.processes import PROCESSES
from biotilt.processes.revealing import HidingProcess


def options_of(process: Process) -> dict[str, Any]:
    """Return the options of a process, a dataclass, by name, with what it holds fixed."""
    return {field.name: getattr(process, field.name) for field in fields(process)}  # type: ignore[arg-type]


def changed(process: Process, options: Mapping[str, Any], net: Net) -> Process:
    """Return a process with other options; where they have a `name`, that process in its place.

    A network that says which letters are hidden serves every process that hides letters; what both have (`per_step`,
    `num_steps`, `schedule`, what is held) stays. Raises ConfigError for a wrong option, for a process that needs
    another network, and where the network reads times of a schedule that the new process cannot tell.
    """
    said = dict(options)
    name = said.pop("name", process.name)
    before = options_of(process)
    if name != process.name:
        kind = PROCESSES.find(name, "name")
        if not isinstance(process, HidingProcess) or not issubclass(kind, HidingProcess):
            fit = [part.name for part in PROCESSES.values() if issubclass(part, HidingProcess)]
            others = f"; those that hide letters can be exchanged: {', '.join(fit)}"
            raise ConfigError(f'name: a network of the process "{process.name}" does not serve "{kind.name}"{others}')
        kept = {field.name for field in fields(kind)}
        schedule = before.get("schedule", "loglinear")
        if "schedule" not in kept and schedule != "loglinear" and reads_time(net):
            raise ConfigError(
                f'name: the network is told times of the schedule "{schedule}", which "{kind.name}" does not know'
            )
        before = {key: value for key, value in before.items() if key in kept}
    return PROCESSES.build(name, before | said, f'process "{name}"')
