"""The vocabulary that everything else is written in."""

from biotilt.core.objective import (
    Batch,
    Context,
    Metrics,
    Objective,
    Replay,
    Round,
    drop_unscored,
    roll_in_metrics,
    trainable,
)
from biotilt.core.parts import Parts, check_capabilities, check_parts
from biotilt.core.policy import (
    Policy,
    Roles,
    Trajectory,
    move_toward,
    path_kl,
    rollout,
    sample,
)
from biotilt.core.protocols import (
    Kernel,
    Net,
    NetInput,
    Process,
    Reveals,
    Reward,
    Scorer,
    kernel_at,
)
from biotilt.core.sampler import Draws, Sampler, log_weight_of
from biotilt.core.values import ActionValue, Lesson, StateValue, draw_states, value_of

__all__ = [
    "ActionValue",
    "Batch",
    "Context",
    "Draws",
    "Kernel",
    "Lesson",
    "Metrics",
    "Net",
    "NetInput",
    "Objective",
    "Parts",
    "Policy",
    "Process",
    "Replay",
    "Reveals",
    "Reward",
    "Roles",
    "Round",
    "Sampler",
    "Scorer",
    "StateValue",
    "Trajectory",
    "check_capabilities",
    "check_parts",
    "draw_states",
    "drop_unscored",
    "kernel_at",
    "log_weight_of",
    "move_toward",
    "path_kl",
    "roll_in_metrics",
    "rollout",
    "sample",
    "trainable",
    "value_of",
]
