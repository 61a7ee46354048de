"""Split Gibbs: letters changed by the reward and letters drawn by the base in turn (SGDD, arXiv 2503.01161)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Capability, Context, Draws, Reveals, Sampler, needed, rollout, sample
from biotilt.errors import ConfigError
from biotilt.options import Count, Inside, check_options
from biotilt.samplers.proposal import equal_weights


@dataclass(frozen=True)
class SplitGibbs(Sampler):
    """Gibbs sampling of a pair of designs: x is the base's, z is the reward's, and noise ties them together.

    π(x, z) ∝ p_pre(x) q_β(z|x) exp(r(z)/α),   q_β: each free letter kept with probability 1 − β, else uniform

    likelihood step: `moves` Metropolis–Hastings moves of one letter of z, for q_β(z|x) exp(r(z)/α); one call each.
                     In SGDD's terms q_β(z|x) ∝ exp(−d(x, z)/η), d the Hamming distance, 1/η = log(1 + V (1−β)/β).
    prior step:      which letters of z are noise is drawn given x and z (those that differ surely, another with
                     probability (β/V)/(1 − β + β/V)); these are hidden, and the base draws them anew: x.

    Both steps leave π alone; the prior step exactly so if letters are revealed one a step and are the conditionals of
    one joint law, else as nearly as the base's chain is that. x has the law ∝ p_pre(x) Σ_z q_β(z|x) exp(r(z)/α) under
    π, which tends to p* as β → 0; but then z keeps to x, and mixing stops. So β falls from `first` to `last`,
    geometrically, over `rounds`: annealing. What is left of the distance to p* is that of `last`, and of rounds too
    few. No weights, no log Z.

    For processes that reveal hidden letters. SGDD itself takes uniform diffusion, where the noise of z is that of
    a step of the chain. Its published code leaves the 1/(V−1) of a changed letter out of q_β, and begins each
    likelihood step at x, which π does not allow; here z goes on from where it was.

    `first` ≥ `last` in (0, 1). Calls a design: 2 + `rounds` · `moves` at most.
    """

    rounds: Count = 20
    moves: Count = 10
    first: Inside = 0.5
    last: Inside = 0.05

    name: ClassVar[str] = "split_gibbs"
    needs: ClassVar[tuple[type[Capability], ...]] = (Reveals,)

    def __post_init__(self) -> None:
        check_options(self, "sampler")
        if not self.last <= self.first:
            raise ConfigError(f"sampler.last must be ≤ sampler.first, got {self.last} and {self.first}")

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        """Return x of `count` pairs, starting at designs of the proposal; `metrics`: share of moves accepted."""
        process = needed(context.roles.base.process, Reveals)
        blank = context.roles.base.process.noise(count, context.generator)
        x = sample(context.roles.proposal, count, context.generator)
        z, rewards, accepted = x, context.target.scores(x), 0.0
        for turn in range(self.rounds):
            noise = self.first * (self.last / self.first) ** (turn / max(1, self.rounds - 1))
            # log-probabilities under q_β of a letter that differs and of one that agrees
            log_q = torch.tensor([noise / process.letters, 1 - noise + noise / process.letters], device=x.device).log()
            for _ in range(self.moves):
                new = _change_a_letter(z, process.hidden(blank), process.letters, context)
                scores = context.target.scores(new)
                log_accept = context.target.log_weight(scores) - context.target.log_weight(rewards)
                log_accept = log_accept + log_q[(new == x).long()].sum(-1) - log_q[(z == x).long()].sum(-1)
                # NaN, the difference of two designs without a score, compares false: rejected
                accept = self._uniform(rewards.shape, context).log() < log_accept
                z, rewards = torch.where(accept.unsqueeze(-1), new, z), torch.where(accept, scores, rewards)
                accepted += accept.float().mean().item() / (self.moves * self.rounds)
            renewed = (z != x) | (self._uniform(x.shape, context).log() < log_q[0] - log_q[1])
            # where a letter is held, blank is that letter, which x and z have too
            hidden = torch.where(renewed, blank, z)
            start = int(process.step_of(hidden).min())
            x = rollout(context.roles.base, count, context.generator, start=(hidden, start), states=False).designs
        changed = (x != z).any(-1)
        if changed.any():
            rewards[changed] = context.target.scores(x[changed])
        return Draws(x, rewards, equal_weights(rewards), metrics={"accepted": accepted})

    def _uniform(self, shape: torch.Size, context: Context) -> Tensor:
        return torch.rand(shape, generator=context.generator, device=context.generator.device)


def _change_a_letter(z: Tensor, free: Tensor, letters: int, context: Context) -> Tensor:
    """Return designs `(B, L)` with one letter at a `free` position `(B, L)` replaced, by any other equally likely."""
    generator = context.generator
    place = torch.multinomial(free.float(), 1, generator=generator)
    shift = torch.randint(1, letters, place.shape, generator=generator, device=z.device)
    letter = (z.gather(-1, place).long() + shift) % letters
    return z.scatter(-1, place, letter.to(z.dtype))
