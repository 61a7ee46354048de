"""Guidance by the gradient of the reward: DPS (Chung et al. 2022, arXiv 2209.14687), and the same for letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import (
    Capability,
    Context,
    Draws,
    Expecting,
    Kernel,
    Parts,
    Relaxable,
    Reveals,
    Sampler,
    Tiltable,
    needed,
    require_relaxed_states,
)
from biotilt.core.bounded import renewed
from biotilt.options import NotNegative, check_options
from biotilt.samplers.guided import draw_guided


@dataclass(frozen=True)
class Guidance(Sampler):
    """Each step is drawn from p(y|x) exp(q·y), with q = `scale` · ∇ r(x̂0(x)) / α, x̂0(x) the expected design.

    The tilt that p* asks for is exp(v(y)/α); this is its first order, with r(x̂0) for v. The gradient is taken with
    respect to what the tilt acts on:

    * the next state, of points and of letters that are replaced: ∇_x, through the network. For points this is DPS:
      the mean moves by σ² q. For letters it is the first-order score of DiGress and of discrete guidance
      (arXiv 2209.14734, 2406.01572), with x one-hot: letter a at position i is reweighted by exp(q[i, a]).
    * the letters of the design, where hidden ones are revealed: ∇ with respect to the letter probabilities x̂0, and no
      backward pass through the network. q[i, a] is the mean reward of designs that have the letter, if r is
      multilinear.

    `scale` ≥ 0; 1 is the first order, and too much where exp(r/α) is sharper than what x̂0 leaves open. `correct`:
    weights of whole paths, which make the estimates of E_{p*}[f] and Z unbiased whatever is wrong with q; without
    them the law is only near p*, and there is no log Z.

    Calls of a design: one relaxed score a step, and one score.
    """

    scale: NotNegative = 1.0
    correct: bool = True

    name: ClassVar[str] = "guidance"
    needs: ClassVar[tuple[type[Capability], ...]] = (Tiltable, Expecting, Relaxable)
    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self, "sampler")

    def check(self, parts: Parts) -> None:
        if not isinstance(parts.process, Reveals):  # there the design alone is differentiated
            require_relaxed_states(parts, self.name)

    def draw(self, context: Context, count: int) -> Draws:
        """Return `count` designs; raises RewardError when `correct` and no design has a weight."""
        return draw_guided(context, count, lambda kernel, x, k: self._score(context, kernel, x, k), self.correct)

    @torch.enable_grad()
    def _score(self, context: Context, kernel: Kernel, x: Tensor, k: int) -> Tensor:
        """Return q, in units of α, at states `x` of step `k` whose kernel is given."""
        policy = context.roles.proposal
        with renewed():
            if isinstance(policy.process, Reveals):
                source = design = needed(kernel, Expecting).expected().detach().requires_grad_()
            else:
                source = needed(policy.process, Relaxable).relaxed(x).detach().requires_grad_()
                design = policy.kernel_as(Expecting, source, k).expected()
            (slope,) = torch.autograd.grad(context.target.relaxed_rewards(design).sum(), source)
        # relaxed letters have one more channel than the kernel has letters: the mask, which nothing is changed into
        return slope[..., : kernel.x0.shape[-1]] * (self.scale / context.target.alpha)
