"""DDPP and SDPO, which treat hidden letters as independent: where their fixed point is p*, what is left elsewhere."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from joint_problem import (
    ALPHA,
    DESIGNS,
    JOINT,
    P_STAR,
    REWARD,
    L,
    Ordered,
    V,
    context_of,
    gradient,
    normal,
    policy_of,
)
from torch import Tensor, nn

from biotilt.core import Context, Parts, Policy, StateFunction, check_parts, draw_loss
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable
from biotilt.objectives import DDPP, SDPO
from biotilt.processes import AnyOrder, Finite
from biotilt.testing import all_designs, reveal_law, tilted_law, total_variation
from biotilt.testing.contracts import check_gradients
from biotilt.testing.exact import lexicographic_index

pytestmark = pytest.mark.usefixtures("double")

ALONE = 0.7 * normal(L, V, seed=11)  # a law of each letter by itself
INDEPENDENT = ALONE[torch.arange(L), DESIGNS.long()].sum(-1).softmax(0)
SINGLE = normal(L, V, seed=12)
ADDITIVE = SINGLE[torch.arange(L), DESIGNS.long()].sum(-1)
HIDDEN = [torch.tensor(s) for s in itertools.product([False, True], repeat=L) if any(s)]


class StateValues(nn.Module, StateFunction):
    """log Z of every state, looked up: what a value network would learn."""

    def __init__(self, values: Tensor | None = None, letters: int = V, length: int = L):
        super().__init__()
        self.letters = letters
        self.values = nn.Parameter(torch.zeros((letters + 1) ** length) if values is None else values.clone())
        self.config = SimpleNamespace(lr=0.1)

    def set_units(self, complete: Tensor) -> None:
        pass

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        return self.values[lexicographic_index(x, self.letters + 1)]


def log_z_of(joint: Tensor, reward: Tensor) -> Tensor:
    """log E_pre[e^{r/α} | x] of every state, by summing over the designs that agree with it."""
    values = []
    for state in itertools.product(range(V + 1), repeat=L):
        shown = torch.tensor(state)
        agrees = ((shown == V) | (shown == DESIGNS)).all(-1)
        weight = joint[agrees] / joint[agrees].sum()
        values.append((weight.log() + reward[agrees] / ALPHA).logsumexp(0))
    return torch.stack(values)


def all_pairs(monkeypatch: pytest.MonkeyPatch, hidden: list[Tensor], designs: Tensor = DESIGNS) -> Tensor:
    """Make `corrupt` hide each of the given sets of each design in turn; return the designs, one row a pair."""
    x = torch.cat([designs.masked_fill(mask, designs.max().item() + 1) for mask in hidden])
    monkeypatch.setattr(AnyOrder, "corrupt", lambda *_: x)
    return designs.repeat(len(hidden), 1)


def with_rows(context: Context, designs: Tensor, reward: Tensor) -> Context:
    letters = context.roles.policy.process.letters  # type: ignore[attr-defined]
    context.memory = Ordered(None, {"designs": designs, "rewards": reward[lexicographic_index(designs, letters)]})
    return context


def ddpp_context(joint: Tensor, reward: Tensor, policy: Policy, value: StateValues) -> Context:
    return context_of(DDPP(), policy, base=policy_of(joint), value=value)


def loss_gradients(objective: Any, context: Context) -> tuple[float, float, float]:
    """Return the loss and the largest gradients of policy and value."""
    context.value.zero_grad()
    context.roles.policy.net.zero_grad()
    loss, _ = draw_loss(objective, context)
    loss.backward()
    grads = (context.roles.policy.net.logits.grad, context.value.values.grad)  # type: ignore[union-attr]
    return loss.item(), *(g.abs().max().item() for g in grads)  # type: ignore[union-attr, return-value]


def test_ddpp_by_longhand(monkeypatch):
    policy = Policy(AnyOrder(L, V), StateTable(V, L, normal((V + 1) ** L, L, V, seed=3)))
    value = StateValues(normal((V + 1) ** L, seed=4))
    designs = all_pairs(monkeypatch, HIDDEN[4:6])
    context = with_rows(ddpp_context(JOINT, REWARD, policy, value), designs, REWARD)
    total = 0.0
    for row, design in enumerate(designs):
        mask = HIDDEN[4 + row // len(DESIGNS)]
        x = design.masked_fill(mask, V).unsqueeze(0)
        ours, base = (p.net(x, torch.zeros(1)).log_softmax(-1)[0] for p in (policy, context.roles.base))
        error = sum(ours[i, design[i].long()] - base[i, design[i].long()] for i in range(L) if mask[i])
        error = error - REWARD[lexicographic_index(design, V)] / ALPHA + value(x, torch.zeros(1))[0]
        total = total + error.item() ** 2  # type: ignore[union-attr]
    assert draw_loss(DDPP(), context)[0].item() == pytest.approx(total / len(designs))


def test_ddpp_is_zero_at_p_star_where_base_and_reward_factorise(monkeypatch):
    p_star = tilted_law(INDEPENDENT, ADDITIVE, ALPHA)[0]
    designs = all_pairs(monkeypatch, HIDDEN)
    value = StateValues(log_z_of(INDEPENDENT, ADDITIVE))
    context = with_rows(ddpp_context(INDEPENDENT, ADDITIVE, policy_of(p_star), value), designs, ADDITIVE)
    assert max(loss_gradients(DDPP(), context)) < 1e-10


def test_ddpp_is_zero_at_p_star_where_one_letter_is_hidden(monkeypatch):
    """For any base that is a joint law and any reward; with two or three hidden it is not at rest there."""
    value = StateValues(log_z_of(JOINT, REWARD))
    for count, at_rest in ((1, True), (2, False), (3, False)):
        designs = all_pairs(monkeypatch, [mask for mask in HIDDEN if mask.sum() == count])
        context = with_rows(ddpp_context(JOINT, REWARD, policy_of(P_STAR), value), designs, REWARD)
        largest = max(loss_gradients(DDPP(), context))
        assert largest < 1e-10 if at_rest else largest > 0.01


def ddpp_minimum(joint: Tensor, reward: Tensor, monkeypatch: pytest.MonkeyPatch) -> float:
    """The distance to p* of the policy of least loss, designs uniform and every step as likely."""
    hidden = [mask for mask in HIDDEN for _ in range(3 // math.comb(L, int(mask.sum())))]
    designs = all_pairs(monkeypatch, hidden)
    context = with_rows(ddpp_context(joint, reward, policy_of(joint), StateValues()), designs, reward)
    weights = [*context.roles.policy.net.parameters(), *context.value.parameters()]
    search = torch.optim.LBFGS(weights, lr=1.0, max_iter=400, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss, _ = draw_loss(DDPP(), context)
        loss.backward()
        return loss

    search.step(closure)
    assert max(p.grad.abs().max() for p in weights) < 1e-5
    return total_variation(reveal_law(context.roles.policy), tilted_law(joint, reward, ALPHA)[0])


def test_what_ddpp_leaves_of_the_distance_to_p_star(monkeypatch):
    """Nothing where all factorises; with a joint base, interactions and uniform designs a third of the start's 0.33."""
    assert ddpp_minimum(INDEPENDENT, ADDITIVE, monkeypatch) < 1e-4
    left = ddpp_minimum(JOINT, REWARD, monkeypatch)
    assert left == pytest.approx(0.107, abs=0.005)
    assert total_variation(JOINT, P_STAR) == pytest.approx(0.334, abs=0.001)


# Two positions and letters whose laws are counts, so that a group can hold the base's law exactly.
PAIRS = all_designs(2, 2)
COUNTS = {"independent": [1, 3, 1, 3], "joint": [3, 1, 1, 3]}
PAIR_REWARD = torch.tensor([0.4, -0.7, 0.1, 0.9], dtype=torch.float64)  # not a sum over the letters


def group_of_the_base(kind: str, monkeypatch: pytest.MonkeyPatch, hidden: list[list[bool]]) -> Context:
    """SDPO's context at p*, its memory one group in which the designs have the law of the base."""
    counts = torch.tensor(COUNTS[kind])
    joint = counts / counts.sum()
    p_star = tilted_law(joint, PAIR_REWARD, ALPHA)[0]
    process = AnyOrder(2, 2)
    base, policy = policy_of(joint, process), policy_of(p_star, process)
    context = context_of(SDPO(), policy, base=base, scorer=lambda d: PAIR_REWARD)
    designs = PAIRS.repeat_interleave(counts, 0)
    x = torch.cat([designs.masked_fill(torch.tensor(mask), 2) for mask in hidden])
    monkeypatch.setattr(AnyOrder, "corrupt", lambda *_: x)
    return with_rows(context, designs.repeat(len(hidden), 1), PAIR_REWARD)


def one_group(context: Context) -> SDPO:
    size = len(context.memory)
    return SDPO(group=size, states=size)


BOTH_HIDDEN, ONE_HIDDEN = [[True, True]], [[True, False], [False, True]]


@pytest.mark.parametrize("hidden", [BOTH_HIDDEN, ONE_HIDDEN], ids=["both", "one"])
def test_sdpo_is_at_rest_at_p_star_for_the_law_of_an_independent_base(monkeypatch, hidden):
    """A large group: each design as often as the base draws it. The reward has an interaction."""
    context = group_of_the_base("independent", monkeypatch, hidden)
    assert gradient(one_group(context), context).abs().max() < 1e-10


def test_sdpo_of_a_joint_base_is_at_rest_only_where_one_letter_is_hidden(monkeypatch):
    context = group_of_the_base("joint", monkeypatch, ONE_HIDDEN)
    assert gradient(one_group(context), context).abs().max() < 1e-10
    context = group_of_the_base("joint", monkeypatch, BOTH_HIDDEN)
    assert gradient(one_group(context), context).abs().max() > 0.01


def test_a_finite_group_of_sdpo_falls_short_of_p_star(monkeypatch):
    """The mean over all pairs, and all triples, of a group of base designs: at p* it still pulls, less for more."""
    pulls = []
    for size in (2, 3):
        context = group_of_the_base("independent", monkeypatch, ONE_HIDDEN)
        rows, states = context.memory.rows, context.roles.base.process.corrupt(None, 0, None)  # type: ignore[arg-type]
        picked = torch.tensor(list(itertools.product(range(len(states)), repeat=size))).flatten()
        context.memory.rows = {key: value[picked] for key, value in rows.items()}
        monkeypatch.setattr(AnyOrder, "corrupt", lambda *_, x=states[picked]: x)
        pulls.append(gradient(SDPO(group=size, states=len(picked)), context).abs().max().item())
    assert pulls[0] > pulls[1] > 0.001


def test_sdpo_by_longhand(monkeypatch):
    policy = Policy(AnyOrder(L, V), StateTable(V, L, normal((V + 1) ** L, L, V, seed=3)))
    objective = SDPO(group=3, states=6)
    context = with_rows(context_of(objective, policy), all_pairs(monkeypatch, HIDDEN[4:5])[:6], REWARD)
    monkeypatch.setattr(AnyOrder, "corrupt", lambda *_: DESIGNS[:6].masked_fill(HIDDEN[4], V))
    total = 0.0
    for group in (range(3), range(3, 6)):
        ratios, rewards = [], []
        for row in group:
            design, x = DESIGNS[row], DESIGNS[row].masked_fill(HIDDEN[4], V).unsqueeze(0)
            ours, base = (p.net(x, torch.zeros(1)).log_softmax(-1)[0] for p in (policy, context.roles.base))
            ratios.append(sum((ours - base)[i, design[i].long()].item() for i in range(L) if HIDDEN[4][i]))
            rewards.append(REWARD[row].item() / ALPHA)
        target, got = (torch.tensor(v).double().softmax(0) for v in (rewards, ratios))
        total -= (target * got.log()).sum().item() / 2
    assert draw_loss(objective, context)[0].item() == pytest.approx(total)


def test_groups_share_a_step_and_leftovers_are_left_out():
    """States of a group hide as many positions each; 10 designs in groups of 4 make two groups."""
    seen = []
    process = AnyOrder(L, V)
    objective = SDPO(group=4, states=12)
    context = context_of(objective, policy_of(JOINT))
    net = context.roles.policy.net
    net.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0] == process.mask).sum(-1)))
    context.memory.add(objective.collect(context, 10).rows)
    steps = set()
    for _ in range(20):
        draw_loss(objective, context)
        counts = seen[-1].view(-1, 4)
        assert counts.shape == (2, 4) and (counts == counts[:, :1]).all()
        steps |= set(counts[:, 0].tolist())
    assert steps == {1, 2, 3}


def test_a_group_is_no_larger_than_an_update_or_the_replay():
    for states, rows, size in ((6, 40, 6), (64, 5, 5)):
        objective = SDPO(group=32, states=states)
        context = context_of(objective, policy_of(JOINT))
        context.memory.add(objective.collect(context, rows).rows)
        given = []
        context.roles.policy.net.register_forward_hook(lambda module, x, y, given=given: given.append(len(x[0])))
        assert draw_loss(objective, context)[0].isfinite() and given == [size]


each = pytest.mark.parametrize("objective", [DDPP(), SDPO(group=8)], ids=["ddpp", "sdpo"])


def fresh(objective: Any, **options: Any) -> Context:
    value = StateValues() if isinstance(objective, DDPP) else None
    return context_of(objective, policy_of(P_STAR), proposal=policy_of(JOINT), value=value, **options)


@each
def test_unscored_designs_are_dropped(objective):
    def scorer(designs: Tensor) -> Tensor:
        return REWARD[lexicographic_index(designs, V)].masked_fill(designs[:, 0] == 0, torch.nan)

    collected = objective.collect(fresh(objective, scorer=scorer), 200)
    scored = collected.designs[:, 0] != 0
    assert 0 < int(scored.sum()) < 200 and torch.equal(collected.rows["designs"], collected.designs[scored])
    assert collected.rows["rewards"].isfinite().all()
    nothing = objective.collect(fresh(objective, scorer=lambda d: d[:, 0] * torch.nan), 8)
    assert {len(v) for v in nothing.rows.values()} == {0} and math.isnan(nothing.metrics["reward"])


@each
def test_a_small_temperature_stays_finite(objective):
    context = fresh(objective, alpha=1e-4)
    context.memory.add(objective.collect(context, 64).rows)
    assert gradient(objective, context).isfinite().all()


@each
def test_gradients_reach_the_policy_and_log_z_only(objective):
    context = fresh(objective)
    context.memory.add(objective.collect(context, 64).rows)
    check_gradients(objective, context)


@each
def test_the_proposal_is_renewed_after_a_round(objective):
    assert type(objective)(updates=2, states=6).refresh_every == 2


def test_who_draws_the_designs():
    """The base never draws letter 2, the policy's copy never letter 0."""
    base, copy = (policy_of((JOINT * (letter != DESIGNS).all(-1)).clamp(min=1e-30)) for letter in (2, 0))
    for objective, share in ((DDPP(beta=0.25), 5), (DDPP(beta=1.0), 20), (SDPO(), 0), (SDPO(proposal="policy"), 20)):
        context = context_of(objective, policy_of(JOINT), base=base, proposal=copy, value=StateValues())
        designs = objective.collect(context, 20).designs
        assert (designs[:share] != 0).all() and (designs[share:] != 2).all()


@each
def test_other_processes_are_refused_by_what_they_lack(objective):
    with pytest.raises(ConfigError, match=rf"{objective.name} needs kernels with posterior_log_prob.*: any_order"):
        check_parts(objective, Parts(Finite(3, 2), known=(AnyOrder, Finite)))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DDPP, {"beta": 1.5}, r"objective\.beta"),
        *((DDPP, {key: 0}, rf"objective\.{key}") for key in ("updates", "states", "buffer")),
        (SDPO, {"group": 1}, r"objective\.group: must be ≥ 2"), (SDPO, {"updates": 0}, r"objective\.updates"),
        *((SDPO, {key: 1}, rf"objective\.{key}: must be ≥ 2") for key in ("states", "buffer")),
        (SDPO, {"proposal": "bas"}, r'objective\.proposal: unknown choice "bas"; did you mean "base"'),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(kind: Any, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        kind(**options)
