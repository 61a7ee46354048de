"""The search of `evolve`: who may be a parent, what is proposed, and what is remembered."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Context, Policy, Roles, Screen, Target
from biotilt.core.parts import Parts
from biotilt.core.reading import Reading, numbers
from biotilt.core.search import Search, joined, remembered
from biotilt.errors import ConfigError
from biotilt.processes import AnyOrder, Gaussian
from biotilt.testing import all_designs

L, V, ALPHA = 6, 3, 0.5
WEIGHTS = torch.linspace(-1, 1.3, L * V).view(L, V)


class Letters(nn.Module):
    """Independent letters, of which the first is the likeliest."""

    def __init__(self, first: float):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([first, 0.0, 0.0]))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits.expand(*x.shape, V)


def score(designs: Tensor) -> Tensor:
    return WEIGHTS.gather(1, designs.long().T).sum(0)


def context_of(scorer: Any = score, reading: Reading | None = None, first: float = 0.0, seed: int = 0) -> Context:
    roles = Roles.start(Policy(AnyOrder(L, V), Letters(first)))
    generator = torch.Generator().manual_seed(seed)
    return Context(roles, Target(scorer, ALPHA), generator, reading=reading or Reading())


def memory_of(context: Context, rewards: list[float], families: list[int] | None = None) -> dict[str, Tensor]:
    designs = all_designs(V, L)[: len(rewards)].to(torch.int8)
    family = torch.tensor(families or [0] * len(rewards))
    return {
        "designs": designs, "rewards": torch.tensor(rewards), "key": context.reading.keys(designs), "family": family,
    }  # fmt: skip


def test_no_design_is_proposed_twice_or_again_and_the_first_are_the_bases():
    context, memory = context_of(), {}
    search, seen = (
        Search(parents=10, offset=1.0, most=0.5, start=40, crossover=0.3, scattered=0.3),
        set[tuple[int, ...]](),
    )
    for number in range(6):
        designs = search.propose(context, memory, 32)
        rows = {tuple(row) for row in designs.tolist()}
        assert len(designs) == len(rows) == 32 and not rows & seen
        assert (designs >= 0).all() and (designs < V).all()
        seen |= rows
        memory = joined(memory, remembered(context, designs))
        if number == 0:
            base = memory["rewards"].mean()
    assert len(memory["key"]) == 192 and memory["rewards"][-64:].mean() > base + 0.15
    torch.testing.assert_close(memory["rewards"], score(memory["designs"]))


def test_a_space_that_is_exhausted_gives_what_is_left():
    context = context_of()
    search = Search(start=20, fresh=0.5)
    memory: dict[str, Tensor] = {}
    for _ in range(30):
        memory = joined(memory, remembered(context, search.propose(context, memory, 64)))
    assert 0.95 * V**L < len(memory["key"]) == len(memory["key"].unique()) <= V**L
    assert len(search.propose(context, memory, 64)) < 64


def test_designs_are_known_by_the_key_of_the_space():
    """The last letter means nothing here: of three states that are one design, one is asked about."""
    reading = Reading(keys=lambda states: numbers(bytes(row[:-1]) for row in states.tolist()))
    context = context_of(reading=reading)
    search, memory = Search(start=16), {}
    for _ in range(8):
        memory = joined(memory, remembered(context, search.propose(context, memory, 16)))
    words = [tuple(row[:-1]) for row in memory["designs"].tolist()]
    assert len(set(words)) == len(words) == 128


def test_the_first_designs_are_drawn_by_the_base_and_others_by_the_proposal():
    context = context_of(first=-30.0)
    with torch.no_grad():
        context.roles.proposal.net.logits[0] = 30.0  # type: ignore[index, union-attr]
    search = Search(start=24, fresh=0.0, least=0.5, most=0.5)
    start = search.propose(context, {}, 24)
    assert (start > 0).all()
    memory = remembered(context, start)
    assert (search.propose(context, memory, 16) == 0).sum(-1).tolist() == [3] * 16


def test_parents_are_the_best_with_probabilities_by_rank():
    context = context_of()
    memory = memory_of(context, [0.1, torch.nan, 0.9, -torch.inf, 0.5, 0.3])
    head, weights = Search(parents=3, offset=2.0, crowd=1.0).select_parents(context, memory)
    assert head.tolist() == [2, 4, 5]
    expected = torch.tensor([1 / 2, 1 / 3, 1 / 4])
    torch.testing.assert_close(weights, expected / expected.sum())
    head, weights = Search(parents=3, select="reward", crowd=1.0).select_parents(context, memory)
    torch.testing.assert_close(weights, torch.tensor([0.9, 0.5, 0.3]).div(ALPHA).softmax(0))


def test_a_family_has_at_most_its_share_of_the_parents():
    reading = Reading(families=lambda states: states[:, 0].long())
    context = context_of(reading=reading)
    memory = memory_of(context, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], [1, 1, 1, 1, 2, 3, 3])
    head, _ = Search(parents=4, crowd=0.5).select_parents(context, memory)
    assert head.tolist() == [0, 1, 4, 5]


def test_relatives_are_told_by_their_tokens_where_a_space_knows_no_families():
    context = context_of()
    memory = memory_of(context, [0.9, 0.8, 0.7])
    words = [[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0]]
    memory["designs"] = torch.tensor(words, dtype=torch.int8)
    head, _ = Search(parents=2, crowd=0.5).select_parents(context, memory)
    assert head.tolist() == [0, 2]


def test_selection_is_softened_as_the_best_become_alike():
    search = Search(diverse=0.5)
    assert [search.softening(d) for d in (1.0, 0.5, 0.25, 0.2, 0.0)] == [1, 1, 2, 2.5, 4]
    context = context_of()
    designs = torch.randint(V, (300, L), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    memory = memory_of(context, [0.0] * 300)
    memory["designs"] = designs
    memory["rewards"] = torch.arange(300.0)
    order = memory["rewards"].argsort(descending=True)
    assert search.diversity(context.reading, memory, order) == pytest.approx(1.0, abs=0.05)
    memory["designs"] = torch.where(torch.arange(300)[:, None] < 200, designs, designs[0])
    assert search.diversity(context.reading, memory, order) == 0
    memory["designs"][200:250] = designs[1]
    # two kinds, half of each: a pair differs in 50 of 99 cases, and then wholly
    pair = search.diversity(context.reading, memory, order)
    start = search.diversity(context.reading, memory | {"designs": designs}, order)
    assert 0.3 < pair / start < 0.6


def test_what_cannot_be_scored_is_remembered_and_has_no_children():
    def scorer(designs: Tensor) -> Tensor:
        found = score(designs)
        found[designs[:, 0] == 0] = torch.nan
        return torch.where(designs[:, 0] == 1, -torch.inf, found)

    context, search, memory = context_of(scorer), Search(start=32, fresh=0.0, least=0.2, most=0.2), {}
    for _ in range(4):
        memory = joined(memory, remembered(context, search.propose(context, memory, 32)))
    assert len(memory["key"]) == 128 and memory["rewards"].isnan().any() and (memory["rewards"] == -torch.inf).any()
    # two of six letters were drawn anew, so two thirds of the children keep the first letter of a parent that has one
    assert (memory["designs"][32:, 0] == 2).float().mean() > 0.6


def test_where_nothing_has_a_score_the_base_goes_on_drawing():
    context = context_of(lambda designs: torch.full((len(designs),), torch.nan))
    memory = remembered(context, Search(start=8).propose(context, {}, 8))
    rows, metrics = Search(start=8).generation(context, memory, 8)
    assert len(rows["key"]) == 8 and "best" not in metrics and metrics["unique"] == 16


def test_metrics_by_hand():
    context = context_of()
    memory = memory_of(context, [0.5, 0.1])
    rows, metrics = Search(start=2, parents=2).generation(context, memory, 4)
    every = torch.cat([memory["rewards"], rows["rewards"]])
    assert metrics["best"] == pytest.approx(every.max().item())
    assert metrics["top_100"] == pytest.approx(every.mean().item())
    assert metrics["reward"] == pytest.approx(rows["rewards"].mean().item())
    assert metrics["unique"] == 6 and metrics["new"] == 1


class Highest(Screen):
    """Knows the score, and chooses the best of three times as many."""

    name = "highest"

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.learned: list[Tensor] = []

    @classmethod
    def build(cls, options: Any, view: Any) -> Highest:
        return cls()

    def proposals(self, count: int) -> int:
        return 3 * count

    def choose(self, designs: Tensor, count: int, generator: torch.Generator) -> Tensor:
        self.seen.append(designs)
        return score(designs).argsort(descending=True)[:count]

    def learn(self, designs: Tensor, scores: Tensor) -> None:
        self.learned.append(designs)

    def figures(self) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


def test_a_screen_stands_between_proposals_and_calls():
    context, screen = context_of(), Highest()
    context.screen = screen
    rows, _ = Search(start=16).generation(context, {}, 16)
    (proposed,) = screen.seen
    assert len(proposed.unique(dim=0)) == 48 and len(rows["key"]) == 16
    torch.testing.assert_close(rows["rewards"], score(proposed).sort(descending=True).values[:16])
    assert torch.equal(screen.learned[0], rows["designs"]) and Search().unscreened(None) == ""


def test_proposals_in_depth_come_from_the_most_promising_before_them():
    context, screen = context_of(), Highest()
    memory = remembered(context, Search(start=20).propose(context, {}, 20))
    context.screen = screen
    search = Search(start=20, fresh=0.0, least=1e-6, most=1 / L, depth=3)  # a child differs in one letter at most
    rows, _ = search.generation(context, memory, 8)
    first, second, whole = screen.seen
    assert (len(first), len(rows["key"])) == (8, 8)  # of 3 · 8 proposals a third, which come from the memory
    assert len(second) <= 16
    assert len(whole) <= 24
    assert len(whole.unique(dim=0)) == len(whole)
    assert not set(context.reading.keys(whole).tolist()) & set(memory["key"].tolist())
    for before, after in ((first, second), (second, whole)):
        assert torch.equal(after[: len(before)], before)
        best = before[score(before).argsort(descending=True)[: -(-len(before) // 4)]]
        children = after[len(before) :]
        assert len(children)
        assert ((children.unsqueeze(1) != best).sum(-1).min(1).values == 1).all()
    torch.testing.assert_close(rows["rewards"], score(whole).sort(descending=True).values[:8])


def test_without_a_screen_depth_changes_nothing():
    def run(depth: int) -> Tensor:
        context = context_of()
        memory = remembered(context, Search(start=20).propose(context, {}, 20))
        return Search(start=20, depth=depth).generation(context, memory, 30)[0]["designs"]

    assert torch.equal(run(1), run(3))


def test_same_seed_same_proposals():
    def run(seed: int) -> Tensor:
        context = context_of(seed=seed)
        memory = remembered(context, Search(start=20).propose(context, {}, 20))
        return Search(start=20, crossover=0.5).propose(context, memory, 30)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def test_where_a_space_has_a_distance_it_tells_how_alike_the_best_are():
    """Points on a line at 0, 1, 2, …: the first two are 1 apart on average, the best two 3."""
    reading = Reading(distance=lambda states: (states[0] - states[1]).abs().sum().item())
    memory = {
        "designs": torch.tensor([[0.0], [1.0], [2.0], [5.0]]), "rewards": torch.tensor([0.1, 0.2, 0.8, 0.9]),
        "key": torch.arange(4), "family": torch.zeros(4).long(),
    }  # fmt: skip
    assert Search().diversity(reading, memory, torch.tensor([3, 2, 1, 0])) == 3.0
    assert Search().diversity(Reading(), memory, torch.tensor([3, 2, 1, 0])) == 1.0
    assert Search().diversity(reading, memory, torch.tensor([3])) == 1.0


def test_crossing_is_refused_where_no_letters_are_hidden():
    Search(crossover=0.3).check(Parts(AnyOrder(3, 2)))
    Search(scattered=0.3).check(Parts(Gaussian(2)))
    with pytest.raises(ConfigError, match=r"crossover: designs are crossed where letters are hidden.*gaussian"):
        Search(crossover=0.3).check(Parts(Gaussian(2)))
