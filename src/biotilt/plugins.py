"""All registries of parts by their kind, as `biotilt list` shows them."""

from __future__ import annotations

from typing import Any

from biotilt.evaluation.kinds import MEASURES
from biotilt.models.sources import MODELS
from biotilt.networks import NETWORKS
from biotilt.objectives import OBJECTIVES
from biotilt.oracle import BACKENDS
from biotilt.processes import PROCESSES
from biotilt.registry import Registry
from biotilt.rewards import REWARDS
from biotilt.samplers import SAMPLERS
from biotilt.screens import SCREENS
from biotilt.spaces import SPACES
from biotilt.tasks import TASKS
from biotilt.training.trackers import TRACKERS
from biotilt.values import VALUES

_PARTS = (
    *(PROCESSES, MODELS, NETWORKS, OBJECTIVES, SAMPLERS, REWARDS, MEASURES, SPACES, TASKS, BACKENDS, TRACKERS),
    *(VALUES, SCREENS),
)
REGISTRIES: dict[str, Registry[Any]] = {each.kind: each for each in _PARTS}
