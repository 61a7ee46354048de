"""An objective whose temperature adapts while it tunes, so that the KL to the base comes to what is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from biotilt.constraints.around import Around
from biotilt.core import Context, Divergence, InAlphas, Objective, Process, Round, check_capabilities, path_kl, sample
from biotilt.core.temperature import Temperature
from biotilt.errors import ConfigError
from biotilt.formulas.tilting import alpha_of_kl

DRAWS = 64  # chains of the policy, of which its KL is the mean
FEWEST = 16  # calls of a round, half of which tell the first α


class Tempered(Around):
    """An objective that sets α before it collects a round; in all else that objective itself.

    In the first round half of the calls go to designs of the base, whose scores tell the α at which p* has the KL
    (`formulas.tilting`); the objective learns from them too where its replay takes designs of the base. Before each
    further round the policy's KL is measured, by network calls alone, and α follows (`core.temperature`). What the
    value learned in units of α is brought to the new ones.
    """

    def __init__(self, objective: Objective, temperature: Temperature) -> None:
        super().__init__(objective)
        self.temperature = temperature

    @torch.no_grad()
    def collect(self, context: Context, calls: int) -> Round:
        """Set α, then collect; α is shown, and the KL that it follows as `kl_policy`."""
        temperature, figures = self.temperature, {}
        begun: tuple[Tensor, Tensor] | None = None
        if temperature.begun:
            before = temperature.alpha
            figures["kl_policy"] = self._kl(context)
            temperature.observe(figures["kl_policy"])
            if isinstance(context.value, InAlphas):
                context.value.rescale(before / temperature.alpha)
        else:
            designs = sample(context.roles.base, calls // 2, context.generator)
            scores = context.scores(designs)
            # of scores that do not differ every α makes the same
            temperature.alpha = alpha_of_kl(scores, temperature.target_kl) or 1.0
            calls -= calls // 2
            begun = designs, scores
        context.target = replace(context.target, alpha=temperature.alpha)
        if begun is not None and (rows := self.objective.begun(context, *begun)):
            context.memory.add(rows)
        found = self.objective.collect(context, calls)
        return Round(found.rows, found.designs, found.metrics | figures | {"alpha": temperature.alpha})

    def _kl(self, context: Context) -> float:
        roles = context.roles
        return path_kl(roles.policy, roles.base, DRAWS, context.generator).mean().item()


def check_tempered(process: Process, batch: int, known: Collection[type[Process]]) -> None:
    """Raise ConfigError where no KL can be measured, or rounds of `batch` calls are too small to begin with."""
    check_capabilities(process, (Divergence,), "target_kl", known)
    if batch < FEWEST:
        raise ConfigError(
            f"target_kl: half of the calls of a round tell the first alpha, and train.batch = {batch} are too few; "
            f"take {FEWEST} or more, or give alpha"
        )
