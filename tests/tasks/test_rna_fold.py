from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ElementTree
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from biotilt.errors import BiotiltError, ConfigError
from biotilt.experiment import Experiment
from biotilt.files import read_json
from biotilt.model import Model
from biotilt.spaces.paired import PAIRS, Paired, partners_of
from biotilt.tasks import find_task
from biotilt.tasks.rna_fold import corpus, panel, recipe
from biotilt.training import PretrainConfig, StateFile, pretraining_state

RNA = pytest.importorskip("RNA", reason="ViennaRNA is an optional package")

TARGET = "((((...((((....))))..)))).."
OTHER = "(((((.....)))))"


def test_examples_fold_into_their_structures():
    found = corpus.examples(12, seed=5)
    assert len(dict(found)) == 12
    for rna, structure in found:
        compound = RNA.fold_compound(rna)
        assert compound.mfe()[0] == structure
        compound.pf()
        assert compound.ensemble_defect(structure) <= 0.15
        assert "(" in structure
    assert corpus.examples(3, seed=5) == found[:3]
    assert corpus.examples(3, seed=6) != found[:3]


def test_random_structures_can_fold():
    draws = random.Random(0)
    structures = [corpus.random_structure(draws) for _ in range(200)]
    for structure in structures:
        partners = partners_of(structure)
        assert corpus.SHORTEST <= len(structure) <= corpus.LONGEST
        assert all(j - i > 3 for i, j in enumerate(partners) if j > i)
    branched = sum("." in s and any(s.count(t) > 1 for t in (")(", ").(", ")..(")) for s in structures)
    assert branched > 10


def test_rnas_written_onto_a_structure_can_form_it():
    draws = random.Random(1)
    rnas = [corpus.written_onto(TARGET, draws) for _ in range(100)]
    for rna in rnas:
        for i, j in enumerate(partners_of(TARGET)):
            assert j < 0 or rna[i] + rna[j] in PAIRS
    assert len(set(rnas)) == 100
    unpaired = "".join(rna[i] for rna in rnas for i, j in enumerate(partners_of(TARGET)) if j < 0)
    assert unpaired.count("A") > unpaired.count("G") > unpaired.count("C") > 0


def test_batches_have_one_number_of_tokens_and_see_all_designs_equally():
    pairs = [("GAAAC", "(...)")] * 2 + [("AAAA", "....")] * 6 + [("A" * 7, ".......")] * 2
    counts = {4: 0, 7: 0}
    for tokens, structures in islice(recipe.batches(pairs, 3, torch.Generator().manual_seed(0)), 400):
        assert tokens.shape[1] == structures.first.shape[1]
        assert len(tokens) <= 3
        counts[tokens.shape[1]] += 1
    # 8 of the 10 designs have four tokens: 320 expected, standard deviation 8
    assert 288 < counts[4] < 352


def test_the_bound_is_that_of_the_process():
    pairs = [("GAAAC", "(...)"), ("CGGGG", "(...)"), ("GGAAACCA", "((...)).")]
    torch.manual_seed(0)
    net = recipe.Structured(recipe.StructuredConfig(target=TARGET, channels=8))
    with torch.no_grad():
        net.head[-1].weight.zero_()  # type: ignore[operator]
        net.head[-1].bias.copy_(torch.arange(6.0))  # type: ignore[operator]
    # the same letters whatever the state, and one token all through a design: the bound is exact whatever is hidden
    log_p = torch.arange(6.0).log_softmax(0)
    assert recipe.bound(net, pairs) == pytest.approx(-(10 * log_p[0] + 4 * log_p[1]).item() / 14, rel=1e-5)


def test_frequencies_by_hand():
    # pairs: GC twice, CG once; unpaired: A six times, G three times; one is added to each of six counts
    pairs = [("GAAAC", "(...)"), ("GAAAC", "(...)"), ("CGGGG", "(...)")]
    unseen = [("CAGAG", "(...)")]
    expected = -(math.log(2 / 9) + 2 * math.log(7 / 15) + math.log(4 / 15)) / 4
    assert recipe.frequencies_nats(pairs, unseen) == pytest.approx(expected)


def test_training_learns_what_a_structure_asks():
    draws = random.Random(2)
    # pairs next to a hairpin are GC, all others AU; unpaired is A: only the structure tells
    pairs = []
    for _ in range(40):
        stem = draws.randint(2, 4)
        inner = "A" * (stem - 1) + "G" + "AAA" + "C" + "U" * (stem - 1)
        pairs.append((inner, "(" * stem + "..." + ")" * stem))
    config = PretrainConfig(steps=40, batch=8, lr=5e-3, warmup=5, check_every=40)
    net = recipe.train(pairs, pairs[:4], config, seed=0)
    assert recipe.bound(net, [("AAAGAAACUUU", "((((...))))")]) < 0.1
    assert recipe.frequencies_nats(pairs, pairs) > 0.2


def test_its_training_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    pairs = [("GAAAC", "(...)"), ("CGGGG", "(...)"), ("GGAAACCA", "((...))."), ("GCAAAGCA", "((...)).")] * 3
    config = PretrainConfig(steps=6, batch=2, warmup=2, check_every=2)
    monkeypatch.setattr(recipe, "in_bfloat16", lambda read: read)
    monkeypatch.setattr(pretraining_state, "SECONDS_BETWEEN", 0.0)
    whole = recipe.train(pairs, pairs[:3], config, seed=0)
    state, plain, calls = StateFile(tmp_path / "s.safetensors"), recipe.bound, 0

    def ends(net, designs):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt  # at step 4: the third is kept
        return plain(net, designs)

    monkeypatch.setattr(recipe, "bound", ends)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(pairs, pairs[:3], config, seed=0, state=state)
    parts = recipe.train(pairs, pairs[:3], config, seed=0, state=state)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))
    with pytest.raises(ConfigError, match="the pairs"):
        recipe.train(pairs[1:], pairs[:3], config, seed=0, state=state)


def test_measures_by_hand():
    config = SimpleNamespace(design=SimpleNamespace(target="((((....))))"))
    designs = ["GCGCGAAAGCGC", "AAAAAAAAAAAA"]
    values = {measure.key: measure(designs) for measure in panel.measures(config)}
    compound = RNA.fold_compound(designs[0])
    compound.pf()
    probability, defect = compound.pr_structure("((((....))))"), compound.ensemble_defect("((((....))))")
    assert values["solved"] == values["solved_andronescu"] == 0.5
    assert values["gc"] == (9 / 12 + 0) / 2
    assert values["probability"] == pytest.approx(probability / 2, abs=1e-4)
    assert values["defect"] == pytest.approx((defect + 8 / 12) / 2, abs=1e-6)


def test_a_panel_needs_its_target():
    with pytest.raises(ConfigError, match=r"design\.target"):
        panel.measures(SimpleNamespace(design=SimpleNamespace(target=None)))


def test_pictures_have_every_letter_and_pair():
    rna = "GGGAAAACCCA"
    picture, nothing = panel.pictures([rna, ""])
    drawn = ElementTree.fromstring(picture)
    letters = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert letters == [*rna, f"{RNA.fold(rna)[1]:.1f} kcal/mol"]
    assert sum(element.tag.endswith("line") for element in drawn.iter()) == len(rna) - 1 + RNA.fold(rna)[0].count("(")
    assert len(list(ElementTree.fromstring(nothing))) == 0


@pytest.mark.parametrize("target", [TARGET, OTHER, "." * 6 + "(((...)))" * 4])
def test_the_shipped_generator_serves_any_target(target):
    model = Model.load(find_task("rna_fold").folder / "generator.safetensors").for_target(target)
    designs = model.sample(20, seed=3)
    assert designs == model.sample(20, seed=3)
    assert len(set(designs)) > 15
    for rna in designs:
        assert len(rna) == len(target)
        assert all(j < 0 or rna[i] + rna[j] in PAIRS for i, j in enumerate(partners_of(target)))


def test_the_shipped_generator_knows_what_folds():
    model = Model.load(find_task("rna_fold").folder / "generator.safetensors").for_target(TARGET)
    rnas = iter(model.sample(30, seed=0))
    defects = recipe.folded([TARGET] * 30, lambda _: next(rnas))
    chance = random.Random(0)
    space = Paired(TARGET)
    by_chance = recipe.folded(
        [TARGET] * 30,
        lambda _: space.decode(torch.tensor([[chance.randrange(6) for _ in range(space.length)]]))[0],
    )
    assert defects["defect"] < 0.5 * by_chance["defect"]
    assert defects["solved"] > by_chance["solved"]


def test_an_experiment_gives_its_target_to_the_generator_and_the_rewards():
    experiment = Experiment.for_task("rna_fold", design={"target": OTHER})
    assert experiment.model.space.spec()["target"] == OTHER
    assert experiment.reward([design := "GCGCGAAAAACGCGC"]) == pytest.approx([-_defect(design, OTHER)], abs=1e-6)
    assert experiment.held_out is not None
    assert experiment.held_out([design]) != experiment.reward([design])
    assert all(len(design) == len(OTHER) for design in experiment.model.sample(3))


def test_a_target_that_is_not_balanced_is_refused():
    with pytest.raises(BiotiltError, match="not closed"):
        Experiment.for_task("rna_fold", design={"target": "((...)"})


def _defect(rna: str, target: str) -> float:
    compound = RNA.fold_compound(rna)
    compound.pf()
    return compound.ensemble_defect(target)


def test_the_cards_numbers_are_those_of_the_json():
    folder = find_task("rna_fold").folder
    metrics = read_json(folder / "generator.json")["metrics"]
    rows = [line.split("|") for line in (folder / "MODEL_CARDS.md").read_text(encoding="utf-8").splitlines()]
    stated = {row[1].split("`")[1]: row[2].strip() for row in rows if len(row) == 4 and "`" in row[1]}
    assert stated.keys() == metrics.keys()
    for key, text in stated.items():
        assert float(text) == pytest.approx(round(metrics[key], 4)), key
    assert (folder / "generator.safetensors").stat().st_size < 2_000_000
