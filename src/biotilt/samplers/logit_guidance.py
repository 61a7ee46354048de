"""Guidance of letters by scores alone: what guesses that have a letter score above the others tilts its logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from biotilt.core import Capability, Context, Draws, Guessing, Kernel, Reveals, Sampler, Tiltable, needed
from biotilt.options import FewPair, NotNegative, Positive, check_options
from biotilt.samplers.guided import draw_guided


@dataclass(frozen=True)
class LogitGuidance(Sampler):
    """At every step M guesses of the whole design, x̂_j ∼ p(x0|x), are scored; the logits are moved by `scale` · q.

    soft:  q[i, a] = log mean_{j: x̂_j[i] = a} exp(r_j/α) − log mean_j exp(r_j/α)
    mean:  q[i, a] = ( mean_{j: x̂_j[i] = a} r_j − mean_j r_j ) / α

    With letters that are independent given x, `soft` tends to what p* asks for as M grows, and `mean` is its first
    order, of less noise. Each mean over the guesses that have a letter counts `shrink` > 0 more guesses of average
    score, so that a letter seldom seen moves little, and one never seen not at all. q stays finite: at most
    log((M + `shrink`)/`shrink`) away from 0 for `soft`, which keeps weights even; for `mean`, an infeasible guess
    counts as the worst feasible one of its state.

    After GILC (Dou et al. 2026, arXiv 2606.06303), which corrects the logits of the clean prediction and leaves the
    network's Jacobian out. The policy gradient of E[r] with respect to the logit (i, a) is p[i, a] times the advantage
    of `mean`; the advantage itself is used here, because it is what tilts. Also ours: `soft`, `shrink`, and `correct`,
    weights of whole paths, with which the estimates of E_{p*}[f] and Z are unbiased for every M.

    For processes that reveal hidden letters. Where every letter may change in every step (uniform diffusion), a letter
    now says little of the design's, and the noise of the guesses would add up over all positions and steps.

    Calls of a design: M a step, and one. Guesses that could not be scored are left out.
    """

    estimate: Literal["soft", "mean"] = "soft"
    guesses: FewPair = 16
    shrink: Positive = 1.0
    scale: NotNegative = 1.0
    correct: bool = True

    name: ClassVar[str] = "logit_guidance"
    needs: ClassVar[tuple[type[Capability], ...]] = (Tiltable, Guessing, Reveals)

    def __post_init__(self) -> None:
        check_options(self, "sampler")

    def draw(self, context: Context, count: int) -> Draws:
        """Return `count` designs; raises RewardError when `correct` and no design has a weight."""
        return draw_guided(context, count, lambda kernel, x, k: self._score(context, kernel), self.correct)

    def _score(self, context: Context, kernel: Kernel) -> Tensor:
        """Return q `(B, L, V)`, in units of α, at the states of the kernel."""
        guessing = needed(kernel, Guessing)
        guesses = torch.stack([guessing.guess(context.generator) for _ in range(self.guesses)])
        rewards = context.target.scores(guesses.flatten(0, 1)).unflatten(0, guesses.shape[:2]) / context.target.alpha
        return self.scale * letter_scores(guesses, rewards, kernel.x0.shape[-1], self.estimate, self.shrink)


def letter_scores(guesses: Tensor, scaled: Tensor, letters: int, estimate: str, shrink: float) -> Tensor:
    """Return q `(B, L, V)` of guesses `(M, B, L)` with rewards in units of α `(M, B)`, NaN where not scored.

    0 where nothing was scored.

    >>> guesses = torch.tensor([[[0]], [[1]], [[1]]])
    >>> letter_scores(guesses, torch.tensor([[3.0], [0.0], [0.0]]), 3, "mean", shrink=1.0)
    tensor([[[ 1.0000, -0.6667,  0.0000]]])
    """
    scored = ~scaled.isnan()
    has = F.one_hot(guesses.long(), letters).to(scaled.dtype) * scored[..., None, None]
    counts, total = has.sum(0), scored.sum(0).clamp(min=1)
    if estimate == "mean":
        finite = scaled.isfinite()
        worst = torch.where(finite, scaled, torch.inf).min(0).values.nan_to_num(posinf=0.0)
        scaled = torch.where(scaled == -torch.inf, worst, scaled)
        centred = torch.where(scored, scaled - scaled.nansum(0) / total, 0.0)
        return torch.einsum("mblv,mb->blv", has, centred) / (counts + shrink)
    # relative to the best guess, so that no exp overflows
    scaled = torch.where(scored, scaled, -torch.inf)
    gain = (scaled - scaled.max(0).values.nan_to_num(neginf=0.0)).exp()
    average = (gain.sum(0) / total).view(-1, 1, 1)
    numerator = torch.einsum("mblv,mb->blv", has, gain) + shrink * average
    return torch.where(average > 0, (numerator / (counts + shrink) / average).log(), 0.0)
