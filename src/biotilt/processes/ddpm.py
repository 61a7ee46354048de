"""The chains of diffusers' DDPM and DDIM schedulers, step by step, for networks that were trained with them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor

from biotilt.core.protocols import Net
from biotilt.errors import ConfigError
from biotilt.options import CountFrom0, Flag, Number, Positive, Steps
from biotilt.processes.gaussian_chain import Chain, GaussianChain, at, rest_of, std_between

Beta = Annotated[Number, Field(gt=0, lt=1)]
Betas = Annotated[tuple[Annotated[Number, Field(gt=0, le=1)], ...], Field(max_length=100_000)]
_SILENT = 1e-6  # a width that the scheduler means as none: it writes 1e-10


@dataclass(frozen=True)
class DDPM(GaussianChain):
    """`num_steps` of the `num_train_timesteps` noise levels a_t = √ᾱ_t, s_t = √(1 − ᾱ_t), ᾱ_t = Π (1 − β).

    Options have the names that `scheduler_config.json` gives them, and the same meaning. The network is told t divided
    by `num_train_timesteps`, and says ε, x_0 or v = a ε − s x_0 by `prediction_type`. `sampler`: "ddpm" takes the
    posterior of Ho et al. 2020 (arXiv 2006.11239, eq. 7), whose width is that of `variance_type`; "ddim" steps

        x' ∼ N( a' x̂_0 + √(s'² − σ²) ε̂, σ² ),  σ = `eta` (s'/s) √(1 − ᾱ/ᾱ')

    of Song et al. 2021 (arXiv 2010.02502, eqs. 12 and 16). With `clip_sample` x̂_0 is cut to ±`clip_sample_range`.

    Every mean and every width is the scheduler's, but for the step or steps where it adds no noise, the last one as a
    rule. There a design would have no density, so x[K] gets noise of std `last_std` around the scheduler's output: by
    default that of `gaussian` and `flow`, two and a half levels of a PNG file. With `eta` = 0 the chain is the
    scheduler's own, without any noise, for sampling only.

    The first levels have a > 0 with most schedules, so designs owe a little to x[0], which no policy chooses: the
    optimal policy has the law p_pre exp(r/α)/Z given x[0]. What is left of x[0] in a design falls with the number of
    steps; zero-SNR schedules (`rescale_betas_zero_snr`), and "ddpm", forget it at the first step where a = 0.

    Raises:
        ConfigError: an option outside its range; more steps than levels; ε where a = 0, of which nothing follows.

    >>> process = DDPM(size=2, num_steps=4)
    >>> [round(1000 * float(t)) for t in process.inputs(torch.zeros(4, 2), torch.arange(4)).t]
    [750, 500, 250, 0]
    """

    sampler: Literal["ddpm", "ddim"] = "ddpm"
    num_train_timesteps: Steps = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02
    trained_betas: Betas = ()
    rescale_betas_zero_snr: Flag = False
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    steps_offset: CountFrom0 = 0
    clip_sample: Flag = False
    clip_sample_range: Positive = 1.0
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large"] = "fixed_small"
    set_alpha_to_one: Flag = True
    last_std: Positive = 0.02

    name: ClassVar[str] = "ddpm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_steps > self.num_train_timesteps:
            raise ConfigError(f"num_steps: {self.num_steps} of {self.num_train_timesteps} noise levels")
        if self.trained_betas and len(self.trained_betas) != self.num_train_timesteps:
            raise ConfigError(f"trained_betas: {len(self.trained_betas)}, not one of {self.num_train_timesteps} levels")
        if self.sampler == "ddpm" and self.eta != 1:
            raise ConfigError('eta: the noise of sampler "ddpm" is that of variance_type; take sampler = "ddim"')
        if self.timesteps[0] >= self.num_train_timesteps:
            raise ConfigError(f"steps_offset: {self.steps_offset} leads beyond the last noise level; lower it")
        if self.prediction_type == "epsilon" and not float(self._chain.signal[0]) > 0:
            raise ConfigError(
                'prediction_type "epsilon" says nothing of the image at the first level, which is noise alone '
                '(rescale_betas_zero_snr): a network trained with it says "v_prediction" or "sample"; with '
                'timestep_spacing = "leading" that level is left out'
            )

    @property
    def timesteps(self) -> list[int]:
        """The noise level of each step, counted from 0, the least noise."""
        total, count = self.num_train_timesteps, self.num_steps
        if self.timestep_spacing == "linspace":
            return np.linspace(0, total - 1, count).round()[::-1].astype(int).tolist()
        if self.timestep_spacing == "trailing":
            return (np.round(np.arange(total, 0, -total / count)).astype(int) - 1).tolist()
        return [step * (total // count) + self.steps_offset for step in reversed(range(count))]

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """Return the bound on −log p(x[K] = design) of the chain without clipping, in nats, `(B,)`.

        What is cut off has no gradient, and at high noise nearly all of x̂_0 is. For designs inside the range, and
        sampler "ddpm", cutting only brings a mean nearer to what it should be, so this is a bound with it too.
        """
        if self.clip_sample:
            return replace(self, clip_sample=False).denoising_loss(net, design, generator)
        return super().denoising_loss(net, design, generator)

    def _believed(self, output: Tensor, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        a, s = (at(table, k, x).unsqueeze(-1) for table in (self._chain.signal, self._chain.spread))
        if self.prediction_type == "epsilon":
            x0, eps = (x - s * output) / a, output
        elif self.prediction_type == "sample":
            x0, eps = output, (x - a * output) / s
        else:
            x0, eps = a * x - s * output, a * output + s * x
        if self.clip_sample:
            x0 = x0.clamp(-self.clip_sample_range, self.clip_sample_range)
            if self.sampler == "ddpm":  # whose mean is one of x̂_0 and x
                eps = (x - a * x0) / s
        return x0, eps

    @cached_property
    def _chain(self) -> Chain:
        alphas = _alphas(
            self.num_train_timesteps, self.beta_schedule, self.beta_start, self.beta_end, self.trained_betas,
            self.rescale_betas_zero_snr,
        )  # fmt: skip
        steps = self.timesteps
        stride = self.num_train_timesteps // self.num_steps
        nexts = [t - stride for t in steps] if self.sampler == "ddim" else [*steps[1:], -1]
        ends_clean = self.sampler == "ddpm" or self.set_alpha_to_one
        final = torch.ones((), dtype=torch.float64) if ends_clean else alphas[0]
        now, after = alphas[steps], torch.stack([alphas[t] if t >= 0 else final for t in nexts])
        (a, s), (a_next, s_next) = ((level.sqrt(), (1 - level).sqrt()) for level in (now, after))
        small = std_between(a, s, a_next, s_next, self.eta)
        std = small
        if self.sampler == "ddpm":
            std = (1 - now / after).sqrt() if self.variance_type == "fixed_large" else small
            std = torch.where(torch.tensor(steps) > 0, std, 0)
        if self.eta > 0:
            std = torch.where(std < _SILENT, torch.full_like(std, self.last_std), std)
        signal, spread = torch.cat([a, final.sqrt().view(1)]), torch.cat([s, (1 - final).sqrt().view(1)])
        recall = a / signal[-1] * spread[-1] ** 2 / s
        time = torch.tensor([*steps, 0], dtype=torch.float64) / self.num_train_timesteps
        return Chain(time, signal, spread, a_next, rest_of(s_next, small), std, recall)


@lru_cache(maxsize=16)
def _alphas(total: int, schedule: str, start: float, end: float, given: tuple[float, ...], zero_snr: bool) -> Tensor:
    """Return ᾱ_t of all levels, `(T,)` in float64; worked out in float32, as those that trained with them had them."""
    if given:
        betas = torch.tensor(given)
    elif schedule == "linear":
        betas = torch.linspace(start, end, total)
    elif schedule == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, total) ** 2
    else:
        levels = [math.cos((i / total + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(total + 1)]
        betas = torch.tensor([min(1 - after / before, 0.999) for before, after in itertools.pairwise(levels)])
    alphas = (1 - betas).cumprod(0)
    if zero_snr:  # Lin et al. 2024, arXiv 2305.08891, algorithm 1: √ᾱ shifted to 0 at the last level, the first kept
        root = alphas.sqrt()
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        levels = root**2
        betas = 1 - torch.cat([levels[:1], levels[1:] / levels[:-1]])
        alphas = (1 - betas).cumprod(0)
    return alphas.double()
