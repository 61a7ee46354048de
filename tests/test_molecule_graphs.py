"""Molecules as graphs end to end: tuned, steered and sampled, with the rewards, measures and pages of molecules."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("rdkit")

from rdkit import Chem

from biotilt import Experiment, Model
from biotilt.core import Policy
from biotilt.networks import VectorMLP, VectorMLPConfig
from biotilt.processes import Gaussian
from biotilt.run import tune
from biotilt.spaces.graphs import Graphs
from biotilt.steering import steer

SPACE = Graphs(("C", "N", "O"), 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network on points that are read as graphs: most of its states have to be mended."""
    torch.manual_seed(0)
    process = Gaussian(SPACE.size, num_steps=4)
    path = tmp_path_factory.mktemp("graphs") / "points.safetensors"
    Model(Policy(process, VectorMLP(VectorMLPConfig(SPACE.size, 16, 1))), SPACE).save(path)
    return path


def experiment(model: Path, **keys: object) -> Experiment:
    data = {
        "name": "graphs", "alpha": 0.1, "model": {"path": str(model)}, "reward": {"kind": "qed"},
        "objective": {"name": "ppo"}, "train": {"max_calls": 24, "batch": 12}, "output": {"samples": 12},
    }  # fmt: skip
    return Experiment.from_dict(data | keys, Path())


def test_the_model_is_read_back_with_its_space(model: Path) -> None:
    loaded = Model.load(model)
    assert loaded.space == SPACE
    designs = loaded.sample(20, seed=1)
    assert designs == loaded.sample(20, seed=1)
    assert all(design == "" or Chem.MolFromSmiles(design) is not None for design in designs)
    assert sum(loaded.space.mended(design) is True for design in designs) > 0


@pytest.mark.parametrize(
    "objective", [{"name": "ppo"}, {"name": "vidd", "value": "return", "teacher": "sampled"}], ids=["ppo", "vidd"]
)
@pytest.mark.usefixtures("without_page")
def test_objectives_tune_it(model: Path, objective: dict[str, str], tmp_path: Path) -> None:
    summary = tune(experiment(model, objective=objective | {"updates": 2}), tmp_path / "run").evaluate()
    assert not summary["problems"] and summary["rows"][0]["distance"] > 0


def test_the_page_shows_molecules_and_how_many_were_valid_as_drawn(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biotilt.tasks.molecule.quality.chemnet_distance", lambda *sets: 1.0)  # seconds, and not meant
    searched = experiment(model, objective={"name": "evolve", "updates": 2}, panel="molecule")
    run = tune(searched, tmp_path / "run")
    summary = run.evaluate()
    assert not summary["problems"] and run.model.space == SPACE
    rows = {row["name"]: row for row in summary["rows"]}
    assert 0 <= rows["base"]["more"]["valid_as_drawn"] < 1 and rows["base"]["more"]["qed"] > 0
    assert rows["harvest"]["more"]["valid_as_drawn"] is None  # of a ledger nobody knows
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Valid as drawn" in page and "Tanimoto" in page and "Molecules of Base" in page


@pytest.mark.parametrize(
    "sampler", [{"name": "best_of_n"}, {"name": "smc"}, {"name": "svdd", "value": "posterior_mean"}, {"name": "evolve"}]
)
def test_samplers_steer_it(model: Path, sampler: dict[str, str]) -> None:
    found = steer(experiment(model, sampler=sampler), 4)
    assert len(found.designs) == 4 and found.calls > 0
    assert all(design == "" or Chem.MolFromSmiles(design) is not None for design in found.designs)
    if sampler["name"] == "evolve":
        assert len(set(found.designs)) == 4


def test_the_command_says_how_many_were_mended(model: Path, biotilt_cli, tmp_path: Path) -> None:
    result = biotilt_cli("sample", model, "--count", "8", "--seed", "3")
    assert result.exit_code == 0 and "of 8 designs were not valid as drawn and were corrected" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[::2] == [f">design_{i}" for i in range(1, 9)]
    assert lines[1::2] == [str(design) for design in Model.load(model).sample(8, seed=3)]
    assert biotilt_cli("sample", model, "--count", "8", "--seed", "3", "--out", tmp_path / "a.smi").exit_code == 0
    assert [line.split("\t")[0] for line in (tmp_path / "a.smi").read_text().splitlines()] == lines[1::2]


@pytest.mark.filterwarnings("ignore:1 of 41 molecules are none that graphs hold")
def test_a_generator_is_trained_by_one_command(biotilt_cli, tmp_path: Path) -> None:
    """Zwitterions are left out, and graphs have as many atoms as often as the data."""
    chains = ["C" * n + end for n in (1, 2, 3) for end in ("C", "O", "N", "F", "#N", "=O", "(C)C", "(C)O", "C=C")]
    more = ["OCC=O", "NC=O", "OC=O", "FCF", "CNC", "COC", "C=C", "C#C", "CNN", "OCO", "NCN", "CN=O", "C=NC"]
    (tmp_path / "some.smi").write_text("\n".join([*chains, *more, "[NH3+]CC(=O)[O-]"]) + "\n")
    words = ["pretrain", tmp_path / "some.smi", "--space", "graphs", "--out", tmp_path / "g.safetensors"]
    result = biotilt_cli(*words, "--steps", "5", "--num-steps", "6", "--set", "network.width=8")
    assert result.exit_code == 0, result.output + result.stderr
    model = Model.load(tmp_path / "g.safetensors")
    assert model.space == Graphs(("C", "N", "O", "F"), 5)
    process = model.policy.process
    assert (process.name, process.steps, model.policy.net.name) == ("graph", 6, "vector_mlp")
    atoms = torch.tensor([Chem.MolFromSmiles(smiles).GetNumAtoms() for smiles in [*chains, *more]])
    shares = torch.bincount(atoms, minlength=6)[1:] / len(atoms)
    assert process.counts == pytest.approx(shares.tolist())
    sizes = [Chem.MolFromSmiles(design).GetNumAtoms() for design in model.sample(20, seed=0) if design]
    assert max(sizes) <= 5
