"""What values can do, one class each: turn a roll-in into training rows, and rows into a lesson for the policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from biotilt.core.capabilities import Capability, Tiltable
from biotilt.core.objective import Context, Metrics, Round
from biotilt.core.parts import Value
from biotilt.core.policy import Seen, Trajectory
from biotilt.core.replay import Batch, Columns
from biotilt.core.roll_in import RollIn
from biotilt.core.screen import View


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

    def value_at(self, context: Context, here: Seen) -> Tensor:
        """Return v `(B,)` of states that the proposal sees: a value that asks its network there asks once with it."""
        return self.state_value(context, here.x, here.k)


@dataclass
class Preparation:
    """What a value says of what it learned before the sampler drew: figures, and sentences of warning."""

    metrics: Metrics
    warnings: list[str] = field(default_factory=list)


class Prepares(Value, ABC):
    """A value that asks the oracle before a sampler draws, and not while it does."""

    @abstractmethod
    def prepare(self, context: Context) -> Preparation:
        """Learn what it needs to know; called once, before the first design is drawn."""


class Gathers(Value, ABC):
    """A value that makes rows of `columns` of a roll-in: sampled transitions, or such as its `lesson` reads."""

    columns: ClassVar[Columns]

    offers = "turn a roll-in into rows to learn from"

    @abstractmethod
    def gather(self, context: Context, roll_in: RollIn, calls: int) -> Round:
        """Draw of the roll-in what it uses, and return rows, asking the oracle at most `calls` times."""


class Sees(Value, ABC):
    """A value that looks at whole designs."""

    @abstractmethod
    def see(self, view: View) -> None:
        """Be told, once, how states look; ConfigError where it cannot tell their designs apart."""


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


class InAlphas(ABC):
    """A value that speaks in units of α."""

    @abstractmethod
    def rescale(self, factor: float) -> None:
        """Bring what it knows to units of another α: `factor` = the α before over that one."""


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

    def gather(self, context: Context, roll_in: RollIn, calls: int) -> Round:
        """Keep `calls` states, of as few chains as have them; a value that needs no rewards asks for none."""
        chain = roll_in.chains(context, -(-calls // context.roles.base.process.steps))
        x, k = draw_states(chain, calls, context)
        return Round({"x": x, "k": k}, chain.designs, {})

    def lesson(self, context: Context, rows: Batch) -> Lesson:
        q = self.action_value(context, rows["x"], rows["k"])
        return Lesson(rows["x"], rows["k"], q, q.new_zeros(()))
