"""Another process for the network of a stored model: in Python, in a file's keys, and in what a run records."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

import biotilt
from biotilt.core import Policy
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.model_given import model_section
from biotilt.models.changed import changed
from biotilt.models.origin import SourceOrigin
from biotilt.networks.dilated_cnn import DilatedCNN, DilatedCNNConfig
from biotilt.networks.mlp import MLP, MLPConfig
from biotilt.processes import AnyOrder, Confidence, Masked, Uniform
from biotilt.spaces import DNA, Letters


def model(process=None, *, time: bool = False) -> Model:
    torch.manual_seed(0)
    process = process or AnyOrder(6, 4, per_step=2)
    return Model(Policy(process, MLP(MLPConfig(4, 6, width=8, time=time)).eval()), Letters(DNA))


def test_what_both_have_stays_and_the_network_is_the_same():
    letters = torch.tensor([2, 0, 0, 0, 0, 0], dtype=torch.int8)
    held = Fixed(torch.arange(6) == 0, letters)
    before = model().with_fixed(held)
    after = before.with_process(name="confidence", randomness=0.5)
    assert after.policy.process == Confidence(6, 4, before.policy.process.fixed, per_step=2, randomness=0.5)
    assert after.policy.net is before.policy.net and {design[0] for design in after.sample(8)} == {"G"}
    assert after.with_process(name="any_order").policy.process == before.policy.process
    told = model(Masked(6, 4, schedule="cosine"), time=True).with_process(name="confidence", per_step=3)
    assert told.policy.process == Confidence(6, 4, per_step=3, schedule="cosine")


def test_a_stored_model_is_read_with_another_process_and_written_with_it(tmp_path):
    model().save(tmp_path / "base.safetensors")
    sure = Model.load(tmp_path / "base.safetensors", name="confidence", by="entropy")
    assert sure.sample(4) == model().with_process(name="confidence", by="entropy").sample(4)
    sure.save(tmp_path / "sure.safetensors")
    again = Model.load(tmp_path / "sure.safetensors")
    assert again.policy.process == Confidence(6, 4, per_step=2, by="entropy") and again.sample(4) == sure.sample(4)
    assert Model.load(tmp_path / "sure.safetensors", name="any_order").policy.process == AnyOrder(6, 4, per_step=2)


@pytest.mark.parametrize(
    ("process", "options", "message"),
    [
        (Uniform(6, 4), {"name": "confidence"}, 'network of the process "uniform" does not serve "confidence"'),
        (AnyOrder(6, 4), {"name": "uniform"}, "can be exchanged: any_order, masked, confidence"),
        (AnyOrder(6, 4), {"name": "confidenc"}, 'did you mean "confidence"'),
        (AnyOrder(6, 4), {"name": "confidence", "num_steps": 3}, "num_steps"),
        (Masked(6, 4, schedule="cosine"), {"name": "any_order"}, 'times of the schedule "cosine"'),
    ],
)
def test_what_cannot_be_exchanged_is_refused(process, options, message):
    with pytest.raises(ConfigError, match=message):
        changed(process, options, MLP(MLPConfig(4, 6, width=8, time=True)))


def test_an_experiment_names_the_process_and_its_run_remembers_it(tmp_path):
    keys = {
        "alpha": 0.5,
        "model": {"path": "base.safetensors", "process": {"name": "confidence", "randomness": 0.5, "per_step": 3}},
        "reward": {"kind": "gc"},
        "objective": {"name": "ppo", "updates": 1, "states": 8},
        "train": {"max_calls": 16, "batch": 8},
        "output": {"samples": 4},
    }
    model().save(tmp_path / "base.safetensors")
    run = biotilt.tune(biotilt.Experiment.from_dict(keys, tmp_path), tmp_path / "run")
    assert biotilt.load_model(tmp_path / "run").policy.process == Confidence(6, 4, per_step=3, randomness=0.5)
    run.evaluate()
    given = biotilt.Experiment.from_dict(keys | {"model": {"path": "base.safetensors"}}, tmp_path).model
    sure = given.with_process(name="confidence", by="largest")
    biotilt.tune(biotilt.Experiment.from_dict(keys, tmp_path, model=sure), tmp_path / "second")
    assert biotilt.load_model(tmp_path / "second").policy.process == Confidence(6, 4, per_step=2)
    built = replace(sure, origin=SourceOrigin("esm", {}))  # what a source builds is recorded with what was changed
    assert model_section(built)["process"] == {"name": "confidence"} | sure.process_options
    drawn = keys | {"model": {"path": "base.safetensors", "process": {"name": "confidence", "by": "drawn"}}}
    with pytest.raises(ConfigError, match='set by = "largest"'):
        biotilt.Experiment.from_dict(drawn, tmp_path)


def mdlm(*, time: bool) -> Model:
    torch.manual_seed(1)
    net = DilatedCNN(DilatedCNNConfig(4, 6, width=8, stacks=1, kernel=3, dilations=(1,), time=time))
    return Model(Policy(Masked(6, 4, num_steps=8), net.eval()), Letters(DNA))


@pytest.mark.parametrize("made", [mdlm, lambda time: model(Masked(6, 4), time=time)], ids=["mdlm", "mlp"])
def test_times_of_another_schedule_are_noticed(made, tmp_path):
    with pytest.warns(UserWarning, match=r'process\.schedule: .*those of "loglinear"; with "mdlm_cosine"'):
        other = made(time=True).with_process(schedule="mdlm_cosine")
    assert other.policy.process.schedule == "mdlm_cosine"
    made(time=True).save(tmp_path / "m.safetensors")
    with pytest.warns(UserWarning, match=r"process\.schedule"):
        Model.load(tmp_path / "m.safetensors", schedule="cosine")
    other.save(tmp_path / "other.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(time=True).with_process(num_steps=4, schedule="loglinear")
        made(time=False).with_process(schedule="mdlm_cosine")
        Model.load(tmp_path / "other.safetensors", num_steps=3)  # as it was written: said once


def test_a_network_that_does_not_say_is_asked():
    """It takes times and answers the same at all of them."""

    class Deaf(torch.nn.Module):
        def forward(self, x, t):
            return torch.zeros(*x.shape, 4)

    bare = Model(Policy(Masked(6, 4), Deaf()), Letters(DNA))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bare.with_process(schedule="cosine")
    with pytest.warns(UserWarning, match=r"process\.schedule"):
        Model(Policy(AnyOrder(6, 4), MLP(MLPConfig(4, 6, width=8, time=True)).eval()), Letters(DNA)).with_process(
            name="masked", schedule="cosine"
        )
