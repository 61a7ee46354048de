"""Constraints on means, E_policy[g(x)] ≥ c or ≤ c, by an augmented Lagrangian that adapts while any objective tunes.

Tuning maximises E[r] − α KL(policy ‖ base) subject to the constraints. The objective sees one reward,

    r(x) + Σ_i s_i λ̃_i g_i(x),     λ̃_i = max(0, λ_i + μ_i v_i),     v_i = s_i (c_i − E_policy[g_i]),

s = +1 for at_least and −1 for at_most; v > 0 is a violation. λ̃ is what the gradient of the augmented Lagrangian
multiplies g by, and λ ← λ̃ ends an outer iteration (Hestenes 1969; Powell 1969; Bertsekas 1982; Nocedal & Wright 2006,
eq. 17.36 and framework 17.3, in its form for inequalities, §17.4). A constraint that the optimum of r alone satisfies
has λ → 0. At the fixed point the policy is p* ∝ p_pre exp((r + Σ s λ g)/α) with E[g] = c wherever λ > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from biotilt.core import Context, Metrics, Objective, Replay, Round, sample
from biotilt.core.protocols import Scorer
from biotilt.errors import CheckpointError, ConfigError
from biotilt.options import Count, Number, Pair, Positive, Rate, check_options
from biotilt.schema import checked

Growth = Annotated[Number, Field(ge=1, le=1e6)]
SIGNIFICANT = 2.0  # standard errors; a smaller violation may be the noise of a few draws


@dataclass(frozen=True)
class LagrangianConfig:
    """How multipliers adapt; the defaults have no units, so they suit any α and any g.

    Before each round `draws` designs of the policy are scored by the constraints' rewards, not by the reward itself,
    and the means follow by an exponential average with weight `average` in (0, 1] of the newest. `penalty` > 0 is the
    first μ in units of α / Var_pre[g]: 1 would be Newton's step if the policy followed at once. An outer iteration,
    λ ← λ̃, takes `every` rounds. μ is multiplied by `growth` ≥ 1, up to `max_growth` in all, when an outer iteration
    left more than `shrink` of the violation. λ is at most `max_multiplier` · α / σ_pre(g).
    """

    draws: Pair = 64
    average: Rate = 0.3
    penalty: Positive = 0.5
    every: Count = 2
    growth: Growth = 1.5
    max_growth: Growth = 3.0
    shrink: Rate = 0.5
    max_multiplier: Positive = 100.0

    def __post_init__(self) -> None:
        check_options(self, "lagrangian")


@dataclass
class Multiplier:
    """One bound on a mean and its multiplier: plain numbers, so that a checkpoint restores them exactly.

    `sign` is +1 for E[g] ≥ `limit` and −1 for E[g] ≤ `limit`. `value` is λ, `price` λ̃ and `penalty` μ; `unit` is
    σ_pre(g), measured in the first round, 0 before it. `mean` is the running mean of g, NaN before any; `left` the
    violation that the last outer iteration ended with.
    """

    name: str
    sign: float
    limit: float
    value: float = 0.0
    penalty: float = 0.0
    unit: float = 0.0
    mean: float = math.nan
    left: float = math.inf
    rounds: int = 0
    price: float = 0.0

    @property
    def violation(self) -> float:
        """v, in units of g: positive where the constraint is violated, NaN before any measurement."""
        return self.sign * (self.limit - self.mean)

    def observe(self, values: Tensor, config: LagrangianConfig, alpha: float) -> None:
        """Go on by one round, from g `(B,)` of designs of the policy; what is not finite is left out.

        The first designs are the base's: the policy starts there.
        """
        known = values[values.isfinite()].double()
        if not len(known):
            return
        newest, spread = known.mean().item(), known.std(correction=0).item()
        if self.unit == 0.0:
            # where the base has no spread, the way to the limit is the only length there is
            self.unit = spread or abs(self.limit - newest) or 1.0
            self.penalty = config.penalty * alpha / self.unit**2
            self.mean = newest
        self.mean += config.average * (newest - self.mean)
        self.rounds += 1
        before = self.value
        priced = self.value + self.penalty * self.violation
        self.price = min(config.max_multiplier * alpha / self.unit, max(0.0, priced))
        if self.rounds % config.every == 0:
            self.value = self.price
            noise = spread / math.sqrt(len(known)) * math.sqrt(config.average / (2 - config.average))
            # complementarity: a slack constraint counts as violated only as far as its multiplier is not yet 0
            self._press(max(self.violation, -before / self.penalty), SIGNIFICANT * noise, config, alpha)

    def _press(self, violation: float, noise: float, config: LagrangianConfig, alpha: float) -> None:
        """Raise μ when the violation has not shrunk enough and is more than noise."""
        if abs(violation) > max(noise, config.shrink * self.left):
            first = config.penalty * alpha / self.unit**2
            self.penalty = min(config.growth * self.penalty, config.max_growth * first)
        self.left = abs(violation)


class Constrained:
    """The oracle of r with the prices of the constraints added: a scorer, and in all else that oracle itself.

    `oracle` is asked first, so its budget ends the run before any constraint is scored. A design that any reward
    cannot score is NaN; one that any calls infeasible is −inf, whatever the price. `adapt(context)` moves the
    multipliers, and is called once a round: see `Adapting`.
    """

    def __init__(
        self, oracle: Any, constraints: Sequence[Constraint], alpha: float, config: LagrangianConfig | None = None
    ) -> None:
        if not constraints:
            raise ConfigError("no constraint is given")
        self.oracle, self.constraints, self.alpha = oracle, tuple(constraints), alpha
        self.config = config or LagrangianConfig()
        self.multipliers = [m for constraint in self.constraints for m in constraint.bounds()]
        if len({m.name for m in self.multipliers}) < len(self.multipliers):
            raise ConfigError(f"two constraints have one name: {', '.join(m.name for m in self.multipliers)}")
        self._which = [i for i, c in enumerate(self.constraints) for _ in c.bounds()]
        self._known: dict[bytes, tuple[float, ...]] = {}
        self._rewards: list[float] = []

    def __getattr__(self, name: str) -> Any:
        if name == "oracle":  # being unpickled or copied: there is nothing yet to ask
            raise AttributeError(name)
        return getattr(self.oracle, name)

    @property
    def meanwhile(self) -> Any:
        """What the oracle does while it waits for scores."""
        return self.oracle.meanwhile

    @meanwhile.setter
    def meanwhile(self, work: Callable[..., Any]) -> None:
        self.oracle.meanwhile = work

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
        values = torch.stack([constraint.scorer.relaxed(designs) for constraint in self.constraints])  # type: ignore[attr-defined]
        return self.oracle.relaxed(designs) + self._priced(values, [m.price for m in self.multipliers])

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

        Rewards in the replay are brought to the new prices.
        """
        self._rewards.clear()
        values = self.measure(sample(context.roles.policy, self.config.draws, context.generator))
        before = [m.price for m in self.multipliers]
        for multiplier, which in zip(self.multipliers, self._which):
            multiplier.observe(values[which], self.config, self.alpha)
        self._reprice(context.memory, [m.price - b for m, b in zip(self.multipliers, before)])
        figures: Metrics = {}
        for m in self.multipliers:
            figures[f"multiplier/{m.name}"] = m.price
            if not math.isnan(m.violation):
                figures[f"violation/{m.name}"] = m.violation
        return figures

    def require_scores(self) -> None:
        """Raise NothingScored when the reward or a constraint gave no design a finite score."""
        for scorer in (self.oracle, *(constraint.scorer for constraint in self.constraints)):
            getattr(scorer, "require_scores", lambda: None)()

    def state_dict(self) -> dict[str, Any]:
        """Return the oracle's state and, as plain JSON, those of the multipliers and of the constraints' oracles."""
        return self.oracle.state_dict() | {
            "multipliers": [_json(m) for m in self.multipliers],
            "constraints": [c.scorer.state_dict() for c in self.constraints],  # type: ignore[attr-defined]
        }

    def load_state_dict(self, state: Mapping[str, Any], **more: Any) -> None:
        """Go back to a checkpoint; a state of the oracle alone starts the multipliers again.

        `more` is for the oracles. Raises CheckpointError when it was saved with other constraints.
        """
        rest = {key: value for key, value in state.items() if key not in ("multipliers", "constraints")}
        saved = state.get("multipliers")
        fresh = [m for constraint in self.constraints for m in constraint.bounds()]
        if saved is not None:
            restored = checked(saved, list[Multiplier], "the checkpoint's multipliers", CheckpointError)
            if [(m.name, m.sign, m.limit) for m in restored] != [(m.name, m.sign, m.limit) for m in fresh]:
                raise CheckpointError(
                    f"the checkpoint was saved with the constraints {', '.join(m.name for m in restored)}, this "
                    f"experiment has {', '.join(m.name for m in fresh)}: start the run again"
                )
            fresh = restored
        self.oracle.load_state_dict(rest, **more)
        start = {"position": 0, "calls": 0}
        for constraint, own in zip(self.constraints, state.get("constraints") or [start] * len(self.constraints)):
            constraint.scorer.load_state_dict(own, **more)  # type: ignore[attr-defined]
        self.multipliers, self._known = fresh, {}

    def _priced(self, values: Tensor, prices: Sequence[float]) -> Tensor:
        """Return Σ s · price · g `(B,)` of g `(C, B)`."""
        terms = [m.sign * price * values[which] for m, price, which in zip(self.multipliers, prices, self._which)]
        return torch.stack(terms).sum(0)

    def _reprice(self, memory: Replay, changes: Sequence[float]) -> None:
        """Add the change of the prices to the rewards of a replay; rows that do not tell their designs are dropped.

        An objective on policy keeps no replay. A floor that stands for −inf is left where it is.
        """
        if memory.capacity is None or not len(memory) or not any(changes):
            return
        rows = memory.rows
        designs = next((rows[key] for key in ("designs", "design") if key in rows), None)
        if designs is None and "chain" in rows:
            designs = rows["chain"][:, -1]
        column = next((key for key in ("rewards", "reward", "log_weight") if key in rows), None)
        if designs is None or column is None:
            memory.rows = {}
            return
        scored = rows["scored"] if "scored" in rows else torch.ones_like(rows[column], dtype=torch.bool)
        change = self._priced(self.measure(designs[scored]), changes).to(rows[column])
        # log-weights are r/α and more; rewards are in their own units
        change = change / self.alpha if column == "log_weight" else change
        new = rows[column].clone()
        new[scored] += torch.where(change.isfinite(), change, 0.0)
        memory.rows = rows | {column: new}


class Adapting:
    """An objective that adapts the multipliers before it collects a round; in all else that objective itself."""

    def __init__(self, objective: Objective, scorer: Constrained) -> None:
        self.objective, self.scorer = objective, scorer

    def __getattr__(self, name: str) -> Any:
        if name == "objective":
            raise AttributeError(name)
        return getattr(self.objective, name)

    def collect(self, context: Context, calls: int) -> Round:
        """Adapt, then collect; the figures of both are shown, the mean reward without the prices."""
        figures = self.scorer.adapt(context)
        found = self.objective.collect(context, calls)
        if "reward" in found.metrics and self.scorer.mean_reward is not None:
            figures |= {"reward": self.scorer.mean_reward, "priced_reward": found.metrics["reward"]}
        return Round(found.rows, found.designs, found.metrics | figures)


@dataclass(frozen=True)
class Constraint:
    """E_policy[g] ≥ `at_least` and/or ≤ `at_most`, in units of g; `scorer` gives g `(B,)` of designs `(B, ...)`.

    `scorer` is an oracle of its own, with `state_dict` and `load_state_dict`; `name` is shown in the history.
    Raises ConfigError when there is no bound, or no number between them.
    """

    name: str
    scorer: Scorer
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        given = [bound for bound in (self.at_least, self.at_most) if bound is not None]
        if not given or not all(math.isfinite(bound) for bound in given):
            raise ConfigError(f'constraint "{self.name}" needs a finite bound: at_least = … or at_most = …')
        if len(given) == 2 and given[0] > given[1]:
            raise ConfigError(f'constraint "{self.name}": at_least = {given[0]} is above at_most = {given[1]}')

    def bounds(self) -> list[Multiplier]:
        """Return a fresh multiplier for each bound."""
        both = (("at_least", 1.0, self.at_least), ("at_most", -1.0, self.at_most))
        return [Multiplier(f"{self.name}_{key}", sign, float(limit)) for key, sign, limit in both if limit is not None]


def _json(multiplier: Multiplier) -> dict[str, Any]:
    """Return the fields as strict JSON; numbers that are not known yet are left out."""
    return {k: v for k, v in asdict(multiplier).items() if not isinstance(v, float) or math.isfinite(v)}
