"""Through the real Trainer, VIDD and PPO reach the exact tilted law of a chain on 12 states."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Objective, Policy, Replay, Roles, Target
from biotilt.networks.table import Table
from biotilt.objectives import PPO, VIDD
from biotilt.processes import Finite
from biotilt.testing import ExactValue, law, tilted_law, total_variation
from biotilt.training import TrainConfig, Trainer

S, K, ALPHA = 12, 3, 0.5


class Lookup:
    """A table of rewards of states, as an oracle: it counts, and its count can be saved."""

    def __init__(self, reward: Tensor):
        self.reward, self.calls = reward, 0

    def __call__(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        return self.reward[designs.long()]

    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        self.calls = state["calls"]


def problem() -> tuple[Policy, Tensor, Tensor]:
    """A base, an asymmetric reward that prefers what the base seldom makes, and p*."""
    generator = torch.Generator().manual_seed(100)
    base = Policy(Finite(S, K), Table(S, K, torch.randn(K, S, S, generator=generator)))
    reward = torch.randn(S, generator=generator)
    reward[3] += 1
    return base, reward, tilted_law(law(base), reward, ALPHA)[0]


def distance(objective: Objective, config: TrainConfig, seed: int, exact: bool) -> tuple[float, int]:
    """Tune; return the distance of the averaged policy to p*, and the oracle calls."""
    base, reward, p_star = problem()
    assert total_variation(law(base), p_star) > 0.6
    oracle = Lookup(reward)
    value = ExactValue(base, reward, ALPHA) if exact else None
    generator = torch.Generator().manual_seed(seed)
    context = Context(Roles.start(base), Target(oracle, ALPHA), generator, Replay(objective.capacity), value)
    average = Trainer(context, objective, config, oracle).run()
    return total_variation(law(Policy(base.process, average)), p_star), oracle.calls  # type: ignore[arg-type]


def config(calls: int, batch: int, ema: float) -> TrainConfig:
    return TrainConfig(max_calls=calls, batch=batch, lr=0.1, schedule="cosine", warmup=5, clip=10.0, ema=ema)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mirror", [1.0, 0.3])
def test_vidd_with_the_closed_form_teacher(seed, mirror):
    objective = VIDD(
        anchor="pretrained", value="return", teacher="closed_form", beta=0.5, refresh=1, mirror=mirror,
        updates=40, states=512, buffer=2048, max_log_weight=10.0,
    )  # fmt: skip
    tv, calls = distance(objective, config(512 * 8, 512, 0.95), seed, exact=True)
    assert tv < 0.01
    assert calls == 0  # the exact value needs no oracle


@pytest.mark.parametrize("seed", range(3))
def test_vidd_with_the_sampled_teacher(seed):
    objective = VIDD(
        anchor="pretrained", value="return", teacher="sampled", beta=0.5, refresh=5, mirror=1.0,
        updates=20, states=4096, buffer=8192, max_log_weight=10.0,
    )  # fmt: skip
    assert distance(objective, config(4096 * 12, 4096, 0.98), seed, exact=True)[0] < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_ppo(seed):
    objective = PPO(advantage="batch", group=8, clip=0.2, updates=4, states=6144)
    tv, calls = distance(objective, config(4096 * 60, 4096, 0.98), seed, exact=False)
    assert tv < 0.01
    assert calls == 4096 * 60


def test_vidd_with_the_papers_anchor_does_not_sample_p_star():
    """The same run, the teacher tilting the policy itself: it ends on the best state."""
    objective = VIDD(
        anchor="rollout", value="return", teacher="closed_form", beta=0.5, refresh=20, mirror=1.0,
        updates=40, states=512, buffer=2048, max_log_weight=10.0,
    )  # fmt: skip
    assert distance(objective, config(512 * 8, 512, 0.95), 0, exact=True)[0] > 0.1
