"""Tree search: which node is chosen, what is told to the nodes above, and what comes out."""

from __future__ import annotations

import math

import pytest
import torch
from sampler_problems import ALPHA, PROCESSES, base_of, context_of, generator, normal, reward_of, tuned_of
from torch import Tensor, nn

from biotilt.core import Context, Policy, Replay, Roles, Target, draw_loss
from biotilt.errors import ConfigError, RewardError
from biotilt.networks.table import StateTable
from biotilt.objectives.wdce import WDCE
from biotilt.processes import AnyOrder, Masked
from biotilt.samplers import BestOfN
from biotilt.samplers.proposal import Proposal
from biotilt.samplers.tree import Node, TreeSearch
from biotilt.testing import TableScorer, expected_reward, law, tilted_law, total_variation

BASE = base_of(AnyOrder(3, 3))


def family(values: list[float], visits: list[int], closed: int | None = None) -> Node:
    """A node visited as often as its children together, each a leaf."""
    state = torch.zeros(1, 3)
    parent = Node(state, 0, 0.0, visits=sum(visits))
    parent.children = [
        Node(state, 1, 0.0, parent, visits=n, value=v, closed=i == closed)
        for i, (v, n) in enumerate(zip(values, visits))
    ]
    return parent


@pytest.mark.parametrize(
    ("values", "visits", "exploration", "chosen"),
    [
        ([1.0, 1.0, 1.0], [3, 2, 5], 1.0, 1),  # of equals, the least visited
        ([0.0, 5.0, 1.0], [1, 9, 9], 0.0, 1),  # without exploration, the best
        ([0.0, 5.0, 1.0], [1, 9, 9], 50.0, 0),  # with much, the least visited
        ([-math.inf, 2.0, 1.0], [4, 4, 4], 0.5, 1),
        ([-math.inf] * 3, [4, 3, 4], 0.5, 1),
    ],
)
def test_the_exploration_term_favours_what_was_visited_less(values, visits, exploration, chosen):
    parent = family(values, visits)
    assert TreeSearch(children=3, exploration=exploration).select(parent) is parent.children[chosen]


def test_the_balance_of_value_and_exploration_by_hand():
    """Shares 1 and 0.75 of the way from worst to best; visits 8, 1 and 7 of 16: c/3 · 4 · (1/2 − 1/9) against 1/4."""
    turn = 0.25 / (4 / 3 * (1 / 2 - 1 / 9))
    parent = family([9.0, 8.0, 5.0], [8, 1, 7])
    for exploration, chosen in ((0.99 * turn, 0), (1.01 * turn, 1)):
        assert TreeSearch(children=3, exploration=exploration).select(parent) is parent.children[chosen]


def test_closed_children_are_passed_over():
    parent = family([9.0, 8.0, 5.0], [1, 1, 1], closed=0)
    assert TreeSearch(children=3, exploration=0.0).select(parent) is parent.children[1]


def grow(sampler: TreeSearch, context: Context, times: int) -> tuple[Node, list[dict]]:
    proposal = Proposal(context.roles)
    root = Node(context.roles.base.process.noise(1, context.generator), 0, 0.0)
    return root, [sampler._expand(context, proposal, sampler.select(root)) for _ in range(times)]


def walk(node: Node) -> list[Node]:
    return [node, *(below for child in node.children for below in walk(child))]


def test_soft_values_are_the_log_mean_of_all_designs_below():
    """By the tuned proposal, so that the ratios of the steps above a node must not count for it."""
    tuned = tuned_of(BASE.process)
    context = context_of(BASE, proposal=tuned)
    root, rows = grow(TreeSearch(children=4), context, 12)
    scores = torch.cat([r["rewards"] / ALPHA + r["log_ratio"] for r in rows])
    assert root.visits == 48 and root.value == pytest.approx(scores.logsumexp(0).item() - math.log(48), abs=1e-5)
    for node in walk(root):
        if node.children and node is not root:
            below = sum(c.visits * math.exp(c.value + c.log_ratio - node.log_ratio) for c in node.children)
            first = node.visits * math.exp(node.value) - below
            # what is left is the one design that the node itself was completed to
            assert node.visits == 1 + sum(c.visits for c in node.children)
            table = (scores - node.log_ratio).exp()
            assert (table / first - 1).abs().min() < 1e-3
    for node in walk(root)[1:]:
        assert node.parent is not None
        before, k = node.parent.state, node.parent.depth
        step = (base.kernel(before, k).log_prob(node.state).item() for base in (BASE, tuned))
        assert node.log_ratio - node.parent.log_ratio == pytest.approx(next(step) - next(step), abs=1e-5)
    assert {node.depth for node in walk(root)} == {0, 1, 2, 3}
    assert all(node.closed for node in walk(root) if node.depth == 3)


def test_max_values_are_the_best_reward_below():
    root, rows = grow(TreeSearch(children=4, backup="max"), context_of(BASE), 12)
    assert root.value == pytest.approx(max(r["rewards"].max().item() for r in rows) / ALPHA)
    for node in walk(root):
        assert all(child.value <= node.value for child in node.children)
        assert not node.children or node.value > -math.inf


def test_designs_without_a_score_count_as_visits_of_no_value():
    reward = torch.full((27,), torch.nan)
    reward[5], reward[7] = 1.0, -torch.inf
    root, rows = grow(TreeSearch(children=4), context_of(BASE, TableScorer(BASE.process, reward)), 10)
    hits = int(torch.cat([r["rewards"] for r in rows]).isfinite().sum())
    assert hits > 0 and root.value == pytest.approx(1 / ALPHA + math.log(hits / 40), abs=1e-4)


def test_rows_are_designs_with_their_rewards_and_the_ratios_of_their_paths():
    """All letters in one step: the path is the design, and its ratio is looked up."""
    process = AnyOrder(3, 3, per_step=3)
    base, tuned = base_of(process), tuned_of(process)
    context = context_of(base, proposal=tuned)
    rows = TreeSearch(iterations=5, children=6).search(context)
    designs = rows["designs"]
    start = process.noise(30, generator())
    ratio = base.kernel(start, 0).log_prob(designs) - tuned.kernel(start, 0).log_prob(designs)
    torch.testing.assert_close(rows["log_ratio"], ratio.detach())
    index = (designs.long() * torch.tensor([9, 3, 1])).sum(-1)
    torch.testing.assert_close(rows["rewards"], reward_of(process)[index])
    assert context.target.scorer.calls == 30  # type: ignore[attr-defined]


class Undecided(nn.Module):
    """The same letters at every state."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits.expand(len(x), *self.logits.shape)


@pytest.mark.parametrize("process", [AnyOrder(10, 4), Masked(10, 4, num_steps=10)], ids=["any_order", "masked"])
def test_it_finds_better_designs_than_as_many_draws(process):
    """Ten letters, a reward of single letters and pairs; the best 16 of 512 designs scored, over seeds."""
    base = Policy(process, Undecided(normal(10, 4, seed=3) / 2))
    first, second = torch.triu_indices(10, 10, 1)
    single, pairs = normal(10, 4, seed=1), normal(45, 4, 4, seed=2) / 2

    def reward(designs: Tensor) -> Tensor:
        d = designs.long()
        return single[torch.arange(10), d].sum(-1) + pairs[torch.arange(45), d[:, first], d[:, second]].sum(-1)

    tree = [TreeSearch().draw(context_of(base, reward, seed=s), 16).rewards.mean() for s in range(4)]
    plain = [BestOfN(factor=32).draw(context_of(base, reward, seed=s), 16).rewards.mean() for s in range(4)]
    assert torch.stack(tree).mean() > torch.stack(plain).mean() + 1.5


def test_calls_are_the_children_of_every_iteration():
    context = context_of(BASE)
    TreeSearch(iterations=16, children=4).draw(context, 5)
    assert context.target.scorer.calls == 64  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PROCESSES)
def test_a_tree_that_is_exhausted_is_followed_by_another(name):
    """Two children and 2 or 3 steps: 3 or 7 nodes to expand, and 20 expansions."""
    context = context_of(base_of(PROCESSES[name]))
    rows = TreeSearch(iterations=20, children=2).search(context)
    assert len(rows["designs"]) == 40 == context.target.scorer.calls  # type: ignore[attr-defined]


def test_the_best_come_first():
    drawn = TreeSearch(iterations=4).draw(context_of(BASE), 6)
    assert len(drawn.designs.unique(dim=0)) == 6 and drawn.metrics["unique"] == 1
    assert (drawn.rewards.diff() <= 0).all() and drawn.log_z is None and (drawn.log_weight == 0).all()


def test_designs_come_again_only_when_no_others_are_left():
    """32 calls on 27 designs: what was found by several paths comes after all that differ."""
    drawn = TreeSearch(iterations=4).draw(context_of(BASE), 32)
    different = round(32 * drawn.metrics["unique"])
    assert different < 32 and len(drawn.designs[:different].unique(dim=0)) == different
    assert len(drawn.designs.unique(dim=0)) == different


def test_resampled_designs_are_drawn_by_their_weights():
    """Every letter at once, so the tree chooses nothing and the weights are right: the law is p*."""
    process = AnyOrder(3, 3, per_step=3)
    base = base_of(process)
    context = context_of(base, proposal=tuned_of(process))
    drawn = TreeSearch(iterations=250, keep="resampled").draw(context, 2000)
    p_star, _ = tilted_law(law(base), reward_of(process), ALPHA)
    found = torch.bincount((drawn.designs.long() * torch.tensor([9, 3, 1])).sum(-1), minlength=27) / 2000
    assert total_variation(found, p_star) < 0.09 < total_variation(law(base), p_star) / 3


def test_replay_rows_teach_wdce():
    process = AnyOrder(3, 3)
    base = Policy(process, StateTable(3, 3, base_of(process).net.logits.detach()))
    context = Context(
        Roles.start(base), Target(TableScorer(process, reward_of(process)), ALPHA), generator(), Replay(4000)
    )
    rows = TreeSearch(iterations=120, children=4).replay(context)
    collected = WDCE(unscored=0).collect(context, 4).rows
    assert {k: (v.shape[1:], v.dtype) for k, v in rows.items()} == {
        k: (v.shape[1:], v.dtype) for k, v in collected.items()
    }
    context.memory.add(rows)
    objective, policy = WDCE(unscored=0, states=64), context.roles.policy
    optimiser = torch.optim.Adam(policy.net.parameters(), lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        draw_loss(objective, context)[0].backward()
        optimiser.step()
    before, after = (expected_reward(law(p), reward_of(process)) for p in (base, policy))
    assert after > before + 0.5


def test_replay_rows_are_weighed_by_score_and_path_and_leave_out_what_has_no_score():
    process = AnyOrder(3, 3, per_step=3)
    reward = reward_of(process)
    reward[:9], reward[9:12] = torch.nan, -torch.inf
    base, tuned = base_of(process), tuned_of(process)
    rows = TreeSearch(iterations=8).replay(context_of(base, TableScorer(process, reward), proposal=tuned))
    design = rows["designs"]
    start = process.noise(len(design), generator())
    ratio = base.kernel(start, 0).log_prob(design) - tuned.kernel(start, 0).log_prob(design)
    index = (design.long() * torch.tensor([9, 3, 1])).sum(-1)
    torch.testing.assert_close(rows["rewards"] / ALPHA - rows["log_mix"], (reward[index] / ALPHA + ratio).detach())
    assert 0 < len(design) < 64 and (index >= 12).all()


def test_nothing_scored():
    context = context_of(BASE, TableScorer(BASE.process, torch.full((27,), torch.nan)))
    assert (TreeSearch(4).draw(context, 3).log_weight == -torch.inf).all()
    with pytest.raises(RewardError, match="none of 32 designs has a weight"):
        TreeSearch(4, keep="resampled").draw(context, 3)


def test_same_seed_same_designs():
    draws = [TreeSearch(6).draw(context_of(BASE, seed=s), 20).designs for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, r"sampler\.iterations"),
        ({"children": 1}, r"sampler\.children"),
        ({"exploration": -1.0}, r"sampler\.exploration"),
        ({"backup": "mean"}, r"sampler\.backup"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        TreeSearch(**options)


def test_more_designs_than_are_scored_are_refused():
    with pytest.raises(ConfigError, match=r"scores 2 · 3; raise sampler\.iterations"):
        TreeSearch(2, 3).draw(context_of(BASE), 7)
