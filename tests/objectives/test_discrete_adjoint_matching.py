"""Discrete adjoint matching against exact kernels of p*, on a finite chain and on letters."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Context, Parts, Policy, Process, Replay, Roles, Target, check_parts, draw_loss
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable, Table
from biotilt.objectives import DiscreteAdjointMatching
from biotilt.processes import PROCESSES, AnyOrder, Finite, Flow, Gaussian, Masked, Uniform
from biotilt.testing import (
    TableScorer,
    check_gradients,
    law,
    optimal_kernel,
    path_kl_exact,
    tilted_law,
    total_variation,
    transition_matrices,
)
from biotilt.testing.contracts import check_order, check_stationary
from biotilt.training import TrainConfig, Trainer

S, K, ALPHA = 3, 3, 0.5
REWARD = torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64)

pytestmark = pytest.mark.usefixtures("double")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(logits: Tensor) -> Policy:
    return Policy(Finite(S, K), Table(S, K, logits))


BASE = table(normal(K, S, S, seed=1))
P_STAR = optimal_kernel(BASE, REWARD, ALPHA)


def context_of(policy: Policy, proposal: Policy, scorer: Any = None) -> Context:
    roles = Roles(policy, BASE.frozen_copy(), proposal.frozen_copy())
    scorer = scorer or TableScorer(BASE.process, REWARD)
    return Context(roles, Target(scorer, ALPHA), torch.Generator().manual_seed(0), Replay(None))


def test_every_weight_is_one_and_the_gradient_nil_at_p_star():
    """Not only on average: sample by sample, for any size of the group."""
    for group in (2, 5):
        context = context_of(table(P_STAR.log()), table(P_STAR.log()))
        rows = DiscreteAdjointMatching(group=group).collect(context, 40).rows
        torch.testing.assert_close(rows["weight"], torch.ones(len(rows["weight"])))
        assert check_stationary(DiscreteAdjointMatching(group=group, states=64), context, rounds=4) == 0


def test_no_other_policy_is_stationary():
    context = context_of(table(normal(K, S, S, seed=2)), table(normal(K, S, S, seed=2)))
    with pytest.raises(AssertionError, match="standard errors"):
        check_stationary(DiscreteAdjointMatching(states=10_000), context, calls=512)


def test_weights_estimate_the_ratio_to_p_star():
    """Large groups from one state each: the mean weight of a first step is p*(y|x)/p_out(y|x), from exact values."""
    proposal = table(normal(K, S, S, seed=2))
    context = context_of(proposal, proposal)
    rows = DiscreteAdjointMatching(group=20_000).collect(context, 160_000).rows
    p_out = transition_matrices(proposal, torch.arange(S))
    first = rows["log_out"].new_zeros(len(rows["k"]), dtype=torch.bool)
    first[:160_000] = True  # one row a completion, before any later step
    seen = 0
    for k, x, y in torch.cartesian_prod(torch.arange(K), torch.arange(S), torch.arange(S)).tolist():
        here = first & (rows["k"] == k) & (rows["x"] == x) & (rows["y"] == y)
        if here.sum() < 2000:
            continue
        seen += 1
        assert rows["weight"][here].mean().item() == pytest.approx(float(P_STAR[k, x, y] / p_out[k, x, y]), rel=0.08)
    assert seen >= 9


def test_later_steps_are_weighed_by_their_state():
    """Groups from x[0]: at x[1] the mean weight is p*(y|x[1])/p_out(y|x[1]) times p*(x[1])/p_out(x[1])."""
    proposal = table(normal(K, S, S, seed=2))
    context = context_of(proposal, proposal)
    context.generator.manual_seed(3)  # several of six groups then start at x[0]
    rows = DiscreteAdjointMatching(group=100_000).collect(context, 600_000).rows
    starts_at_zero = rows["k"][:600_000:100_000] == 0
    assert starts_at_zero.any()
    member = torch.arange(600_000) // 100_000
    keep = starts_at_zero[member]
    second = slice(600_000, 600_000 + int((rows["k"][:600_000] < K - 1).sum()))
    alive = rows["k"][:600_000] < K - 1
    chosen = keep[alive]
    x, y, weight = (rows[key][second][chosen] for key in ("x", "y", "weight"))
    p_out = transition_matrices(proposal, torch.arange(S))
    for a in range(S):
        for b in range(S):
            expected = P_STAR[1, a, b] / p_out[1, a, b] * P_STAR[0, 0, a] / p_out[0, 0, a]
            assert weight[(x == a) & (y == b)].mean().item() == pytest.approx(float(expected), rel=0.08)


def test_expected_gradient_is_that_of_the_cross_entropy_off_policy_too():
    """Σ_y p_out(y) ∇(ρ − ŵ log ρ) = −Σ_y p*(y|x) ∇ log p_θ(y|x), with ŵ = p*/p_out: ρ takes noise away, no more."""
    policy, proposal = table(normal(K, S, S, seed=3)), table(normal(K, S, S, seed=4))
    context = context_of(policy, proposal)
    log_out = transition_matrices(proposal, torch.arange(S))[1, 2].log()
    total = torch.zeros(K, S, S)
    for y in range(S):
        context.memory.rows = {
            "x": torch.tensor([2], dtype=torch.int8), "y": torch.tensor([y], dtype=torch.int8), "k": torch.tensor([1]),
            "log_out": log_out[y : y + 1], "weight": P_STAR[1, 2, y : y + 1] / log_out[y].exp(),
        }  # fmt: skip
        policy.net.zero_grad()
        draw_loss(DiscreteAdjointMatching(), context)[0].backward()
        total += log_out[y].exp() * policy.net.logits.grad  # type: ignore[operator]
    expected = torch.zeros(K, S, S)
    expected[1, 2] = policy.net.logits[1, 2].softmax(-1).detach() - P_STAR[1, 2]  # type: ignore[index]
    torch.testing.assert_close(total, expected, atol=1e-12, rtol=0)
    assert expected.abs().max() > 0.05


def test_loss_by_longhand():
    context = context_of(BASE, BASE)
    rows = {
        "x": torch.tensor([0, 2], dtype=torch.int8), "y": torch.tensor([1, 2], dtype=torch.int8),
        "k": torch.tensor([0, 2]), "log_out": torch.tensor([-1.2, -0.4]), "weight": torch.tensor([0.5, 2.0]),
    }  # fmt: skip
    context.memory.rows = rows
    log_p = BASE.net.logits.detach().log_softmax(-1)  # type: ignore[operator]
    first, second = log_p[0, 0, 1] + 1.2, log_p[2, 2, 2] + 0.4
    expected = (first.exp() - 0.5 * first + second.exp() - 2.0 * second) / 2
    assert draw_loss(DiscreteAdjointMatching(), context)[0].item() == pytest.approx(expected.item())
    check_order(DiscreteAdjointMatching(), context)


def groups_of(rows: dict[str, Tensor], starts: int, group: int) -> list[list[tuple[list[int], float, int]]]:
    """The completions of a round, put together again from rows in order of the step since the start."""
    count = starts * group
    k = rows["k"][:count].clone()
    paths = [[int(x), int(y)] for x, y in zip(rows["x"][:count], rows["y"][:count])]
    alive, at = torch.arange(count), count
    now = k.clone()
    while len(alive := alive[now[alive] + 1 < K]):
        now[alive] += 1
        for i in alive.tolist():
            assert rows["k"][at] == now[i] and rows["x"][at] == paths[i][-1]
            assert rows["weight"][at] == rows["weight"][i]
            paths[i].append(int(rows["y"][at]))
            at += 1
    assert at == len(rows["k"])
    done = [(paths[i], float(rows["weight"][i]), int(k[i])) for i in range(count)]
    return [done[i * group : (i + 1) * group] for i in range(starts)]


def test_a_round_by_longhand():
    """Every weight from its own path: rows line up, groups share state and step, and the mean of a group is 1."""
    proposal = table(normal(K, S, S, seed=2))
    context = context_of(BASE, proposal)
    collected = DiscreteAdjointMatching(group=4).collect(context, 30)
    assert context.target.scorer.calls == 28 == len(collected.designs)  # type: ignore[attr-defined]
    ours, base = (transition_matrices(p, torch.arange(S)).log() for p in (proposal, BASE))
    starts = set()
    for number, group in enumerate(groups_of(collected.rows, 7, 4)):
        assert len({(path[0], k) for path, _, k in group}) == 1
        starts.add(group[0][2])
        f = []
        for path, _, k in group:
            steps = [(k + j, a, b) for j, (a, b) in enumerate(itertools.pairwise(path))]
            f.append(torch.stack([base[s] - ours[s] for s in steps]).sum() + REWARD[path[-1]] / ALPHA)
        values = torch.stack(f).exp()
        torch.testing.assert_close(torch.tensor([w for _, w, _ in group]), values / values.mean())
        assert [path[-1] for path, _, _ in group] == collected.designs[number * 4 : number * 4 + 4].tolist()
    assert len(starts) > 1
    rows = collected.rows
    torch.testing.assert_close(rows["log_out"], ours[rows["k"], rows["x"].long(), rows["y"].long()])


def test_the_kl_of_paths_from_their_last_parts():
    """Completions start anywhere, so that their early steps are rarely there and count for those that are not."""
    proposal = table(normal(K, S, S, seed=2))
    context = context_of(BASE, proposal)
    metrics = DiscreteAdjointMatching(group=2).collect(context, 40_000).metrics
    exact = path_kl_exact(proposal, BASE)
    assert exact > 0.5 and metrics["kl"] == pytest.approx(exact, rel=0.04)


def test_unscored_completions_are_dropped_and_enter_no_mean():
    scorer = lambda d: torch.where(d == 2, torch.nan, REWARD[d.long()])  # noqa: E731
    # one step from x[0] = 0: groups are of one state, paths are single steps
    process = Finite(S, 1)
    base, proposal = (Policy(process, Table(S, 1, normal(1, S, S, seed=s))) for s in (1, 2))
    roles = Roles(base, base.frozen_copy(), proposal.frozen_copy())
    context = Context(roles, Target(scorer, ALPHA), torch.Generator().manual_seed(0), Replay(None))
    collected = DiscreteAdjointMatching(group=6).collect(context, 60)
    scored = collected.designs != 2
    assert 20 < int(scored.sum()) < 60 and collected.rows["y"].tolist() == collected.designs[scored].tolist()
    member = (torch.arange(60) // 6)[scored]
    for group in range(10):
        weights = collected.rows["weight"][member == group]
        assert len(weights) == 0 or weights.mean() == pytest.approx(1)
    assert collected.metrics["reward"] == pytest.approx(REWARD[collected.designs[scored].long()].mean().item())
    context.target = Target(lambda d: torch.full((len(d),), torch.nan), ALPHA)
    assert {len(v) for v in DiscreteAdjointMatching().collect(context, 16).rows.values()} == {0}


def converged(base: Policy, reward: Tensor, rounds: int, batch: int) -> tuple[float, float]:
    """The distance to p* of the base, and of the averaged policy after tuning."""
    tuned = tune(base, Counted(base.process, reward), rounds, batch)
    p_star = tilted_law(law(base), reward, ALPHA)[0]
    return total_variation(law(base), p_star), total_variation(law(tuned), p_star)


def tune(base: Policy, scorer: Counted, rounds: int, batch: int) -> Policy:
    objective = DiscreteAdjointMatching(states=1024)
    generator = torch.Generator().manual_seed(0)
    context = Context(Roles.start(base), Target(scorer, ALPHA), generator, Replay(objective.capacity))
    config = TrainConfig(max_calls=rounds * batch, batch=batch, lr=0.1, schedule="cosine", clip=10.0, ema=0.95)
    tuned = Policy(base.process, Trainer(context, objective, config, scorer).run())
    assert scorer.calls == rounds * batch
    return tuned


class Counted(TableScorer):
    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        self.calls = state["calls"]


class PerStep(nn.Module):
    """A table of its own for every step."""

    def __init__(self, tables: list[StateTable]):
        super().__init__()
        self.tables = nn.ModuleList(tables)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        k = ((1 - t) * len(self.tables)).round().long()
        return torch.stack([table(x, t) for table in self.tables])[k, torch.arange(len(x))]


def test_reaches_p_star_on_a_finite_chain():
    generator = torch.Generator().manual_seed(100)
    base = Policy(Finite(12, 3), Table(12, 3, torch.randn(3, 12, 12, generator=generator)))
    reward = torch.randn(12, generator=generator)
    reward[3] += 1
    before, after = converged(base, reward, 40, 1024)
    assert before > 0.6 and after < 0.01


@pytest.mark.parametrize(("process", "bound"), [(AnyOrder(2, 3), 1e-3), (Masked(2, 3, num_steps=8), 0.08)])
def test_reaches_p_star_on_letters(process, bound):
    """Letters one at a time: p* itself. Masked ones are shown together now and then, and then independently."""
    joint = torch.tensor([4.0, 1.0, 2.0, 1.0, 3.0, 0.5, 2.0, 0.5, 5.0])
    base = Policy(process, StateTable.of_joint(joint, 3, 2))
    before, after = converged(base, torch.tensor([0.0, 1.0, -0.5, 0.3, -1.0, 0.8, 1.2, -0.2, 0.1]), 40, 256)
    assert before > 0.3 and after < bound


def test_reaches_p_star_on_a_letter_that_is_replaced():
    """Uniform diffusion, the exact denoiser of a law of one letter: that of the tilted law is a denoiser as well."""
    process, data = Uniform(1, 3, num_steps=4), torch.tensor([0.6, 0.3, 0.1])
    tables = []
    for k in range(4):
        clean = k / 4  # a[k] of the loglinear schedule
        posterior = data * (clean * torch.eye(3) + (1 - clean) / 3)  # of x0, a row for each letter shown
        tables.append(StateTable(3, 1, torch.cat([posterior, data.unsqueeze(0)]).log().unsqueeze(1)))
    base = Policy(process, PerStep(tables))
    torch.testing.assert_close(uniform_law(base), data)
    reward = torch.tensor([-0.3, 0.2, 0.9])
    tuned = tune(base, Counted(process, reward), 40, 256)
    p_star = tilted_law(data, reward, ALPHA)[0]
    assert total_variation(data, p_star) > 0.3
    assert total_variation(uniform_law(tuned), p_star) < 1e-3


def uniform_law(policy: Policy) -> Tensor:
    """The law of one letter, pushed through every step from uniform noise."""
    letters = torch.arange(3, dtype=torch.int8).unsqueeze(-1)
    mass = torch.full((3,), 1 / 3)
    for k in range(policy.process.steps):
        step = policy.kernel(letters.repeat_interleave(3, 0), k).log_prob(letters.repeat(3, 1)).exp()
        mass = mass @ step.view(3, 3).detach()
    return mass


def test_gradients_reach_the_policy_only():
    context = context_of(table(normal(K, S, S, seed=2)), BASE)
    context.memory.add(DiscreteAdjointMatching().collect(context, 64).rows)
    check_gradients(DiscreteAdjointMatching(), context)


def test_proposal_follows_after_a_round():
    objective = DiscreteAdjointMatching(updates=3, states=7)
    assert (objective.refresh_every, objective.batch_size, objective.capacity) == (3, 7, None)


def test_any_process_with_a_density_will_do_and_any_reward():
    known = tuple(PROCESSES.values())
    fitting: list[Process] = [Finite(3, 2), AnyOrder(3, 2), Masked(3, 2), Uniform(3, 2), Gaussian(2), Flow(2)]
    for process in fitting:
        check_parts(DiscreteAdjointMatching(), Parts(process, differentiable=False, known=known))
    with pytest.raises(ConfigError, match=r"discrete_adjoint_matching needs log_prob.*eta"):
        check_parts(DiscreteAdjointMatching(), Parts(Flow(2, eta=0.0), known=known))


def test_a_group_larger_than_a_round_is_refused():
    with pytest.raises(ConfigError, match=r"objective\.group = 8.*4 calls.*train\.batch to 8"):
        DiscreteAdjointMatching(group=8).collect(context_of(BASE, BASE), 4)


@pytest.mark.parametrize(("key", "low"), [("group", 2), ("updates", 1), ("states", 1)])
def test_impossible_options_are_refused(key, low):
    with pytest.raises(ConfigError, match=rf"objective\.{key}: must be ≥ {low}"):
        DiscreteAdjointMatching(**{key: low - 1})
