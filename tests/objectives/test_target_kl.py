"""A KL in place of α: the law that it ends at against enumeration, its arithmetic by hand, and a run that is killed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from joint_problem import JOINT, REWARD, L, V, policy_of
from torch import Tensor

import biotilt
from biotilt.constraints import Tempered
from biotilt.core import Context, Policy, Replay, Roles, Target
from biotilt.core.temperature import Temperature
from biotilt.errors import CheckpointError, ConfigError
from biotilt.files import read_json
from biotilt.networks.table import StateTable
from biotilt.objectives import DDPP, PPO, SDPO, VIDD, Evolve, RewardWeighted, TrajectoryBalance
from biotilt.oracle import Oracle, Store
from biotilt.rewards import FunctionReward
from biotilt.testing import TableScorer, kl, reveal_law, tilted_law, total_variation
from biotilt.testing.spaces import Written
from biotilt.training import TrainConfig, Trainer
from biotilt.values import LearnedQ, LearnedValueConfig, LogZ, LogZConfig

ASKED = 0.7  # the alpha of which the KL is asked for
P_STAR, _ = tilted_law(JOINT, REWARD, ASKED)
TARGET_KL = kl(P_STAR, JOINT)


def test_alpha_follows_the_kl_by_hand():
    """KL 0.5, then 1.0, at a target of 2, from the base: m = 0.5, 0.75; steps 0.5, 0.375; ahead 2.5, 2.25."""
    t = Temperature(2.0, alpha=0.1)
    t.observe(0.5)
    assert (t.kl, t.step, t.alpha) == (0.5, 0.5, pytest.approx(0.1 * math.sqrt(1.25)))
    t.observe(1.0)
    assert (t.kl, t.step, t.alpha) == (0.75, 0.375, pytest.approx(0.1 * math.sqrt(1.25) * math.sqrt(1.125)))


def test_alpha_moves_by_a_tenth_down_and_a_quarter_up_at_most():
    low, high = Temperature(2.0, alpha=1.0), Temperature(2.0, alpha=1.0)
    low.observe(0.0)
    high.observe(50.0)
    high.observe(math.nan)
    assert (low.alpha, high.alpha) == (0.9, 1.25)


def learned_q() -> LearnedQ:
    return LearnedQ(StateTable(V, L), policy_of(JOINT).process, "return", LearnedValueConfig(0.05, 0.2))


CASES: dict[str, Any] = {
    "ppo": (lambda: PPO(updates=8, states=512), lambda: None, 15_360),
    "vidd": (lambda: VIDD(value="return", updates=20, states=256, buffer=1024, refresh=20), learned_q, 10_240),
    "balance": (lambda: TrajectoryBalance(updates=8), lambda: LogZ(LogZConfig(0.05)), 10_240),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_policy_comes_to_the_tilted_law_of_that_kl(case):
    objective, value, calls = case[0](), case[1](), case[2]
    base, temperature = policy_of(JOINT), Temperature(TARGET_KL)
    scorer = Saved(base.process, REWARD.float())
    generator = torch.Generator().manual_seed(0)
    context = Context(
        Roles.start(base), Target(scorer, 1.0), generator, Replay(objective.capacity), value, temperature=temperature
    )
    options = TrainConfig(max_calls=calls, batch=256, lr=0.05, warmup=5, clip=10.0, ema=0.95)
    trainer = Trainer(context, Tempered(objective, temperature), options, scorer)
    net: Any = trainer.run()
    law = reveal_law(Policy(base.process, net))
    late = [row["alpha"] for row in trainer.history[2 * len(trainer.history) // 3 :]]
    # another alpha than the one that the context began with, and laws that differ by far
    assert total_variation(JOINT, P_STAR) > 0.25
    assert sum(late) / len(late) == pytest.approx(ASKED, rel=0.1)
    assert kl(law, JOINT) == pytest.approx(TARGET_KL, rel=0.15)
    assert total_variation(law, P_STAR) < 0.06


class Saved(TableScorer):
    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        pass


def test_half_of_the_first_round_goes_to_the_base():
    asked: list[int] = []

    class Counting(Saved):
        def __call__(self, states: Tensor) -> Tensor:
            asked.append(len(states))
            return super().__call__(states)

    base, temperature = policy_of(JOINT), Temperature(TARGET_KL)
    scorer, objective = Counting(base.process, REWARD.float()), PPO()
    context = Context(Roles.start(base), Target(scorer, 1.0), torch.Generator().manual_seed(0), temperature=temperature)
    wrapped = Tempered(objective, temperature)
    first, second = wrapped.collect(context, 41), wrapped.collect(context, 41)
    assert asked == [20, 21, 41]
    assert context.target.alpha == temperature.alpha == second.metrics["alpha"] != first.metrics["alpha"]


BEGIN: dict[str, Any] = {
    "evolve": lambda: Evolve(start=200),
    "trajectory_balance": lambda: TrajectoryBalance(draws="search", start=200),
    "ddpp": lambda: DDPP(),
    "ddpp of a search": lambda: DDPP(draws="search", start=200),
    "sdpo": lambda: SDPO(),
    "reward_weighted": lambda: RewardWeighted(),
    "reward_weighted of the policy": lambda: RewardWeighted(proposal="policy"),
}


@pytest.mark.parametrize("made", BEGIN.values(), ids=BEGIN)
def test_the_first_scores_of_the_base_are_learned_from_too(made):
    """Two designs of 27 have no score; −inf counts as 10 α, the α that was found, below the worst of its batch."""
    asked: list[Tensor] = []

    class Keeping(Saved):
        def __call__(self, states: Tensor) -> Tensor:
            asked.append(states)
            return super().__call__(states)

    rewards = REWARD.float()
    rewards[3], rewards[7] = torch.nan, -torch.inf
    base, temperature, objective = policy_of(JOINT), Temperature(TARGET_KL), made()
    scorer, memory = Keeping(base.process, rewards), Replay(objective.capacity, columns=objective.columns(None))
    context = Context(
        Roles.start(base), Target(scorer, 1.0), torch.Generator().manual_seed(0), memory, temperature=temperature
    )
    found = Tempered(objective, temperature).collect(context, 40)
    rows = context.memory.rows
    scored = rows.get("scored", torch.ones(len(rows["designs"]), dtype=torch.bool))
    of_base = {tuple(design) for design in asked[0].tolist()}
    kept = [tuple(design) for design in rows["designs"][scored].tolist()]
    assert len(asked[0]) == 20 and 3 < len(kept) <= 20 and set(kept) <= of_base
    if "key" in rows:  # what was asked about is not asked again
        assert set(kept) == of_base and len(kept) == len(of_base)
        assert not of_base & {tuple(design) for design in torch.cat(asked[1:]).tolist()}
        torch.testing.assert_close(rows["rewards"], TableScorer(base.process, rewards)(rows["designs"]), equal_nan=True)
    else:
        assert rows["rewards"][scored].isfinite().all()
        assert rows["rewards"][scored].min() > rewards[rewards.isfinite()].min() - 10 * context.target.alpha - 1e-4
    memory.add(found.rows)
    assert len(memory) == len(rows["designs"]) + len(found.rows["designs"])


def test_objectives_of_chains_do_not_learn_from_them():
    for objective in (PPO(), TrajectoryBalance()):
        base, temperature = policy_of(JOINT), Temperature(TARGET_KL)
        context = Context(
            Roles.start(base), Target(Saved(base.process, REWARD.float()), 1.0), torch.Generator().manual_seed(0),
            Replay(objective.capacity), temperature=temperature,
        )  # fmt: skip
        Tempered(objective, temperature).collect(context, 40)
        assert not context.memory.rows


def test_what_a_value_knows_is_brought_to_the_new_alpha():
    """r/α of a fixed r doubles when α halves, and so do centre and spread."""
    value = learned_q()
    value.rescale(2.0)  # before any reward there is nothing to bring
    assert value.centre.isnan() and value.spread == 1.0
    value.set_units(torch.tensor([1.0, 3.0, 8.0]))
    centre, spread = value.centre.item(), value.spread.item()
    value.rescale(2.0)
    again = learned_q()
    again.set_units(2 * torch.tensor([1.0, 3.0, 8.0]))
    assert (value.centre, value.spread) == (again.centre, again.spread) == (2 * centre, 2 * spread)


def trainer_in(folder: Path, target_kl: float = 0.4, fails_at: int = 10**9) -> Trainer:
    """A run of VIDD with a real oracle whose reward dies at a given call."""
    base, value = policy_of(JOINT), learned_q()
    objective = VIDD(value="return", updates=2, states=8, buffer=64)
    asked = [0]

    def dying(texts: list[str]) -> list[float]:
        asked[0] += len(texts)
        if asked[0] >= fails_at:
            raise KeyboardInterrupt
        return [REWARD[int(text, V)].item() for text in texts]

    space = Written(lambda x: ["".join(map(str, row)) for row in x.tolist()])
    store = Store(folder / "oracle.sqlite")
    oracle = Oracle(FunctionReward(dying, "r"), store=store, max_calls=None, space=space, run_id="t")
    temperature = Temperature(target_kl)
    context = Context(
        Roles.start(base), Target(oracle, 1.0), torch.Generator().manual_seed(3), Replay(64), value,
        temperature=temperature,
    )  # fmt: skip
    config = TrainConfig(max_calls=160, batch=16, lr=0.05, warmup=2)
    return Trainer(context, Tempered(objective, temperature), config, oracle, folder)


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    whole = trainer_in(tmp_path / "whole")
    expected = whole.run().state_dict()
    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path / "killed", fails_at=24).run()
    with pytest.raises(CheckpointError, match=r"target_kl = 0\.4"):
        trainer_in(tmp_path / "killed", target_kl=0.5).resume()
    again = trainer_in(tmp_path / "killed")
    again.resume()
    assert 0 < again.round < whole.round and again.context.target.alpha != 1.0
    got = again.run().state_dict()
    assert all(torch.equal(got[key], expected[key]) for key in expected)
    assert [row["alpha"] for row in again.history] == [row["alpha"] for row in whole.history]


QUICK = {"name": "ppo", "updates": 2, "states": 16}
TRAIN = {"max_calls": 48, "batch": 16, "trackers": []}


def test_an_experiment_with_a_target_kl_is_tuned_judged_and_told(tmp_path):
    experiment = biotilt.Experiment.for_task(
        "utr", target_kl=1.5, objective=QUICK, train=TRAIN, output={"samples": 8}, held_out={"kind": "none"}
    )
    run = biotilt.tune(experiment, tmp_path / "run")
    assert experiment.config.alpha is None and run.alpha == run.rows[-1]["alpha"] > 0
    summary = run.evaluate()
    assert (summary["target_kl"], summary["alpha"], summary["attainable"]["alpha"]) == (1.5, run.alpha, run.alpha)
    assert "target KL" in (tmp_path / "run" / "report.html").read_text()
    assert read_json(tmp_path / "run" / "experiment.json")["config"]["target_kl"] == 1.5
    assert biotilt.Run.load(tmp_path / "run").alpha == run.alpha
    with pytest.raises(ConfigError, match="target_kl: tuning finds the alpha"):
        biotilt.steer(experiment, 4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target_kl": 0}, "target_kl: must be ≥ 0.01, got 0"),
        ({"target_kl": 1e6}, "target_kl: must be ≤ 1000"),
        ({"target_kl": 2, "alpha": 0.1}, "alpha: cannot stand beside target_kl"),
        ({"target_kl": 2, "train": {"batch": 8}}, "train.batch = 8 are too few; take 16"),
    ],
)
def test_what_cannot_be_is_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        biotilt.Experiment.for_task("utr", **changes)
