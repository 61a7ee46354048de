"""Learned soft values: Q(x)[i, a], the value in units of α of revealing letter `a` at hidden position `i` of `x`.

One network call gives all of it. Hide n coordinates of a scored design, then reveal a random run of m of them
again, which gives x″. Every position i of the run is fitted to the same equation,

    Q(x)[i, x0_i]  →  V(x″) − Σ_{j in the run, j≠i} ℓ_j ,      ℓ_j = log p_θ(x0_j|·) − log p_pre(x0_j|·),

where V(x″) = r/α if x″ is complete, else the mean over its hidden j of log Σ_b p_pre(b|x″,j) exp Q′(x″)[j, b]
with a slow target network Q′. ℓ_j was recorded when j was revealed in the rollout.

* m = n, `return`: regression on the whole return. It values the policy that drew the data, KL to come included;
  approximate in that ℓ_j is taken not to depend on the order. Travels any number of positions at once.
* m = 1, `bootstrapped`: the soft Bellman equation one letter at a time; its fixed point is the soft optimum.
* m uniform in 1…n, `mixed`: between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from biotilt.core import (
    ActionValue,
    Batch,
    Capability,
    Columns,
    Context,
    Factorised,
    Follows,
    Learned,
    Lesson,
    Metrics,
    Network,
    Process,
    Reveals,
    RollIn,
    Round,
    Tiltable,
    Value,
    move_toward,
    share,
)
from biotilt.core.bounded import call
from biotilt.errors import ConfigError
from biotilt.options import Layers, Positive, Rate, Width, check_options
from biotilt.values.foresight import Foresight
from biotilt.values.standardised import Standardised

RUNS = ("return", "bootstrapped", "mixed")


@dataclass(frozen=True)
class LearnedValueConfig:
    """`lr` of the value's network; `target_rate` in (0, 1]: how fast the target network Q′ follows, an update.

    `width` and `depth` of the value's own network, where the generator's does not lend its features.
    """

    lr: Positive = 1e-3
    target_rate: Rate = 0.05
    width: Width = 96
    depth: Layers = 4

    def __post_init__(self) -> None:
        check_options(self, "value")


class LearnedQ(Standardised, ActionValue, Learned, Follows):
    """A network of the policy's shape whose outputs are action values, trained on scored complete designs.

    `run` is one of `return`, `bootstrapped`, `mixed`. The network's last layer should start at zero: the first
    teacher is then the base. Values are centred by the mean of the first rewards, which no teacher notices, and the
    network speaks in units of their spread, so that its learning rate depends on neither α nor the unit of reward.
    Each round's scores are predicted before they are learned (`value_held_out` of the history, `values.foresight`).
    """

    runs: ClassVar[tuple[str, ...]] = RUNS
    config: LearnedValueConfig
    columns: ClassVar[Columns] = {"designs": "states", "rewards": "float", "terms": "float"}
    needs: ClassVar[tuple[type[Capability], ...]] = (Tiltable, Factorised)

    Options: ClassVar[type] = LearnedValueConfig

    @classmethod
    def build(cls, options: LearnedValueConfig, process: Process, network: Network) -> Value:
        return cls(network(options.width, options.depth), process, cls.name, options)

    def __init__(self, net: nn.Module, process: Process, run: str, config: LearnedValueConfig | None = None):
        super().__init__()
        if run not in RUNS:
            raise ConfigError(f'unknown learned value "{run}"; valid: {", ".join(RUNS)}')
        if not isinstance(process, Reveals):
            raise ConfigError(
                "this learned value needs a process that reveals hidden letters (any_order, masked), not "
                f'"{process.name}"; there value="return" learns one of states'
            )
        self.config = config or LearnedValueConfig()
        self.net, self.run, self.process = net, run, process
        self.target = share(net).requires_grad_(False)
        self.foresight = Foresight()

    def action_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        """Return Q(x), `(B, L, V)` in units of α, up to a constant for each state."""
        return call(self.net, *self.process.inputs(x, k)) * self.spread

    def gather(self, context: Context, roll_in: RollIn, calls: int) -> Round:
        """Score `calls` designs; rows `designs` `(B, L)`, `rewards` `(B,)`, `terms` `(B, L)` = ℓ.

        A run of one letter charges no ℓ: it is 0 there, and the base is not asked.
        """
        chain, rewards, figures = roll_in.scored(context, calls, terms=self.run != "bootstrapped", states=False)
        terms = rewards.new_zeros(chain.designs.shape) if chain.terms is None else chain.terms
        rows = {"designs": chain.designs, "rewards": rewards, "terms": terms}
        return Round(rows, chain.designs, figures | self.foreseen(context, chain.designs, rewards))

    @torch.no_grad()
    def foreseen(self, context: Context, designs: Tensor, rewards: Tensor) -> Metrics:
        """Return how well it predicts scores that it has not learned yet; nothing before it has learned any."""
        if self.centre.isnan():
            return {}
        return self.foresight.observe(self.guess(context, designs), rewards)

    def guess(self, context: Context, designs: Tensor) -> Tensor:
        """Return what Q says of the rewards `(B,)` of complete designs: by one letter of each, the others shown."""
        generator = torch.Generator(designs.device).manual_seed(len(designs))  # leaves the run's own draws alone
        x = self.process.hide(designs, torch.ones(len(designs), dtype=torch.long, device=designs.device), generator)
        q = self.action_value(context, x, self.process.step_of(x))
        of_letter = q.gather(-1, designs.long().unsqueeze(-1)).squeeze(-1)
        return ((of_letter * self.process.hidden(x)).sum(-1) + self.centre) * context.target.alpha

    def lesson(self, context: Context, rows: Batch) -> Lesson:
        """Return states x with Q(x) detached and the squared error of the equation above, from one network call."""
        designs, ell = rows["designs"], rows["terms"]
        complete = rows["rewards"] / context.target.alpha
        self.set_units(complete)
        x, after, run = self._hide_and_reveal(designs, context.generator)
        k = self.process.step_of(x)
        q = self.action_value(context, x, k)
        with torch.no_grad():
            future = complete - self.centre
            if self.run != "return":
                future = torch.where(
                    self.process.hidden(after).any(-1), self.soft_value(context, after, self.target), future
                )
            charged = torch.where(run, ell, torch.zeros_like(ell))
            others = charged.sum(-1, keepdim=True) - charged
            target = future.unsqueeze(-1) - others
        picked = q.gather(-1, designs.long().unsqueeze(-1)).squeeze(-1)
        loss = (((picked - target) / self.spread).square() * run).sum() / run.sum()
        return Lesson(x, k, q.detach(), loss)

    def follow(self) -> None:
        """Move the target network one step toward the network."""
        move_toward(self.target, self.net, self.config.target_rate)

    def _hide_and_reveal(self, designs: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        process, batch = self.process, len(designs)
        u = torch.rand(2, batch, generator=generator, device=designs.device)
        count = (u[0] * process.free).long() + 1
        length = {
            "return": count,
            "bootstrapped": torch.ones_like(count),
            "mixed": (u[1] * count).long() + 1,
        }[self.run]
        x = process.hide(designs, count, generator)
        rank = torch.rand(x.shape, generator=generator, device=x.device)
        rank = rank.masked_fill(~process.hidden(x), 2.0).argsort(-1).argsort(-1)
        run = rank < length.unsqueeze(-1)
        return x, torch.where(run, designs, x), run

    def soft_value(self, context: Context, x: Tensor, net: nn.Module) -> Tensor:
        """Return V(x) `(B,)` of unfinished states by the Q of `net`, in units of α from the centre."""
        hidden = self.process.hidden(x)
        k = self.process.step_of(x)
        prior = context.roles.base.kernel(x, k).x0
        per_position = (prior + call(net, *self.process.inputs(x, k)) * self.spread).logsumexp(-1)
        return (per_position * hidden).sum(-1) / hidden.sum(-1).clamp(min=1)
