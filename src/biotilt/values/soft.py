"""A value of states that a sampler learns before it draws: the soft value of the base, by regression on its chains.

One network says s(x, k) and v_k(x)/α = log Ẑ + s(x, k), with log Ẑ = log mean exp(r/α) of the designs it learns from.
At states of chains that the base drew, whose designs scored r, it minimises the mean of

    log(1 + exp(s)) + y log(1 + exp(−s)),      y = exp(r/α) / Ẑ,

whose minimum is exp(s) = E[y | x[k] = x], so v_k(x) = α log E[exp(r/α) | x[k] = x]: the soft value itself, and not
E[r | x], which lies below. It is the logistic regression that tells states of p* (weight y) from those of the base
(weight 1): y is 1 on average, and the slope of a state's term in s never exceeds max(1, y). An infeasible design has
y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from biotilt.core import Batch, Context, Evaluates, Network, Preparation, Prepares, Process, rollout
from biotilt.core.bounded import renewed
from biotilt.errors import ConfigError, RewardError
from biotilt.formulas.resampling import log_mean_exp
from biotilt.options import Count, check_options
from biotilt.values.state import StateNet, StateNetConfig

BATCH = 64  # states of an update, and chains that are drawn at a time
HELD_OUT = 0.2  # share of the chains that the value is not fitted to
PATIENCE = 3  # epochs without a gain on those, after which it stops


@dataclass(frozen=True)
class SoftValueConfig(StateNetConfig):
    """`calls` ≥ 10 oracle calls that it learns from, one a chain; `states` of each chain, at most K, are kept.

    `epochs` passes over them at most: the best on the held-out fifth of the chains stays.
    """

    calls: Count = 512
    states: Count = 8
    epochs: Count = 30

    def __post_init__(self) -> None:
        check_options(self, "value")
        if self.calls < 10:
            raise ConfigError(f"value.calls must be ≥ 10: a fifth of them is held out, got {self.calls}")


class SoftValue(nn.Module, Evaluates, Prepares):
    """v_k(x) of the base, one row of its own network a state and no oracle call, once `prepare` has taught it."""

    name: ClassVar[str] = "learned"
    Options: ClassVar[type] = SoftValueConfig

    @classmethod
    def build(cls, options: SoftValueConfig, process: Process, network: Network) -> SoftValue:
        return cls(network(options.width, options.depth), process, options)

    def __init__(self, net: nn.Module, process: Process, config: SoftValueConfig | None = None):
        super().__init__()
        self.config = config or SoftValueConfig()
        self.state = StateNet(net, process, self.config)

    @torch.no_grad()
    def state_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        """Return v `(B,)` in units of reward; ConfigError before `prepare`."""
        if self.state.centre.isnan():
            raise ConfigError(
                'the value "learned" has learned nothing yet: call its `prepare` before the sampler draws'
            )
        return self.state(x, k) * context.target.alpha

    def prepare(self, context: Context) -> Preparation:
        """Draw `calls` chains of the base, score their designs, and learn from what could be scored.

        `value_gain` of the metrics: the part of the held-out loss of a constant that the value saves; 0 knows nothing,
        and is warned about. Raises RewardError when no design has a weight, in either part.
        """
        rows = self._chains(context)
        held = max(1, round(HELD_OUT * len(rows["log_weight"])))
        train = {key: column[held:] for key, column in rows.items()}
        if not train["log_weight"].isfinite().any():
            raise RewardError(
                f"the value learns nothing from {self.config.calls} designs: none could be scored, or all are "
                "infeasible; raise value.calls, look at the reward, or start from a base that makes feasible designs"
            )
        self.state.centre.copy_(log_mean_exp(train["log_weight"]))
        gain = self._fit(_states(train), _states({key: column[:held] for key, column in rows.items()}), context)
        told = {"value_calls": float(self.config.calls), "value_gain": gain}
        if gain > 0:
            return Preparation(told)
        nothing = (
            f"the learned value knows nothing: after {self.config.calls} designs it is no better on held-out ones than "
            "a constant, so it guides nowhere; raise value.calls or alpha, or use another value"
        )
        return Preparation(told, [nothing])

    @torch.no_grad()
    def _chains(self, context: Context) -> Batch:
        """Return of each scored chain of the base some states `x` `(N, S, ...)`, steps `k` `(N, S)`, `log_weight`."""
        base, generator, parts = context.roles.base, context.generator, []
        steps, device = base.process.steps, generator.device
        for first in range(0, self.config.calls, BATCH):
            count = min(BATCH, self.config.calls - first)
            chain = rollout(base, count, generator)
            order = torch.rand(count, steps, generator=generator, device=device).argsort(-1)
            k = order[:, : self.config.states]
            x = chain.states[k, torch.arange(count, device=device).unsqueeze(-1)]
            scores = context.target.scores(chain.designs)
            scored = ~scores.isnan()
            part = {"x": x, "k": k, "log_weight": context.target.log_weight(scores)}
            parts.append({key: column[scored] for key, column in part.items()})
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def _fit(self, train: Batch, held_out: Batch, context: Context) -> float:
        """Fit the network with Adam and keep the epoch best on the held-out states; return what that saves."""
        constant = self._held_out_loss(held_out)
        best, since, kept = constant, 0, self._weights()
        optimiser = torch.optim.Adam(self.parameters(), self.config.lr)
        generator, count = context.generator, len(train["k"])
        with torch.enable_grad():
            for _ in range(self.config.epochs):
                for rows in torch.randperm(count, generator=generator, device=generator.device).split(BATCH):
                    optimiser.zero_grad(set_to_none=True)
                    with renewed():
                        self._loss({key: column[rows] for key, column in train.items()}).mean().backward()
                    optimiser.step()
                loss = self._held_out_loss(held_out)
                since += 1
                if loss < best:
                    best, since, kept = loss, 0, self._weights()
                if since >= PATIENCE:
                    break
        self.load_state_dict(kept)
        return 1 - best / constant

    def _loss(self, rows: Batch) -> Tensor:
        """Return the term of each state `(B,)`."""
        s = self.state(rows["x"], rows["k"]) - self.state.centre
        y = (rows["log_weight"] - self.state.centre).exp()
        return softplus(s) + y * softplus(-s)

    @torch.no_grad()
    def _held_out_loss(self, rows: Batch) -> float:
        parts = torch.arange(len(rows["k"]), device=rows["k"].device).split(4 * BATCH)
        total = sum(self._loss({key: column[part] for key, column in rows.items()}).sum().item() for part in parts)
        return total / len(rows["k"])

    def _weights(self) -> dict[str, Tensor]:
        return {key: tensor.clone() for key, tensor in self.state_dict().items()}


def _states(rows: Batch) -> Batch:
    """Return rows of states, each with the weight of its chain's design."""
    each = rows["k"].shape[1]
    log_weight = rows["log_weight"].repeat_interleave(each)
    return {"x": rows["x"].flatten(0, 1), "k": rows["k"].flatten(), "log_weight": log_weight}
