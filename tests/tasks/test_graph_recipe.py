"""The recipe of the generator of graphs in small, and what its card says of the one that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("rdkit")

from biotilt.errors import ConfigError, DataError
from biotilt.experiment import Experiment
from biotilt.files import read_json
from biotilt.model import Model
from biotilt.spaces.graphs import Graphs
from biotilt.spaces.told import DecodedText
from biotilt.tasks import find_task
from biotilt.tasks.molecule import graph_recipe, quality
from biotilt.tasks.molecule.card import with_section
from biotilt.tasks.molecule.corpus import part_of
from biotilt.tasks.molecule.graph_recipe import GraphRecipe, figures, prepared, read_molecules
from biotilt.training import PretrainConfig

SPACE = Graphs(("C", "N", "O", "F"), 4)
SMALL = PretrainConfig(steps=4, batch=8, warmup=1, check_every=2)


def molecules() -> list[str]:
    """Return chains of up to four atoms, two of them unbranched and of each kind, all different."""
    found = {f"{a}{b}{c}" for a in ("C", "N", "O") for b in ("C", "N", "CC") for c in ("C", "F", "O", "N", "=O")}
    return sorted(found)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    table = tmp_path / "qm9.csv"
    table.write_text("smiles\n" + "\n".join([*molecules(), "OCC", "[NH3+]CC(=O)[O-]", "CCCCC", "CS"]) + "\n")
    return table


@pytest.fixture
def small(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GraphRecipe:
    monkeypatch.setattr(graph_recipe, "NETWORK", {"name": "vector_mlp", "width": 16, "depth": 1})
    monkeypatch.setattr(graph_recipe, "PROCESS", graph_recipe.PROCESS | {"num_steps": 3})
    corpus = read_molecules(file, SPACE)
    split = torch.arange(len(corpus.states)) % 3  # the hash leaves too few of so few
    return GraphRecipe(replace(corpus, part=split), tmp_path, tmp_path, SMALL, samples=12)


def test_molecules_are_read_once_and_split_by_their_hash(file: Path, tmp_path: Path) -> None:
    from rdkit.Chem import CanonSmiles

    corpus = read_molecules(file, SPACE)
    different = {CanonSmiles(smiles) for smiles in molecules()}
    assert len(corpus.states) == len(different)
    assert corpus.left_out == len(molecules()) + 4 - len(different)  # a repeat, a zwitterion, too large, sulphur
    for part in ("train", "validation", "unseen"):
        assert all(part_of(smiles) == part for smiles in SPACE.decode(corpus.rows(part)))
    corpus.save(tmp_path / "graph.corpus.safetensors")
    again = prepared(None, tmp_path)
    assert torch.equal(again.states, corpus.states) and again.space == SPACE and again.left_out == corpus.left_out


def test_without_data_there_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="so --data must say"):
        prepared(None, tmp_path)
    (tmp_path / "none.csv").write_text("smiles\nCS\n")
    with pytest.raises(DataError, match="no molecule that the graphs hold"):
        read_molecules(tmp_path / "none.csv", SPACE)


def test_the_recipe_goes_on_where_it_was_and_writes_a_model_with_its_card(
    small: GraphRecipe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "chemnet_statistics", lambda molecules: (0, 0))
    monkeypatch.setattr(quality, "chemnet_distance", lambda molecules, reference: 1.5)
    small.learn()
    weights = small._file(".safetensors").read_bytes()
    small.learn()
    assert "going on after step 4" in capsys.readouterr().out and small._file(".safetensors").read_bytes() == weights
    model = Model.load(small._file(".safetensors"))
    train = small.molecules.rows("train")
    shares = torch.bincount(train[:, -1].long(), minlength=5)[1:] / len(train)
    assert model.policy.process.counts == pytest.approx(shares.tolist(), abs=1e-6)  # type: ignore[attr-defined]
    small.draw()
    small.describe()
    small.describe()  # anew, in the place of the older section
    metrics = read_json(small._file(".json"))["metrics"]
    assert metrics["samples"] == 12 and metrics["unseen_fcd"] == 1.5 and metrics["train_designs"] == len(train)
    text = (small.out / "MODEL_CARDS.md").read_text()
    assert text.count("## graph.safetensors") == 1
    for key, value in metrics.items():
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        assert f"(`{key}`) | {shown} |" in text


def test_figures_by_hand() -> None:
    designs = [DecodedText("CCO"), DecodedText("CCO"), DecodedText("CC", parts=2), DecodedText("CN", mended=True)]
    designs += [DecodedText("C[N+](C)(C)C"), DecodedText("", mended=True, parts=0)]
    found = figures(designs, SPACE, ["CCO", "CCC"])
    assert found["valid_as_drawn"] == 4 / 6 and found["connected"] == 3 / 4 and found["charged"] == 1 / 4
    assert found["valid"] == 5 / 6 and found["unique"] == 4 / 5 and found["novel"] == 3 / 4


def test_other_sections_of_a_card_stay() -> None:
    once = with_section("# Cards\n\n## a\n\nA\n\n## z\n\nZ\n", "b", "B")
    assert once == "# Cards\n\n## a\n\nA\n\n## z\n\nZ\n\n## b\n\nB\n"
    assert with_section(once, "a", "new") == "# Cards\n\n## a\n\nnew\n\n## z\n\nZ\n\n## b\n\nB\n"


def test_the_shipped_generator_fits_its_card() -> None:
    folder = find_task("molecule").folder
    model = Model.load(folder / "graph.safetensors")
    assert model.space == Graphs(("C", "N", "O", "F"), 9)
    designs = model.sample(300, seed=5)
    found, told = figures(designs, SPACE, []), read_json(folder / "graph.json")["metrics"]
    for key in ("valid_as_drawn", "unique", "charged"):  # shares of 300: four standard deviations
        assert found[key] == pytest.approx(told[key], abs=4 * (told[key] * (1 - told[key]) / 300) ** 0.5 + 0.003)
    card = (folder / "MODEL_CARDS.md").read_text().partition("## graph.safetensors")[2].partition("\n## ")[0]
    for key, value in told.items():
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        assert f"(`{key}`) | {shown} |" in card
    assert (folder / "graph.safetensors").stat().st_size < 1_000_000


def test_the_task_takes_it_by_its_place_with_its_own_reward_and_objective() -> None:
    experiment = Experiment.for_task("molecule", model={"path": "@biotilt/tasks/molecule/graph.safetensors"})
    assert experiment.model.space.name == "graphs" and experiment.config.objective["name"] == "ppo"
    designs = experiment.model.sample(4, seed=1)
    scores = experiment.reward(designs)
    assert len(scores) == 4 and all(0 < score < 2.5 for score in scores)
