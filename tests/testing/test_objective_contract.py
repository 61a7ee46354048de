"""The contracts of objectives: every registered one sends its gradient where it should, and p* is where it rests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Batch, Constant, Context, Policy, Replay, Roles, StateFunction, Target
from biotilt.networks.table import StateTable, Table
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.objectives import OBJECTIVES, PPO, RewardWeighted, TrajectoryBalance
from biotilt.processes import AnyOrder, Finite, Gaussian
from biotilt.testing import ExactValue, FunctionScorer, TableScorer, optimal_kernel, soft_values
from biotilt.testing.contracts import check_gradients, check_order, check_stationary

ALPHA = 0.6
POINTS = ("adjoint_matching",)
# objectives that learn complete designs from masks are at rest at the conditionals of p*, on a process that masks
DESIGNS = ("reward_weighted", "wdce", "ddpp", "sdpo", "spg", "backprop", "evolve", "score_climbing")


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class Value(nn.Module, StateFunction, Constant):
    """A state value, or log Z, in units of α: exact, or a little wrong where gradients are to be seen."""

    class config:
        lr = 1e-3

    def __init__(self, table: Tensor, shift: float):
        super().__init__()
        self.table = nn.Parameter(table / ALPHA + shift)

    def set_units(self, complete: Tensor) -> None:
        """Values are in units of α already."""

    def forward(self, x: Tensor | None = None, k: Tensor | int = 0) -> Tensor:
        return self.table[0, 0] if x is None else self.table[k, x.long() if x.dim() == 1 else 0]


def on_states(optimal: bool) -> tuple[Context, Policy]:
    """A chain of 4 states and 3 steps; policy and proposal at p*, or all at the base."""
    generator = torch.Generator().manual_seed(1)
    process = Finite(4, 3)
    base = Policy(process, Table(4, 3, torch.randn(3, 4, 4, generator=generator)))
    reward = torch.randn(4, generator=generator)
    roles = Roles.start(base)
    if optimal:
        best = Policy(process, Table(4, 3, optimal_kernel(base, reward, ALPHA).log()))
        roles = Roles(best, base.frozen_copy(), best.frozen_copy())
    value = Value(soft_values(base, reward, ALPHA)[:-1], 0.0 if optimal else 0.3)
    scorer = TableScorer(process, reward)
    return Context(roles, Target(scorer, ALPHA), generator, Replay(None), value), base


def on_words(optimal: bool) -> tuple[Context, Policy]:
    """Two letters of three; the base's letters are the conditionals of one law, and those of p* are too."""
    generator = torch.Generator().manual_seed(2)
    process = AnyOrder(2, 3)
    joint = torch.rand(9, generator=generator) + 0.2
    reward = torch.randn(9, generator=generator)
    base = Policy(process, StateTable.of_joint(joint, 3, 2))
    roles = Roles.start(base)
    if optimal:
        best = Policy(process, StateTable.of_joint(joint * (reward / ALPHA).exp(), 3, 2))
        roles = Roles(best, base.frozen_copy(), best.frozen_copy())
    scorer = TableScorer(process, reward)
    return Context(roles, Target(scorer, ALPHA), generator, Replay(None), Value(torch.zeros(2, 1), 0.3)), base


def on_points() -> Context:
    torch.manual_seed(3)
    base = Policy(Gaussian(2, num_steps=4), VectorMLP(VectorMLPConfig(2, 8, 1)))
    scorer = FunctionScorer(lambda x: x[:, 0] - 0.5 * x[:, 1].square())
    return Context(Roles.start(base), Target(scorer, ALPHA), torch.Generator().manual_seed(4), Replay(None))


def made(name: str, **options: Any) -> Any:
    small = {"group": 8, "states": 32, "buffer": 64} if name == "sdpo" else {}
    small = small or ({"value": "return"} if name == "vidd" else {})
    return OBJECTIVES[name](**small | options)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_go_where_they_should(name):
    objective = made(name)
    if name in POINTS:
        context = on_points()
    else:
        context, base = (on_words if name in DESIGNS else on_states)(optimal=False)
        if name == "vidd":
            reward = context.target.scorer.reward  # type: ignore[attr-defined]
            context.value = ExactValue(base, reward, ALPHA)
    if getattr(objective, "value", None) is None:
        context.value = None
    context.memory.add(objective.collect(context, 64).rows)
    check_gradients(objective, context)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vidd", {"mirror": 1.0}),
        ("vidd", {"teacher": "sampled", "mirror": 1.0}),
        ("ppo", {}),
        ("path_consistency", {}),
        ("path_consistency", {"span": 1}),
        ("trajectory_balance", {}),
        ("trajectory_balance", {"form": "learned"}),
        ("discrete_adjoint_matching", {}),
    ],
)
def test_p_star_is_at_rest_on_a_chain_of_states(name, options):
    objective = made(name, **options)
    context, base = on_states(optimal=True)
    if name == "vidd":
        context.value = ExactValue(base, context.target.scorer.reward, ALPHA)  # type: ignore[attr-defined]
    check_stationary(objective, context, rounds=32)


@pytest.mark.parametrize(
    ("name", "options"),
    [("reward_weighted", {}), ("reward_weighted", {"unscored": 0}), ("wdce", {}), ("wdce", {"beta": 1.0}), ("spg", {})],
)
def test_p_star_is_at_rest_on_words(name, options):
    context, _ = on_words(optimal=True)
    # weights that are normalised by their own sum are biased by 1/calls
    check_stationary(made(name, **options), context, rounds=48, calls=1024)


def test_what_pulls_away_from_p_star_is_caught():
    context, _ = on_words(optimal=True)
    with pytest.raises(AssertionError, match=r"reward_weighted: at p\* the mean gradient"):
        check_stationary(RewardWeighted(proposal="policy"), context, rounds=48, calls=256)
    context, _ = on_states(optimal=True)
    other = TableScorer(context.roles.base.process, torch.tensor([0.0, 1.0, 2.0, 0.5]))
    context.target = Target(other, ALPHA)
    with pytest.raises(AssertionError, match=r"ppo: at p\* the mean gradient"):
        check_stationary(PPO(), context, rounds=48)


@pytest.mark.parametrize("name", ["ppo", "trajectory_balance", "path_consistency", "discrete_adjoint_matching"])
def test_the_order_of_the_rows_does_not_matter(name):
    objective = made(
        name, **({"chains": 64} if name in ("trajectory_balance", "path_consistency") else {"states": 5000})
    )
    context, _ = on_states(optimal=False)
    context.memory.add(objective.collect(context, 64).rows)
    check_order(objective, context)


def test_a_loss_that_reads_the_order_is_caught():
    class First(TrajectoryBalance):
        def loss(self, context: Context, rows: Batch) -> tuple[Tensor, dict[str, float]]:
            loss, metrics = super().loss(context, rows)
            return loss * (1 + context.memory.rows["rewards"][0]), metrics

    context, _ = on_states(optimal=False)
    objective = First(chains=64)
    context.memory.add(objective.collect(context, 64).rows)
    with pytest.raises(AssertionError, match="another order"):
        check_order(objective, context)
