"""A kernel that reveals all letters at once is a product: no training makes it p*, and SMC and SVDD need not care."""

from __future__ import annotations

import pytest
import torch
from sampler_problems import context_of, generator, normal
from torch import Tensor

from biotilt.core import Policy, Target
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder
from biotilt.samplers import SMC, SVDD
from biotilt.testing import TableScorer, law, tilted_law, total_variation
from biotilt.testing.exact import lexicographic_index
from biotilt.values import PosteriorMean

pytestmark = pytest.mark.usefixtures("double")

PROCESS, ALPHA = AnyOrder(3, 3, per_step=3), 0.7
LETTERS = normal(3, 3, seed=1)
REWARD = 1.2 * normal(27, seed=4)


def product(letters: Tensor) -> Tensor:
    """The law of independent letters `(3, 3)`, lexicographic."""
    return torch.einsum("a,b,c->abc", *letters).flatten()


def best_product(start: int) -> tuple[float, Tensor]:
    """Coordinate ascent on J = E[r] − α KL over products: letters of one position ∝ base · exp(E[r | letter]/α)."""
    base = LETTERS.double().softmax(-1)
    letters = (2 * torch.randn(3, 3, generator=generator(start))).softmax(-1)
    table = REWARD.double().view(3, 3, 3)
    for _ in range(200):
        for i in range(3):
            j, k = (n for n in range(3) if n != i)
            expected = torch.einsum("abc,b,c->a", table.permute(i, j, k), letters[j], letters[k])
            letters[i] = (base[i].log() + expected / ALPHA).softmax(-1)
    p, p_base = product(letters), product(base)
    return ((p * REWARD).sum() - ALPHA * (p * (p / p_base).log()).sum()).item(), p


def test_smc_and_svdd_beat_the_best_that_training_can_do():
    logits = torch.zeros(64, 3, 3)
    logits[-1] = LETTERS
    base = Policy(PROCESS, StateTable(3, 3, logits))
    torch.testing.assert_close(law(base), product(LETTERS.double().softmax(-1)), atol=1e-6, rtol=1e-6)
    p_star, log_z = tilted_law(law(base), REWARD, ALPHA)
    objective, best = max((best_product(start) for start in range(10)), key=lambda found: found[0])
    floor = total_variation(best, p_star)
    assert objective < ALPHA * log_z - 0.05 and floor > 0.15

    context = context_of(base, TableScorer(PROCESS, REWARD.double()), value=PosteriorMean())
    context.target = Target(context.target.scorer, ALPHA)
    for sampler, count, draws in ((SMC(), 512, 40), (SVDD(children=64), 10_000, 1)):
        found = torch.zeros(27)
        for _ in range(draws):
            drawn = sampler.draw(context, count)
            weight = drawn.log_weight.softmax(0) if sampler.name == "smc" else torch.full((count,), 1 / count)
            found.index_add_(0, lexicographic_index(drawn.designs, 3), weight / draws)
        assert total_variation(found, p_star) < floor / 4, sampler.name
