"""The task `lead`: from the generator to the page, with a stand-in for the networks of the endpoints."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("selfies")
pytest.importorskip("pandas")

from rdkit import Chem
from rdkit.Chem import Crippen, Descriptors, Lipinski

from admet_stand_in import PROBABILITIES, install
from biotilt import Experiment, tune
from biotilt.errors import ConfigError
from biotilt.rewards.molecule import admet
from biotilt.rewards.molecule.properties import parse
from biotilt.tasks.lead import panel

SMALL: dict[str, Any] = {
    "objective": {"updates": 1, "states": 4},
    "lagrangian": {"draws": 4},
    "train": {"max_calls": 8, "batch": 4},
    "output": {"samples": 5},
    "model": {"process": {"per_step": 36}},
    "held_out": {"options": {"conformers": 1}},
}
HINGE = "*N(C)c1ncnc2[nH]ccc12"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    yield install(monkeypatch)
    admet._networks.cache_clear()


def test_from_the_generator_to_the_page(tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biotilt.tasks.molecule.quality.chemnet_distance", lambda designs, real: None)
    run = tune(Experiment.from_dict({"task": "lead", **SMALL}, tmp_path), tmp_path / "run")
    assert {"multiplier/hERG_at_most", "multiplier/solubility_at_least"} <= run.rows[-1].keys()
    summary = run.evaluate()
    assert summary["problems"] == []
    assert [bound["name"] for bound in summary["constraints"]] == ["hERG", "solubility", "permeability", "CYP3A4"]
    (tuned,) = [row for row in summary["rows"] if row["name"] == "tuned"]
    molecules = [parse(design) for design in run.designs["sequence"]]
    kept = [
        heavy % 10 / 10 + PROBABILITIES.index("hERG") / 1000 <= 0.5
        for heavy in (molecule.GetNumHeavyAtoms() for molecule in molecules)
    ]
    assert tuned["constraints"][0]["failing"] == pytest.approx(1 - sum(kept) / len(kept))
    assert tuned["more"]["scaffold"] == sum(m.HasSubstructMatch(Chem.MolFromSmarts(HINGE)) for m in molecules) / 5
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "<h2>Constraints</h2>" in page and "at least −5.15" in page
    assert sum(asked) == len(admet._networks(False, "cpu")._known)  # measures and page ask nothing anew


def test_solubility_by_delaney_is_his_equation() -> None:
    for smiles in ("CC(=O)Oc1ccccc1C(=O)O", "CCCCO", "c1ccc2ccccc2c1"):
        molecule = Chem.MolFromSmiles(smiles)
        aromatic = len(molecule.GetSubstructMatches(Chem.MolFromSmarts("a"))) / molecule.GetNumAtoms()
        by_hand = (
            0.16 - 0.63 * Crippen.MolLogP(molecule) - 0.0062 * Descriptors.MolWt(molecule)
            + 0.066 * Lipinski.NumRotatableBonds(molecule) - 0.74 * aromatic
        )  # fmt: skip
        assert panel.esol(molecule) == pytest.approx(by_hand)


def test_alarms_are_those_that_no_constraint_bounds(asked: list[int]) -> None:
    config = Experiment.for_task("lead").config
    alarms = {m.key: m for m in panel.measures(config)}["alarms"]
    assert "AMES, DILI, ClinTox" in alarms.meaning
    # 6 heavy atoms: 0.6 and a bit; 3: 0.3 and a bit
    assert alarms.of_each(["c1ccncc1", "CCO", ""]) == [1.0, 0.0, None]
    bound = [{"kind": "admet", "column": "AMES", "at_most": 0.5}]
    other = {m.key: m for m in panel.measures(Experiment.for_task("lead", constraints=bound).config)}["alarms"]
    assert "DILI, ClinTox" in other.meaning and "AMES" not in other.meaning


def test_without_the_package_the_task_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    admet._versions.cache_clear()
    monkeypatch.setattr(admet, "package_version", unknown)
    monkeypatch.setattr("biotilt.errors.requires", lambda name: ['admet-ai>=2; extra == "admet"'])
    if importlib.util.find_spec("admet_ai") is not None:
        pytest.skip("admet-ai is installed here")
    with pytest.raises(ConfigError, match=r'"admet_ai" is missing: pip install "admet-ai>=2"'):
        Experiment.for_task("lead")
