"""Public files of weights: what is read out of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from biotilt.errors import BiotiltError
from biotilt.models.convert import convert
from biotilt.tensors import load_tensors

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3)}


class Runs:
    """A pickle of this would run a program."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("was_run"),)


def test_tensors_and_settings_come_out(tmp_path: Path) -> None:
    torch.save({"model_state_dict": WEIGHTS, "num_edges": 48, "noise_level": 0.1}, tmp_path / "w.pt")
    convert("proteinmpnn", tmp_path / "w.pt", tmp_path / "w.safetensors")
    tensors, about = load_tensors(tmp_path / "w.safetensors")
    assert torch.equal(tensors["a.weight"], WEIGHTS["a.weight"]) and about["neighbours"] == 48 and about["noise"] == 0.1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model_state_dict": WEIGHTS, "num_edges": Runs()}, "no file of tensors and plain values alone"),
        ({"state": WEIGHTS, "num_edges": 4}, 'it has no "model_state_dict"'),
        ({"model_state_dict": {"a": 3}, "num_edges": 4}, '"a" is int, not a tensor'),
        ({"model_state_dict": {"a": torch.tensor(float("nan"))}, "num_edges": 4}, "not all finite"),
        ([WEIGHTS], "not a table"),
    ],
    ids=["code", "another layout", "no tensor", "not a number", "a list"],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, said: str
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BiotiltError, match=said):
        convert("proteinmpnn", tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert not (tmp_path / "was_run").exists() and not (tmp_path / "w.safetensors").exists()


def test_names_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(BiotiltError, match='did you mean "proteinmpnn"'):
        convert("protein_mpnn", tmp_path / "w.pt", tmp_path / "w.safetensors")
    with pytest.raises(BiotiltError, match=r"must be called \.safetensors"):
        convert("proteinmpnn", tmp_path / "w.pt", tmp_path / "w.bin")
    with pytest.raises(BiotiltError, match="is not a file"):
        convert("proteinmpnn", tmp_path / "w.pt", tmp_path / "w.safetensors")
