from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from biotilt.files import read_json
from biotilt.model import Model
from biotilt.rewards.protein.secondary import CLASSES, SecondaryConfig, SecondaryPredictor, load_predictor
from biotilt.tasks import find_task
from biotilt.tasks.protein import metrics
from biotilt.tasks.protein.corpus import Labelled, labelled_parts, natural_sequences, related
from biotilt.tasks.protein.oracles import as_tensors, fit_member, quality
from biotilt.tasks.protein.panel import measures, pictures

DATA = Path(__file__).parents[3] / "shared/data/protein_seqs"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"real sequences are not at {DATA}")
NATURAL = ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "GVTVTVEGNKTYTVTVEDPLAAAWWCHHHM"]


def test_sequences_with_a_common_word_are_related_whoever_comes_first():
    long = "ACDEFGHIKLMNPQRSTVWY"
    clusters = related([long[:12], "WWWWWWWWWWWW", long[8:], long[2:18], "GSSGSSGLVPRGSAA", "MGSSGSSGLVPRGSW"])
    assert clusters[0] == clusters[2] == clusters[3]  # the first and the third only through the fourth
    assert len(set(clusters)) == 4  # tags make no relatives


def test_words_are_numbers_to_the_base_20():
    letters = metrics.LETTERS
    for word, number in zip(("ACDEFG", "CDEFGH"), metrics.word_numbers("ACDEFGH")):
        assert number == sum(letters.index(r) * 20 ** (5 - i) for i, r in enumerate(word))
    assert metrics.word_numbers("ACDEF").size == metrics.word_numbers("").size == 0


def test_known_words_by_hand():
    reference = metrics.Reference.of(NATURAL[:1])
    words = [NATURAL[0][i : i + 6] for i in range(len(NATURAL[0]) - 5)]
    kept = {w for w in words if metrics.word_numbers(w)[0] % 7 == 0}
    assert 0 < len(kept) < 10 and reference.known == {int(metrics.word_numbers(w)[0]) for w in kept}
    assert metrics.known_words_fraction(NATURAL[:1], reference) == 1.0
    assert metrics.known_words_fraction(["ACDEF"], reference) is None
    other = [NATURAL[1][i : i + 6] for i in range(len(NATURAL[1]) - 5)]
    new = sum(metrics.word_numbers(w)[0] % 7 == 0 for w in other)
    assert new and metrics.known_words_fraction(NATURAL, reference) == pytest.approx(len(kept) / (len(kept) + new))


def test_composition_and_pairs_agree_with_counting():
    reference = metrics.Reference.of(NATURAL)
    designs = ["MKVW", "AAGKKV"]

    def shares(texts, k):
        words = [t[i : i + k] for t in texts for i in range(len(t) - k + 1)]
        every = [a + b for a in metrics.LETTERS for b in metrics.LETTERS] if k == 2 else list(metrics.LETTERS)
        return [words.count(w) / len(words) for w in every]

    for k, measure in ((1, metrics.composition_correlation), (2, metrics.pair_correlation)):
        expected = np.corrcoef(shares(designs, k), shares(NATURAL, k))[0, 1]
        assert measure(designs, reference) == pytest.approx(expected)


def test_entropy_and_runs_by_hand():
    assert metrics.sequence_entropy("AACD") == pytest.approx(1.5)
    assert metrics.sequence_entropy("") == 0.0
    assert metrics.homopolymer_fraction(["AAAAAA", "MKAAAAAM", "MKVVVVVVV", "A"]) == 0.5
    assert metrics.homopolymer_fraction([]) is None


def test_what_lengths_and_composition_alone_say():
    # lengths seen: 3, 3, of 1…4 plus one each: p(3) = 3/6; residues: 5 K, 1 M, of 20 plus one each
    nats = metrics.length_and_composition_nats(["KKM", "KKK"], ["MKA"], longest=4)
    assert nats == pytest.approx(-math.log(3 / 6) - math.log(2 / 26) - math.log(6 / 26) - math.log(1 / 26))


def test_a_reference_comes_back_from_disk(tmp_path):
    reference = metrics.Reference.of(NATURAL)
    reference.save(tmp_path / "r.safetensors")
    loaded = metrics.Reference.load(tmp_path / "r.safetensors")
    assert loaded.known == reference.known
    assert (loaded.pairs == reference.pairs).all() and (loaded.composition == reference.composition).all()


def test_a_predictor_learns_a_rule_and_its_quality_is_counted():
    generator = torch.Generator().manual_seed(0)
    rule = {"A": "H", "L": "H", "V": "E", "T": "E", "G": "C", "P": "C", "N": "C"}
    letters = list(rule)
    texts = ["".join(letters[i] for i in torch.randint(7, (n,), generator=generator)) for n in range(10, 40)]
    rows = [Labelled(text, "".join(rule[r] for r in text)) for text in texts]
    part = as_tensors(rows)
    assert part[0].shape == (30, 39, 20) and part[1][0].tolist()[10:] == [-100] * 29
    net = fit_member(SecondaryConfig(channels=12, kernel=3, dilations=(1,)), part, part, seed=1, epochs=25, batch=8)
    scores = quality(SecondaryPredictor([net], "rule", ""), rows)
    assert scores["q3"] > 0.95 and scores["pearson_E"] > 0.95
    predicted = SecondaryPredictor([net], "rule", "").predict(texts)
    truth = [row.classes for row in rows]
    swapped = [Labelled(text, found) for text, found in zip(texts, predicted)]
    assert quality(SecondaryPredictor([net], "rule", ""), swapped)["q3"] == 1.0
    coil = sum(c == "C" for t in truth for c in t) / sum(map(len, truth))
    assert scores["q3_of_coil"] == pytest.approx(coil)
    hits = [a == b for p, t in zip(predicted, truth) for a, b in zip(p, t) if b == "E"]
    assert scores["recall_E"] == pytest.approx(sum(hits) / len(hits))


def test_every_measure_of_the_panel_is_a_number():
    found = {measure.key: measure.compute([*NATURAL, "M" * 60]) for measure in measures()}
    assert all(value is not None and math.isfinite(value) for value in found.values()), found
    assert found["length"] == pytest.approx((33 + 30 + 60) / 3)
    assert found["short"] == pytest.approx(2 / 3) and found["homopolymers"] == pytest.approx(1 / 3)
    shares = [p.mean(0)[CLASSES.index("H")].item() for p in load_predictor("held_out").of_designs([*NATURAL, "M" * 60])]
    assert found["helices"] == pytest.approx(sum(shares) / 3, abs=1e-5)
    from biotilt.rewards.protein.properties import Instability

    assert found["instability"] == pytest.approx(-sum(Instability()([*NATURAL, "M" * 60])) / 3)
    by_key = {measure.key: measure for measure in measures()}
    assert by_key["length_range"].compute(["A" * n for n in range(1, 102)]) == 90.0


def test_pictures_have_one_block_a_residue():
    helix = "AELAAKLEEALKKLAEELAK"
    (picture, empty) = pictures([helix, ""])
    assert picture.startswith("<svg") and empty.count("<rect") == 0
    assert picture.count("<rect") == len(helix)
    assert picture.count("#c05b4d") == load_predictor("held_out").predict([helix])[0].count("H") > 10


def test_the_generator_writes_proteins_of_any_length_up_to_150():
    model = Model.load(find_task("protein").defaults()["model"]["path"])
    designs = model.sample(16, seed=3)
    assert designs == model.sample(16, seed=3)
    assert all(0 < len(design) <= 150 and set(design) <= set(metrics.LETTERS) for design in designs)
    assert len({len(design) for design in designs}) > 5


def test_files_are_small():
    assert sum(f.stat().st_size for f in find_task("protein").folder.glob("*.safetensors")) < 2e6


def test_the_cards_agree_with_their_files():
    folder = find_task("protein").folder
    cards = (folder / "MODEL_CARDS.md").read_text(encoding="utf-8")
    for name in ("generator", "optimised", "held_out"):
        section = cards.split(f"## {name}.safetensors")[1].split("\n## ")[0]
        measured = read_json(folder / f"{name}.json")["metrics"]
        shown = dict(re.findall(r"\(`(\w+)`\) \| ([\d.]+) \|", section))
        assert shown.keys() == measured.keys()
        for key, value in measured.items():
            assert float(shown[key]) == pytest.approx(value, abs=6e-5), key


def test_quality_repeats_the_cards():
    folder = find_task("protein").folder
    shown = find_task("protein").quality()["measured"]
    assert shown["Q3 of held_out"] == read_json(folder / "held_out.json")["metrics"]["q3"]
    assert (
        shown["nats a protein, clusters it never saw"] == read_json(folder / "generator.json")["metrics"]["test_nats"]
    )


@needs_data
def test_no_two_parts_share_a_word_of_ten_residues():
    parts = labelled_parts(DATA)
    assert {name: len(rows) for name, rows in parts.items()}["test"] > 120
    assert all(len(row.sequence) == len(row.classes) for rows in parts.values() for row in rows)
    tags = ("HHHH", "VPRGS", "ENLYFQ", "GSSG")

    def words(rows):
        every = {r.sequence[i : i + 10] for r in rows for i in range(len(r.sequence) - 9)}
        return {word for word in every if not any(tag in word for tag in tags)}

    seen = {name: words(rows) for name, rows in parts.items()}
    assert not seen["optimised"] & seen["held_out"]
    assert not seen["test"] & (seen["optimised"] | seen["held_out"])
    natural = natural_sequences(DATA)
    assert len(natural) > 3000 and not any("HHHHH" in sequence for sequence in natural)


@needs_data
def test_the_shipped_predictors_are_as_good_as_their_cards_say():
    rows = labelled_parts(DATA)["test"]
    predictor = load_predictor("held_out")
    right = sum(a == b for row, text in zip(rows, predictor.predict([r.sequence for r in rows]))
                for a, b in zip(row.classes, text))  # fmt: skip
    q3 = read_json(find_task("protein").folder / "held_out.json")["metrics"]["q3"]
    assert right / sum(len(row.classes) for row in rows) == pytest.approx(q3, abs=2e-3)
