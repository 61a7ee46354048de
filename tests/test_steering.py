"""Steering an experiment: what the sampler drew is what is told, written and charged."""

from __future__ import annotations

import csv
import json
import math
import statistics

import pytest
import torch
from typer.testing import CliRunner

from biotilt import Experiment, reward, steer
from biotilt.cli import app
from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.processes import PROCESSES
from biotilt.steered import report_steered


def experiment(**changes):
    counts = reward(version="1")(lambda designs: [float(d.count("A")) for d in designs])
    return Experiment.for_task("utr", reward=counts, held_out=counts, **{"alpha": 2.0} | changes)


def test_weights_and_log_z_by_hand():
    found = steer(experiment(sampler={"name": "importance"}), 40)
    assert found.rewards == [float(d.count("A")) for d in found.designs] == found.held_out
    weight = [math.exp(r / 2.0) for r in found.rewards]
    assert found.weights == pytest.approx([w / sum(weight) for w in weight], rel=1e-5)
    assert found.log_z == pytest.approx(math.log(sum(weight) / 40), abs=1e-5)
    assert found.calls == len(set(found.designs))


def test_the_same_seed_gives_the_same_designs():
    first, again = (steer(experiment(seed=3), 8) for _ in range(2))
    other = steer(experiment(seed=4), 8)
    assert first.designs == again.designs != other.designs


def test_a_tuned_proposal_is_weighed_against_the_base():
    started = experiment(sampler={"name": "importance"})
    torch.manual_seed(0)
    model = Model.load(started.base / started.config.model.path)
    with torch.no_grad():
        for weight in model.policy.net.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    found = steer(started, 16, proposal=model)
    untilted = [math.exp(r / 2.0) for r in found.rewards]
    shares = [w / sum(untilted) for w in untilted]
    assert max(abs(a - b) for a, b in zip(found.weights, shares)) > 1e-3, "the path's ratio is part of the weight"


def test_a_proposal_of_another_process_is_refused():
    started = experiment()
    other = Model.load(started.base / started.config.model.path, per_step=1)
    with pytest.raises(ConfigError, match="per_step=1"):
        steer(started, 4, proposal=other)
    assert PROCESSES.build("any_order", {"length": 50, "letters": 4}) == other.policy.process


def test_a_sampler_that_needs_a_gradient_is_refused_before_any_call():
    asked = []
    counting = reward(version="1")(lambda designs: asked.extend(designs) or [0.0] * len(designs))
    with pytest.raises(ConfigError, match=r"guidance differentiates the reward.*smc"):
        steer(Experiment.for_task("utr", reward=counting, sampler={"name": "guidance"}), 4)
    assert not asked


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_the_command_writes_a_table_ranked_by_the_judge_and_a_page_beside_it(tmp_path):
    (tmp_path / "e.toml").write_text('task = "utr"\nalpha = 0.3\n[sampler]\nname = "importance"\n', encoding="utf-8")
    out = tmp_path / "designs.csv"
    told = json.loads(run("steer", tmp_path / "e.toml", "--count", "6", "--out", out, "--json").stdout)
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    order = sorted(range(6), key=lambda i: -told["held_out"][i])
    assert [row["sequence"] for row in rows] == [told["designs"][i] for i in order]
    for column, key in (("optimised", "rewards"), ("held_out", "held_out"), ("weight", "weights")):
        assert [float(row[column]) for row in rows] == [told[key][i] for i in order], "every digit is kept"
    assert all(float(row["log_p_base"]) < 0 for row in rows)
    assert sum(told["weights"]) == pytest.approx(1, abs=1e-5)
    assert [row["name"] for row in told["rows"]] == ["base", "steered"] and told["verdict"]["headline"]
    page = (tmp_path / "designs.html").read_text(encoding="utf-8")
    assert told["report"] == str(tmp_path / "designs.html")
    assert told["verdict"]["headline"] in page and "steered with importance" in page


@pytest.mark.usefixtures("without_page")
def test_measures_of_steered_designs_count_them_by_their_weights(tmp_path):
    counts = reward(version="1")(lambda designs: [float(d.count("A")) for d in designs])
    rare = Experiment.for_task(
        "utr", reward=counts, held_out=counts, alpha=0.2, sampler={"name": "importance"},
        measures=[{"kind": "letter_share", "options": {"letters": "A"}, "name": "a"}],
    )  # fmt: skip
    found = steer(rare, 16)
    assert max(found.weights) > 0.5, "one of them carries most of the weight"
    summary = report_steered(found, rare, tmp_path / "d.csv", tmp_path / "d.html")
    heaviest = found.designs[found.weights.index(max(found.weights))]
    shares = [design.count("A") / len(design) for design in found.designs]
    plain, weighted = sum(shares) / 16, sum(w * s for w, s in zip(found.weights, shares))
    (row,) = [row for row in summary["rows"] if row["name"] == "steered"]
    assert weighted - plain > 0.05 and abs(row["more"]["a"] - weighted) < abs(row["more"]["a"] - plain) / 3
    with (tmp_path / "d.csv").open(encoding="utf-8") as handle:
        each = {line["sequence"]: float(line["a"]) for line in csv.DictReader(handle)}
    assert each[heaviest] == heaviest.count("A") / len(heaviest)


def test_what_a_sampler_had_cost_at_each_request_is_told(tmp_path):
    given = experiment(sampler={"name": "importance"})
    found = steer(given, 16)
    (asked,) = found.trail
    assert asked["calls"] == found.calls == 16 and 0 < asked["seconds"] <= found.seconds
    assert asked["best"] == pytest.approx(
        statistics.median(sorted(dict(zip(found.designs, found.rewards)).values())[-10:])
    )
    # a row for the noise, where all chains start, and then 16 a step that reveals something to someone
    steps = given.model.policy.process.steps
    assert steps <= found.network_rows <= 1 + 16 * (steps - 1) and asked["network_rows"] == found.network_rows
    summary = report_steered(found, given, tmp_path / "d.csv", tmp_path / "d.html")
    assert summary["progress"]["points"] == found.trail == found.document()["trail"]
    assert [level["name"] for level in summary["progress"]["levels"]] == ["base_p90"]


def test_without_a_page_nothing_but_the_sampler_is_asked(tmp_path):
    (tmp_path / "e.toml").write_text('task = "utr"\n[sampler]\nname = "importance"\n', encoding="utf-8")
    result = run("steer", tmp_path / "e.toml", "--count", "4", "--out", tmp_path / "d.csv", "--no-page")
    assert result.exit_code == 0 and "wrote" in result.stdout and "the page:" not in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "e.toml"]


def test_the_closest_pair_is_told_and_near_copies_are_warned_of():
    from biotilt.evaluation.common import near_copies

    found = steer(experiment(sampler={"name": "importance"}), 8)
    pairs = [(a, b) for i, a in enumerate(found.designs) for b in found.designs[:i]]
    assert found.closest == min(sum(x != y for x, y in zip(a, b)) for a, b in pairs)
    assert found.document()["closest_pair"] == found.closest
    assert near_copies(found.designs, found.space) == ""
    copies = ["A" * 170, "C" * 4 + "A" * 166, "A" * 166 + "G" * 4]
    assert near_copies(copies, found.space) == (
        "designs: near-copies. Half of the designs have another within 4.000 of 170.0 positions; the closest two "
        "differ at 4. Count them as a few designs, not as 3."
    )
