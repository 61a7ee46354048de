"""Reward backprop: differentiate the reward through the chain that made the design (DRAKES, DRaFT, AlignProp)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import (
    Batch,
    Capability,
    Columns,
    Context,
    Divergence,
    Metrics,
    Objective,
    Parts,
    Relaxable,
    Reparametrised,
    Roles,
    Round,
    Value,
    draw_rows,
    kernel_at,
    needed,
    require_relaxed_states,
    rollout,
)
from biotilt.core.bounded import again, in_parts, room
from biotilt.core.precision import asked
from biotilt.errors import ConfigError
from biotilt.options import Count, CountFrom0, Positive, check_options


@dataclass(frozen=True)
class RewardBackprop(Objective):
    """E[ −r(x[K])/α + Σ_{k ≥ K−T} KL(p_θ(·|x[k]) ‖ p_pre(·|x[k])) ], differentiated through the draws of x.

    T = `steps`: the proposal rolls in to x[K−T], and the last T steps are drawn by `rsample`, so that gradient
    flows from the reward and from every KL back through the states. 0 means all K steps. The weights of the base
    take no gradient, but its kernels pass on that of their states.

    * Kernels of points (reparametrised): the gradient of this expectation is exact. With T = K it is that of −J/α,
      and its optimum the best policy with kernels of the base's width; p* itself where those of p* are such gaussians.
    * Kernels of letters (straight-through Gumbel-softmax at `temperature` τ > 0): the values are those of true draws,
      but the gradient is biased, as a letter that was drawn is moved as if it were its probability. At the last step,
      for a reward linear in every letter, the bias goes with τ → 0, while the noise grows; at τ = 1 and two equally
      likely letters the gradient of the reward is 2/3 of the true one. That of earlier steps is biased at any τ, unless
      all that follows is linear in the letter. It is so on a finite chain: there, TV to p* was 0.24 with τ = 1 and
      0.02 with τ = 0.5. Elsewhere do not expect p*.
    * T < K: the steps before x[K−T] get neither reward nor KL. Where steps have weights of their own, those steps
      stay at the base, and designs have the law ∫ p_pre(x[K−T]) p*(x[K]|x[K−T]), which is not p*. Where they
      share a network, the early steps move with it, and their KL is charged nowhere.

    An update scores the designs it differentiates: `calls` of a round are spent as `calls` // `updates` designs in
    each of its `updates` updates. The round itself draws none.

    Sources: DRAKES (arXiv 2410.13643: straight-through Gumbel-softmax, truncation and KL), DRaFT (arXiv 2309.17400:
    the last T steps), AlignProp (arXiv 2310.03739).
    """

    steps: CountFrom0 = 0
    temperature: Positive = 0.5
    updates: Count = 1

    name: ClassVar[str] = "backprop"
    needs: ClassVar[tuple[type[Capability], ...]] = (Reparametrised, Divergence, Relaxable)
    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def capacity(self) -> None:
        """Only the last round is kept, one state x[K−T] a row."""
        return None

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> None:
        """All: how many states an update takes depends on the calls of the round."""
        return None

    def check(self, parts: Parts) -> None:
        require_relaxed_states(parts, self.name)
        if self.steps > parts.process.steps:
            raise ConfigError(
                f"objective.steps = {self.steps}, but the chain has {parts.process.steps} steps; 0 means all of them"
            )

    def columns(self, value: Value | None) -> Columns:
        return {"x": "states"}

    def collect(self, context: Context, calls: int) -> Round:
        each = calls // self.updates
        if each == 0:
            raise ConfigError(
                f"objective.updates = {self.updates}, but a round has {calls} calls and every update scores at least "
                f"one design; raise train.batch to {self.updates} or more"
            )
        roles, stop = context.roles, self._first(context.roles.base.process.steps)
        chain = rollout(roles.proposal, each * self.updates, context.generator, states=False, stop=stop)
        return Round({"x": chain.states[-1]}, chain.states[-1][:0], {})

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        roles, process = context.roles, context.roles.policy.process
        starts = draw_rows(rows, len(rows["x"]) // self.updates, context.generator)["x"]
        relaxable = needed(process, Relaxable)
        x, steps = relaxable.relaxed(starts), range(self._first(process.steps), process.steps)
        kl = torch.zeros(len(starts), device=starts.device)
        # the graphs of the last steps, of policy and base, are kept as far as there is room
        kept = room(roles.policy.net, *process.inputs(x[:1], steps[0])) // (2 * len(starts))
        for k in steps:
            seed = int(torch.randint(2**62, (), generator=context.generator, device=context.generator.device))
            taken = (context.roles, x, k, seed)
            x, step_kl = self._step(*taken) if steps.stop - k <= kept else again(self._step, *taken)
            kl = kl + step_kl
        designs = relaxable.relaxed_design(x)
        rewards = context.target.relaxed_rewards(designs)
        scored = rewards.isfinite()
        # the gradient of a reward that is NaN may be NaN, and NaN times 0 is too: it would spoil every weight
        designs.register_hook(lambda grad: grad.where(scored.view(-1, *[1] * (grad.dim() - 1)), 0))
        loss = torch.where(scored, kl - rewards / context.target.alpha, 0).sum() / scored.sum().clamp(min=1)
        return loss, {"reward": rewards[scored].mean().item(), "kl": kl.mean().item()}

    def _step(self, roles: Roles, x: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return next states that are drawn by a seed, and the KL of the step, differentiable in the states."""
        process, base = roles.policy.process, roles.base.net
        weights = {key: weight.detach() for key, weight in base.named_parameters()}

        def base_outputs(x: Tensor, t: Tensor) -> Tensor:
            """The base, differentiable in its states and never in its weights."""

            def said(*shown: Tensor) -> Tensor:
                return torch.func.functional_call(base, weights, shown)

            return in_parts(lambda *shown: asked(said, *shown), base, x, t, shown=(x, t))

        kernel = roles.policy.kernel_as(Divergence, x, k)
        kl = kernel.kl(needed(kernel_at(process, base_outputs, x, k), Divergence))
        generator = torch.Generator(x.device).manual_seed(seed)
        return needed(kernel, Reparametrised).rsample(generator, self.temperature), kl

    def _first(self, steps: int) -> int:
        """Return the step K−T from which gradient flows."""
        return steps - self.steps if self.steps else 0
