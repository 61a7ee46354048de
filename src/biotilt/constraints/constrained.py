"""Constraints on means, and the oracle of a reward with their prices added."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biotilt.constraints.multiplier import LagrangianConfig, Multiplier
from biotilt.core import Context, Metrics, RelaxedScorer, Replay, needed, sample
from biotilt.core.protocols import CountingScorer, Demanding, StatefulScorer, Unhurried
from biotilt.errors import CheckpointError, ConfigError
from biotilt.options import Number, check_options
from biotilt.schema import checked


@dataclass(frozen=True)
class Bounds:
    """E_policy[g] ≥ `at_least` and/or ≤ `at_most`, in units of g; `name` is shown in the history.

    Raises ConfigError when there is no bound, or no number between them.
    """

    name: str
    at_least: Number | None = None
    at_most: Number | None = None

    def __post_init__(self) -> None:
        where = f'constraint "{self.name}"'
        check_options(self, where)
        given = [bound for bound in (self.at_least, self.at_most) if bound is not None]
        if not given:
            raise ConfigError(f"{where} needs a bound: at_least = … or at_most = …")
        if len(given) == 2 and given[0] > given[1]:
            raise ConfigError(f"{where}: at_least = {given[0]} is above at_most = {given[1]}")

    def multipliers(self) -> list[Multiplier]:
        """Return a fresh multiplier for each bound."""
        both = (("at_least", 1.0, self.at_least), ("at_most", -1.0, self.at_most))
        return [Multiplier(f"{self.name}_{key}", sign, limit) for key, sign, limit in both if limit is not None]


@dataclass(frozen=True)
class Constraint:
    """What is bounded: `scorer`, an oracle of its own, gives g `(B,)` of designs `(B, ...)`."""

    scorer: StatefulScorer
    bounds: Bounds


class Constrained:
    """The oracle of r with the prices of the constraints added; its calls are those of that oracle.

    `oracle` is asked first, so its budget ends the run before any constraint is scored. A design that any reward
    cannot score is NaN; one that any calls infeasible is −inf, whatever the price. `adapt(context)` moves the
    multipliers, and is called once a round: see `Adapting`.
    """

    def __init__(
        self,
        oracle: CountingScorer,
        constraints: Sequence[Constraint],
        config: LagrangianConfig | None = None,
    ) -> None:
        if not constraints:
            raise ConfigError("no constraint is given")
        self.oracle, self.constraints = oracle, tuple(constraints)
        self.config = config or LagrangianConfig()
        self.multipliers = [m for constraint in self.constraints for m in constraint.bounds.multipliers()]
        if len({m.name for m in self.multipliers}) < len(self.multipliers):
            raise ConfigError(f"two constraints have one name: {', '.join(m.name for m in self.multipliers)}")
        self._which = [i for i, c in enumerate(self.constraints) for _ in c.bounds.multipliers()]
        self._known: dict[bytes, tuple[float, ...]] = {}
        self._rewards: list[float] = []

    @property
    def calls(self) -> int:
        """The calls of the oracle; designs that constraints are asked for are not among them."""
        return self.oracle.calls

    @property
    def meanwhile(self) -> Callable[[], None] | None:
        """What the oracle does while it waits for scores."""
        return needed(self.oracle, Unhurried).meanwhile

    @meanwhile.setter
    def meanwhile(self, work: Callable[[], None] | None) -> None:
        needed(self.oracle, Unhurried).meanwhile = work

    def __call__(self, states: Tensor) -> Tensor:
        """Return r + Σ s λ̃ g `(B,)` of designs `(B, ...)`."""
        rewards = self.oracle(states)
        self._rewards += rewards[rewards.isfinite()].tolist()
        values = self.measure(states).to(rewards)
        total = rewards + self._priced(values, [m.price for m in self.multipliers])
        infeasible = (values == -torch.inf).any(0) | (rewards == -torch.inf)
        unscored = values.isnan().any(0) | rewards.isnan()
        return torch.where(infeasible, -torch.inf, total).masked_fill(unscored, torch.nan)

    def relaxed(self, designs: Tensor) -> Tensor:
        """Return the same of relaxed designs, with gradients, `(B,)`."""
        scorers = [needed(constraint.scorer, RelaxedScorer) for constraint in self.constraints]
        values = torch.stack([scorer.relaxed(designs) for scorer in scorers])
        rewards = needed(self.oracle, RelaxedScorer).relaxed(designs)
        return rewards + self._priced(values, [m.price for m in self.multipliers])

    @property
    def mean_reward(self) -> float | None:
        """The mean of r itself, without prices, over what was scored in this round; None where nothing was."""
        return math.fsum(self._rewards) / len(self._rewards) if self._rewards else None

    def measure(self, states: Tensor) -> Tensor:
        """Return g of each constraint, float64 `(C, B)`, for designs `(B, ...)`; each design is asked for once."""
        keys = [row.tobytes() for row in states.detach().cpu().numpy()]
        fresh = {key: place for place, key in enumerate(keys) if key not in self._known}
        if fresh:
            asked = states[list(fresh.values())]
            columns = [constraint.scorer(asked).double().tolist() for constraint in self.constraints]
            self._known |= zip(fresh, zip(*columns))
        table = torch.tensor([self._known[key] for key in keys], dtype=torch.float64, device=states.device)
        return table.reshape(len(keys), len(self.constraints)).T

    def adapt(self, context: Context) -> Metrics:
        """Measure the constraints on fresh designs of the policy, move the multipliers, and return figures to show.

        Rewards in the replay are brought to the new prices; `forgotten` counts the rows for which that was impossible.
        """
        self._rewards.clear()
        values = self.measure(sample(context.roles.policy, self.config.draws, context.generator))
        before = [m.price for m in self.multipliers]
        for multiplier, which in zip(self.multipliers, self._which):
            multiplier.observe(values[which], self.config, context.target.alpha)
        forgotten = self._reprice(context.memory, [m.price - b for m, b in zip(self.multipliers, before)])
        figures: Metrics = {"forgotten": forgotten} if forgotten else {}
        for m in self.multipliers:
            figures[f"multiplier/{m.name}"] = m.price
            if not math.isnan(m.violation):
                figures[f"violation/{m.name}"] = m.violation
        return figures

    def require_scores(self) -> None:
        """Raise NothingScored when the reward or a constraint gave no design a finite score."""
        for scorer in (self.oracle, *(constraint.scorer for constraint in self.constraints)):
            if isinstance(scorer, Demanding):
                scorer.require_scores()

    def state_dict(self) -> dict[str, Any]:
        """Return the oracle's state and, as plain JSON, those of the multipliers and of the constraints' oracles."""
        return self.oracle.state_dict() | {
            "multipliers": [m.state() for m in self.multipliers],
            "constraints": [c.scorer.state_dict() for c in self.constraints],
        }

    def load_state_dict(self, state: Mapping[str, Any], *, behind: bool = False) -> None:
        """Go back to a checkpoint; a state of the oracle alone starts the multipliers again.

        Raises CheckpointError when it was saved with other constraints.
        """
        rest = {key: value for key, value in state.items() if key not in ("multipliers", "constraints")}
        saved = state.get("multipliers")
        fresh = [m for constraint in self.constraints for m in constraint.bounds.multipliers()]
        if saved is not None:
            restored = checked(saved, list[Multiplier], "the checkpoint's multipliers", CheckpointError)
            if [(m.name, m.sign, m.limit) for m in restored] != [(m.name, m.sign, m.limit) for m in fresh]:
                raise CheckpointError(
                    f"the checkpoint was saved with the constraints {', '.join(m.name for m in restored)}, this "
                    f"experiment has {', '.join(m.name for m in fresh)}: start the run again"
                )
            fresh = restored
        self.oracle.load_state_dict(rest, behind=behind)
        start = {"position": 0, "calls": 0}
        for constraint, own in zip(self.constraints, state.get("constraints") or [start] * len(self.constraints)):
            constraint.scorer.load_state_dict(own, behind=behind)
        self.multipliers, self._known = fresh, {}

    def _priced(self, values: Tensor, prices: Sequence[float]) -> Tensor:
        """Return Σ s · price · g `(B,)` of g `(C, B)`."""
        terms = [m.sign * price * values[which] for m, price, which in zip(self.multipliers, prices, self._which)]
        return torch.stack(terms).sum(0)

    def _reprice(self, memory: Replay, changes: Sequence[float]) -> int:
        """Add the change of the prices to the rewards of a replay; return how many rows had to be forgotten instead.

        An objective on policy keeps no replay. A floor that stands for −inf is left where it is.
        """
        if memory.capacity is None or not len(memory) or not any(changes):
            return 0
        return memory.reprice(lambda designs: self._priced(self.measure(designs), changes))


def unpriced(scorer: CountingScorer) -> CountingScorer:
    """Return the oracle of the reward itself, which has the accounts of a run."""
    return scorer.oracle if isinstance(scorer, Constrained) else scorer
