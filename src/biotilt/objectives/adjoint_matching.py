"""Adjoint matching: the gradient of the reward, carried back through the base's chain, as a target for means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import (
    Batch,
    Capability,
    Centred,
    Columns,
    Context,
    Divergence,
    Metrics,
    Objective,
    Relaxable,
    Round,
    Tiltable,
    Trajectory,
    Value,
    drop_unscored,
    needed,
    rollout,
)
from biotilt.core.bounded import renewed
from biotilt.options import Count, check_options


@dataclass(frozen=True)
class AdjointMatching(Objective):
    """E_{x∼p_out}[ KL( N(μ_pre(x[k]) + σ² a[k+1], σ²) ‖ p_θ(·|x[k]) ) ], for gaussian kernels.

    Lean adjoint along a chain of the proposal, the policy of the last round: a[K] = ∇r(x[K])/α,
    a[k] = (∂μ_pre(x[k], k)/∂x[k])ᵀ a[k+1], by one backward pass through the base a step. The target of a step is the
    base tilted by exp(a[k+1]·y). Linear in a, so its mean over chains is what the policy learns:
    μ_θ(x) = μ_pre(x) + σ² E[a[k+1] | x[k] = x].

    Why that is right, V = v/α, for a σ that does not depend on x, with D = ∂μ_pre/∂x:

    1. exp V_k(x) = E_z exp V_{k+1}(μ_pre(x) + σz), so ∇V_k(x) = E_{y∼p*(·|x)}[D(x)ᵀ ∇V_{k+1}(y)]; by induction from
       V_K = r/α, ∇V_k(x) = E_{p*}[a[k] | x[k] = x].
    2. By Stein's identity E_{p*}[y|x] = μ_pre(x) + σ² E_{p*}[∇V_{k+1}(y)|x]: the equation above, with p_out = p*.

    So p* is a fixed point where its kernels are gaussians of width σ, as with an affine base and a linear reward; with
    a quadratic one the means are those of p*, and designs a little too spread. In general the fixed point is where the
    objective is stationary among gaussian kernels of width σ: with W the policy's own value in units of α and m its
    mean, W_k(x) = E_z W_{k+1}(m + σz) − |m − μ_pre|²/2σ². Stationary in m: m − μ_pre = σ² g, g = E ∇W_{k+1}. Then
    ∇W_k = (∂m/∂x)ᵀ g − (∂m/∂x − D)ᵀ g = Dᵀ g: the terms with ∂m/∂x cancel, and the lean adjoint is exact. So it
    goes where `backprop` goes over all steps, without differentiating the policy's chain. As steps become small, the
    kernels of p* become such gaussians.

    A round costs `calls` rewards with gradients, and makes `updates` updates on `states` transitions of it each.

    Source: Domingo-Enrich et al. 2024, arXiv 2409.08861, for continuous time and its memoryless noise schedule, which
    makes x[0] and x[K] independent so that designs follow p*. The form for discrete steps, and 1 and 2 for it, are
    ours. Here x[0] is not tilted: with a chain that remembers x[0], designs follow p* given x[0].
    """

    updates: Count = 20
    states: Count = 256

    name: ClassVar[str] = "adjoint_matching"
    needs: ClassVar[tuple[type[Capability], ...]] = (Tiltable, Divergence, Centred, Relaxable)
    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self, "objective")

    @property
    def capacity(self) -> None:
        """On-policy: only the last round is kept, one row a transition."""
        return None

    @property
    def refresh_every(self) -> int:
        return self.updates

    @property
    def batch_size(self) -> int:
        return self.states

    def columns(self, value: Value | None) -> Columns:
        return {"x": "states", "k": "int", "a": "float"}

    def collect(self, context: Context, calls: int) -> Round:
        chain = rollout(context.roles.proposal, calls, context.generator)
        adjoints, rewards = self._adjoints(context, chain)
        rows = {
            "x": chain.states[:-1].flatten(0, 1),
            "k": torch.arange(chain.steps, device=rewards.device).repeat_interleave(calls),
            "a": adjoints.flatten(0, 1),
        }
        return Round(drop_unscored(rows), chain.designs, {"reward": rewards[rewards.isfinite()].mean().item()})

    def loss(self, context: Context, rows: Batch) -> tuple[Tensor, Metrics]:
        with torch.no_grad():
            base = context.roles.base.kernel_as(Divergence, rows["x"], rows["k"])
        policy = context.roles.policy.kernel_as(Divergence, rows["x"], rows["k"])
        loss = needed(needed(base, Tiltable).tilted(rows["a"]), Divergence).kl(policy).mean()
        # the rows are uniform over the steps of the chains
        path_kl = policy.kl(base).mean().item() * context.roles.base.process.steps
        return loss, {"distil": loss.item(), "kl": path_kl}

    def _adjoints(self, context: Context, chain: Trajectory) -> tuple[Tensor, Tensor]:
        """Return a[1] … a[K] `(K, B, ...)`, NaN where the design was not scored, and the rewards `(B,)`."""
        base = context.roles.base
        x = chain.designs.detach().requires_grad_()
        rewards = context.target.relaxed_rewards(needed(base.process, Relaxable).relaxed_design(x))
        scored = rewards.isfinite()
        (a,) = torch.autograd.grad(rewards[scored].sum() / context.target.alpha, x)
        adjoints = [a.where(scored.view(-1, *[1] * (a.dim() - 1)), torch.nan)]
        for k in range(chain.steps - 1, 0, -1):
            x = chain.states[k].detach().requires_grad_()
            with renewed():
                mean = base.kernel_as(Centred, x, k).mean
                adjoints.append(torch.autograd.grad(mean, x, adjoints[-1])[0])
        return torch.stack(adjoints[::-1]), rewards.detach()
