"""What values can do, one class each: turn a roll-in into training rows, and rows into a lesson for the policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from biotilt.core.capabilities import Capability, Density, Tiltable
from biotilt.core.objective import Context
from biotilt.core.parts import Value
from biotilt.core.policy import Trajectory
from biotilt.core.replay import Batch, Columns
from biotilt.errors import ConfigError


@dataclass
class Lesson:
    """States `(B, ...)`, their steps `(B,)`, action values Q in units of α, and the value's own loss."""

    x: Tensor
    k: Tensor
    q: Tensor
    loss: Tensor


class Evaluates(Value, ABC):
    """A value that knows v(x, k) of a state."""

    offers = "say what a state is worth, in units of reward"

    @abstractmethod
    def state_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        """Return v `(B,)` in units of reward of states `(B, ...)` at step `k` in [0, K)."""


class Gathers(Value, ABC):
    """A value that turns a roll-in into rows of `columns`: of sampled transitions, or such as its `lesson` reads."""

    columns: ClassVar[Columns]

    offers = "turn a roll-in into rows to learn from"

    @abstractmethod
    def gather(self, context: Context, chain: Trajectory, calls: int) -> tuple[Batch, Tensor | None]:
        """Return replay rows and the rewards it saw, asking the oracle at most `calls` times."""


class Teaches(Gathers):
    """A value that knows Q, the value of every elementary choice."""

    offers = "know what every elementary choice is worth"

    @abstractmethod
    def lesson(self, context: Context, rows: Batch) -> Lesson:
        """Return states with their Q, and the value's own loss, from rows of the replay."""


class Follows(ABC):
    """A value with a part that lags behind what is trained."""

    @abstractmethod
    def follow(self) -> None:
        """Go one step after what is trained; called after every update."""


class Rated(Protocol):
    """The options of a value that is learned by gradient steps: its own learning rate."""

    @property
    def lr(self) -> float: ...


class Learned(Value):
    """A value with weights, a module, that the loop trains with the policy at a rate of its own."""

    config: Rated


class StateFunction(Learned, ABC):
    """A function of the state in units of α that an objective trains with the policy."""

    offers = "are a function of the state that an objective trains"

    @abstractmethod
    def set_units(self, complete: Tensor) -> None:
        """Fix centre and spread by the first r/α `(B,)` seen."""

    @abstractmethod
    def __call__(self, x: Tensor, k: int | Tensor) -> Tensor:
        """Return values `(B,)` of states `(B, ...)` at step `k`."""


class Constant(Learned, ABC):
    """A number in units of α, one for each target, that an objective trains with the policy."""

    offers = "are a number that an objective trains"

    @abstractmethod
    def set_units(self, complete: Tensor) -> None:
        """Fix centre and spread by the first r/α `(B,)` seen."""

    @abstractmethod
    def __call__(self, target: Tensor | None = None) -> Tensor:
        """Return the number, `()`, or those of the targets `(B,)` where there are several (`targets_of`)."""


def draw_states(chain: Trajectory, count: int, context: Context) -> tuple[Tensor, Tensor]:
    """Return `count` states of a chain `(count, ...)` and their steps, uniform over chains and steps before K."""
    total, batch = chain.steps * chain.states.shape[1], chain.states.shape[1]
    device = context.generator.device
    rows = torch.randperm(total, generator=context.generator, device=device)[:count]
    k, b = rows // batch, rows % batch
    return chain.states[k, b], k


class ActionValue(Teaches):
    """A value that knows Q(x, k), shaped like the kernel's `x0`, in units of α: p_pre · exp(Q) is the teacher."""

    needs: ClassVar[tuple[type[Capability], ...]] = (Tiltable,)
    columns: ClassVar[Columns] = {"x": "states", "k": "int"}

    @abstractmethod
    def action_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor: ...

    def gather(self, context: Context, chain: Trajectory, calls: int) -> tuple[Batch, Tensor | None]:
        """Keep as many states as designs were asked for; a value that needs no rewards asks for none."""
        x, k = draw_states(chain, calls, context)
        return {"x": x, "k": k}, None

    def lesson(self, context: Context, rows: Batch) -> Lesson:
        q = self.action_value(context, rows["x"], rows["k"])
        return Lesson(rows["x"], rows["k"], q, q.new_zeros(()))


class StateValue(Evaluates, Gathers):
    """A value v(x, k) in units of reward, got by asking the oracle `calls` times a state."""

    columns: ClassVar[Columns] = {
        "x": "states", "y": "states", "k": "int", "value_x": "float", "value_y": "float", "log_anchor": "float"
    }  # fmt: skip

    @property
    @abstractmethod
    def calls(self) -> int: ...

    @torch.no_grad()
    def gather(self, context: Context, chain: Trajectory, calls: int) -> tuple[Batch, Tensor | None]:
        """Draw y ∼ p_out(·|x) at states of the chain: rows x, y, k, their values, and log p_pre/p_out of the step.

        Raises ConfigError when `calls` do not pay for one transition, which takes the values of two states.
        """
        if calls < 2 * self.calls:
            raise ConfigError(
                f"this value asks the oracle up to {2 * self.calls} times a transition, but a round has {calls} "
                f"calls; raise train.batch to {2 * self.calls} or more, or lower the value's draws"
            )
        x, k = draw_states(chain, calls // (2 * self.calls), context)
        kernel = context.roles.proposal.kernel_as(Density, x, k)
        y = kernel.sample(context.generator)
        log_anchor = context.roles.base.kernel_as(Density, x, k).log_prob(y) - kernel.log_prob(y)
        value_x, value_y = self.state_value(context, x, k), value_of(context, self, y, k + 1)
        rows = {"x": x, "y": y, "k": k, "value_x": value_x, "value_y": value_y, "log_anchor": log_anchor}
        return rows, value_y


def value_of(context: Context, value: Evaluates, x: Tensor, k: Tensor) -> Tensor:
    """Return v_k(x) `(B,)` in units of reward at steps `k` `(B,)` up to K, where it is the reward itself."""
    last = k == context.roles.base.process.steps
    values = torch.empty(len(x), device=x.device)
    if last.any():
        values[last] = context.target.rewards(x[last])
    if not last.all():
        values[~last] = value.state_value(context, x[~last], k[~last])
    return values
