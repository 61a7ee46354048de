"""Several conditions at once: the law of designs given each condition is p*(x|c), on a process that can be written out.

Two conditions, drawn with different shares, of different bases and rewards: so that Z differs, and no two laws agree.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biotilt.core import Context, Policy, Replay, Roles, Target, draw_loss
from biotilt.networks import ValueSize, value_network
from biotilt.networks.conditional import Conditional
from biotilt.networks.table import StateTable
from biotilt.objectives import PPO, SPG, VIDD, TrajectoryBalance
from biotilt.processes import AnyOrder, Masked
from biotilt.processes.conditioned import conditioned
from biotilt.testing import law, tilted_law, total_variation
from biotilt.testing.exact import lexicographic_index
from biotilt.training import TrainConfig, Trainer
from biotilt.values import VALUES, LogZ
from biotilt.values.learned import LearnedValueConfig

L, V, ALPHA = 2, 2, 0.5
SHARES = (0.3, 0.7)
INNER = AnyOrder(L, V)
PROCESS = conditioned(INNER, SHARES)
BASES = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.15, 0.25, 0.5]], dtype=torch.float64)
REWARDS = torch.tensor([[0.0, 0.3, 1.1, -0.4], [2.0, 1.5, 2.6, 1.2]], dtype=torch.float64)
OPTIMA, LOG_Z = zip(*(tilted_law(base, reward, ALPHA) for base, reward in zip(BASES, REWARDS)))


class Tables(nn.Module):
    """One table of logits for each condition."""

    def __init__(self, laws: Any):
        super().__init__()
        self.tables = nn.ModuleList(StateTable.of_joint(one.float(), V, L) for one in laws)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        if x.is_floating_point():
            x = x.argmax(-1)
        said = torch.stack([table(x, t) for table in self.tables])
        return said[condition, torch.arange(len(x))]


def policy_of(laws: Any) -> Policy:
    return Policy(PROCESS, Conditional(Tables(laws), torch.arange(2), mark=PROCESS.mark))


class Lookup:
    """Rewards by design and condition."""

    calls = 0

    def __call__(self, designs: Tensor) -> Tensor:
        states, condition = PROCESS.mark.read(designs)
        return REWARDS[condition, lexicographic_index(states, V)].float()

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None: ...


def context_of(objective: Any, policy: Policy, value: Any = None, seed: int = 0) -> Context:
    roles = Roles(policy, policy_of(BASES).frozen_copy(), policy.frozen_copy())
    return Context(
        roles, Target(Lookup(), ALPHA), torch.Generator().manual_seed(seed), Replay(objective.capacity), value
    )


def laws_of(policy: Policy) -> tuple[Tensor, Tensor]:
    """Return p(x|c) `(2, D)`, and the shares of the conditions, by pushing mass through every state."""
    joint = law(policy).view(2, -1)
    return joint / joint.sum(1, keepdim=True), joint.sum(1)


def test_the_base_has_the_law_of_each_table_and_the_shares_that_were_asked_for():
    found, shares = laws_of(policy_of(BASES))
    assert torch.allclose(found, BASES, atol=1e-6)
    assert torch.allclose(shares, torch.tensor(SHARES, dtype=torch.float64), atol=1e-6)
    assert abs(LOG_Z[0] - LOG_Z[1]) > 1  # or nothing below would tell a common Z from two


@pytest.mark.parametrize("form", ["learned", "log_variance"])
def test_trajectory_balance_is_zero_at_the_optimum_of_each(form):
    objective = TrajectoryBalance(form=form)
    value = None
    if form == "learned":
        value = LogZ(targets=2)
        value.centre.zero_()
        value.offset.data = torch.tensor(LOG_Z)
    context = context_of(objective, policy_of(OPTIMA), value)
    context.memory.add(objective.collect(context, 64).rows)
    loss, _ = draw_loss(objective, context)
    assert loss.item() < 1e-9
    if form == "learned":
        value.offset.data = torch.full((2,), sum(LOG_Z) / 2)  # one log Z for both is no optimum
        assert draw_loss(objective, context)[0].item() > 0.2


@pytest.mark.parametrize("objective", [PPO(states=4096), SPG(states=4096)], ids=["ppo", "spg"])
def test_advantages_die_out_at_the_optimum_of_each(objective):
    context = context_of(objective, policy_of(OPTIMA))
    rows = objective.collect(context, 200).rows
    assert rows["advantage"].abs().max() < 1e-4


def tuned(objective: Any, value: Any, config: TrainConfig) -> tuple[Tensor, Tensor]:
    base = policy_of(BASES)
    oracle = Lookup()
    generator = torch.Generator().manual_seed(0)
    context = Context(Roles.start(base), Target(oracle, ALPHA), generator, Replay(objective.capacity), value)
    return laws_of(Policy(PROCESS, Trainer(context, objective, config, oracle).run()))


def config(rounds: int, batch: int = 256, lr: float = 0.03) -> TrainConfig:
    return TrainConfig(max_calls=rounds * batch, batch=batch, lr=lr, warmup=5, clip=10.0, ema=0.9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "rounds"),
    [
        (TrajectoryBalance(form="log_variance", updates=10, chains=128), 12),
        (TrajectoryBalance(form="learned", updates=10, chains=128), 25),
        (PPO(updates=20, states=256), 30),
        (VIDD(value="bootstrapped", updates=25, states=128, refresh=10, mirror=1.0), 16),
    ],
    ids=["balance", "balance with log Z", "ppo", "vidd"],
)
def test_each_condition_gets_its_own_tilted_law(objective, rounds):
    torch.manual_seed(0)
    value = None
    if objective.value_name is not None:
        options = LearnedValueConfig(lr=0.01, target_rate=0.2) if isinstance(objective, VIDD) else LogZ().config
        fresh = policy_of(BASES)
        network = lambda width, depth: value_network(fresh, ValueSize(24, 1))  # noqa: E731
        value = VALUES.find(objective.value_name).build(options, PROCESS, network)
    found, shares = tuned(objective, value, config(rounds))
    assert torch.allclose(shares, torch.tensor(SHARES, dtype=torch.float64), atol=1e-6)
    for c in range(2):
        assert total_variation(BASES[c], OPTIMA[c]) > 0.2
        assert total_variation(found[c], OPTIMA[c]) < 0.03, (c, found[c], OPTIMA[c])


def test_any_order_and_masked_reach_the_same_states_with_their_marks():
    several = conditioned(Masked(3, 4, num_steps=3), (0.5, 0.5))
    x = several.noise(50, torch.Generator().manual_seed(0))
    assert several.hidden(x).sum(-1).eq(3).all()  # the mark is never hidden
    y = several.corrupt(x.masked_fill(x == 4, 1), 1, torch.Generator().manual_seed(1))
    assert torch.equal(several.target_of(y), several.target_of(x))
