"""Flow matching on the linear path (Lipman et al. 2023, arXiv 2210.02747), with stochastic steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from biotilt.processes.gaussian_path import GaussianPath


@dataclass(frozen=True)
class Flow(GaussianPath):
    """The linear path a = 1 − t, s = t, whose velocity is ε − x_0.

    `eta` is the level of noise: with steps of length Δ, (a_t/a_s)² s_s² = t² − 2tΔ/(1 − t) + O(Δ²), so that

        σ_k² = eta² (s_s²/s_t²)(s_t² − (a_t/a_s)² s_s²) = g_t² Δ + O(Δ²),  g_t² = 2 eta² t/(1 − t),

    and the step is that of the SDE x_{t−Δ} = x_t − Δ (û − (g_t²/2) ∇log p_t) + g_t √Δ z, which has the same marginals
    for every g. `eta` = 1 is the memoryless one (Domingo-Enrich et al. 2024, arXiv 2409.08861); `eta` = 0 is the
    ODE: sampling only. `t_min` = 0.02 leaves noise of std 0.02 in a design, for data of unit scale.

    >>> import torch
    >>> process = Flow(size=2, num_steps=20)
    >>> float(process.signal(torch.tensor([0.25])))
    0.75
    """

    prediction: str = "velocity"

    name: ClassVar[str] = "flow"
    predictions: ClassVar[tuple[str, ...]] = ("x0", "eps", "velocity")

    def signal(self, t: Tensor) -> Tensor:
        return 1 - t

    def spread(self, t: Tensor) -> Tensor:
        return t

    def split(self, output: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.prediction != "velocity":
            return super().split(output, x, t)
        t = t.unsqueeze(-1)
        return x - t * output, x + (1 - t) * output

    def output_of(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        if self.prediction != "velocity":
            return super().output_of(x0, x, t)
        return (x - x0) / t.unsqueeze(-1)
