"""What a verdict says in words: who won, by how much, at what cost, and what to do; each agrees with the numbers."""

from __future__ import annotations

from typing import Any

import pytest
from report_samples import make_report, make_row

from biotilt.report import plain_summary, verdict_words

REWARD = {"name": "mrl", "units": "", "label": "mean ribosome load", "sign": 1, "better": "higher"}
ENERGY = {"name": "vina", "units": "kcal/mol", "label": "docking score, kcal/mol", "sign": -1, "better": "lower"}
FILES = {"base": "base.csv", "best_of_n": "best_of_n.csv", "tuned": "designs.csv", "harvest": "harvest.csv"}


def lead(value: float | None, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def about(**changes: Any) -> dict[str, Any]:
    """Return a summary in which tuned won by the judge; keys of the verdict and of the summary changed by name."""
    verdict = {
        "outcome": "won", "winner": "tuned", "by": "held_out", "level_with": [], "below_base": [], "use": "tuned",
        "medians": {"base": 6.25, "best_of_n": 7.0, "tuned": 7.5}, "constraints_broken": {}, "harvest": None,
        "differences": {"base": lead(1.25, 1.0, 1.5), "best_of_n": lead(0.5, 0.25, 0.75)},
        "cost": {
            "calls": 2048, "seconds": 200.0, "kl_policy_base": 2.0,
            "naturalness": [
                {"key": "kmer3", "header": "3-mer r", "value": 0.91, "base": 0.95, "written": "number"},
                {"key": "gc", "header": "GC", "value": 0.5, "base": 0.25, "written": "percent"},
            ],
        },
    }  # fmt: skip
    summary = {
        "reward": REWARD, "held_out": REWARD, "rows": [], "checks": {"made": [], "not_possible": []},
        "tables": {"files": FILES}, "attainable": None,
    }  # fmt: skip
    whole = {key: changes.get(key, value) for key, value in summary.items()}
    return whole | {"verdict": verdict | {key: value for key, value in changes.items() if key in verdict}}


def said(**changes: Any) -> tuple[str, str, str]:
    words = verdict_words(about(**changes))
    return words["headline"], " ".join(words["sentences"]), words["tone"]


def test_a_win_is_told_with_its_lead_its_noise_and_its_price() -> None:
    headline, text, tone = said()
    assert (headline, tone) == ("Tuned won.", "good")
    assert "held-out judge (mean ribosome load; higher is better) the median of tuned is 7.500" in text
    assert "0.5000 better than best of N (95% interval 0.2500 to 0.7500)" in text
    assert (
        "Tuned cost 2,048 oracle calls and 3 min 20 s; KL to the base 2.000 nats; 3-mer r 0.9100 (base 0.9500); "
        "GC 50.0% (base 25.0%)." in text
    )
    assert text.endswith("What to do: use designs.csv (Tuned).")


FOUND = {"alpha": 0.25, "designs": 2048, "counted": 50.0, "at_least": False, "mean": 7.75, "kl": 3.5}


@pytest.mark.parametrize(
    ("reward", "found", "expected"),
    [
        (REWARD, FOUND, "an average mean ribosome load of 7.750, at a KL of 3.500 nats, by 2,048 designs of the base"),
        (REWARD, FOUND | {"at_least": True}, "of beyond 7.750, at a KL of more than 3.500 nats, by 2,048"),
        (ENERGY, FOUND | {"mean": 9.25}, "average docking score, kcal/mol of −9.250, at"),
    ],
)
def test_what_alpha_can_give_is_told_beside_what_was_had(reward, found, expected) -> None:
    rows = [{"name": "tuned", "optimised": {"median": 7.0, "mean": reward["sign"] * 7.25}}]
    _, text, _ = said(reward=reward, attainable=found, rows=rows)
    assert "At this alpha, 0.2500, perfect tuning" in text
    assert expected in text
    assert "; the tuned designs have 7.250. A smaller alpha aims at a higher average, further from the base." in text


def test_when_best_of_n_won_its_table_is_the_one_to_use() -> None:
    headline, text, tone = said(winner="best_of_n", use="best_of_n", differences={"tuned": lead(0.25, 0.125, 0.5)})
    assert headline == "Best of N won." and "0.2500 better than tuned" in text and tone == "good"
    assert text.endswith("What to do: use best_of_n.csv (Best of N).")


def test_a_row_below_the_base_is_red_whoever_won() -> None:
    headline, text, tone = said(winner="best_of_n", use="best_of_n", below_base=["tuned"])
    assert headline == "Best of N won. Tuned is below the base." and tone == "bad"
    assert "Tuned: worse than the untuned generator, beyond the noise. Do not use it." in text
    headline, _, tone = said(outcome="no_gain", winner="base", use="base", below_base=["best_of_n", "tuned"])
    assert headline == "Best of N and tuned are below the base." and tone == "bad"


def test_a_row_below_the_base_within_the_noise_is_told_too() -> None:
    medians = {"base": 6.25, "best_of_n": 7.0, "tuned": 6.0}
    _, text, _ = said(winner="best_of_n", use="best_of_n", medians=medians)
    assert "Tuned: no better than the untuned generator; the median is worse, within the noise." in text
    assert "no better" not in said(winner="best_of_n", medians=medians, below_base=["tuned"])[1]


def test_a_tie_is_called_one_and_the_nearer_to_the_base_is_to_be_taken() -> None:
    tie = {"best_of_n": lead(0.1, -0.2, 0.4)}
    headline, text, tone = said(outcome="level", level_with=["best_of_n"], use="best_of_n", differences=tie)
    assert headline == "Tuned and best of N are level: the difference is within the noise." and tone == "caution"
    assert "(95% interval −0.2000 to 0.4000, within the noise)" in text
    assert "use best_of_n.csv (Best of N): the rows are level, and this one is nearer to the base." in text


def test_without_a_gain_the_base_is_to_be_used() -> None:
    headline, text, tone = said(outcome="no_gain", winner="tuned", level_with=["base"], use="base")
    assert headline == "Nothing was gained over the base." and tone == "caution" and "use base.csv" in text


def test_the_harvest_is_taken_only_by_the_judges_word() -> None:
    best = {"median": 8.0, "lead": lead(0.5, 0.25, 0.75), "take": True}
    assert verdict_words(about(harvest=best))["take"] == "harvest"
    text = said(harvest=best)[1]
    assert "a median of 8.000 by the judge, 0.5000 better than tuned" in text
    assert "use harvest.csv, the harvest; for fresh designs, those of tuned." in text
    alone = said(harvest=best | {"take": False}, by="optimised", held_out=None)
    assert "chosen by this very score" in alone[1] and "use designs.csv" in alone[1]


def test_without_a_judge_a_win_is_not_green() -> None:
    _, text, tone = said(by="optimised", held_out=None)
    assert tone == "caution" and "By the reward that was optimised (mean ribosome load" in text
    assert "There is no held-out judge, so nothing here tells a real gain from an exploited reward." in text


def test_a_check_that_fired_on_the_winner_takes_the_green_away() -> None:
    fired = {"made": [{"key": "kl", "check": "KL", "fired": {"tuned": "tuned: far"}}], "not_possible": []}
    assert said(checks=fired)[2] == "caution"
    other = {"made": [{"key": "kl", "check": "KL", "fired": {"best_of_n": "best_of_n: far"}}], "not_possible": []}
    assert said(checks=other)[2] == "good"


def test_an_energy_keeps_its_sign_and_better_is_lower() -> None:
    text = said(by="optimised", reward=ENERGY, held_out=None)[1]
    assert "(docking score, kcal/mol; lower is better) the median of tuned is −7.500: 1.250 better than base" in text


def test_a_constraint_that_a_row_breaks_is_told_with_its_numbers() -> None:
    bound = {"name": "gc", "mean": 0.71, "at_least": None, "at_most": 0.6, "broken": True}
    row = make_row("best_of_n", 9.0, constraints=[bound])
    text = said(constraints_broken={"best_of_n": ["gc"]}, rows=[row])[1]
    assert "Best of N breaks a constraint and cannot win: gc is 0.7100 on average, at most 0.6000 was asked." in text


@pytest.mark.parametrize(("outcome", "says"), [("nothing_scored", "could be scored"), ("infeasible", "infeasible")])
def test_where_nothing_can_be_told_that_is_the_verdict(outcome: str, says: str) -> None:
    headline, _, tone = said(outcome=outcome, winner=None, use=None)
    assert says in headline and "there is no verdict" in headline and tone == "bad"


def test_the_opening_names_task_algorithm_and_direction() -> None:
    text = " ".join(plain_summary(make_report()))
    assert "(task utr) was tuned with VIDD to make designs with a higher mean ribosome load" in text
    # base held-out scores are 5, 6, 7, 8: three of four are below 7.5
    assert text.endswith("The typical tuned design is better than 75% of the untuned ones.")
    turned = make_report(reward="docking score, kcal/mol", better="lower", scores={"base": ([1.0], [7.0, 8.0, 9.0])})
    assert "with a lower docking score, kcal/mol" in " ".join(plain_summary(turned))
    assert "better than 66% of the untuned ones" in " ".join(plain_summary(turned))
    assert len(plain_summary(make_report(rows=[make_row("base", 6.0)]))) == 1


def test_a_judge_of_what_is_to_be_kept_names_no_winner_and_costs_no_caution() -> None:
    guard = {"name": "fit", "units": "nats", "label": "fit, nats", "sign": 1, "better": "higher", "guards": True}
    rows = [{"name": "base", "held_out": {"median": -0.5}}, {"name": "tuned", "held_out": {"median": -0.75}}]
    headline, text, tone = said(by="optimised", held_out=guard, rows=rows)
    assert (headline, tone) == ("Tuned won.", "good")
    assert "By the reward that was optimised (mean ribosome load" in text
    assert "names no winner: its median (fit, nats; higher is better) is −0.5000 for base, −0.7500 for tuned." in text
    fired = {"made": [{"fired": ["tuned"]}], "not_possible": []}
    assert said(by="optimised", held_out=guard, rows=rows, checks=fired)[2] == "caution"
    assert "names no winner" not in said(by="optimised", held_out=guard | {"guards": False}, rows=rows)[1]
