"""The contract of samplers passes what is right and catches what is wrong, one slip at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from biotilt.core import Context, Draws, Policy, Roles, Sampler, Target
from biotilt.networks.table import StateTable, Table
from biotilt.processes import AnyOrder, Finite
from biotilt.samplers import Importance
from biotilt.testing import TableScorer
from biotilt.testing.contracts import Answer, check_sampler, enumerated_answer

ALPHA = 0.7
PROCESS = AnyOrder(2, 3)
REWARD = torch.tensor([0.4, -1.1, 0.9, 0.2, -torch.inf, 1.3, -0.5, torch.nan, 0.6])


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


BASE = Policy(PROCESS, StateTable(3, 2, normal(16, 2, 3, seed=1)))


def context_of(seed: int = 0) -> Context:
    roles = Roles.start(BASE)
    roles.proposal = Policy(PROCESS, StateTable(3, 2, normal(16, 2, 3, seed=2))).frozen_copy()
    return Context(roles, Target(TableScorer(PROCESS, REWARD), ALPHA), torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Changed(Sampler):
    """Importance sampling with a slip."""

    slip: Callable[[Draws, Context], Draws]

    name: ClassVar[str] = "changed"

    def draw(self, context: Context, count: int) -> Draws:
        return self.slip(Importance().draw(context, count), context)


def without_ratio(draws: Draws, context: Context) -> Draws:
    return replace(draws, log_weight=torch.where(draws.log_weight.isfinite(), draws.rewards / ALPHA, -torch.inf))


def moved(draws: Draws, context: Context) -> Draws:
    with torch.no_grad():
        context.roles.base.net.logits.add_(1)  # type: ignore[operator]
    return draws


SLIPS: dict[str, tuple[Callable[[Draws, Context], Draws], str]] = {
    "weights without the ratio": (without_ratio, "weighted mean of f"),
    "equal weights": (
        lambda d, c: replace(d, log_weight=torch.where(d.log_weight.isfinite(), 0.0, -torch.inf)),
        "weighted mean of f",
    ),
    "another Z": (lambda d, c: replace(d, log_z=(d.log_z or 0) + 0.3), r"exp\(log_z\)/Z"),
    "Z of the wrong kind": (
        lambda d, c: replace(d, log_z=d.log_weight[d.log_weight.isfinite()].mean().item()),
        "log_z",
    ),
    "other random numbers": (lambda d, c: replace(d, designs=d.designs[torch.randperm(len(d.designs))]), "generator"),
    "NaN": (lambda d, c: replace(d, log_weight=d.log_weight * torch.nan), "NaN or infinite"),
    "weight of the infeasible": (
        lambda d, c: replace(d, log_weight=d.log_weight.clamp(min=-9.0)),
        "not scored, or infeasible",
    ),
    "a letter still hidden": (lambda d, c: replace(d, designs=d.designs.clamp(min=3)), "no complete design"),
    "one design less": (lambda d, c: replace(d, designs=d.designs[1:]), "31 designs came"),
    "a column": (lambda d, c: replace(d, rewards=d.rewards.unsqueeze(1)), "rewards has shape"),
    "trained on the way": (moved, "weights have changed"),
    "a gradient": (lambda d, c: replace(d, log_weight=d.log_weight.requires_grad_()), "gradient"),
}


def test_what_is_right_passes():
    answer = enumerated_answer(BASE, REWARD, ALPHA)
    for seed in range(5):
        check_sampler(Importance(), context_of(seed), answer, repeats=100)


@pytest.mark.parametrize(("slip", "message"), SLIPS.values(), ids=list(SLIPS))
def test_a_slip_is_caught(slip, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(Changed(slip), context_of(), enumerated_answer(BASE, REWARD, ALPHA), repeats=300)


def test_a_sampler_without_log_z_is_judged_by_its_mean():
    answer = enumerated_answer(BASE, REWARD, ALPHA)
    check_sampler(Changed(lambda d, c: replace(d, log_z=None)), context_of(), answer, count=2000, repeats=50)
    with pytest.raises(AssertionError, match="weighted mean of f"):
        slip = Changed(lambda d, c: replace(without_ratio(d, c), log_z=None))
        check_sampler(slip, context_of(), answer, count=2000, repeats=50)


def test_a_sampler_that_promises_no_mean_is_judged_by_log_z_only():
    answer = enumerated_answer(BASE, REWARD, ALPHA)
    check_sampler(Changed(without_ratio), context_of(), answer, weighted=False)
    off = Changed(lambda d, c: replace(without_ratio(d, c), log_z=(d.log_z or 0) - 0.3))
    with pytest.raises(AssertionError, match=r"exp\(log_z\)/Z"):
        check_sampler(off, context_of(), answer, repeats=300, weighted=False)


def test_the_enumerated_answer_by_longhand():
    """Two states, one step: p* and Z by hand; an infeasible state has no mass."""
    base = Policy(Finite(3, 1), Table(3, 1, torch.tensor([0.2, 0.5, 0.3]).log().expand(1, 3, 3)))
    answer = enumerated_answer(base, torch.tensor([1.0, -0.5, -torch.inf]), 0.5)
    z = 0.2 * math.exp(2) + 0.5 * math.exp(-1)
    assert answer.log_z == pytest.approx(math.log(z), abs=1e-6)
    p = torch.tensor([0.2 * math.exp(2) / z, 0.5 * math.exp(-1) / z, 0.0], dtype=torch.float64)
    f = answer.f(torch.arange(3, dtype=torch.int8))
    assert f[:, 0].tolist() == [1.0, -0.5, 0.0] and f.shape == (3, 3)
    torch.testing.assert_close(answer.expected, p @ f, atol=1e-6, rtol=0)


def test_an_answer_in_closed_form_does():
    """Anything with designs: here numbers from a normal law tilted by r = x, whose mean moves by σ²/α."""

    class Tilted(Sampler):
        name = "tilted"

        def draw(self, context: Any, count: int) -> Draws:
            x = torch.randn(count, generator=context.generator)
            return Draws(x, x, x / ALPHA, (x / ALPHA).logsumexp(0).item() - math.log(count))

    z = 1 / (2 * ALPHA**2)
    check_sampler(Tilted(), context_of(), Answer(z, lambda x: x.unsqueeze(-1), torch.tensor([1 / ALPHA])), count=100)
    with pytest.raises(AssertionError):
        check_sampler(Tilted(), context_of(), Answer(z, lambda x: x.unsqueeze(-1), torch.tensor([1.0])), count=100)
