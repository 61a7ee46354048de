"""Uniform diffusion of letters: D3PM (Austin et al. 2021, arXiv 2107.03006) and SEDD (Lou et al. 2023, 2310.16834)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from biotilt.core.capabilities import (
    Divergence,
    Expecting,
    Factorised,
    Guessing,
    Kernel,
    Mixable,
    NoisedPath,
    PosteriorDensity,
    Reparametrised,
    Tiltable,
)
from biotilt.core.protocols import Net, NetInput
from biotilt.formulas.categorical import (
    draw,
    draw_straight_through,
    geometric_mixture,
    kl_categorical,
    stratified_uniform,
)
from biotilt.options import Steps
from biotilt.processes.letters import LetterProcess, one_hot_states
from biotilt.processes.schedules import UNIFORM_SCHEDULES, UniformScheduleName


@dataclass(frozen=True)
class UniformKernel(Factorised, Divergence, Tiltable, Mixable, PosteriorDensity, Guessing, Expecting, Reparametrised):
    """One step at states `x` `(B, L)`: every free position draws its next letter, independently.

    `log_x0` `(B, L, V)` are the network's log-probabilities of the design's letters, `log_next` those of the next
    letters, both normalised; `free` `(L,)` says which positions move; `relaxed` `(B, L, V+1)` is the state that the
    kernel was built from, if that was not tokens. `tilted` and `mix` change the next letters and leave `x0`.
    """

    x: Tensor
    log_x0: Tensor
    log_next: Tensor
    free: Tensor
    relaxed: Tensor | None = None

    @property
    def x0(self) -> Tensor:
        """Log-probabilities of the letters of the design, `(B, L, V)`; meaningful where free."""
        return self.log_x0

    def guess(self, generator: Generator | None = None) -> Tensor:
        """Return x̂0 as designs `(B, L)`: letters drawn, or the most likely when no generator is given."""
        letters = self.log_x0.argmax(-1) if generator is None else draw(self.log_x0, generator)
        return torch.where(self.free, letters.to(self.x.dtype), self.x)

    def expected(self) -> Tensor:
        """Return probabilities `(B, L, V)` of the design's letters; where held the state, one-hot or relaxed."""
        probabilities = self.log_x0.exp()
        return torch.where(self.free.unsqueeze(-1), probabilities, self._state()[..., : probabilities.shape[-1]])

    def posterior_log_prob(self, design: Tensor) -> Tensor:
        """Return Σ_free log p(x0_i | x) of designs `(B, L)`, `(B,)`: −inf where a held letter disagrees."""
        return self._total(self.log_x0, design)

    def sample(self, generator: Generator) -> Tensor:
        return torch.where(self.free, draw(self.log_next, generator).to(self.x.dtype), self.x)

    def rsample(self, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Return a draw as one-hot states `(B, L, V+1)`, differentiable, `temperature` > 0."""
        letters = F.pad(draw_straight_through(self.log_next, generator, temperature), (0, 1))
        return torch.where(self.free.unsqueeze(-1), letters, self._state())

    def terms(self, y: Tensor) -> Tensor:
        """Log-probability of each next letter, `(B, L)`; 0 where held."""
        return self._picked(self.log_next, y)

    def log_prob(self, y: Tensor) -> Tensor:
        return self._total(self.log_next, y)

    def kl(self, other: Self) -> Tensor:
        return (kl_categorical(self.log_next, other.log_next) * self.free).sum(-1)

    def tilted(self, q: Tensor) -> Self:
        """Times exp(q), `q` `(B, L, V)` over the next letters, normalised."""
        return replace(self, log_next=(self.log_next + q).log_softmax(-1))

    def mix(self, other: Self, weight: float) -> Self:
        """Geometric mixture with another kernel at the same states: next letters ∝ self^(1−w) other^w."""
        return replace(self, log_next=geometric_mixture(self.log_next, other.log_next, weight))

    def _picked(self, log_letters: Tensor, y: Tensor) -> Tensor:
        picked = log_letters.gather(-1, y.long().unsqueeze(-1)).squeeze(-1)
        return torch.where(self.free, picked, torch.zeros_like(picked))

    def _total(self, log_letters: Tensor, y: Tensor) -> Tensor:
        total = self._picked(log_letters, y).sum(-1)
        return torch.where((self.free | (y == self.x)).all(-1), total, torch.full_like(total, -torch.inf))

    def _state(self) -> Tensor:
        if self.relaxed is not None:
            return self.relaxed.to(self.log_next.dtype)
        return one_hot_states(self.x, self.log_next.shape[-1], self.log_next.dtype)


@dataclass(frozen=True)
class Uniform(LetterProcess, NoisedPath):
    """Letters are replaced by uniform ones on the way to noise: q(x[k] | x0) = a[k] 1[x0] + (1 − a[k])/V, i.i.d.

    `a[k]` from `schedule` ("loglinear", "cosine", "polynomial"; "geometric" of models of score ratios) at time 1 − k/K,
    `num_steps` = K ≥ 1; a[0] = 0 and a[K] = 1. p(y|x) = Π_i Σ_{x0} q(y_i | x_i, x0) net(x)[i, x0]; the network maps
    tokens `(B, L)` and times `(B,)`, which it needs (`time = true`), to logits `(B, L, V)` of the design's letters.

    The letters of a step are independent given `x`, which no training removes and more steps lessen.

    x[0] is V^L random letters that say nothing of the design: since a[0] = 0, q(x[1] | x[0], x0) does not depend on
    x[0], and at k = 0 the network is shown masks (token V) in place of the free letters. So v_0 is a constant, and
    the designs of the optimal policy have the law ∝ p_pre exp(r/α). A network that saw x[0] would make the
    optimum ∝ p_pre exp(r/α) only given x[0].

    >>> import torch
    >>> Uniform(length=12, letters=4).noise(2, torch.Generator()).shape
    torch.Size([2, 12])
    """

    num_steps: Steps = 64
    schedule: UniformScheduleName = "loglinear"

    name: ClassVar[str] = "uniform"
    kernel_type: ClassVar[type[Kernel]] = UniformKernel

    @property
    def steps(self) -> int:
        return self.num_steps

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return `(batch, L)` uniform letters; held positions have theirs."""
        return self._hold(self._letters((batch, self.length), generator))

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return tokens `(B, L)`, or relaxed `(B, L, V+1)`, with masks in place of the free letters of x[0]."""
        k = torch.as_tensor(k, device=x.device).expand(len(x))
        return NetInput(self._shown(x, k), 1 - k / self.num_steps)

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> UniformKernel:
        """Return the kernel of logits `(B, L, V)` at states: tokens `(B, L)`, or relaxed `(B, L, V+1)`.

        A relaxed state mixes the laws that its letters lead to, so the kernel is linear in it, the network aside.
        """
        tokens, relaxed = self._read(x)
        k = torch.as_tensor(k, device=x.device).expand(len(x))
        log_x0 = self._log_letters(output)
        if relaxed is None:
            log_next = self._next(log_x0, self._one_hot(tokens, log_x0.dtype), k)
        else:
            every = torch.eye(self.letters, dtype=log_x0.dtype, device=x.device)
            rows = self._next(log_x0.unsqueeze(-2), every, k).exp()
            mixed = torch.einsum("bls,blsv->blv", relaxed[..., : self.letters].to(rows.dtype), rows)
            log_next = mixed.clamp(min=torch.finfo(mixed.dtype).tiny).log()
        return UniformKernel(tokens, log_x0, log_next, self._free_mask(x.device), relaxed)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Keep each free letter with probability a[k], else draw it anew."""
        clean = self._clean(torch.as_tensor(k, device=design.device).expand(len(design))).unsqueeze(-1)
        kept = torch.rand(design.shape, generator=generator, device=design.device) < clean
        fresh = self._letters(design.shape, generator).to(design.dtype)
        return torch.where(kept | ~self._free_mask(design.device), design, fresh)

    def noised_path(self, design: Tensor, generator: Generator) -> Tensor:
        """Return chains `(K+1, B, L)`, from the end: a free letter of x[k+1] is kept with probability a[k]/a[k+1]."""
        clean = self._clean(torch.arange(self.steps + 1, device=design.device))
        held, chain = ~self._free_mask(design.device), [design]
        for k in reversed(range(self.steps)):
            kept = torch.rand(design.shape, generator=generator, device=design.device) < clean[k] / clean[k + 1]
            fresh = self._letters(design.shape, generator).to(design.dtype)
            chain.append(torch.where(kept | held, chain[-1], fresh))
        return torch.stack(chain[::-1])

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """K · KL(q(x[k+1] | x[k], x0) ‖ p(x[k+1] | x[k])), x[k] ∼ q(x[k] | x0), k ∼ U{0…K−1}: bounds −log p, `(B,)`.

        D3PM's variational bound (arXiv 2107.03006, eq. 1), all of it: the KL of the start is 0, because a[0] = 0,
        and the last step's is the reconstruction, because a[K] = 1.
        """
        k = (stratified_uniform(len(design), generator) * self.num_steps).long().clamp(max=self.num_steps - 1)
        x = self.corrupt(design, k, generator)
        kernel = self.kernel_of(net(*self.inputs(x, k)), x, k)
        dtype = kernel.log_next.dtype
        log_next = self._next(self._one_hot(design, dtype).log(), self._one_hot(x, dtype), k)
        return (kl_categorical(log_next, kernel.log_next) * kernel.free).sum(-1) * self.num_steps

    def _next(self, log_x0: Tensor, at: Tensor, k: Tensor) -> Tensor:
        """Return log Σ_{x0} q(y | x, x0) p(x0) `(B, L, …, V)` over y, of log p(x0) and one-hot x that broadcast.

        q(y | x, x0) = q(x | y) q(y | x0) / q(x | x0), with q(x | y) = b 1[x = y] + (1 − b)/V, b = a[k]/a[k+1].
        """
        shape = (-1, *[1] * (log_x0.dim() - 1))
        now, after = self._clean(k).view(shape), self._clean(k + 1).view(shape)
        log_likelihood = (now / after * at + (after - now) / after / self.letters).log()
        log_weight = log_x0 - (now * at + (1 - now) / self.letters).log()
        kept = log_weight + after.log()
        # in the last step no letter is drawn anew; the 0 keeps log 0 out of the gradient
        last = after == 1
        anew = (log_weight.logsumexp(-1, keepdim=True) + ((1 - after) / self.letters).log()).masked_fill(last, 0.0)
        return (log_likelihood + torch.where(last, kept, torch.logaddexp(kept, anew))).log_softmax(-1)

    def _clean(self, k: Tensor) -> Tensor:
        """Return a[k]: 1 at k = K and below 1 before, whatever the rounding of the schedule."""
        clean = UNIFORM_SCHEDULES[self.schedule].clean(1 - k / self.num_steps)
        return clean.clamp(max=1 - torch.finfo(clean.dtype).eps).masked_fill(k == self.num_steps, 1.0)

    def _shown(self, x: Tensor, k: Tensor) -> Tensor:
        """Return what the network sees of states: masks in place of the free letters of x[0]."""
        blank = (k == 0).unsqueeze(-1) & self._free_mask(x.device)
        if not x.is_floating_point():
            return x.masked_fill(blank, self.letters)
        mask = F.one_hot(torch.tensor(self.letters, device=x.device), self.letters + 1).to(x.dtype)
        return torch.where(blank.unsqueeze(-1), mask, x)

    def _one_hot(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return F.one_hot(x.long(), self.letters).to(dtype)

    def _letters(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        return torch.randint(self.letters, shape, generator=generator, device=generator.device, dtype=self.token_type)
