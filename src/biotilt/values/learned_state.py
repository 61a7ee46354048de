"""A learned value of states, and the tilt of a step that is its gradient: for every process with relaxed states.

One network says V_k(y), the value in units of α of the state y that step k leads to. It is fitted to the returns of
recorded chains, KL to come included:

    V_k(x[k+1])  →  r/α − Σ_{j>k} ℓ_j ,        ℓ_j = log p_θ(x[j+1]|x[j]) − log p_pre(x[j+1]|x[j]).

To first order the soft optimum tilts the base's step by exp(q·y), q = ∇V_k(y) at a next state y that the policy
draws. Of a gaussian step it moves the mean by σ² ∇V; the mean of q over draws is the gradient of E[V_k(y)] in the mean
of the step, so with an exact V the teacher rests where no mean nearby is better, at the given width. Of letters it is
the change of V_k when one letter of y is put in place of another, the rest kept: exact where V_k is linear in the
one-hot state.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from biotilt.core import (
    ActionValue,
    Batch,
    Capability,
    Columns,
    Context,
    InAlphas,
    Learned,
    Lesson,
    Metrics,
    Process,
    Relaxable,
    RollIn,
    Round,
    Tiltable,
    Trajectory,
    needed,
    roll_in_metrics,
)
from biotilt.core.bounded import renewed
from biotilt.values.foresight import Foresight
from biotilt.values.learned import LearnedValueConfig
from biotilt.values.state import StateNet


class LearnedV(nn.Module, ActionValue, Learned, InAlphas):
    """Return regression on states: values the policy that drew the data, so it goes with a mirror step λ < 1.

    The network's last layer should start at zero: the first teacher is then the base. Complete designs have a value
    from the network too: their rewards are known only where they were scored. Units as in `StateNet`. Each round's
    scores are predicted before they are learned (`value_held_out` of the history, `values.foresight`).
    """

    needs: ClassVar[tuple[type[Capability], ...]] = (Tiltable, Relaxable)
    columns: ClassVar[Columns] = {"chain": "states", "rewards": "float", "log_ratio": "float"}

    def __init__(self, net: nn.Module, process: Process, config: LearnedValueConfig | None = None):
        super().__init__()
        self.config = config or LearnedValueConfig()
        self.process = process
        self.state = StateNet(net, process)
        self.foresight = Foresight()

    def action_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        """Return q shaped like the kernel's `x0`: ∇V_k at next states of `x` `(B, ...)` that the proposal draws."""
        with torch.no_grad():
            kernel = context.roles.proposal.kernel(x, k)
            y = kernel.sample(context.generator)
        with torch.enable_grad(), renewed():
            relaxed = needed(self.process, Relaxable).relaxed(y).detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.state(relaxed, k).sum(), relaxed)
        # a mask is nothing that a tilt of letters could choose
        return slope[..., : kernel.x0.shape[-1]]

    def rescale(self, factor: float) -> None:
        self.state.rescale(factor)

    def gather(self, context: Context, roll_in: RollIn, calls: int) -> Round:
        """Score `calls` chains; rows `chain` `(B, K+1, ...)`, `rewards` `(B,)`, `log_ratio` `(B, K)` = ℓ."""
        chain = roll_in.chains(context, calls, ratios=True)
        assert chain.log_ratio is not None  # of every roll-in with ratios
        rewards = context.target.rewards(chain.designs)
        rows = {"chain": chain.states.transpose(0, 1), "rewards": rewards, "log_ratio": chain.log_ratio.T}
        return Round(rows, chain.designs, roll_in_metrics(chain, rewards) | self._foreseen(context, chain, rewards))

    @torch.no_grad()
    def _foreseen(self, context: Context, chain: Trajectory, rewards: Tensor) -> Metrics:
        """Return how well V of the last step predicts scores not yet learned; nothing before it has learned any."""
        if self.state.centre.isnan():
            return {}
        predicted = self.state(chain.states[-1], self.process.steps - 1) * context.target.alpha
        return self.foresight.observe(predicted, rewards)

    def lesson(self, context: Context, rows: Batch) -> Lesson:
        """Return one state of each chain, at a random step, with its q and the squared error of V there."""
        complete, ell = rows["rewards"] / context.target.alpha, rows["log_ratio"]
        self.state.set_units(complete)
        batch, steps = ell.shape
        k = torch.randint(steps, (batch,), generator=context.generator, device=ell.device)
        later = torch.arange(steps, device=ell.device) > k.unsqueeze(-1)
        target = complete - (ell * later).sum(-1)
        row = torch.arange(batch, device=ell.device)
        x, y = rows["chain"][row, k], rows["chain"][row, k + 1]
        error = (self.state(y, k) - target) / self.state.spread
        return Lesson(x, k, self.action_value(context, x, k), error.square().mean())
