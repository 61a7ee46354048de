"""Simplex diffusion: Dirichlet diffusion by stick-breaking (Avdeyev et al. 2023, DDSM, arXiv 2305.10699)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from biotilt.core.capabilities import Capability, Centred, Kernel, Limited, PosteriorDensity
from biotilt.core.protocols import Net, NetInput
from biotilt.formulas.categorical import draw, stratified_uniform
from biotilt.options import Steps
from biotilt.processes.gaussian_kernel import GaussianDensity
from biotilt.processes.jacobi import EPS, JacobiTables, jacobi_tables
from biotilt.processes.letters import LetterProcess

# the loss is an integral over time, so its nodes have nothing to do with the chain's steps
_LOSS_NODES = 128


@dataclass(frozen=True)
class SimplexKernel(GaussianDensity, PosteriorDensity):
    """N(mean, std²) on the sticks of the free letters; `std` depends on the state.

    `x`, `mean`, `std` `(B, L, V−1)`; `design` = `x0` `(B, L, V)`, the network's log-probabilities of the letters of the
    design, meaningful where free; `held` `(L, 1)`. `tilted` moves the mean by std² q, q `(B, L, V−1)` like the states,
    and leaves `x0`.
    """

    def terms(self, y: Tensor) -> Tensor:
        """Log-density of the sticks of each letter, `(B, L)`; 0 where held."""
        return super().terms(y).unflatten(1, self.x.shape[1:]).sum(-1)

    def mix(self, other: Self, weight: float) -> Self:
        """Geometric mixture with another kernel at the same states: `std` is common, so the means are averaged.

        The mean is linear in the letter probabilities, so these are averaged as well.
        """
        design = torch.lerp(self.x0.exp(), other.x0.exp(), weight).log()
        return replace(self, mean=torch.lerp(self.mean, other.mean, weight), design=design)

    def guess(self, generator: Generator | None = None) -> Tensor:
        """Return x̂0 as sticks of letters `(B, L, V−1)`: drawn, or the most likely when no generator is given."""
        tokens = self.x0.argmax(-1) if generator is None else draw(self.x0, generator)
        sticks = sticks_of(tokens, self.x.shape[-1]).to(self.x)
        return sticks if self.held is None else torch.where(self.held, self.x, sticks)

    def expected(self) -> Tensor:
        """Return the letter probabilities of the design `(B, L, V)`; where held, those of the state."""
        probabilities = self.x0.exp()
        return probabilities if self.held is None else torch.where(self.held, probabilities_of(self.x), probabilities)

    def posterior_log_prob(self, design: Tensor) -> Tensor:
        """Return Σ_free log p(x0_i | x) `(B,)` of letters of states `(B, L, V−1)`: −inf where a held one differs."""
        tokens = probabilities_of(design).argmax(-1, keepdim=True)
        picked = self.x0.gather(-1, tokens)
        if self.held is not None:
            agrees = tokens == probabilities_of(self.x).argmax(-1, keepdim=True)
            picked = torch.where(self.held, torch.where(agrees, 0.0, -torch.inf), picked)
        return picked.flatten(1).sum(-1)


@dataclass(frozen=True)
class Simplex(LetterProcess, Limited):
    """Each letter's probabilities diffuse on the simplex: stationary where the Dirichlet law is flat.

    A state is `(B, L, V−1)` sticks v, floats: letter i has the probability p_i = v_i Π_{j<i} (1 − v_j), and the last
    one what is left. Letter j is the vertex v_i = 0 for i < j, v_j = 1; the later sticks do not matter there. Every
    stick is a Jacobi diffusion of its own (`processes/jacobi.py`). With the network's letter probabilities
    π = p(x0 | x), π_{>i} = Σ_{j>i} π_j, and E[m | v, ·] the expected lineages given the start of the stick, the chain
    takes `num_steps` = K ≥ 1 Euler–Maruyama steps of the reversed equation, h = t_k − t_{k+1}:

        mean = v + h s { ½ (1 − v) − ½ b v + π_i E[m | v, 1] (1 − v) − π_{>i} E[m | v, 0] v },   std² = h s v (1 − v),

    which is DDSM's sampler, its score mixed from the exact transition densities of the letters. Their log-densities are
    those that the tutorial's PPO (arXiv 2407.13734) compares; here v is clamped to [1e-5, 1 − 1e-5] when a step reads
    it, not when it is written, so that a step is a gaussian, of positive width, and states may lie outside [0, 1].

    Times run from 6 to 0.02, denser to the end, where the letter is beyond doubt; designs are the states x[K], their
    letters `tokens(x)`. The network maps letter probabilities `(B, L, V)` and times `(B,)`, which it needs
    (`time = true`), to logits `(B, L, V)` of the letters of the design. `fixed` letters stand at their vertex.

    A design depends on x[0] only through a correlation e⁻⁶ of each stick, so v_0 is a constant to that order.

    >>> import torch
    >>> process = Simplex(length=12, letters=4)
    >>> sticks = process.noise(2, torch.Generator())
    >>> sticks.shape, process.tokens(sticks).shape
    (torch.Size([2, 12, 3]), torch.Size([2, 12]))
    """

    num_steps: Steps = 100

    name: ClassVar[str] = "simplex"
    kernel_type: ClassVar[type[Kernel]] = SimplexKernel

    def remedies(self) -> Mapping[type[Capability], str]:
        """A width that depends on the state is no matter of the configuration: something else must be used."""
        return {
            Centred: "its noise depends on the state, which a formula for the mean alone does not allow for; use an "
            "objective that compares log-probabilities, such as ppo, or differentiates the chain"
        }

    @property
    def steps(self) -> int:
        return self.num_steps

    def tokens(self, x: Tensor) -> Tensor:
        """Return the most probable letters `(B, L)`, integers, of states `(B, L, V−1)`: of those that may stand there.

        A chain of few steps may end nearer to another: its network gave it no chance, its noise did.
        """
        probabilities = probabilities_of(x)
        if self.fixed is not None and self.fixed.allowed is not None:
            allowed = self.fixed.allowed | self.fixed.mask.unsqueeze(-1)
            probabilities = probabilities.masked_fill(~allowed.to(x.device), -1.0)
        return probabilities.argmax(-1).to(self.token_type)

    def vertices(self, tokens: Tensor) -> Tensor:
        """Return states `(B, L, V−1)` of letters `(B, L)`: the sticks after the letter's are 0."""
        return sticks_of(tokens, self.letters - 1).to(torch.get_default_dtype())

    def relaxed(self, x: Tensor) -> Tensor:
        """Return the states themselves: sticks are differentiable as they are."""
        return x

    def relaxed_design(self, x: Tensor) -> Tensor:
        """Return letter probabilities `(B, L, V)` of states `(B, L, V−1)`."""
        return probabilities_of(x)

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return `(batch, L, V−1)` sticks of the flat Dirichlet law; held letters stand at their vertex."""
        tables = self._tables(torch.get_default_dtype(), generator.device)
        return self._hold(tables.draw_stationary((batch, self.length), generator))

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return letter probabilities `(B, L, V)` of sticks `(B, L, V−1)`, and the time."""
        k = torch.as_tensor(k, device=x.device).expand(len(x))
        return NetInput(probabilities_of(x), 1 - k / self.num_steps)

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> SimplexKernel:
        tables = self._tables(x.dtype, x.device)
        k = torch.as_tensor(k, device=x.device).expand(len(x))
        v = x.clamp(EPS, 1 - EPS)
        log_x0 = self._log_letters(output)
        each = k.view(-1, 1, 1)
        step = (tables.times[each] - tables.times[each + 1]) * tables.speed
        drift = ((1 - v) - tables.beta * v) / 2 + _pull(tables, log_x0.exp(), v, each)
        std = (step * v * (1 - v)).sqrt()
        return SimplexKernel(x, v + step * drift, std, log_x0, self._held(x.device))

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Draw x[k] `(B, L, V−1)` given the letters of designs: tokens `(B, L)` or states; exact, not by steps."""
        tokens = self._tokens_of(design)
        tables = self._tables(torch.get_default_dtype(), design.device)
        k = torch.as_tensor(k, device=design.device).expand(len(design))
        return self._hold(tables.draw(tokens, k, generator))

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """Return a bound on −log p of the letters of designs, tokens `(B, L)` or states `(B, L, V−1)`, in nats, `(B,)`.

            −log p(x0) ≤ ½ ∫ E_q Σ_i s (δ_i)² / (v_i (1 − v_i)) dt + KL(q_{t_0}(·|x0) ‖ stationary law),
            δ_i = (1[x0 = i] − π_i) E[m | v_i, 1] (1 − v_i) − (1[x0 > i] − π_{>i}) E[m | v_i, 0] v_i,

        from t_K to t_0: the integrand is ½ g² (score given x0 − model's score)², summed over letters (Girsanov; Song
        et al. 2021, arXiv 2101.09258). It bounds the model in continuous time, not the K-step chain, whose steps are
        finite; and the letters at t_K, where that x0 is not the most probable letter has a chance below 1e-20 a letter,
        which is left out. The mean over data is least at the exact posterior π = p(x0 | x): there it is the entropy
        of the data plus the KL of all of q_{t_0} from the stationary law.

        The integral is a trapezoid sum over 128 nodes, denser to the end, and one node a design is drawn for it, evenly
        over designs: near t_K a network that is not sure pays in proportion to 1/t, which the spacing of the nodes
        takes out.
        """
        tokens = self._tokens_of(design)
        tables = jacobi_tables(self.letters, _LOSS_NODES - 1, torch.get_default_dtype(), design.device)
        k = (stratified_uniform(len(design), generator) * _LOSS_NODES).long().clamp(max=_LOSS_NODES - 1)
        x = self._hold(tables.draw(tokens, k, generator))
        v, each = x.clamp(EPS, 1 - EPS), k.view(-1, 1, 1)
        probabilities = self._log_letters(net(probabilities_of(v), 1 - k / (_LOSS_NODES - 1))).exp()
        truth = F.one_hot(tokens.long(), self.letters).to(probabilities.dtype)
        error = _pull(tables, truth - probabilities, v, each)
        rate = (tables.speed * error.square() / (v * (1 - v))).sum(-1) / 2
        gaps = F.pad(tables.times[:-1] - tables.times[1:], (1, 1))
        share = (gaps[:-1] + gaps[1:]) / 2 * _LOSS_NODES
        per_letter = rate * share[k].unsqueeze(-1) + tables.prior[tokens.long()]
        return (per_letter * self._free_mask(x.device)).sum(-1)

    def _tables(self, dtype: torch.dtype, device: torch.device) -> JacobiTables:
        return jacobi_tables(self.letters, self.num_steps, dtype, device)

    def _tokens_of(self, design: Tensor) -> Tensor:
        return self.tokens(design) if design.is_floating_point() else design

    def _held(self, device: torch.device) -> Tensor | None:
        return None if self.fixed is None else self.fixed.mask.to(device).unsqueeze(-1)

    def _hold(self, x: Tensor) -> Tensor:
        if self.fixed is None:
            return x
        # the letters of free positions may be anything
        tokens = self.fixed.letters.masked_fill(~self.fixed.mask, 0).to(x.device)
        return torch.where(self.fixed.mask.to(x.device).unsqueeze(-1), sticks_of(tokens, self.letters - 1).to(x), x)


def probabilities_of(x: Tensor) -> Tensor:
    """Return letter probabilities `(..., V)` of sticks `(..., V−1)`, read as if in [1e-5, 1 − 1e-5].

    >>> probabilities_of(torch.tensor([0.5, 0.25]))
    tensor([0.5000, 0.1250, 0.3750])
    """
    v = x.clamp(EPS, 1 - EPS)
    return F.pad(v, (0, 1), value=1.0) * F.pad((1 - v).cumprod(-1), (1, 0), value=1.0)


def sticks_of(tokens: Tensor, sticks: int) -> Tensor:
    """Return the vertices `(..., sticks)`, bool, of letters `(...)` in [0, sticks].

    >>> sticks_of(torch.tensor([0, 1, 2]), 2).int().tolist()
    [[1, 0], [0, 1], [0, 0]]
    """
    return tokens.unsqueeze(-1) == torch.arange(sticks, device=tokens.device)


def _pull(tables: JacobiTables, weights: Tensor, v: Tensor, k: Tensor) -> Tensor:
    """Return w_i E[m | v_i, 1] (1 − v_i) − w_{>i} E[m | v_i, 0] v_i `(B, L, V−1)`, w `(B, L, V)` weights of letters."""
    hit, miss = tables.expected_lineages(k, v)
    # summed from the end: what is left after subtracting from 1 would be rounding
    later = weights.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    return weights[..., :-1] * hit * (1 - v) - later * miss * v
