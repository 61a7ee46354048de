"""Models by the name of a repository: what is asked for, what is kept of the name, and what is said when it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import biotilt
from biotilt.core import Policy
from biotilt.errors import CheckpointError, ConfigError
from biotilt.finetuning import start_of
from biotilt.model import Model
from biotilt.models.hub import Repository, fetched, generator_file, named
from biotilt.models.origin import FileOrigin
from biotilt.networks import CNN, CNNConfig
from biotilt.processes import AnyOrder
from biotilt.spaces import as_space
from biotilt.tensors import load_tensors

hub = pytest.importorskip("huggingface_hub")


def model() -> Model:
    torch.manual_seed(0)
    return Model(
        Policy(AnyOrder(8, 4, per_step=2), CNN(CNNConfig(4, 8, channels=16, blocks=2)).eval()), as_space("dna")
    )


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A hub with one repository; the list has what was asked of it."""
    fetched.cache_clear()
    seen: list[tuple] = []
    folder = tmp_path / "cache" / "snapshot"
    model().save_pretrained(folder)

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        seen.append((name, revision, allow_patterns))
        if name != "someone/tiny":
            raise OSError("404: no such\nrepository")
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    yield seen
    fetched.cache_clear()


def test_a_repository_is_asked_once_and_for_nothing_that_could_run(asked):
    drawn = model().sample(4, seed=3)
    assert Model.pretrained("someone/tiny@v1").sample(4, seed=3) == drawn
    assert biotilt.load_model("hub:someone/tiny@v1").sample(4, seed=3) == drawn
    assert asked == [("someone/tiny", "v1", ["*.safetensors", "*.json", "*.toml", "*.txt"])]
    assert Model.pretrained("someone/tiny", per_step=4).policy.process.steps == 2
    assert asked[1][:2] == ("someone/tiny", None)


def test_a_run_over_a_repository_knows_it_by_its_name(asked, tmp_path):
    pytest.importorskip("peft")
    keys = {
        "alpha": 0.1,
        "model": {"path": "hub:someone/tiny@v1", "lora": {"rank": 2}},
        "reward": {"kind": "gc"},
        "objective": {"updates": 2, "states": 8},
        "train": {"max_calls": 16, "batch": 8, "lr": 0.01},
        "output": {"samples": 4},
    }
    run = biotilt.tune(biotilt.Experiment.from_dict(keys, tmp_path), tmp_path / "run")
    assert run.experiment.model.origin == FileOrigin("hub:someone/tiny@v1")
    record = json.loads((tmp_path / "run/experiment.json").read_text())
    assert "hub:someone/tiny@v1" in record["sha256"] and run.evaluate()["rows"]
    tensors, about = load_tensors(tmp_path / "run/tuned.safetensors")
    assert about["origin"]["path"] == "hub:someone/tiny@v1" and "beside" not in about["origin"]
    assert all("lora_" in name for name in tensors)
    assert biotilt.load_model(tmp_path / "run").sample(5) == run.sample(5)


def test_what_fails_says_how_to_get_the_files(asked):
    with pytest.raises(
        ConfigError, match=r"OSError: 404: no such repository\): get its files \*\.safetensors"
    ) as found:
        Model.pretrained("nobody/nothing@v2")
    assert "https://huggingface.co/nobody/nothing/tree/v2" in str(found.value)
    assert 'path = "FOLDER"' in str(found.value)
    with pytest.raises(ConfigError, match=r'"hub:a/b/c" names no repository .* write hub:owner/name'):
        Model.load("hub:a/b/c")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    fetched.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r'"huggingface_hub" is missing: pip install.*Or get its files'):
        Model.pretrained("someone/tiny")


def test_offline_the_cache_is_all_there_is(monkeypatch, tmp_path):
    fetched.cache_clear()
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"someone/never-seen.* cannot be had .*tree/main"):
        Model.pretrained("someone/never-seen")


def test_a_path_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert named("models/missing") == "models/missing", "the folder is there, so a file in it was meant"
    assert named("elsewhere/mine.safetensors") == "elsewhere/mine.safetensors"
    assert named("owner/name") == "hub:owner/name" and named(Path("owner/name")) == Path("owner/name")
    with pytest.raises(CheckpointError, match=r"mine\.safetensors does not exist"):
        Model.pretrained("elsewhere/mine.safetensors")
    assert Repository.of("owner/name@refs/pr/1") == ("owner/name", "refs/pr/1")


def test_folders_without_a_model_of_ours(tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"nor of a model: it holds no \.safetensors"):
        Model.pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, which is a pickle.*biotilt convert FAMILY"):
        Model.pretrained(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        model().save(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"several files \(a\.safetensors, b\.safetensors\), none called model"):
        Model.pretrained(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    assert generator_file(tmp_path) == tmp_path / "a.safetensors"
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r'a model of transformers \(model_type "bert"\).*source = "esm"'):
        Model.pretrained(tmp_path)


def test_a_source_by_its_name():
    points = Model.pretrained("reference", size=3)
    assert [point.shape for point in points.sample(2)] == [(3,), (3,)]
    with pytest.raises(ConfigError, match=r"model\.options\.sizes: unknown"):
        Model.pretrained("reference", size=3, sizes=3)


def test_a_masked_language_model_of_the_hub(monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    from test_esm import stored, theirs

    fetched.cache_clear()
    folder = stored(theirs("esm2"), tmp_path / "snapshot")
    monkeypatch.setattr(hub, "snapshot_download", lambda *asked, **named: str(folder))
    wanted = Model.pretrained("esm", path=str(folder), length=12).sample(3, seed=1)
    assert Model.pretrained("someone/esm2", length=12).sample(3, seed=1) == wanted
    toml = '[model]\nsource = "esm"\npath = "hub:someone/esm2"\noptions = { length = 12 }\n'
    (tmp_path / "mine.toml").write_text(toml)
    assert start_of(str(tmp_path / "mine.toml")).sample(3, seed=1) == wanted
    with pytest.raises(CheckpointError, match="is told how long designs are"):
        Model.pretrained("someone/esm2")
    fetched.cache_clear()
