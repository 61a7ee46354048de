"""The exact soft value as a value of VIDD: what is left of the error is the algorithm's."""

from __future__ import annotations

import torch
from torch import Tensor

from biotilt.core import ActionValue, Context, Evaluates, Policy
from biotilt.processes.any_order import AnyOrder
from biotilt.processes.finite import Finite
from biotilt.testing.exact import lexicographic_index, soft_values
from biotilt.testing.reveal import one_letter_process, reveal_children, reveal_soft_values


class ExactValue(ActionValue, Evaluates):
    """Exact values of the states and of every elementary choice, looked up in a table; on the CPU.

    `base`: a finite chain, or any-order with per_step = 1; `reward` `(D,)` of all designs; `alpha` > 0.

    For a finite chain `base.tilted(Q)` is the optimal kernel. For any-order it is when the base's letters are
    the conditionals of one joint law (`StateTable.of_joint`): the optimal kernel of another base also prefers
    some positions to others, which no tilt of the letters does.

    Raises:
        ConfigError: another process, or several letters a step.
    """

    def __init__(self, base: Policy, reward: Tensor, alpha: float):
        self.alpha = alpha
        self.process: Finite | AnyOrder
        if isinstance(base.process, Finite):
            self.process, self.values = base.process, soft_values(base, reward, alpha)
        else:
            self.process = one_letter_process(base)
            self.values = reveal_soft_values(base, reward, alpha).expand(self.process.steps + 1, -1)

    def state_value(self, context: Context | None, x: Tensor, k: int | Tensor) -> Tensor:
        """Return v_k(x) `(B,)` in units of reward; `context` is not read."""
        return self.values[k, self._index(x)].to(torch.get_default_dtype())

    def action_value(self, context: Context | None, x: Tensor, k: int | Tensor) -> Tensor:
        """Return v_{k+1}(y)/α for every y one choice away, shaped like the kernel's x0.

        Finite: `(B, S)` over next states. Any-order: `(B, L, V)`, constant over letters where the position is
        shown already. Where every outcome is hopeless (−inf) it is 0, so that the choice stays the base's.
        `context` is not read.
        """
        if isinstance(self.process, Finite):
            children = torch.arange(self.process.states).expand(len(x), -1)
        else:
            children, _ = reveal_children(self._index(x), self.process.letters, self.process.length)
        after = torch.as_tensor(k).view(-1, *[1] * (children.dim() - 1)) + 1
        q = self.values[after, children] / self.alpha
        hopeless = (q == -torch.inf).all(-1, keepdim=True)
        return q.masked_fill(hopeless, 0).to(torch.get_default_dtype())

    def _index(self, x: Tensor) -> Tensor:
        return x.long() if isinstance(self.process, Finite) else lexicographic_index(x, self.process.letters + 1)
