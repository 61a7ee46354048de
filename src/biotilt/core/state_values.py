"""Values of single states that the oracle is asked for, and the transitions they pay for."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core.capabilities import Density, needed
from biotilt.core.objective import Context, Metrics, Round
from biotilt.core.policy import Seen, rollout
from biotilt.core.replay import Batch, Columns
from biotilt.core.roll_in import RollIn
from biotilt.core.values import Evaluates, Gathers
from biotilt.errors import ConfigError


@dataclass
class Transitions:
    """Steps x → y of p_out with designs to score: `asked` `(calls, M, ...)` for the values of M states, and `final`.

    `rows`: x, y, k, log_anchor; `value_x` and `value_y` say which of the M values, or M + which of the rewards of
    `final`, a row has. `designs`: those of the chains.
    """

    rows: Batch
    asked: Tensor
    final: Tensor
    value_x: Tensor
    value_y: Tensor
    designs: Tensor


class StateValue(Evaluates, Gathers):
    """A value v(x, k) in units of reward, read off `calls` designs a state that the oracle scores."""

    columns: ClassVar[Columns] = {
        "x": "states", "y": "states", "k": "int", "value_x": "float", "value_y": "float", "log_anchor": "float"
    }  # fmt: skip

    @property
    @abstractmethod
    def calls(self) -> int: ...

    @abstractmethod
    def designs(self, context: Context, here: Seen) -> Tensor:
        """Return the designs to score `(calls, B, ...)` of states seen by the proposal, of steps before K."""

    @abstractmethod
    def of_rewards(self, context: Context, rewards: Tensor) -> Tensor:
        """Return v `(B,)` from their rewards `(calls, B)`, NaN where not scored; NaN where none was."""

    @torch.no_grad()
    def value_at(self, context: Context, here: Seen) -> Tensor:
        return self._values(context, self.designs(context, here), here.x[:0])

    def state_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        return self.value_at(context, context.roles.proposal.at(x, k))

    @torch.no_grad()
    def gather(self, context: Context, roll_in: RollIn, calls: int) -> Round:
        """Draw as many chains as `calls` pay for, and use their transitions y ∼ p_out(·|x).

        Rows x, y, k, their values, and log p_pre/p_out of the step where the base is the anchor, else 0. In a chain of
        p_out y is the next state: a value is asked once, and calls · K + 1 of them pay for a chain. At states of p_pre
        y is drawn aside, and a transition takes the values of two states. What is left of the calls pays for
        transitions at random steps of one more chain.

        Raises ConfigError when `calls` do not pay for one transition.
        """
        if calls < 2 * self.calls:
            raise ConfigError(
                f"this value asks the oracle up to {2 * self.calls} times a transition, but a round has {calls} "
                f"calls; raise train.batch to {2 * self.calls} or more, or lower the value's draws"
            )
        ours, theirs = self._used(context, roll_in, calls)
        found: list[Transitions] = []
        if ours.shape[1]:
            found.append(self._along(context, ours, roll_in.anchored))
        if theirs.shape[1]:
            found.append(self._aside(context, theirs, roll_in.anchored))
        parts = []
        for part in found:
            values = self._values(context, part.asked, part.final)
            parts.append(part.rows | {"value_x": values[part.value_x], "value_y": values[part.value_y]})
        rows = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        metrics: Metrics = {"reward": rows["value_y"].nanmean().item()}
        if roll_in.anchored and ours.shape[1]:  # uniform over the steps of chains of p_out
            metrics["kl"] = -parts[0]["log_anchor"].mean().item() * len(ours)
        return Round(rows, torch.cat([part.designs for part in found]), metrics)

    def _values(self, context: Context, asked: Tensor, final: Tensor) -> Tensor:
        """Return the values of M states `(calls, M, ...)` and the rewards of final designs, in one request."""
        rewards = context.target.rewards(torch.cat([asked.flatten(0, 1), final]))
        of_states, of_designs = rewards[: len(rewards) - len(final)], rewards[len(rewards) - len(final) :]
        return torch.cat([self.of_rewards(context, of_states.unflatten(0, asked.shape[:2])), of_designs])

    def _used(self, context: Context, roll_in: RollIn, calls: int) -> tuple[Tensor, Tensor]:
        """Return which transitions `(K, n)` are used of chains of p_out, and of p_pre, as many as `calls` pay for."""
        steps, device = context.roles.base.process.steps, context.generator.device
        found: dict[bool, list[Tensor]] = {True: [], False: []}
        for ours in roll_in.turns(context):
            whole = self.calls * steps + 1 if ours else 2 * self.calls * steps
            used = torch.full((steps,), calls >= whole, device=device)
            if calls < whole:
                order = torch.randperm(steps, generator=context.generator, device=device)
                used[order[: calls // (2 * self.calls)]] = True
            calls -= min(calls, whole)
            found[ours].append(used)
            if calls < 2 * self.calls:
                break
        none = torch.zeros(steps, 0, dtype=torch.bool, device=device)
        ours, theirs = (torch.stack(used, 1) if used else none for used in (found[True], found[False]))
        return ours, theirs

    def _along(self, context: Context, used: Tensor, anchored: bool) -> Transitions:
        """Draw chains of p_out `(K, n)`: their own steps, one network row each, which values are read off too."""
        roles, generator, (steps, count) = context.roles, context.generator, used.shape
        wanted = torch.cat([used, used[:1] & False]) | torch.cat([used[:1] & False, used])  # both ends of a step
        here = roles.proposal.at(roles.proposal.process.noise(count, generator), 0)
        states, asked, anchors = [here.x], [], []
        for k in range(steps):
            y = here.kernel.sample(generator)
            states.append(y)
            if wanted[k].any():
                asked.append(self.designs(context, here[wanted[k]]))
            if used[k].any():
                anchors.append(_anchor(context, here[used[k]], y[used[k]], anchored))
            here = here.after(y)
        chain = torch.stack(states)
        place = torch.full_like(wanted, -1, dtype=torch.long)
        place[wanted] = torch.arange(int(wanted.sum()), device=used.device)
        k = torch.arange(steps, device=used.device).unsqueeze(-1).expand_as(used)
        rows = {"x": chain[:-1][used], "y": chain[1:][used], "k": k[used], "log_anchor": torch.cat(anchors)}
        final = chain[-1][wanted[-1]]
        return Transitions(rows, torch.cat(asked, 1), final, place[:-1][used], place[1:][used], chain[-1])

    def _aside(self, context: Context, used: Tensor, anchored: bool) -> Transitions:
        """Draw chains of p_pre `(K, n)`, and at their states steps of p_out."""
        roles, (steps, count) = context.roles, used.shape
        chain = rollout(roles.base, count, context.generator).states
        k = torch.arange(steps, device=used.device).unsqueeze(-1).expand_as(used)[used]
        here = roles.proposal.at(chain[:-1][used], k)
        y = here.kernel.sample(context.generator)
        rows = {"x": here.x, "y": y, "k": k, "log_anchor": _anchor(context, here, y, anchored)}
        last = k + 1 == steps
        asked = [self.designs(context, here)]
        if not last.all():
            asked.append(self.designs(context, roles.proposal.at(y[~last], k[~last] + 1)))
        order = torch.argsort(last.long(), stable=True)  # values of y first, then the rewards of final designs
        place = torch.empty_like(order)
        place[order] = torch.arange(len(y), 2 * len(y), device=used.device)
        return Transitions(
            rows, torch.cat(asked, 1), y[last], torch.arange(len(y), device=used.device), place, chain[-1]
        )


def _anchor(context: Context, here: Seen, y: Tensor, anchored: bool) -> Tensor:
    """Return log p_pre(y|x)/p_out(y|x) `(B,)`; 0 where nothing needs it."""
    log_out = needed(here.kernel, Density).log_prob(y)
    if not anchored:
        return torch.zeros_like(log_out)
    return context.roles.base.log_prob(here.x, here.k, y) - log_out
