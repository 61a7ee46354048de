"""The task of molecules: what its panel measures, its pictures, its files, and its sibling that docks."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit")
pytest.importorskip("selfies")

from biotilt.errors import ConfigError
from biotilt.experiment import Experiment
from biotilt.files import read_json
from biotilt.model import Model
from biotilt.tasks import find_task
from biotilt.tasks.molecule import panel, quality

TASK = find_task("molecule").folder
BENZENE, TOLUENE, PYRIDINE = "c1ccccc1", "Cc1ccccc1", "c1ccncc1"


def test_shares_are_counted_by_hand() -> None:
    designs = [BENZENE, "C1=CC=CC=C1", TOLUENE, "", "C1CC"]  # one molecule twice, two that are none
    assert quality.distinct(designs) == [BENZENE, TOLUENE]
    assert quality.validity(designs) == 3 / 5
    assert quality.uniqueness(designs) == 2 / 3
    assert quality.novelty(designs, {quality.key(TOLUENE)}) == 1 / 2
    assert quality.novelty(designs, frozenset()) == 1.0
    assert quality.scaffolds([*designs, PYRIDINE, "CC1CC1"]) == 3 / 4  # benzene twice, pyridine, cyclopropane
    assert quality.uniqueness(["", "C1CC"]) is None
    assert quality.novelty([""], set()) is None
    assert quality.scaffolds([""]) is None


def test_keys_are_the_head_of_a_sha256() -> None:
    # echo -n C | sha256sum begins 6b23c0d5f35d1b11
    assert quality.key("C") == 0x6B23C0D5F35D1B11
    assert quality.key("CC") < 2**63
    assert quality.key("CC") != quality.key("C")


def test_diversity_is_the_mean_over_pairs() -> None:
    from rdkit.Chem import MolFromSmiles, rdFingerprintGenerator

    molecules = [BENZENE, TOLUENE, PYRIDINE, "CCO"]
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    bits = [set(generator.GetFingerprint(MolFromSmiles(m)).GetOnBits()) for m in molecules]
    pairs = [(a, b) for i, a in enumerate(bits) for b in bits[:i]]
    by_hand = 1 - sum(len(a & b) / len(a | b) for a, b in pairs) / 6
    assert quality.diversity([*molecules, "", "C1CC"]) == pytest.approx(by_hand)
    assert quality.diversity([BENZENE] * 5) == 0.0
    assert quality.diversity([BENZENE, ""]) is None


def test_ring_sizes_are_counted_by_hand() -> None:
    designs = [BENZENE, "C1CC1", "c1ccc2ccccc2c1", "C1CCCCCCCC1", "CCO", "", "C1CC"]  # rings of 6, 3, 6 and 6, 9
    assert quality.ring_sizes(designs) == {"3": 0.2, "4": 0.0, "5": 0.0, "6": 0.6, "7": 0.0, "8+": 0.2}
    assert quality.ring_distance(designs, [BENZENE]) == pytest.approx(0.4)
    assert quality.ring_distance(designs, [PYRIDINE, "C1CCCC1"]) == pytest.approx((0.2 + 0.5 + 0.1 + 0.2) / 2)
    assert set(quality.ring_sizes(["CCO"]).values()) == {0.0}


def test_the_chemnet_distance_is_that_of_two_gaussians() -> None:
    pytest.importorskip("fcd")
    molecules = [BENZENE, TOLUENE, PYRIDINE, "CCO", "CCN", "CC(=O)O", "CCCl", "C1CC1"]
    mean, covariance = quality.chemnet_statistics(molecules)
    assert covariance.shape == (512, 512)
    shift = np.linspace(-1.0, 2.0, 512)
    # equal covariances: what is left of |μ1 − μ2|² + tr(Σ1 + Σ2 − 2 (Σ1 Σ2)^½) is the first term
    found = quality.chemnet_distance([*molecules, BENZENE, ""], (mean + shift, covariance))
    assert found == pytest.approx(float(shift @ shift), rel=1e-3)
    # covariances that are multiples: the second term is (1 − 2)² tr Σ
    found = quality.chemnet_distance(molecules, (mean, 4 * covariance))
    assert found == pytest.approx(float(np.trace(covariance)), rel=1e-2)
    assert quality.chemnet_distance([BENZENE, BENZENE], (mean, covariance)) is None


def test_the_panel_measures_molecules(monkeypatch: pytest.MonkeyPatch) -> None:
    measures = {measure.key: measure for measure in panel.measures()}
    monkeypatch.setattr(quality, "known_molecules", lambda: frozenset({quality.key(TOLUENE)}))
    designs = [TOLUENE, "CC(=O)Cl", "CCO", ""]
    assert measures["valid"].compute(designs) == 3 / 4
    assert measures["novel"].compute(designs) == 2 / 3
    assert measures["alerts"].compute(designs) == 1 / 3  # the acid chloride
    assert measures["logp"].compute(["C", ""]) == pytest.approx(0.1441 + 4 * 0.1230)  # Wildman and Crippen 1999
    assert measures["sa"].compute(["CC(=O)Oc1ccccc1C(=O)O"]) == pytest.approx(1.58, abs=0.01)  # Ertl's program
    assert all(measures[key].compute([""]) is None for key in ("qed", "sa", "logp", "alerts", "unique", "diversity"))


def test_pictures_are_drawings_with_their_properties() -> None:
    drawings = panel.pictures([TOLUENE, "", "CCO"])
    assert len(drawings) == 3
    roots = [ET.fromstring(drawing) for drawing in drawings]
    assert all(root.tag.endswith("svg") for root in roots)
    assert [len(root) > 3 for root in roots] == [True, False, True]  # what is no molecule has an empty picture
    assert drawings[0] != drawings[2]


@pytest.mark.parametrize("name", ["generator", "large", "zinc"])
def test_the_shipped_generators_draw_molecules_and_fit_their_cards(name: str) -> None:
    model = Model.load(TASK / f"{name}.safetensors")
    designs = model.sample(12, seed=5)
    assert quality.validity(designs) == 1.0
    assert quality.uniqueness(designs) == 1.0
    assert any("@" in design for design in designs) == (name == "zinc")  # stereocentres
    assert model.space.written_in is None
    card = read_json(TASK / f"{name}.json")["metrics"]
    if name == "generator":
        measured = set(find_task("molecule").quality()["measured"].values())
        assert {card["fcd"], card["valid"], card["unseen_scaffolds_nats"]} <= measured
    assert card["unseen_scaffolds_nats"] < card["unseen_nats_of_letter_frequencies"] / 2
    section = (TASK / "MODEL_CARDS.md").read_text().partition(f"## {name}.safetensors")[2].partition("\n## ")[0]
    for key, value in card.items():
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        assert f"(`{key}`) | {shown} |" in section


def test_an_experiment_takes_another_generator_by_its_place() -> None:
    experiment = Experiment.for_task("molecule", model={"path": "@biotilt/tasks/molecule/zinc.safetensors"})
    assert Path(experiment.config.model.path) == TASK / "zinc.safetensors"
    assert any("@" in design for design in experiment.model.sample(16, seed=3))


def test_the_reference_holds_the_training_molecules() -> None:
    known = quality.known_molecules()
    assert len(known) > 320_000
    mean, covariance = quality.real_statistics()
    assert mean.shape == (512,)
    assert np.allclose(covariance, covariance.T, atol=1e-4)


def test_a_scaffold_is_held_in_an_experiment() -> None:
    from rdkit.Chem import MolFromSmarts, MolFromSmiles

    experiment = Experiment.for_task("molecule", design={"scaffold": "*c1ccncc1"})
    pyridine = MolFromSmarts("[#6]1~[#6]~[#6]~[#7]~[#6]~[#6]~1")
    designs = experiment.model.sample(48, seed=2)
    assert all(MolFromSmiles(design).HasSubstructMatch(pyridine) for design in designs)
    assert len(set(designs)) > 40
    with pytest.raises(ConfigError, match=r"are held by design\.scaffold"):
        Experiment.for_task("molecule", design={"fixed": "CC..."})


def test_docking_asks_for_a_receptor_and_says_where_some_are(tmp_path: Path) -> None:
    pytest.importorskip("vina")
    pytest.importorskip("meeko")
    assert find_task("docking").defaults()["reward"]["kind"] == "vina"
    with pytest.raises(ConfigError, match=r"no receptor is given.*github.com/dockstring"):
        Experiment.for_task("docking")
    receptor = tmp_path / "receptor.pdbqt"
    receptor.write_text("ATOM      1  C   ALA A   1       1.000   2.000   3.000  1.00  0.00     0.000 C \n")
    options = {"receptor": str(receptor), "center": [1.0, 2.0, 3.0], "size": [12.0, 12.0, 12.0], "max_evals": 500}
    experiment = Experiment.from_dict({"task": "docking", "reward": {"kind": "vina", "options": options}}, tmp_path)
    assert experiment.reward(["CCO"])[0] > 0
    assert (experiment.base / experiment.config.model.path).resolve() == (TASK / "generator.safetensors").resolve()
