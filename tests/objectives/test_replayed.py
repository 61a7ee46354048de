"""Trajectory balance and DDPP on designs of a search: at rest at p*, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from joint_problem import (
    ADDITIVE,
    ALPHA,
    DESIGNS,
    INDEPENDENT,
    JOINT,
    LOG_Z,
    P_STAR,
    REWARD,
    L,
    StateValues,
    V,
    context_of,
    policy_of,
)
from torch import Tensor, nn

from biotilt.core import Context, Density, Parts, Policy, Replay, Roles, Target, check_parts, draw_loss
from biotilt.core.search import MEMORY, remembered
from biotilt.errors import ConfigError
from biotilt.networks.table import Table
from biotilt.objectives import DDPP, OBJECTIVES, TrajectoryBalance
from biotilt.objectives.chains import noised_chains
from biotilt.processes import PROCESSES, AnyOrder, Finite, Gaussian, Masked, RandomWalk, Simplex
from biotilt.processes.conditioned import conditioned
from biotilt.testing import TableScorer, law, optimal_kernel, reveal_law, tilted_law, total_variation
from biotilt.testing.contracts import check_stationary
from biotilt.training import TrainConfig, Trainer
from biotilt.values import LogZ

SEARCH: dict[str, Any] = {"draws": "search", "start": 6, "parents": 5, "offset": 1.0, "most": 1.0}


def residuals(context: Context, designs: Tensor, rewards: Tensor) -> Tensor:
    """r/α − Σ log p_θ/p_pre `(B,)` of chains drawn back from designs, by the kernels' own log-probabilities."""
    rows = noised_chains(context.roles.base, {"designs": designs, "rewards": rewards}, context.generator)
    total = rewards / context.target.alpha
    for k in range(rows["chain"].shape[1] - 1):
        x, y = rows["chain"][:, k], rows["chain"][:, k + 1]
        ours, base = (role.kernel_as(Density, x, k).log_prob(y) for role in (context.roles.policy, context.roles.base))
        torch.testing.assert_close(base.detach(), rows["log_base"][:, k])
        total = total - (ours - base)
    return total.detach()


def words() -> tuple[Context, Tensor, Tensor, float]:
    context = context_of(TrajectoryBalance(), policy_of(P_STAR))
    return context, DESIGNS.to(torch.int8), REWARD, LOG_Z


def chain_of_states() -> tuple[Context, Tensor, Tensor, float]:
    generator = torch.Generator().manual_seed(5)
    base = Policy(Finite(4, 3), Table(4, 3, torch.randn(3, 4, 4, generator=generator)))
    reward = torch.tensor([0.4, -1.0, 0.9, 0.1])
    best = Policy(base.process, Table(4, 3, optimal_kernel(base, reward, ALPHA).log()))
    context = context_of(TrajectoryBalance(), best, base=base)
    return context, torch.arange(4, dtype=torch.int8), reward, tilted_law(law(base), reward, ALPHA)[1]


class Shift(nn.Module):
    """The push of a walk with a linear reward, the same everywhere."""

    def __init__(self, push: list[float]):
        super().__init__()
        self.push = nn.Parameter(torch.tensor(push))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.push.expand_as(x)


def walk() -> tuple[Context, Tensor, Tensor, float]:
    """r = b·x makes N(σ² b/α, σ²) of N(0, σ²): a push σ b/α in units of σ; Z = exp(σ² |b/α|²/2)."""
    process, slope = RandomWalk(2, scale=1.5, num_steps=5), torch.tensor([0.3, -0.2])
    best = Policy(process, Shift((1.5 * slope / ALPHA).tolist()))
    context = context_of(TrajectoryBalance(), best, base=Policy(process, Shift([0.0, 0.0])))
    points = torch.randn(30, 2, generator=torch.Generator().manual_seed(1))
    return context, points, points @ slope, (1.5 * slope / ALPHA).square().sum().item() / 2


class Affine(nn.Module):
    """x̂_0 = 0.6 x + 0.2, moved by `moves[k]` at step k: times of a path fall from step to step."""

    def __init__(self, times: Tensor, moves: Tensor):
        super().__init__()
        self.times, self.moves = times, nn.Parameter(moves)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        k = (self.times - t.unsqueeze(-1)).abs().argmin(-1)
        return 0.6 * x + 0.2 + self.moves[k]


def points() -> tuple[Context, Tensor, Tensor, float]:
    """r = b·x: V_k(x) = c_k·x + const, c_k = (∂μ/∂x) c_{k+1}, and kernels of p* have their mean moved by σ² c_{k+1}.

    The constant is what exp(V_k) is short of E[exp(V_{k+1})]: log Z is the last, of x[0], which no step reads.
    """
    process, slope = Gaussian(2, num_steps=4, prediction="x0", t_min=0.1), torch.tensor([0.5, -0.3])
    x = torch.zeros(1, 2)
    times = torch.stack([process.inputs(x, k).t[0] for k in range(process.steps)])
    base = Policy(process, Affine(times, torch.zeros(process.steps, 2)))

    def mean(at: float, k: int, moved: float = 0.0) -> float:
        """Mean of one coordinate at x[k] = `at`, with x̂_0 moved."""
        x = torch.full((1, 2), at)
        return process.kernel_of(base.net(*process.inputs(x, k)) + moved, x, k).mean[0, 0].item()

    moves, c, log_z = torch.zeros(process.steps, 2), slope / ALPHA, 0.0
    for k in reversed(range(process.steps)):
        variance = process.kernel_of(base.net(*process.inputs(x, k)), x, k).std[0, 0].item() ** 2
        moves[k] = variance * c / (mean(0.0, k, moved=1.0) - mean(0.0, k))
        log_z += (c * mean(0.0, k) + variance * c.square() / 2).sum().item()
        c = c * (mean(1.0, k) - mean(0.0, k))
    context = context_of(TrajectoryBalance(), Policy(process, Affine(times, moves)), base=base)
    ends = torch.randn(30, 2, generator=torch.Generator().manual_seed(1))
    return context, ends, ends @ slope, log_z


def one_letter() -> tuple[Context, Tensor, Tensor, float]:
    """Masked, one letter: its kernels are of the family that the optimum is in."""
    process, reward = Masked(1, 4, num_steps=3), torch.tensor([0.2, -0.5, 1.0, 0.3])
    joint = torch.tensor([0.1, 0.4, 0.2, 0.3])
    p_star, log_z = tilted_law(joint, reward, ALPHA)
    context = context_of(
        TrajectoryBalance(),
        policy_of(p_star, process),
        base=policy_of(joint, process),  # type: ignore[arg-type]
    )
    return context, torch.arange(4, dtype=torch.int8).unsqueeze(-1), reward, log_z


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("problem", [words, chain_of_states, walk, points, one_letter])
def test_every_chain_drawn_back_has_log_z_at_p_star(problem):
    context, designs, rewards, log_z = problem()
    for _ in range(5):
        found = residuals(context, designs, rewards.to(torch.get_default_dtype()))
        torch.testing.assert_close(found, torch.full_like(found, log_z), atol=1e-5, rtol=0)


def memory(context: Context, designs: Tensor) -> None:
    context.memory = Replay(10_000, remembered(context, designs), MEMORY)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("replay", ["uniform", "rank"])
@pytest.mark.parametrize("form", ["log_variance", "learned"])
def test_p_star_is_at_rest_however_the_replay_is_weighed(form, replay):
    objective = TrajectoryBalance(form=form, replay=replay, chains=8, **SEARCH)
    for policy, at_rest in ((policy_of(P_STAR), True), (policy_of(JOINT), False)):
        context = context_of(objective, policy)
        if form == "learned":
            context.value = LogZ()
            context.value.offset.data.fill_(LOG_Z)
            context.value.centre.zero_()
        memory(context, DESIGNS.to(torch.int8))
        losses = [draw_loss(objective, context)[0] for _ in range(30)]
        (slope,) = torch.autograd.grad(torch.stack(losses).sum(), policy.net.logits)
        assert bool(slope.abs().max() < 1e-10) == at_rest
        assert bool(max(losses) < 1e-20) == at_rest


@pytest.mark.usefixtures("double")
def test_what_is_collected_is_at_rest_too():
    objective = TrajectoryBalance(chains=8, **SEARCH)
    check_stationary(objective, context_of(objective, policy_of(P_STAR)), rounds=8, calls=20)


def tuned(objective: Any, joint: Tensor = JOINT, reward: Tensor = REWARD) -> Tensor:
    """Return the law of the averaged policy after tuning: nine designs a round, of 27."""
    base = policy_of(joint)
    scorer, value = TableScorer(base.process, reward.float()), None
    if isinstance(objective, DDPP):
        value = StateValues()
    context = Context(
        Roles.start(base), Target(scorer, ALPHA), torch.Generator().manual_seed(0), Replay(objective.capacity), value
    )
    options = {
        "max_calls": 9 * 14,
        "batch": 9,
        "lr": 0.08,
        "schedule": "cosine",
        "warmup": 5,
        "clip": 10.0,
        "ema": 0.98,
    }
    average = Trainer(context, objective, TrainConfig(**options), scorer).run()  # type: ignore[arg-type]
    assert 20 < scorer.calls <= 27  # no design was asked about twice
    return reveal_law(Policy(base.process, average))  # type: ignore[arg-type]


@pytest.mark.parametrize("replay", ["uniform", "rank"])
def test_the_replay_of_a_search_alone_leads_to_p_star(replay):
    """The policy draws no design: `fresh` is 0."""
    assert total_variation(JOINT, P_STAR) > 0.33
    objective = TrajectoryBalance(replay=replay, updates=25, chains=24, fresh=0.0, **SEARCH)
    assert total_variation(tuned(objective), P_STAR) < 0.02


@pytest.mark.parametrize("replay", ["uniform", "rank"])
def test_ddpp_reaches_p_star_from_the_search_where_its_posterior_is_exact(replay):
    p_star = tilted_law(INDEPENDENT, ADDITIVE, ALPHA)[0]
    assert total_variation(INDEPENDENT, p_star) > 0.4
    objective = DDPP(replay=replay, updates=25, states=81, fresh=0.0, **SEARCH)
    assert total_variation(tuned(objective, INDEPENDENT, ADDITIVE), p_star) < 0.02


def test_designs_without_a_score_and_infeasible_ones():
    """NaN is learned from by nobody; −inf counts as 10 α below the worst, of all that were scored."""
    scores = REWARD.float()
    scores[4], scores[9:12] = torch.nan, -torch.inf
    for objective in (TrajectoryBalance(chains=100, **SEARCH), TrajectoryBalance(chains=100, replay="rank", **SEARCH)):
        context = context_of(objective, policy_of(P_STAR), scorer=TableScorer(AnyOrder(L, V), scores))
        memory(context, DESIGNS.to(torch.int8))
        rows = objective.replayed(context, context.memory.rows, 100)
        place = (rows["designs"].long() * torch.tensor([9, 3, 1])).sum(-1)
        assert sorted(place.tolist()) == [i for i in range(27) if i != 4]
        floor = scores[scores.isfinite()].min() - 10 * ALPHA
        expected = torch.where(scores == -torch.inf, floor, scores)
        torch.testing.assert_close(rows["rewards"], expected[place])
        assert draw_loss(objective, context)[0].isfinite()


def test_rows_are_drawn_by_rank():
    objective = TrajectoryBalance(chains=2, replay="rank", **SEARCH)
    context = context_of(objective, policy_of(P_STAR))
    memory(context, DESIGNS[:4].to(torch.int8))
    order = REWARD[:4].argsort(descending=True)
    weights = 1 / (1 + torch.arange(4.0))
    weights = weights / weights.sum()
    first = [objective.replayed(context, context.memory.rows, 1)["designs"][0].tolist() for _ in range(3000)]
    for place, weight in zip(order, weights):
        share = sum(row == DESIGNS[place].tolist() for row in first) / len(first)
        assert abs(share - weight) < 5 * (weight * (1 - weight) / len(first)).sqrt()
    both = objective.replayed(context, context.memory.rows, 2)
    assert len(both["key"].unique()) == 2
    # chains of the policy can be weighed too
    ours = TrajectoryBalance(replay="rank", chains=5)
    context.memory = Replay(None)
    context.memory.add(ours.collect(context, 20).rows)
    assert set(ours.replayed(context, context.memory.rows, 5)) == {"chain", "log_base", "rewards"}
    assert draw_loss(ours, context)[0].isfinite()


@pytest.mark.parametrize("kind", [TrajectoryBalance, DDPP])
def test_what_is_found_are_new_designs_of_the_search(kind):
    objective = kind(**SEARCH)
    value = StateValues() if kind is DDPP else None
    context = context_of(objective, policy_of(P_STAR), base=policy_of(JOINT), value=value)
    assert objective.batch_size is None and objective.columns(value) == MEMORY
    for calls in (6, 4, 4):
        found = objective.collect(context, calls)
        context.memory.add(found.rows)
        assert not len(found.designs) and {"unique", "new", "best", "top_100", "diversity", "reward"} <= set(
            found.metrics
        )
    assert len(context.memory.rows["key"].unique()) == len(context.memory) == 14


@pytest.mark.parametrize("kind", [TrajectoryBalance, DDPP])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": "searching"}, r'objective\.draws: unknown choice "searching"; did you mean "search"'),
        ({"replay": "ranks"}, r'objective\.replay: unknown choice "ranks"; did you mean "rank"'),
        ({"parents": 50}, r'objective\.parents: means nothing without draws = "search"'),
        ({"offset": 2.0}, r'objective\.offset: means nothing without draws = "search"'),
        ({"draws": "search", "beta": 0.25}, r'objective\.beta: means nothing without draws = "policy"'),
        ({"draws": "search", "least": 0.5, "most": 0.4}, r"objective\.least must be ≤ objective\.most"),
        ({"draws": "search", "buffer": 200}, r"objective\.buffer: 200 designs are all .* the first 256"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(kind, options, message):
    kind(replay="rank", offset=2.0)
    with pytest.raises(ConfigError, match=message):
        kind(**options)


def test_processes_that_cannot_noise_a_path_are_refused():
    objective = TrajectoryBalance(draws="search")
    known = PROCESSES.values()
    with pytest.raises(ConfigError, match=r"needs a process with noised_path, which the process .simplex. .*any_order"):
        check_parts(objective, Parts(Simplex(3, 2), known=known))
    check_parts(TrajectoryBalance(), Parts(Simplex(3, 2), known=known))
    check_parts(objective, Parts(Gaussian(2), known=known))
    with pytest.raises(ConfigError, match="set eta"):
        check_parts(objective, Parts(Gaussian(2, eta=0), known=known))
    check_parts(objective, Parts(AnyOrder(3, 2), known=known))
    told = conditioned(AnyOrder(3, 2), (0.5, 0.5))
    for one in (objective, OBJECTIVES["ddpp"](draws="search")):
        with pytest.raises(ConfigError, match=r"ranking designs against each other, and Z differs"):
            check_parts(one, Parts(told, known=known))
    check_parts(TrajectoryBalance(), Parts(told, known=known))
