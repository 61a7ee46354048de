"""The search as a sampler: what it returns, what it costs, and that it beats as many draws."""

from __future__ import annotations

import pytest
import torch
from sampler_problems import PROCESSES, base_of, context_of, reward_of
from torch import Tensor, nn

from biotilt.core import Context, Policy, Roles, Target
from biotilt.errors import ConfigError
from biotilt.processes import AnyOrder
from biotilt.samplers import BestOfN, EvolveSampler
from biotilt.testing import FunctionScorer, TableScorer
from biotilt.testing.contracts import check_sampler, enumerated_answer

LENGTH = 20


class Uniformly(nn.Module):
    """All four letters the same, whatever the state; it has a weight, as networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits.expand(*x.shape, 4)


def neighbours(designs: Tensor) -> Tensor:
    """How often a letter is followed by the next one of the alphabet; 19 at most, a letter tells nothing alone."""
    return ((designs[:, 1:] - designs[:, :-1]) % 4 == 1).float().sum(-1)


def long_context(seed: int = 0) -> Context:
    roles = Roles.start(Policy(AnyOrder(LENGTH, 4), Uniformly()))
    return Context(roles, Target(FunctionScorer(neighbours), 0.5), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_better_designs_than_as_many_draws(seed):
    contexts = [long_context(seed), long_context(seed)]
    evolved = EvolveSampler(parents=30, offset=3.0, most=0.3, factor=32, start=128).draw(contexts[0], 16)
    best = BestOfN(factor=32).draw(contexts[1], 16)
    assert [context.target.scorer.calls for context in contexts] == [512, 512]  # type: ignore[attr-defined]
    assert evolved.rewards.mean() > best.rewards.mean() + 2
    torch.testing.assert_close(evolved.rewards, neighbours(evolved.designs))


def test_the_designs_are_the_best_of_what_was_scored_and_all_different():
    asked: list[Tensor] = []

    def score(designs: Tensor) -> Tensor:
        asked.append(designs)
        return neighbours(designs)

    context = long_context()
    context.target = Target(score, 0.5)
    drawn = EvolveSampler(factor=4, batch=30).draw(context, 40)
    whole = torch.cat(asked)
    assert len(whole) == len(whole.unique(dim=0)) == 160 and [len(part) for part in asked] == [30, 30, 30, 30, 30, 10]
    assert len(drawn.designs.unique(dim=0)) == 40 and drawn.metrics["unique"] == 1
    torch.testing.assert_close(drawn.rewards, neighbours(whole).sort(descending=True).values[:40])
    assert (drawn.log_weight == 0).all() and drawn.log_z is None


@pytest.mark.parametrize("name", PROCESSES)
def test_the_contract_holds_on_every_process(name):
    """It promises no mean: form, random numbers, weights of what has no score, and networks left alone."""
    process = PROCESSES[name]
    reward = reward_of(process).clone()
    reward[0], reward[1] = torch.nan, -torch.inf
    context = context_of(base_of(process), TableScorer(process, reward))
    answer = enumerated_answer(base_of(process), reward, 0.7)
    check_sampler(EvolveSampler(factor=2), context, answer, count=8, repeats=3, weighted=False)


def test_what_has_no_score_comes_last_and_a_small_space_comes_again():
    reward = torch.arange(27.0)
    reward[20:] = torch.nan
    context = context_of(base_of(PROCESSES["masked"]), TableScorer(PROCESSES["masked"], reward))
    drawn = EvolveSampler(factor=4, batch=16).draw(context, 30)
    counts = drawn.log_weight.isfinite()
    known = int(drawn.metrics["unique"] * 30 + 0.5)
    assert 20 < known <= 27 and context.target.scorer.calls == known  # type: ignore[attr-defined]
    first = counts[:known]
    assert first.sort(descending=True).values.tolist() == first.tolist()
    assert torch.equal(counts, drawn.rewards.isfinite())
    assert (drawn.rewards[: int(first.sum())].diff() <= 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"factor": 0.5}, r"sampler\.factor"), ({"least": 0.9}, r"sampler\.least must be ≤ sampler\.most")],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        EvolveSampler(**options)
