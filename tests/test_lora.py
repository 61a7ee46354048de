"""Adapters: what is trained, what stays bitwise, what is stored, and that a stored run gives the same designs."""

from __future__ import annotations

import copy

import pytest
import torch

import biotilt
from biotilt.core import Policy, Roles
from biotilt.errors import CheckpointError, ConfigError
from biotilt.model import Model
from biotilt.models.conditions import Conditions
from biotilt.models.lora import LoRA, adapted
from biotilt.networks import CNN, CNNConfig
from biotilt.processes import AnyOrder
from biotilt.spaces import as_space
from biotilt.tensors import load_tensors
from biotilt.wiring import build_trainer

pytest.importorskip("peft")


def model() -> Model:
    torch.manual_seed(0)
    return Model(Policy(AnyOrder(8, 4), CNN(CNNConfig(4, 8, channels=16, blocks=2)).eval()), as_space("dna"))


STATES = torch.tensor([[0, 4, 2, 4, 1, 3, 4, 0], [4] * 8], dtype=torch.int8)
TIMES = torch.tensor([3 / 8, 1.0])


def test_it_starts_at_the_base_and_leaves_it_alone():
    base = model()
    before = {name: p.requires_grad for name, p in base.policy.net.named_parameters()}
    lora = base.with_lora(rank=2, alpha=4)
    assert torch.equal(lora.policy.net(STATES, TIMES), base.policy.net(STATES, TIMES)), "B is 0"
    assert {name: p.requires_grad for name, p in base.policy.net.named_parameters()} == before
    places = {p.data_ptr() for p in base.policy.net.parameters()}
    for name, parameter in lora.policy.net.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        assert (parameter.data_ptr() in places) == ("lora_" not in name), "the weights are in memory once"


def test_an_adapter_is_a_product_of_two_matrices():
    base = model()
    net = adapted(base.policy.net, LoRA(rank=2, alpha=6, targets=("head.3",)))
    a, b = (net.get_parameter(f"head.3.lora_{kind}.default.weight") for kind in "AB")
    with torch.no_grad():
        b.copy_(torch.randn(b.shape, generator=torch.Generator().manual_seed(1)))
        by_hand = copy.deepcopy(base.policy.net)
        by_hand.head[3].weight += 6 / 2 * (b[..., 0] @ a[..., 0]).unsqueeze(-1)
        torch.testing.assert_close(net(STATES, TIMES), by_hand(STATES, TIMES))
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 2 * 16 + 4 * 2


def test_merged_says_the_same_without_adapters():
    lora = model().with_lora(rank=2)
    for name, parameter in lora.policy.net.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    whole = lora.merged()
    torch.testing.assert_close(whole.policy.net(STATES, TIMES), lora.policy.net(STATES, TIMES))
    assert whole.policy.net.state_dict().keys() == model().policy.net.state_dict().keys()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "base.safetensors"
    model().save(path)
    return path


def experiment(file, **changes) -> biotilt.Experiment:
    keys = {
        "alpha": 0.1,
        "model": {"path": str(file), "lora": {"rank": 2}},
        "reward": {"kind": "gc"},
        "objective": {"updates": 4, "states": 8},
        "train": {"max_calls": 32, "batch": 16, "lr": 0.01},
    }
    return biotilt.Experiment.from_dict(keys | changes, file.parent)


def test_only_adapters_are_trained_and_stored(file, tmp_path):
    tuning = experiment(file)
    frozen = copy.deepcopy(tuning.model.policy.net.state_dict())
    run = biotilt.tune(tuning, tmp_path / "run")
    for name, tensor in run.model.policy.net.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, frozen[name]), name
    changed = [
        name for name, tensor in run.model.policy.net.named_parameters() if not torch.equal(tensor, frozen[name])
    ]
    assert changed
    stored, _ = load_tensors(tmp_path / "run/tuned.safetensors")
    assert stored.keys() == {name for name in frozen if "lora_" in name}
    saved, _ = load_tensors(tmp_path / "run/checkpoint.safetensors")
    for role in ("policy", "proposal", "average"):
        assert {key for key in saved if key.startswith(f"{role}/")} == {f"{role}/{name}" for name in stored}
    assert biotilt.load_model(tmp_path / "run").sample(5) == run.sample(5)


@pytest.mark.parametrize(
    "name", ["vidd", "ppo", "trajectory_balance", "path_consistency", "wdce", "ddpp", "reward_weighted"]
)
def test_objectives_train_adapters_alone(file, name):
    trainer = build_trainer(experiment(file, objective={"name": name, "updates": 2}), None)
    before = copy.deepcopy(trainer.context.roles.policy.net.state_dict())
    trainer.run()
    after = trainer.context.roles.policy.net.state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert moved and all("lora_" in key for key in moved)


def test_adapters_know_their_base(file, tmp_path):
    tuned = biotilt.tune(experiment(file), tmp_path / "run").model
    other = Model.load(file)
    with torch.no_grad():
        other.policy.net.get_parameter("embed.weight").add_(0.1)
    moved = tmp_path / "elsewhere.safetensors"
    file.rename(moved)
    with pytest.raises(CheckpointError, match=r"holds adapters of the model .*base\.safetensors, which is not there"):
        biotilt.load_model(tmp_path / "run")
    again = biotilt.load_model(tmp_path / "run", factory=lambda: Model.load(moved))
    assert again.sample(5) == tuned.sample(5)
    other.save(file)
    with pytest.raises(CheckpointError, match=r"frozen weights .* are not those"):
        biotilt.load_model(tmp_path / "run")


def test_adapters_find_their_base_where_either_folder_was_moved_or_both_were(tmp_path, file):
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    base = file.rename(project / "models" / file.name)
    tuned = biotilt.tune(experiment(base), project / "runs/run").model
    expected = tuned.sample(5)
    (project / "runs/run").rename(tmp_path / "run")  # the run alone
    assert biotilt.load_model(tmp_path / "run").sample(5) == expected
    (tmp_path / "run").rename(project / "runs/run")
    project.rename(tmp_path / "elsewhere")  # with the model
    assert biotilt.load_model(tmp_path / "elsewhere/runs/run").sample(5) == expected
    other = Model.load(tmp_path / "elsewhere/models" / file.name)
    with torch.no_grad():
        other.policy.net.get_parameter("embed.weight").add_(0.1)
    other.save(tmp_path / "elsewhere/models" / file.name)
    with pytest.raises(CheckpointError, match=r"frozen weights .* are not those"):
        biotilt.load_model(tmp_path / "elsewhere/runs/run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ("convs.7",)}, r'no layer that can have adapters is called "convs\.7"; did you mean'),
        ({"targets": ("convs.1",)}, r'no layer that can have adapters is called "convs\.1"'),  # it is dilated
        ({"rank": 0}, r"model\.lora\.rank"),
        ({"r": 8}, r"model\.lora\.r: unknown"),
    ],
)
def test_what_is_wrong_with_adapters_is_said(options, message):
    with pytest.raises(ConfigError, match=message):
        model().with_lora(**options)


def test_roles_share_the_base(file):
    net = experiment(file).model.policy.net
    roles = Roles.start(experiment(file).model.policy)
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    for name in frozen:
        places = {role.net.get_parameter(name).data_ptr() for role in (roles.policy, roles.base, roles.proposal)}
        assert len(places) == 1, name


@pytest.fixture
def classes(tmp_path):
    """The file of a generator that can be told one of two classes."""
    torch.manual_seed(0)
    net = CNN(CNNConfig(4, 8, channels=16, blocks=2, conditions=2))
    torch.nn.init.normal_(net.condition.weight, std=2.0)
    told = Conditions.of(["liver", "k562"], unconditional=2)
    path = tmp_path / "classes.safetensors"
    Model(Policy(AnyOrder(8, 4), net.eval()), as_space("dna"), conditions=told).save(path)
    return path


@pytest.mark.parametrize("condition", ["k562", {"k562": 0.75, "liver": 0.25}])
def test_adapters_are_trained_under_conditions(classes, tmp_path, condition):
    given = {"path": str(classes), "lora": {"rank": 2}, "condition": condition, "guidance": 0.5}
    run = biotilt.tune(experiment(classes, model=given, objective={"name": "ppo", "updates": 2}), tmp_path / "run")
    base = Model.load(classes).with_condition(condition, guidance=0.5)
    frozen = base.policy.net.state_dict()
    for name, tensor in run.model.policy.net.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, frozen[name.replace(".base_layer", "")]), name
    assert run.model.sample(40, seed=1) != base.sample(40, seed=1), "something was learned"
    stored, about = load_tensors(tmp_path / "run/tuned.safetensors")
    assert stored and all("lora_" in name for name in stored)
    assert about["told"]["guidance"] == 0.5
    loaded = biotilt.load_model(tmp_path / "run")
    assert loaded.told == run.model.told and loaded.lora == LoRA(rank=2)
    assert loaded.sample(9, seed=2) == run.model.sample(9, seed=2)
    assert loaded.conditions_of(loaded.draw(9, seed=2)) == run.model.conditions_of(run.model.draw(9, seed=2))
    other = loaded.with_condition("liver").policy  # adapters serve whatever the network is told
    x = other.process.noise(2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        other.kernel(x, 0).x0, loaded.merged().with_condition("liver").policy.kernel(x, 0).x0, atol=1e-5, rtol=1e-5
    )
