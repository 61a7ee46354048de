"""The task `utr_varying`: splits that share nothing, one scale, lengths, and what ships with it."""

from __future__ import annotations

import itertools
import json
import random
import re
import statistics

import pytest
import torch

from biotilt.core import sample
from biotilt.experiment import Experiment
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.tasks import find_task
from biotilt.tasks.utr_varying.recipe import SPACE, clusters, inner_pads, on_one_scale, read_varying, split

FOLDER = find_task("utr_varying").folder
MODELS = ["generator", "optimised", "held_out"]


def random_dna(count: int, seed: int, shortest: int = 25, longest: int = 60) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("ACGT", k=draw.randint(shortest, longest))) for _ in range(count)]


def card(model: str) -> dict:
    return json.loads((FOLDER / f"{model}.json").read_text(encoding="utf-8"))


def test_the_two_sets_are_read(tmp_path):
    (tmp_path / "v.csv").write_text("utr,rl,mttrans_pred,set\nACGT,1.5,1,human\nGGC,2.5,2,random\nTTTAA,3.5,3,human\n")
    assert read_varying(tmp_path / "v.csv") == ([("GGC", 2.5)], [("ACGT", 1.5), ("TTTAA", 3.5)])


def test_clusters_are_those_of_shared_stretches():
    sequences = random_dna(40, 1, 6, 14)
    words = [{s[i : i + 5] for i in range(len(s) - 4)} for s in sequences]
    groups = list(range(40))
    for _ in sequences:
        for a, b in itertools.combinations(range(40), 2):
            if words[a] & words[b]:
                groups[a] = groups[b] = min(groups[a], groups[b])
    found = clusters(sequences, width=5)
    assert len(set(zip(found, groups))) == len(set(found)) == len(set(groups))  # the same, whatever their numbers
    assert 2 < len(set(groups)) < 38


def test_no_two_parts_share_a_stretch():
    human = random_dna(400, 2)
    for i in range(0, 400, 9):
        human[(i + 5) % 400] = human[i][3:24] + human[(i + 5) % 400]
    rows = [[(s, float(i)) for i, s in enumerate(group)] for group in (random_dna(200, 3), human, random_dna(200, 4))]
    parts = split(*rows)
    words = {
        name: {s[i : i + 20] for group in groups.values() for s, _ in group for i in range(len(s) - 19)}
        for name, groups in parts.items()
    }
    for a, b in itertools.combinations(words, 2):
        assert not words[a] & words[b], (a, b)
    assert list(parts["generator"]) == ["human"]
    assert len(parts["generator"]["human"]) == pytest.approx(200, abs=50)
    assert sum(len(groups["human"]) for groups in parts.values()) == 400
    for kind in ("random", "fifty"):
        assert sum(len(parts[name][kind]) for name in MODELS[1:]) == 200


def test_one_scale_has_the_mean_and_spread_of_like_lengths():
    draw = random.Random(5)
    fifty = [("A" * 50, draw.gauss(7, 0.5)) for _ in range(50)]
    near = [("A" * draw.randint(40, 60), draw.gauss(5, 2.0)) for _ in range(50)]
    far = [("A" * 90, 100.0), ("A" * 30, -100.0)]
    slope, intercept = on_one_scale(fifty, near + far)
    mapped = [slope * y + intercept for _, y in fifty]
    assert statistics.fmean(mapped) == pytest.approx(statistics.fmean(y for _, y in near))
    assert statistics.stdev(mapped) == pytest.approx(statistics.stdev(y for _, y in near))
    assert slope > 1


@pytest.mark.parametrize("model", MODELS)
def test_the_cards_show_the_measured_numbers(model):
    section = (FOLDER / "MODEL_CARDS.md").read_text(encoding="utf-8").partition(f"\n## {model}.safetensors")[2]
    shown = dict(re.findall(r"\(`(\w+)`\) \| ([^|]+) \|", section.partition("\n## ")[0]))
    known = card(model)
    measured = known["metrics"] | {key: known[key] for key in ("measured_max", "scale") if key in known}
    assert shown == {key: rounded(value) for key, value in measured.items()}


def rounded(value: float | list[float]) -> str:
    if isinstance(value, list):
        return ", ".join(map(rounded, value))
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def test_quality_and_maximum_are_those_of_the_cards():
    measured = find_task("utr_varying").quality()["measured"]
    assert measured["Pearson, held_out oracle, human"] == card("held_out")["metrics"]["human_test_pearson"]
    largest = max(card(model)["measured_max"] for model in MODELS[1:])
    assert find_task("utr_varying").defaults()["reference"]["measured_max"] == pytest.approx(largest, abs=1e-4)


def test_samples_have_many_lengths():
    model = Experiment.for_task("utr_varying").model
    designs = model.sample(64, seed=1)
    lengths = [len(design) for design in designs]
    assert len(set(lengths)) > 25 and max(lengths) <= 100
    assert statistics.fmean(n >= 25 for n in lengths) > 0.9
    states = sample(model.policy, 64, torch.Generator().manual_seed(2)).tolist()
    joined = [re.search("[ACGT]-", "".join((*"ACGT", "-")[t] for t in row)) is not None for row in states]
    assert inner_pads(model, 64) == pytest.approx(statistics.fmean(joined))


def test_an_upstream_start_codon_lowers_the_load():
    plain = [s.replace("ATG", "ACG") for s in random_dna(128, 6, 40, 90)]
    with_start = [s[:-21] + "CCACCATGGC" + s[-11:] for s in plain]
    for model in MODELS[1:]:
        oracle = LearnedReward.load(FOLDER / f"{model}.safetensors")
        assert oracle.space == SPACE
        assert statistics.fmean(oracle(plain)) > statistics.fmean(oracle(with_start)) + 0.5


def test_measures_by_hand():
    found = {measure.key: measure.compute for measure in find_task("utr_varying").measures(None)}
    designs = ["ATGC" * 5, "G" * 30]
    expected = {"length": 25.0, "length_sd": 5.0, "measured_lengths": 0.5, "upstream_aug": 0.5, "gc": 40 / 50}
    assert {key: compute(designs) for key, compute in found.items()} == pytest.approx(expected)
    assert {compute([""]) for compute in found.values()} == {None}
