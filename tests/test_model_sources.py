"""Models by name: the options of one that are files start at the folder of the experiment."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from biotilt import Experiment
from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.models.sources import MODELS
from biotilt.options import PathText, Text, anchored, paths_of


@dataclass(frozen=True)
class OfFile:
    """A model in a file."""

    weights: PathText
    note: Text = ""
    more: PathText | None = None

    name: ClassVar[str] = "of_file"

    def build(self) -> Model:
        if not Path(self.weights).is_file():
            raise ConfigError(f"there is no file {self.weights}")
        return Model.load(Path(self.weights))


def test_paths_are_known_by_their_type(tmp_path):
    assert paths_of(OfFile) == {"weights", "more"}
    (tmp_path / "here").touch()
    given = {"weights": "here", "note": "here", "more": "elsewhere"}
    assert anchored(OfFile, given, tmp_path) == given | {"weights": str(tmp_path / "here")}
    assert anchored(OfFile, {"weights": str(tmp_path / "here")}, Path("/"))["weights"] == str(tmp_path / "here")


def test_a_relative_file_of_a_source_starts_at_the_experiment(keys, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS._parts, "of_file", OfFile)
    (tmp_path / "weights").mkdir()
    shutil.copy(tiny / "generator.safetensors", tmp_path / "weights" / "g.safetensors")
    model = {"source": "of_file", "options": {"weights": "weights/g.safetensors"}}
    monkeypatch.chdir("/")
    found = Experiment.from_dict(keys | {"model": model}, tmp_path, proven=True).model
    assert found.sample(3, seed=0) == Model.load(tiny / "generator.safetensors").sample(3, seed=0)
    with pytest.raises(ConfigError, match=r"there is no file weights/g\.safetensors"):
        Experiment.from_dict(keys | {"model": model}, tmp_path / "weights", proven=True)
