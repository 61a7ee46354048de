"""What ships with `enhancer`: cards, matrices, oracles of both strands, and the panel's measures."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from biotilt.experiment import Experiment
from biotilt.rewards.dna.motifs import Motif, jaspar_matrix, log_odds, reverse_complement
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.tasks import find_task
from biotilt.tasks.enhancer.motifs import MATRICES, motif_hits, shipped_matrices
from biotilt.tasks.enhancer.panel import cpg_ratio, gc_fraction, motif_correlation

FOLDER = find_task("enhancer").folder
MODELS = ["generator", "optimised", "held_out", "wtc11_optimised", "wtc11_held_out"]
HNF4A_SITE = "CAAAGTCCA"


def card(model: str) -> dict:
    return json.loads((FOLDER / f"{model}.json").read_text(encoding="utf-8"))


def elements(count: int, seed: int, site: str = "") -> list[str]:
    draw = random.Random(seed)
    return [site + "".join(draw.choices("ACGT", (3, 2, 2, 3), k=200 - len(site))) for _ in range(count)]


@pytest.mark.parametrize("model", MODELS)
def test_the_cards_show_the_measured_numbers(model):
    section = (FOLDER / "MODEL_CARDS.md").read_text(encoding="utf-8").partition(f"\n## {model}.safetensors")[2]
    section = section.partition("\n## ")[0]
    shown = dict(re.findall(r"\(`(\w+)`\) \| ([^|]+) \|", section))
    known = card(model)
    measured = known["metrics"] | ({"measured_max": known["measured_max"]} if "measured_max" in known else {})
    assert shown == {k: str(v) if isinstance(v, int) else f"{v:.4f}" for k, v in measured.items()}
    paragraph = section.partition("**How far from the best.**")[2]
    if paragraph:
        assert f"r² {measured['unseen_r2']:.2f}" in paragraph


def test_the_largest_measurement_is_that_of_the_cards():
    largest = max(card(model)["measured_max"] for model in ("optimised", "held_out"))
    assert find_task("enhancer").defaults()["reference"]["measured_max"] == pytest.approx(largest)


def test_quality_is_that_of_the_cards():
    measured = find_task("enhancer").quality()["measured"]
    assert measured["Pearson, held-out oracle"] == card("held_out")["metrics"]["unseen_pearson"]
    assert measured["nats on unseen elements"] == card("generator")["metrics"]["unseen_nats"]


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in Path(FOLDER).glob("*.safetensors")) < 2e6


@pytest.mark.parametrize("model", MODELS[1:])
def test_oracles_score_both_strands_alike(model):
    oracle = LearnedReward.load(FOLDER / f"{model}.safetensors")
    designs = elements(4, 1)
    scores = oracle(designs)
    assert oracle([reverse_complement(design) for design in designs]) == pytest.approx(scores, abs=1e-4)
    assert np.std(scores) > 0.01


def test_a_liver_motif_raises_hepg2():
    plain, sites = elements(64, 2), elements(64, 2, site=f"{HNF4A_SITE}TCTG" * 3)
    for model in ("optimised", "held_out"):
        oracle = LearnedReward.load(FOLDER / f"{model}.safetensors")
        assert np.mean(oracle(sites)) - np.mean(oracle(plain)) > 0.05


def test_the_shipped_matrices_are_those_of_jaspar():
    shipped = shipped_matrices()
    assert tuple(shipped) == MATRICES and len(MATRICES) == 95
    for matrix in (MATRICES[0], MATRICES[47], MATRICES[-1]):
        assert torch.equal(shipped[matrix], log_odds(jaspar_matrix(matrix)[1]))


def test_hits_are_those_of_the_motif_reward():
    designs = elements(5, 3, site=HNF4A_SITE) + elements(300, 4)
    some = {matrix: shipped_matrices()[matrix] for matrix in (MATRICES[0], MATRICES[22])}
    expected = [np.mean(Motif([matrix], score="count")(designs)) for matrix in some]
    assert motif_hits(designs, some).tolist() == pytest.approx(expected)
    assert min(expected) > 0


def test_measures_of_a_set_of_designs():
    found = {measure.key: measure for measure in find_task("enhancer").measures(None)}
    assert list(found) == ["motif_r", "wtc11", "contrast", "gc", "cpg"]
    designs = elements(40, 5)
    assert found["gc"].compute(designs) == pytest.approx(0.4, abs=0.02)
    assert found["cpg"].compute(designs) == pytest.approx(1.0, abs=0.15)
    scores = {m: np.mean(LearnedReward.load(FOLDER / f"{m}.safetensors")(designs)) for m in MODELS[1:]}
    assert found["wtc11"].compute(designs) == pytest.approx(scores["wtc11_held_out"], abs=1e-5)
    assert found["contrast"].compute(designs) == pytest.approx(scores["held_out"] - scores["wtc11_held_out"], abs=1e-5)
    correlation = found["motif_r"].compute(designs)
    assert correlation == pytest.approx(
        np.corrcoef(motif_hits(designs, shipped_matrices()), card("generator")["motif_hits_high"])[0, 1]
    )
    for other in (["ACGT"], [], ["ACDE" * 50]):
        assert [measure.compute(other) for measure in found.values()] == [None] * 5


def test_composition_by_hand():
    assert gc_fraction(["GGCA", "AT"]) == 0.5
    # 2 CG; C 3, G 2 of 8 letters: 2 * 8 / 6
    assert cpg_ratio(["ACGC", "CGAT"]) == pytest.approx(2 * 8 / (3 * 2))
    assert cpg_ratio(["AATT"]) is None


def test_motifs_of_one_kind_only_are_not_natural():
    natural = Experiment.for_task("enhancer").model.sample(48, seed=3)
    assert motif_correlation(natural) > motif_correlation(elements(48, 6, site=HNF4A_SITE * 10)) + 0.2
