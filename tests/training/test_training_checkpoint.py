"""A run that was killed goes on bit for bit; a checkpoint that is not its own is refused by name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Objective, Policy, Replay, Roles, Target
from biotilt.errors import CheckpointError
from biotilt.networks import MLP, MLPConfig
from biotilt.objectives import OBJECTIVES as REGISTERED
from biotilt.objectives import PPO, VIDD
from biotilt.processes import AnyOrder
from biotilt.tensors import load_tensors, save_tensors
from biotilt.testing.exact import lexicographic_index
from biotilt.training import TrainConfig, Trainer
from biotilt.values import VALUES, LearnedQ, LearnedValueConfig, PosteriorMean

L, V = 5, 3
REWARD = torch.randn(V**L, generator=torch.Generator().manual_seed(9))


class Lookup:
    """A table of rewards; it can fail at a given call, as a killed machine does."""

    def __init__(self, fails_at: int | None = None):
        self.calls, self.fails_at = 0, fails_at

    def __call__(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        if self.fails_at is not None and self.calls >= self.fails_at:
            raise KeyboardInterrupt
        scores = REWARD[lexicographic_index(designs, V)]
        return torch.where(scores == REWARD.max(), torch.nan, scores)  # some designs cannot be scored

    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int], *, behind: bool = False) -> None:
        self.calls = state["calls"]


def vidd(value: str, teacher: str = "closed_form") -> VIDD:
    return VIDD(anchor="pretrained", value=value, teacher=teacher, beta=0.5, refresh=3, mirror=0.5,  # type: ignore[arg-type]
                updates=4, states=16, buffer=40, max_log_weight=10.0)  # fmt: skip


def ppo() -> PPO:
    return PPO(advantage="batch", group=4, clip=0.2, updates=4, states=24)


OBJECTIVES: dict[str, Any] = {
    "vidd_mixed": lambda: vidd("mixed"),
    "vidd_sampled": lambda: vidd("return", "sampled"),
    "vidd_posterior_mean": lambda: vidd("posterior_mean", "sampled"),
    "ppo": ppo,
    "path_consistency": lambda: registered("path_consistency", updates=4, chains=8, buffer=40),
    "trajectory_balance": lambda: registered("trajectory_balance", form="learned", updates=4, chains=8, buffer=40),
    "trajectory_balance_search": lambda: registered(
        "trajectory_balance", draws="search", replay="rank", start=8, updates=4, chains=8, buffer=40
    ),
    "reward_weighted": lambda: registered("reward_weighted", updates=4, states=16, buffer=40, refresh=3),
    "wdce": lambda: registered("wdce", updates=4, states=16, buffer=40, refresh=3),
    "ddpp": lambda: registered("ddpp", updates=4, states=16, buffer=40),
    "sdpo": lambda: registered("sdpo", group=4, updates=4, states=16, buffer=40),
    "spg": lambda: registered("spg", updates=4, states=16),
    "score_climbing": lambda: registered("score_climbing", updates=4, states=16, buffer=40),
    "evolve": lambda: registered("evolve", updates=4, states=16, start=8, crossover=0.3, scattered=0.5),
    "discrete_adjoint_matching": lambda: registered("discrete_adjoint_matching", group=4, updates=4, states=16),
}


def registered(name: str, **options: Any) -> Any:
    return REGISTERED[name](**options)


def network(width: int = 8) -> MLP:
    return MLP(MLPConfig(V, L, width=width, depth=1))


def build(objective: Objective, folder: Path | None, oracle: Lookup | None = None, width: int = 8) -> Trainer:
    """Everything anew, as after a kill; weights before training are the same every time."""
    torch.manual_seed(3)
    process = AnyOrder(L, V)
    roles = Roles.start(Policy(process, network(width)))
    kind = getattr(objective, "value", None)
    value: Any = PosteriorMean(0) if kind == "posterior_mean" else None
    if kind in LearnedQ.runs:
        value = LearnedQ(network(width), process, kind, LearnedValueConfig(lr=1e-2, target_rate=0.1))
    if kind in ("state", "log_z"):
        value = VALUES[kind].build(VALUES.options_of(kind)(), process, lambda *size: network(width).blank())
    oracle = oracle or Lookup()
    generator = torch.Generator().manual_seed(4)
    context = Context(roles, Target(oracle, 0.5), generator, Replay(objective.capacity), value)
    config = TrainConfig(max_calls=16 * 6, batch=16, lr=0.01, schedule="cosine", warmup=3, clip=1.0, ema=0.9,
                         checkpoint_every=2)  # fmt: skip
    return Trainer(context, objective, config, oracle, folder)


def everything(trainer: Trainer) -> dict[str, Any]:
    """All that the rest of a run depends on, with the history except the clock."""
    roles, context = trainer.context.roles, trainer.context
    modules = {"policy": roles.policy.net, "proposal": roles.proposal.net, "average": trainer.average}
    if isinstance(context.value, torch.nn.Module):
        modules["value"] = context.value
    state: dict[str, Any] = {f"{n}/{k}": v for n, m in modules.items() for k, v in m.state_dict().items()}
    for index, moments in trainer.optimiser.state_dict()["state"].items():
        state |= {f"optimiser/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
    state |= {f"memory/{k}": v for k, v in context.memory.rows.items()}
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]
    return state | {
        "generator": context.generator.get_state(),
        "numbers": (trainer.round, trainer.update, trainer.oracle.calls, repr(history)),
    }


def _same(ours: Tensor, theirs: Tensor) -> bool:
    """Whether tensors are equal bit for bit: a score that is missing is equal to one that is missing."""
    missing = ours.isnan()
    return torch.equal(missing, theirs.isnan()) and torch.equal(ours[~missing], theirs[~missing])


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    different = [
        key
        for key, value in ours.items()
        if not (_same(value, theirs[key]) if isinstance(value, Tensor) else value == theirs[key])
    ]
    assert not different


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("fails_at", [16 * 2 + 1, 16 * 5], ids=["after_a_checkpoint", "two_rounds_later"])
def test_a_killed_run_goes_on_bit_for_bit(name, fails_at, tmp_path):
    whole = build(OBJECTIVES[name](), None)
    whole.run()
    if name == "vidd_posterior_mean":  # this value asks for less than a batch a round
        fails_at = whole.oracle.calls * fails_at // 96
    fails_at = min(fails_at, whole.oracle.calls - 4)  # chains that stay where they are ask nothing
    killed = build(OBJECTIVES[name](), tmp_path, Lookup(fails_at))
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    resumed = build(OBJECTIVES[name](), tmp_path)
    resumed.resume()
    assert resumed.round in (2, 4) and resumed.round <= killed.round
    resumed.run()
    assert_same(everything(resumed), everything(whole))
    assert not any(
        torch.equal(a, b) for a, b in zip(resumed.average.parameters(), resumed.context.roles.base.net.parameters())
    )


def test_what_is_compared_differs_between_seeds():
    """Else the test above could not fail."""
    ours, theirs = build(vidd("mixed"), None), build(vidd("mixed"), None)
    theirs.context.generator.manual_seed(5)
    ours.run()
    theirs.run()
    with pytest.raises(AssertionError):
        assert_same(everything(ours), everything(theirs))


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    done = build(ppo(), tmp_path)
    done.run()
    again = build(ppo(), tmp_path)
    again.resume()
    average = again.run()
    assert again.oracle.calls == 96 and len(again.history) == 6
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), done.average.parameters()))
    assert again.history[-1]["seconds"] == done.history[-1]["seconds"]


def test_a_run_killed_before_anything_was_scored_can_be_resumed(tmp_path):
    """The replay is then empty, and a reward of nothing is NaN: both survive the file."""

    class Blind(Lookup):
        def __call__(self, designs: Tensor) -> Tensor:
            return super().__call__(designs) * torch.nan

    first = build(vidd("mixed"), tmp_path, Blind(fails_at=16 * 3))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = build(vidd("mixed"), tmp_path)
    second.resume()
    assert second.round == 2 and second.update == 0 and len(second.context.memory) == 0
    second.run()
    assert second.update == 16 and len(second.context.memory) == 40


def interrupted(folder: Path, fails_at: int) -> Trainer:
    trainer = build(vidd("mixed"), folder, Lookup(fails_at))
    if trainer.checkpoint_before.is_file() or trainer.checkpoint.is_file():
        trainer.resume()
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    return trainer


DAMAGES: dict[str, Any] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-7] + b"~" + path.read_bytes()[-6:]),
    "killed between two renames": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_the_last_steps_in(damage, tmp_path):
    whole = build(vidd("mixed"), None)
    whole.run()
    killed = interrupted(tmp_path, 16 * 5)  # checkpoints of rounds 2 and 4
    DAMAGES[damage](killed.checkpoint)
    resumed = build(vidd("mixed"), tmp_path)
    said = resumed.resume()
    assert (resumed.round, resumed.oracle.calls) == (2, 32)
    assert str(killed.checkpoint) in said and "went on from" in said and "round 2" in said
    resumed.run()
    assert_same(everything(resumed), everything(whole))


def test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one(tmp_path):
    DAMAGES["truncated"](interrupted(tmp_path, 16 * 5).checkpoint)
    again = interrupted(tmp_path, 16 * 5)  # goes on from round 2, and writes round 4 once more
    rounds = [load_tensors(path)[1]["round"] for path in (again.checkpoint, again.checkpoint_before)]
    assert rounds == [4, 2]


def refused(trainer: Trainer, path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        trainer.resume()
    assert str(path) in str(caught.value)


@pytest.fixture
def saved(tmp_path):
    """A finished run of VIDD with a learned value; returns its checkpoint, the only one."""
    trainer = build(vidd("mixed"), tmp_path)
    trainer.run()
    trainer.checkpoint_before.unlink()
    return trainer.checkpoint


@pytest.mark.parametrize("name", ["sdpo", "reward_weighted", "wdce"])
def test_a_replay_of_an_earlier_version_is_read(name, tmp_path):
    """It named its columns otherwise, and held log-weights in place of rewards."""
    trainer = build(OBJECTIVES[name](), tmp_path)
    trainer.run()
    rows = dict(trainer.context.memory.rows)
    tensors, about = load_tensors(trainer.checkpoint)
    old = {key: value for key, value in tensors.items() if not key.startswith("memory/")}
    weight = rows["rewards"] / 0.5 - rows.get("log_mix", torch.zeros(()))
    earlier = {"design": rows["designs"], "reward": rows["rewards"]}
    if name != "sdpo":
        earlier = {"design": rows["designs"], "log_weight": weight, **{k: rows[k] for k in ("log_control", "scored")}}
    save_tensors(trainer.checkpoint, old | {f"memory/{key}": value for key, value in earlier.items()}, about)
    again = build(OBJECTIVES[name](), tmp_path)
    assert again.resume() == ""
    read = again.context.memory.rows
    assert read.keys() == rows.keys() and torch.equal(read["designs"], rows["designs"])
    assert torch.equal(read["rewards"] / 0.5 - read.get("log_mix", torch.zeros(())), weight)
    again.context.memory.add(rows)  # the run goes on


def test_a_missing_checkpoint(tmp_path):
    trainer = build(ppo(), tmp_path / "elsewhere")
    refused(trainer, trainer.checkpoint, "does not exist")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_checkpoint(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    refused(build(vidd("mixed"), saved.parent), saved, "damaged or not a safetensors file")


def test_a_damaged_header(saved):
    data = bytearray(saved.read_bytes())
    data[:8] = b"\xff" * 8
    saved.write_bytes(bytes(data))
    refused(build(vidd("mixed"), saved.parent), saved, "damaged or not a safetensors file")


WRITERS: dict[str, Any] = {
    "torch": lambda path: torch.save({"policy": torch.zeros(2)}, path),
    "torch_legacy": lambda path: torch.save({"p": torch.zeros(2)}, path, _use_new_zipfile_serialization=False),
} | {
    f"protocol_{n}": lambda path, n=n: path.write_bytes(pickle.dumps({"policy": [1] * 50}, protocol=n))
    for n in range(2, pickle.HIGHEST_PROTOCOL + 1)
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_pickle_is_never_read(saved, writer):
    WRITERS[writer](saved)
    refused(build(vidd("mixed"), saved.parent), saved, "is a pickle")


def test_a_file_is_not_taken_for_a_pickle_by_the_length_of_its_header(tmp_path):
    """The first bytes are that length: one file in 32 starts with 0x80, as pickles do, and some with PK."""
    path, starts = tmp_path / "some.safetensors", set()
    for padding in range(0, 256, 8):
        save_tensors(path, {"weight": torch.ones(2)}, {"padding": "x" * padding})
        starts.add(path.read_bytes()[0])
        assert torch.equal(load_tensors(path)[0]["weight"], torch.ones(2))
    assert 0x80 in starts
    length = int.from_bytes(path.read_bytes()[:8], "little")
    save_tensors(path, {"weight": torch.ones(2)}, {"padding": "x" * (248 + 0x4B50 - length)})
    assert path.read_bytes()[:2] == b"PK"
    assert torch.equal(load_tensors(path)[0]["weight"], torch.ones(2))


def test_a_safetensors_file_of_somebody_else(saved):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, saved)
    refused(build(vidd("mixed"), saved.parent), saved, "no biotilt metadata")
    save_tensors(saved, {"weight": torch.zeros(2)}, {"kind": "generator"})
    refused(build(vidd("mixed"), saved.parent), saved, 'holds a "generator"')


@pytest.mark.parametrize(
    "other",
    [
        lambda folder: build(vidd("mixed"), folder, width=12),  # another network
        lambda folder: build(ppo(), folder),  # another objective
        lambda folder: build(vidd("posterior_mean", "sampled"), folder),  # no learned value
    ],
    ids=["network", "objective", "value"],
)
def test_the_checkpoint_of_another_experiment(saved, other):
    refused(other(saved.parent), saved, "does not fit this experiment")


def test_a_checkpoint_without_the_learned_value(saved):
    other = build(vidd("posterior_mean", "sampled"), saved.parent)
    other.run()
    other.checkpoint_before.unlink()
    refused(build(vidd("mixed"), saved.parent), saved, "does not fit this experiment")


@pytest.mark.parametrize("missing", ["generator", "proposal/layers.0.weight", "value/centre"])
def test_a_checkpoint_that_lacks_a_tensor(saved, missing):
    tensors, about = load_tensors(saved)
    del tensors[missing]
    save_tensors(saved, tensors, about)
    refused(build(vidd("mixed"), saved.parent), saved, "does not fit this experiment")


@pytest.mark.parametrize("missing", ["oracle", "round", "history"])
def test_a_checkpoint_that_lacks_a_number(saved, missing):
    tensors, about = load_tensors(saved)
    del about[missing]
    save_tensors(saved, tensors, about)
    refused(build(vidd("mixed"), saved.parent), saved, f"{missing}: this key is missing")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("round", -1, "round: "),
        ("update", "3", "update: "),
        ("history", [{"round": 1, "calls": 8}], r"history.0: .*no number of seconds"),
        ("history", [{"round": 1, "calls": [8], "seconds": 0.1}], "history.0.calls"),
        ("oracle", [1], "oracle: "),
    ],
)
def test_a_checkpoint_with_an_odd_value(saved, key, value, message):
    tensors, about = load_tensors(saved)
    save_tensors(saved, tensors, about | {key: value})
    refused(build(vidd("mixed"), saved.parent), saved, message)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("generator", lambda t: t.float(), "does not fit this experiment"),
        ("optimiser/0/exp_avg", lambda t: t.flatten()[:1], "another shape"),
        ("average/", lambda t: torch.full_like(t, torch.nan), "weights of the average are not finite"),
        ("memory/", lambda t: t[:1], "differ in number"),
    ],
)
def test_a_checkpoint_with_an_odd_tensor(saved, name, change, message):
    tensors, about = load_tensors(saved)
    key = min(key for key in tensors if key.startswith(name) and len(tensors[key]))
    save_tensors(saved, tensors | {key: change(tensors[key])}, about)
    refused(build(vidd("mixed"), saved.parent), saved, message)
