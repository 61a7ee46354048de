"""Iterative refinement: redo a part of every design under guidance, keep the better (RERD, arXiv 2502.14944)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import Capability, Context, Density, Draws, Evaluates, Sampler, Value
from biotilt.core.selection import first_of_each, unique_share
from biotilt.formulas.categorical import draw
from biotilt.formulas.resampling import systematic_resample
from biotilt.options import Count, Few, Name, Rate, check_options
from biotilt.samplers.proposal import Proposal, equal_weights, value_at


@dataclass(frozen=True)
class Refinement(Sampler):
    """A population of designs; in each of `rounds`: select, re-noise a part, denoise it again guided by a value.

    select:   designs drawn ∝ exp(r/α) from the population, with replacement (`select` = false leaves this out);
              one that is in it several times counts once, unless `distinct` = false
    re-noise: z ∼ q(x[k] | x), k = K minus a `share` of the K steps
    denoise:  M = `children` children a step, one drawn ∝ exp(v(y)/α) p_pre(y|x)/p_out(y|x); v = r after the last

    The population starts as guided chains from noise. With `children` = 1 nothing guides, and selection alone is an
    evolutionary algorithm whose mutations are the base's.

    No exact law for the settings one would use. Without selection, with the soft value, M → ∞ and a base that undoes
    the noising (any-order with one letter a step and the conditionals of one joint law), p* is left alone; that is
    the paper's guarantee. Selection tilts by exp(r/α) once more in each round, of which a redone `share` takes only
    a part back: the law ends sharper than p*, the more so the smaller the share. It maximises; compare it at equal KL.
    With `children` = 1 a screen may choose which designs of a round are scored: of more children of the same parents.
    As in the paper's code, except that it takes the argmax of the children, which sharpens further, and counts copies
    of a design, so that a few fill the population. `unique` in the metrics: the share of different designs.

    `value`: posterior_mean, v(x) = r(x̂0(x)); monte_carlo; learned. Calls of a design: M for each step from noise, and
    again M for each step redone in a round, times those of the value, once in the last step of each.
    """

    rounds: Count = 8
    share: Rate = 0.25
    children: Few = 4
    select: bool = True
    distinct: bool = True
    value: Name = "posterior_mean"

    value_kind: ClassVar[type[Value]] = Evaluates
    name: ClassVar[str] = "refinement"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    def __post_init__(self) -> None:
        check_options(self, "sampler")

    def unscreened(self, value: Value | None) -> str:
        """Guided children are scored because of what they are compared with; a single one is looked for."""
        return (
            ""
            if self.children == 1
            else (
                f"with children = {self.children} weighs the children of a state against each other; with 1 it does not"
            )
        )

    @torch.no_grad()
    def draw(self, context: Context, count: int) -> Draws:
        """Return the population of `count` designs after the last round; all count the same, and there is no log Z."""
        process, generator = context.roles.base.process, context.generator
        proposal, k = Proposal(context.roles), process.steps - max(1, round(self.share * process.steps))
        x = process.noise(context.proposals(count), generator)
        designs, rewards = self._denoise(context, proposal, x, 0, count)
        for _ in range(self.rounds):
            log_weight = context.target.log_weight(rewards)
            if self.distinct:
                log_weight = log_weight.masked_fill(~first_of_each(context.reading.keys(designs)), -torch.inf)
            if self.select and log_weight.isfinite().any():
                designs = designs[systematic_resample(log_weight, generator)]
            parents = designs[torch.arange(context.proposals(count), device=designs.device) % count]
            designs, rewards = self._denoise(context, proposal, process.corrupt(parents, k, generator), k, count)
        unique = unique_share(context.reading.keys(designs))
        return Draws(designs, rewards, equal_weights(rewards), metrics={"unique": unique})

    def _denoise(
        self, context: Context, proposal: Proposal, x: Tensor, first: int, count: int
    ) -> tuple[Tensor, Tensor]:
        """Return `count` designs and their rewards, from states `x`, `count` or more, at step `first` on."""
        steps, rows = context.roles.base.process.steps, torch.arange(len(x), device=x.device)
        here, rewards = proposal.policy.at(x, first), x.new_zeros(0)
        for k in range(first, steps):
            y, log_ratio = proposal.children(context, here, self.children)
            there = here.after(y.flatten(0, 1))
            if self.children == 1 and k + 1 < steps:
                here = there
                continue
            if context.screen is not None:
                designs = there.x[context.chosen(there.x, count)]
                return designs, context.scores(designs)
            after = value_at(context, there).unflatten(0, y.shape[:2])
            log_a = context.target.log_weight(after) + log_ratio
            # where no child has a value, any will do
            log_a = torch.where(log_a.isfinite().any(0), log_a, 0.0)
            chosen = draw(log_a.log_softmax(0).T, context.generator)
            here, rewards = there[chosen * len(x) + rows], after[chosen, rows]
        return here.x, rewards
