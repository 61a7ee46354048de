"""Action values by refills: what is hidden is filled in by the base, and a gaussian process says what that is worth.

Where the worth of a design is no sum over its letters, a network that reads a half-hidden one learns next to nothing
from a return. A gaussian process ranks whole designs by the parts they share, which a space declares, or by the
generator's features. So Q is not learned at all: M designs y are drawn from p_pre(·|x) at a state x that the policy
visits, and

    exp(Q(x)[i, a]) = ( c + Σ_m w_m 1[y_m,i = a] ) / ( c + Σ_m 1[y_m,i = a] ),      w = M softmax(R̂(y)/α),

which tends to E_pre[exp(R̂/α) | x, x_i = a] / E_pre[exp(R̂/α) | x], the soft value of R̂, as M grows. The prior
count c holds letters that were drawn rarely to the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from biotilt.core import (
    Batch,
    Capability,
    Columns,
    Context,
    Factorised,
    Lesson,
    Metrics,
    Network,
    Process,
    Reveals,
    RollIn,
    Round,
    Sees,
    Teaches,
    Tiltable,
    View,
    draw_states,
)
from biotilt.errors import ConfigError
from biotilt.options import Count, NotNegative, Text, check_options
from biotilt.screens.gaussian_process import GaussianProcess, most_likely
from biotilt.screens.kernels import Similarity, similarity
from biotilt.values.foresight import Foresight
from biotilt.values.monte_carlo import MonteCarlo


@dataclass(frozen=True)
class RefillsConfig:
    """`states` of a round are refilled `refills` ≥ 2 times each, and the newest `keep` of them taught from.

    `prior` = c ≥ 0, in refills. The process knows the newest `rows` scored designs; `kernel`: by what designs are
    alike, default by the space, as for `[screen]`.
    """

    states: Count = 64
    refills: Count = 16
    keep: Count = 256
    prior: NotNegative = 1.0
    rows: Count = 600
    kernel: Text | None = None

    def __post_init__(self) -> None:
        check_options(self, "value")
        if self.refills < 2:
            raise ConfigError(f"value.refills must be ≥ 2, got {self.refills}: of one there is nothing to compare")


class Refills(nn.Module, Teaches, Sees):
    """Q by refills of visited states, scored by a gaussian process; no oracle call, and nothing to train.

    Each round's scores are predicted before they are learned (`value_held_out` of the history, `values.foresight`).
    """

    name: ClassVar[str] = "refills"
    Options: ClassVar[type] = RefillsConfig
    screened: ClassVar[bool] = True
    columns: ClassVar[Columns] = {"designs": "states", "rewards": "float"}
    needs: ClassVar[tuple[type[Capability], ...]] = (Tiltable, Factorised)

    known: Tensor
    scores: Tensor
    x: Tensor
    k: Tensor
    q: Tensor

    @classmethod
    def build(cls, options: RefillsConfig, process: Process, network: Network) -> Refills:
        return cls(process, options)

    def __init__(self, process: Process, config: RefillsConfig | None = None):
        super().__init__()
        if not isinstance(process, Reveals):
            raise ConfigError(
                'the value "refills" needs a process that reveals hidden letters (any_order, masked), not '
                f'"{process.name}"; there value="return" learns one of states'
            )
        self.config, self.process = config or RefillsConfig(), process
        self.kernel: Similarity | None = None
        self.fitted: GaussianProcess | None = None
        self.foresight = Foresight()
        tokens, length, config = process.noise(1, torch.Generator()).dtype, process.length, self.config
        self.register_buffer("known", torch.full((config.rows, length), -1, dtype=tokens))
        self.register_buffer("scores", torch.full((config.rows,), torch.nan, dtype=torch.float64))
        self.register_buffer("x", torch.full((config.keep, length), -1, dtype=tokens))
        self.register_buffer("k", torch.zeros(config.keep, dtype=torch.int64))
        self.register_buffer("q", torch.zeros(config.keep, length, process.letters))

    def see(self, view: View) -> None:
        self.kernel = similarity(self.config.kernel, view, "value.kernel")

    @torch.no_grad()
    def gather(self, context: Context, roll_in: RollIn, calls: int) -> Round:
        """Score `calls` designs, learn from them, and refill states of the chains that drew them."""
        chain, rewards, figures = roll_in.scored(context, calls)
        figures |= self._learn(chain.designs, rewards)
        if self.fitted is not None:
            x, k = draw_states(chain, self.config.states, context)
            self.x = torch.cat([self.x, x])[-self.config.keep :]
            self.k = torch.cat([self.k, k])[-self.config.keep :]
            self.q = torch.cat([self.q, self.action_value(context, x, k)])[-self.config.keep :]
        return Round({"designs": chain.designs, "rewards": rewards}, chain.designs, figures)

    def lesson(self, context: Context, rows: Batch) -> Lesson:
        """Return as many refilled states as there are `rows`, drawn with replacement; it has no loss of its own."""
        there = (self.x[:, 0] >= 0).nonzero().squeeze(-1)
        if not len(there):  # scores that do not differ teach nothing
            x = rows["designs"]
            k = torch.full((len(x),), self.process.steps - 1, device=x.device)
            return Lesson(x, k, self.q.new_zeros(*x.shape, self.process.letters), self.q.new_zeros(()))
        count, generator = len(rows["rewards"]), context.generator
        pick = there[torch.randint(len(there), (count,), generator=generator, device=there.device)]
        return Lesson(self.x[pick], self.k[pick], self.q[pick], self.q.new_zeros(()))

    def action_value(self, context: Context, x: Tensor, k: Tensor) -> Tensor:
        """Return Q(x) `(B, L, V)` by refills of states `(B, L)` at steps `k` `(B,)`."""
        drawn = MonteCarlo(draws=self.config.refills).designs(context, context.roles.base.at(x, k))
        scores = self.predict(drawn.flatten(0, 1)).view(drawn.shape[:2]).to(self.q)
        weights = (scores / context.target.alpha).softmax(0) * len(drawn)
        total, held = self.q.new_zeros(*x.shape, self.process.letters), self.q.new_zeros(*x.shape, self.process.letters)
        for refill, weight in zip(drawn, weights):  # one at a time: many letters take much memory
            shown = one_hot(refill.long(), self.process.letters).to(total)
            held += shown
            total += weight.view(-1, 1, 1) * shown
        c = self.config.prior or torch.finfo(total.dtype).tiny
        return ((total + c) / (held + c)).log()

    def predict(self, designs: Tensor) -> Tensor:
        """Return R̂ `(B,)` of complete designs `(B, L)`."""
        if self.fitted is None or self.kernel is None:
            raise ValueError("no scores were learned yet")
        return self.fitted.predict(self.kernel.read(designs))[0].to(designs.device)

    def _learn(self, designs: Tensor, rewards: Tensor) -> Metrics:
        """Predict what is new, then learn it; return how well it was predicted."""
        new = rewards.isfinite()
        designs, scores = designs[new], rewards[new].double()
        figures: Metrics = {}
        self.fitted = self.fitted or self._fit()  # after a checkpoint it is made again, of the same rows
        if self.fitted is not None and len(scores):
            figures = self.foresight.observe(self.predict(designs), scores)
        self.known = torch.cat([self.known, designs])[-self.config.rows :]
        self.scores = torch.cat([self.scores, scores])[-self.config.rows :]
        self.fitted = self._fit()
        return figures

    def _fit(self) -> GaussianProcess | None:
        """Return the process of what is known; None while scores do not differ."""
        there = ~self.scores.isnan()
        scores = self.scores[there].cpu()
        if self.kernel is None or len(scores) < 2 or scores.std(correction=0) == 0:
            return None
        return most_likely(self.kernel, self.kernel.read(self.known[there]), scores)
