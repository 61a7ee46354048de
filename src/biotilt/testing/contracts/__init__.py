"""What every part must keep to, whoever wrote it: checks that a plug-in package runs in its own tests."""

from biotilt.testing.contracts.gradients import check_gradients
from biotilt.testing.contracts.kernels import check_kernel
from biotilt.testing.contracts.measures import check_measure
from biotilt.testing.contracts.objectives import check_order, check_stationary
from biotilt.testing.contracts.samplers import Answer, check_sampler, enumerated_answer
from biotilt.testing.contracts.screens import check_screen
from biotilt.testing.contracts.spaces import check_space

__all__ = [
    "Answer",
    "check_gradients",
    "check_kernel",
    "check_measure",
    "check_order",
    "check_sampler",
    "check_screen",
    "check_space",
    "check_stationary",
    "enumerated_answer",
]
