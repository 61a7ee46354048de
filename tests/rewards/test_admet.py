"""ADMET endpoints: our side against a stand-in whose scores are told by hand, and against the package where it is."""

from __future__ import annotations

import importlib.resources
import importlib.util
import math
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("rdkit")
pytest.importorskip("selfies")
pytest.importorskip("pandas")

import biotilt
from admet_stand_in import OTHERS, PROBABILITIES, install
from biotilt import Experiment
from biotilt.errors import ConfigError
from biotilt.fitting import Split, pretrain_model
from biotilt.rewards import NotScored
from biotilt.rewards.generic.section import Section
from biotilt.rewards.molecule import admet
from biotilt.rewards.molecule.admet import ADMET, ADMETOptions
from biotilt.rewards.molecule.endpoints import ENDPOINTS, NAMES
from biotilt.rewards.molecule.properties import parse
from biotilt.spaces.selfies import Selfies
from biotilt.training import PretrainConfig

MOLECULES = ["CCO", "CCN", "CCCN", "c1ccncc1", "CC(=O)N", "OCCN", "CCOC", "NCCN", "CCCO", "CNC", "CC#N", "C1CCNC1"]
real = pytest.mark.skipif(importlib.util.find_spec("admet_ai") is None, reason="admet-ai is an extra of its own")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """Put the stand-in in the package's place; yield the molecules asked in each call of a network."""
    yield install(monkeypatch)
    admet._networks.cache_clear()


def test_each_endpoint_is_the_mean_of_its_networks(asked: list[int]) -> None:
    source = ADMETOptions().source()
    rows = source(["CCO", "", "c1ccncc1", "C1CC", "CCO"])
    assert asked == [2]  # two molecules, one of them named twice
    assert [set(rows[place]) for place in (0, 2)] == [set(NAMES)] * 2
    for place, name in enumerate(PROBABILITIES):  # 3 and 6 heavy atoms, the networks' ± 0.05 cancel
        assert rows[0][name] == pytest.approx(0.3 + place / 1000, abs=1e-6)
        assert rows[2][name] == pytest.approx(0.6 + place / 1000, abs=1e-6)
    assert [rows[2][name] for name in OTHERS] == pytest.approx([-1.0] * len(OTHERS))
    assert rows[4] == rows[0]
    assert [(type(rows[place]), rows[place].reason) for place in (1, 3)] == [
        (NotScored, "the design is empty"),
        (NotScored, "the design is not a valid molecule"),
    ]
    assert source(["CCO", "CCN"])[0] == rows[0] and asked == [2, 1]  # what is known is not asked again
    assert len(ADMETOptions().source()(["C" * n for n in range(1, 66)])) == 65 and asked == [2, 1, 64, 1]


def test_columns_are_rewards_with_units_and_nearest_names(asked: list[int]) -> None:
    source = ADMETOptions().source()
    herg = source.column("hERG")
    assert (herg.name, herg.units, herg.reads) == ("admet.hERG", "probability", "text")
    assert source.column("Solubility_AqSolDB").units == "log10 mol/L"
    assert herg(["CCO", ""])[0] == pytest.approx(0.3 + PROBABILITIES.index("hERG") / 1000)
    with pytest.raises(ConfigError, match=r'no column "Solubility_AqSolB"; did you mean "Solubility_AqSolDB"\?'):
        source.column("Solubility_AqSolB")
    with pytest.raises(ConfigError, match=r'reward\.column: admet gives 41 endpoints; .* column = "hERG"'):
        ADMET.of_section(Section("reward"))
    assert ADMETOptions(percentiles=True).source().version != source.version
    with pytest.raises(ConfigError, match="percentile"):
        ADMET.source_of(Section("reward", options={"percentile": True}))


def test_percentiles_count_drugs_below(asked: list[int]) -> None:
    (row,) = ADMETOptions(percentiles=True).source()(["CNCN"])
    # of the drugs −2, 0, 0 and 3: two nitrogens make −2, of which one equal drug counts half
    assert row["Caco2_Wang_drugbank_approved_percentile"] == 12.5
    assert row["hERG_drugbank_approved_percentile"] == 75.0  # 0.4 and a bit
    assert len(row) == 82


def test_a_missing_package_is_told_when_the_experiment_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    admet._versions.cache_clear()
    monkeypatch.setattr(admet, "package_version", unknown)
    monkeypatch.setattr("biotilt.errors.requires", lambda name: ['admet-ai>=2; extra == "admet"'])
    monkeypatch.setattr(
        admet, "needs_extra", lambda package, extra: biotilt.errors.needs_extra("no_such_package", extra)
    )
    section = {"kind": "admet", "column": "hERG"}
    with pytest.raises(ConfigError, match=r'pip install "admet-ai>=2"'):
        Experiment.from_dict({"task": "molecule", "reward": section}, Path())


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tiny generator of small molecules."""
    few = PretrainConfig(steps=3, warmup=1)
    space = Selfies.of_molecules(MOLECULES)
    network = {"channels": 8, "blocks": 1}
    model, _ = pretrain_model(MOLECULES * 4, space, network=network, config=few, split=Split(identity=None))
    path = tmp_path_factory.mktemp("molecules") / "generator.safetensors"
    model.save(path)
    return path


@pytest.mark.usefixtures("without_page")
def test_an_experiment_asks_each_molecule_once(generator: Path, tmp_path: Path, asked: list[int]) -> None:
    def column(name: str, **more: Any) -> dict[str, Any]:
        return {"kind": "admet", "column": name, **more}

    herg = PROBABILITIES.index("hERG") / 1000
    keys = {
        "alpha": 0.5, "model": {"path": str(generator)}, "objective": {"name": "vidd", "updates": 1, "states": 4},
        "reward": {"kind": "sum", "parts": [column("AMES"), column("Caco2_Wang", weight=-0.5)]},
        "constraints": [column("hERG", at_most=0.2 + herg), column("Solubility_AqSolDB", at_least=-1.0)],
        "held_out": column("DILI", direction="minimise"),
        "lagrangian": {"draws": 8}, "train": {"max_calls": 16, "batch": 8}, "output": {"samples": 8},
    }  # fmt: skip
    run = biotilt.tune(Experiment.from_dict(keys, tmp_path), tmp_path / "run")
    known = admet._networks(False, "cpu")._known
    summary = run.evaluate()
    assert sum(asked) == len(known)  # no molecule twice, whoever asked first
    (tuned,) = [row for row in summary["rows"] if row["name"] == "tuned"]
    molecules = [parse(design) for design in run.designs["sequence"]]
    sizes = [molecule.GetNumHeavyAtoms() % 10 / 10 + herg for molecule in molecules if molecule]
    nitrogens = [-sum(atom.GetSymbol() == "N" for atom in molecule.GetAtoms()) for molecule in molecules if molecule]
    first, second = tuned["constraints"]
    assert first["mean"] == pytest.approx(sum(sizes) / len(sizes), abs=1e-4)
    assert second["mean"] == pytest.approx(sum(nitrogens) / len(nitrogens), abs=1e-4)
    columns = (tmp_path / "run/designs.csv").read_text().partition("\n")[0].split(",")
    assert {f"admet.{name}" for name in NAMES} <= set(columns)


def test_the_table_of_endpoints_is_whole() -> None:
    assert len(set(NAMES)) == len(ENDPOINTS) == 41
    assert all(0.5 < e.figure < 1 if e.is_probability else e.figure < 1 for e in ENDPOINTS)


@real
def test_the_networks_say_what_the_package_says(capfd: pytest.CaptureFixture[str]) -> None:
    """Fifty drugs, by the package's own command for one call and by our source."""
    import pandas

    package = importlib.import_module("admet_ai")
    admet._networks.cache_clear()
    state = torch.get_rng_state()
    drugs = pandas.read_csv(importlib.import_module("admet_ai.constants").DEFAULT_DRUGBANK_PATH)["smiles"]
    designs = [smiles for smiles in drugs if len(smiles) < 60][:50]
    rows = ADMETOptions(percentiles=True).source()([*designs, "C1CC", ""])
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert torch.equal(torch.get_rng_state(), state)
    own = package.ADMETModel(include_physchem=False, num_workers=0).predict(designs)
    assert list(own.index) == designs
    for row, (_, expected) in zip(rows, own.iterrows()):
        assert set(row) == set(expected.index)
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert all(math.isnan(score) for score in rows[50:])
    admet._networks.cache_clear()


@real
def test_the_table_agrees_with_the_package() -> None:
    import pandas

    file = importlib.resources.files("admet_ai").joinpath("resources/data/admet.csv")
    with importlib.resources.as_file(file) as path:
        info = pandas.read_csv(path).set_index("id")
    assert set(NAMES) == set(info.index[info["category"] != "Physicochemical"])
    for endpoint in ENDPOINTS:
        told = info.loc[endpoint.name]
        assert endpoint.is_probability == (told["task_type"] == "classification")
        assert endpoint.molecules == told["size"]
        assert endpoint.figure == pytest.approx(told["AUROC" if endpoint.is_probability else "R^2"], abs=0.0051)
