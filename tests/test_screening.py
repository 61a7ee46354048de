"""Experiments with a screen: what may be screened, what that changes, and that a run goes on bit for bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import biotilt
from biotilt.core import Context, Policy, Replay, Roles, Target, View
from biotilt.errors import ConfigError
from biotilt.networks import MLP, MLPConfig
from biotilt.objectives import DDPP, OBJECTIVES, PathConsistency, RewardWeighted, TrajectoryBalance
from biotilt.processes import AnyOrder
from biotilt.samplers import SAMPLERS, BestOfN, Refinement, TreeSearch
from biotilt.screens import GPOptions, GPScreen
from biotilt.spaces import DNA, Letters
from biotilt.training import TrainConfig, Trainer
from biotilt.values import VALUES
from biotilt.wiring import build_trainer

LENGTH = 8
SPACE = Letters(DNA)


class Lookup:
    """The share of G, and a half more for a G at the end; NaN for designs that start with two T; it can be killed."""

    def __init__(self, fails_at: float = math.inf):
        self.calls, self.fails_at = 0, fails_at

    def __call__(self, designs):
        self.calls += len(designs)
        if self.calls >= self.fails_at:
            raise KeyboardInterrupt
        scores = (designs == 2).float().mean(-1) + 0.5 * (designs[:, -1] == 2)
        return torch.where((designs[:, :2] == 3).all(-1), torch.nan, scores)

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state, *, behind=False):
        self.calls = state["calls"]


def screen(**options):
    return GPScreen.build(GPOptions(**({"start": 24, "rows": 80} | options)), View(SPACE, SPACE.decode))


def context(oracle, chosen_by=None, memory=None, value=None):
    torch.manual_seed(3)
    process = AnyOrder(LENGTH, 4)
    roles = Roles.start(Policy(process, MLP(MLPConfig(4, LENGTH, width=8, depth=1))))
    generator = torch.Generator().manual_seed(4)
    return Context(roles, Target(oracle, 0.2), generator, memory or Replay(None), value, chosen_by)


@pytest.mark.parametrize(
    "sampler",
    [BestOfN(factor=20), Refinement(rounds=9, children=1, select=False)],
    ids=lambda sampler: sampler.name,
)
def test_samplers_find_more_at_the_same_calls(sampler):
    found = {}
    for name, chosen_by in (("without", None), ("with", screen())):
        oracle = Lookup()
        draws = sampler.draw(context(oracle, chosen_by), 10)
        assert oracle.calls == (200 if sampler.name == "best_of_n" else 100)
        found[name] = draws.rewards.nanmean().item()
    assert found["with"] > found["without"]
    assert sampler.unscreened(None) == ""


def test_a_tree_has_the_children_that_a_screen_chose():
    search, oracle, chosen_by = TreeSearch(iterations=25, children=8), Lookup(), screen()
    rows = search.search(context(oracle, chosen_by))
    assert oracle.calls == 200 and len(rows["designs"]) == 200 and chosen_by.ready
    scores = Lookup()(rows["designs"])
    torch.testing.assert_close(rows["rewards"], scores, equal_nan=True)


def test_best_of_n_has_no_evidence_for_z_where_a_screen_chose():
    assert BestOfN().draw(context(Lookup(), screen()), 4).log_z is None
    assert BestOfN().draw(context(Lookup()), 4).log_z is not None


TAKES = {
    "evolve": {}, "vidd": {}, "reward_weighted": {"proposal": "policy"}, "trajectory_balance": {},
    "path_consistency": {}, "ddpp": {},
}  # fmt: skip
REFUSES = {
    "ppo": {}, "reward_weighted": {}, "wdce": {}, "sdpo": {}, "spg": {},
    "vidd": {"value": "return"}, "discrete_adjoint_matching": {},
}  # fmt: skip


def experiment(**changes):
    return biotilt.Experiment.for_task("utr", **({"screen": {}} | changes))


@pytest.mark.parametrize("name", TAKES)
def test_objectives_that_take_a_screen(name):
    experiment(objective={"name": name, **TAKES[name]})


@pytest.mark.parametrize("name", REFUSES)
def test_objectives_that_need_their_law_refuse_one_when_the_experiment_is_built(name):
    with pytest.raises(ConfigError, match=f"screen: {name} .*docs/screening.md"):
        experiment(objective={"name": name, **REFUSES[name]})


def test_a_screen_for_the_sampler_is_refused_only_to_the_objective():
    tuned = experiment(objective={"name": "ppo"}, sampler={"name": "best_of_n"}, train={"max_calls": 4, "batch": 2})
    assert biotilt.steer(tuned, 2).calls == 16
    with pytest.raises(ConfigError, match="screen: ppo"):
        build_trainer(tuned, None)


def test_what_is_said_of_samplers():
    said = {name: kind().unscreened(None) for name, kind in SAMPLERS.items() if name != "logit_guidance"}
    assert {name for name, why in said.items() if not why} == {"best_of_n", "tree_search", "evolve"}
    assert "with children = 4" in said["refinement"]
    with pytest.raises(ConfigError, match="screen: smc needs designs of the law"):
        biotilt.steer(experiment(), 2)


def test_the_page_lists_what_takes_one():
    page = (Path(__file__).parents[1] / "docs/screening.md").read_text(encoding="utf-8")
    for name in (*OBJECTIVES, *SAMPLERS):
        assert f"`{name}`" in page, name


def test_constraints_and_a_screen_are_refused():
    bound = {"kind": "gc", "at_least": 0.4}
    with pytest.raises(ConfigError, match=r"screen: the prices of \[\[constraints\]\]"):
        experiment(constraints=[bound])


def test_keys_are_checked():
    with pytest.raises(ConfigError, match=r'screen\.kapa: unknown key; did you mean "kappa"'):
        experiment(screen={"kapa": 1.0})
    with pytest.raises(ConfigError, match=r'screen\.name: unknown screen "gpp"; did you mean "gp"'):
        experiment(screen={"name": "gpp"})
    with pytest.raises(ConfigError, match=r'screen\.kernel: "values" compares numbers'):
        experiment(screen={"kernel": "values"})


def objective(name):
    options = {"updates": 2, "buffer": 64}
    return {
        "trajectory_balance": lambda: TrajectoryBalance(chains=8, **options),
        "path_consistency": lambda: PathConsistency(chains=8, **options),
        "ddpp": lambda: DDPP(states=8, **options),
        "reward_weighted": lambda: RewardWeighted(proposal="policy", states=8, refresh=3, **options),
    }[name]()


def trainer(name, folder, oracle):
    tuned = objective(name)
    torch.manual_seed(5)
    value = None
    if name in ("path_consistency", "ddpp"):
        blank = MLP(MLPConfig(4, LENGTH, width=8, depth=1)).blank()
        value = VALUES["state"].build(VALUES.options_of("state")(), AnyOrder(LENGTH, 4), lambda *size: blank)
    acquisition = "thompson" if name == "ddpp" else "ucb"
    found = context(oracle, screen(acquisition=acquisition), Replay(tuned.capacity), value)
    config = TrainConfig(max_calls=16 * 8, batch=16, checkpoint_every=2)
    return Trainer(found, tuned, config, oracle, folder)


def all_of(run):
    state = run.context.screen.state() | {f"net/{k}": v for k, v in run.context.roles.policy.net.state_dict().items()}
    return state | {f"memory/{k}": v for k, v in run.context.memory.rows.items()}


@pytest.mark.parametrize("name", ["trajectory_balance", "path_consistency", "ddpp", "reward_weighted"])
def test_a_screened_run_that_was_killed_goes_on_bit_for_bit(name, tmp_path):
    whole = trainer(name, None, Lookup())
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        trainer(name, tmp_path, Lookup(fails_at=16 * 5 + 3)).run()
    resumed = trainer(name, tmp_path, Lookup())
    resumed.resume()
    assert resumed.round == 4 and resumed.context.screen.ready
    resumed.run()
    ours, theirs = all_of(resumed), all_of(whole)
    assert ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.history] for run in (resumed, whole)]
    assert rows[0] == rows[1]
    assert {"screen/on", "screen/rows", "screen/rank", "screen/lead"} <= whole.history[-1].keys()
    assert whole.oracle.calls == 16 * 8


def test_vidd_with_its_surrogate_is_screened():
    few = {"objective": {"name": "vidd", "updates": 1}, "value": {"imagine": 4, "width": 4, "depth": 1}}
    tuned = experiment(train={"max_calls": 24, "batch": 8}, screen={"start": 8, "rows": 64, "factor": 2}, **few)
    run = build_trainer(tuned, None)
    run.run()
    assert run.history[-1]["screen/on"] == 1.0 and "screen/rank" in run.history[-1]
    assert run.oracle.calls == 24
