"""The process of a model with other options, or another process for the same network."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from biotilt.core import Process
from biotilt.core.protocols import Net, reads_time
from biotilt.errors import ConfigError
from biotilt.models.checks import device_of
from biotilt.processes import PROCESSES
from biotilt.processes.revealing import HidingProcess


def options_of(process: Process) -> dict[str, Any]:
    """Return the options of a process, a dataclass, by name, with what it holds fixed."""
    return {field.name: getattr(process, field.name) for field in fields(process)}  # type: ignore[arg-type]


def changed(process: Process, options: Mapping[str, Any], net: Net) -> Process:
    """Return a process with other options; where they have a `name`, that process in its place.

    A network that says which letters are hidden serves every process that hides letters; what both have (`per_step`,
    `num_steps`, `schedule`, what is held) stays. Raises ConfigError for a wrong option, for a process that needs
    another network, and where the network reads times of a schedule that the new process cannot tell. Warns where it
    reads times, and the new process tells them by another schedule.
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
    new = PROCESSES.build(name, before | said, f'process "{name}"')
    _notice_times(process, new, net)
    return new


def _notice_times(process: Process, new: Process, net: Net) -> None:
    """Warn where a network, which knows the noise levels of one schedule, is told the times of another."""
    # any_order tells the share that is hidden, which is the time of this schedule
    known, told = (options_of(each).get("schedule", "loglinear") for each in (process, new))
    if told != known and _tells_times_apart(process, net):
        warnings.warn(
            f'process.schedule: the network is told times, which it knows as those of "{known}"; with "{told}" as many '
            "letters are hidden at another time, and it answers for a noise that is not there. Leave the key out, or "
            "take a network of that schedule (of mdlm_dna, [model.options] schedule sets both)",
            stacklevel=4,
        )


@torch.no_grad()
def _tells_times_apart(process: Process, net: Net) -> bool:
    """Return whether a network answers otherwise at another time, where all is noise."""
    if not reads_time(net):
        return False
    device = device_of(net) if isinstance(net, nn.Module) else torch.device("cpu")
    x = process.inputs(process.noise(1, torch.Generator(device).manual_seed(0)), 0).x
    try:
        early, late = (net(x, torch.full((1,), t, device=device)) for t in (0.75, 0.25))
    except Exception:  # whatever a stranger's network raises, such as for a condition that it was not told
        return True
    return not torch.equal(early, late)
