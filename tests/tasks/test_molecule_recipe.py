"""The recipe of molecules in small: it goes on where it was interrupted, and writes generators with their cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("rdkit")
pytest.importorskip("selfies")

from biotilt.errors import CheckpointError, ConfigError
from biotilt.files import read_json
from biotilt.model import Model
from biotilt.spaces.selfies import Selfies
from biotilt.tasks.molecule import quality, recipe
from biotilt.tasks.molecule.corpus import PARTS, Corpus
from biotilt.tasks.molecule.recipe import GENERATORS, Recipe, frequency_nats, prepared
from biotilt.training import PretrainConfig

SMALL = PretrainConfig(batch=8, warmup=1, check_every=2)


def corpus() -> Corpus:
    """Return chains of C, N and O: 40 of each part and source."""
    space = Selfies(("[C]", "[N]", "[O]"), 12)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 3, (240, 12), generator=generator).to(space.token_type)
    length = torch.randint(3, 12, (240, 1), generator=generator)
    tokens = torch.where(torch.arange(12) < length, tokens, torch.tensor(space.pad, dtype=space.token_type))
    source = torch.arange(240) % 2
    part = torch.arange(240) // 2 % len(PARTS)
    return Corpus(space, tokens, source.to(torch.int8), part.to(torch.int8), 0)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    networks = {"cnn": {"channels": 8, "blocks": 1, "kernel": 3}, "transformer": {"width": 8, "blocks": 1, "heads": 2}}
    monkeypatch.setattr(recipe, "NETWORK", networks)
    return Recipe(corpus(), tmp_path / "out", tmp_path / "work", replace(SMALL, decay=0.0), SMALL, 4, 4, samples=8)


def test_generators_start_from_the_network_of_both_sources_of_their_kind(small, capsys):
    small.learn_both("cnn")
    with pytest.raises(CheckpointError, match=r"trunk-transformer.* does not exist"):
        small.learn("zinc")
    small.learn_both("transformer")
    small.learn("zinc")
    card = read_json(small.out / "zinc.json")
    assert card["metrics"]["train_designs"] == 40 and card["metrics"]["trunk_steps"] == 4
    assert "ZINC250k" in card["notes"][0]
    model = Model.load(small.out / "zinc.safetensors")
    assert model.policy.net.name == "transformer"
    assert quality.validity(model.sample(8, seed=1)) > 0.8
    held = (small.out / "zinc.safetensors").read_bytes()
    small.learn_both("transformer")
    small.learn("zinc")
    assert "trunk-transformer: going on after step 4" in capsys.readouterr().out
    assert (small.out / "zinc.safetensors").read_bytes() == held
    assert not (small.out / "generator.safetensors").exists()


def test_the_card_says_how_samples_compare(small):
    pytest.importorskip("fcd")
    for kind in recipe.NETWORK:
        small.learn_both(kind)
    for name in GENERATORS:
        small.learn(name)
        small.draw(name)
        small.describe(name)
    small.write_card()
    metrics = read_json(small.out / "generator.json")["metrics"]
    assert metrics["valid"] > 0.8 and metrics["fcd"] > 0 and metrics["fcd_one_token_a_step"] > 0
    assert metrics["unseen_scaffolds_nats"] < 12 * torch.tensor(4.0).log() * 1.2
    measured = read_json(small.out / "quality.json")["measured"]
    assert measured["FCD to unseen scaffolds"] == metrics["fcd"]
    card = (small.out / "MODEL_CARDS.md").read_text()
    for name in GENERATORS:
        section = card.partition(f"## {name}.safetensors")[2].partition("\n## ")[0]
        for key, value in read_json(small.out / f"{name}.json")["metrics"].items():
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            assert f"(`{key}`) | {shown} |" in section
    assert (small.out / "reference.safetensors").is_file()


def test_frequencies_by_hand():
    """Train 3 C and 1 pad, and one of each of 2 symbols more: 4/6 and 2/6; unseen C and pad."""
    space = Selfies(("[C]",), 2)
    tokens = torch.tensor([[0, 0], [0, 1], [0, 1]], dtype=space.token_type)
    part = torch.tensor([0, 0, 2], dtype=torch.int8)
    few = Corpus(space, tokens, torch.zeros(3, dtype=torch.int8), part, 0)
    assert frequency_nats(few, "moses") == pytest.approx(-torch.tensor(4 / 6 * 2 / 6).log().item())


def test_without_data_there_is_no_corpus(tmp_path):
    with pytest.raises(ConfigError, match=r"--data and --zinc"):
        prepared(None, None, tmp_path)
    corpus().save(tmp_path / "corpus.safetensors")
    assert len(prepared(None, None, tmp_path).tokens) == 240
