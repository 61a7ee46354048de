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
from biotilt.core.policy import (
    Policy,
    Roles,
    Trajectory,
    check_capabilities,
    move_toward,
    path_kl,
    rollout,
    sample,
)
from biotilt.core.protocols import (
    Kernel,
    Net,
    Process,
    Reveals,
    Reward,
    Scorer,
)
from biotilt.core.values import ActionValue, Lesson, StateValue, draw_states

__all__ = [
    "ActionValue",
    "Batch",
    "Context",
    "Kernel",
    "Lesson",
    "Metrics",
    "Net",
    "Objective",
    "Policy",
    "Process",
    "Replay",
    "Reveals",
    "Reward",
    "Roles",
    "Round",
    "Scorer",
    "StateValue",
    "Trajectory",
    "check_capabilities",
    "draw_states",
    "drop_unscored",
    "move_toward",
    "path_kl",
    "roll_in_metrics",
    "rollout",
    "sample",
    "trainable",
]
