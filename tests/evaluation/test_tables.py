"""Tables of designs: ranked by the judge, with every digit, and flags that say what to know about a design."""

from __future__ import annotations

import math

from biotilt.evaluation.quantity import column_of, quantity
from biotilt.evaluation.tables import Designs, flagged
from biotilt.rewards.generic.combine import Sum
from biotilt.rewards.generic.declare import declare
from biotilt.rewards.generic.functions import FunctionReward
from biotilt.rewards.protein.properties import Instability, NetCharge
from biotilt.spaces import DNA, Letters

NAN, INF = math.nan, math.inf


def test_the_judge_ranks_and_the_reward_where_there_is_none() -> None:
    both = Designs("tuned", ["A", "C", "G", "T"], [9.0, 1.0, 5.0, 6.0], [NAN, 2.0, 1.0, 2.0])
    assert both.rank_by == "held_out"
    assert both.order() == [3, 1, 2, 0], "equal ones by the reward, those that were not judged last"
    assert Designs("tuned", ["A", "C", "G"], [-INF, NAN, 1.0], None).order() == [2, 0, 1]
    assert Designs("tuned", ["A", "C"], [1.0, 2.0], [NAN, NAN]).rank_by == "optimised"
    kept = Designs("tuned", ["A", "C"], [1.0, 2.0], [0.5, 0.1], guarded=True)
    assert (kept.rank_by, kept.order()) == ("optimised", [1, 0]), "a judge that guards ranks nothing"


def test_a_record_keeps_every_digit_and_leaves_gaps_empty() -> None:
    designs = Designs("harvest", ["AC", "GT"], [1e-9, 0.1 + 0.2], None, loglik=[-1.5, NAN])
    designs.columns, designs.flags = {"gc": [0.5, None]}, [["repeat", "empty"], []]
    first, second = designs.records()
    assert (first.name, first.design, second.name) == ("harvest_1", "GT", "harvest_2")
    assert first.values == {"optimised": "0.30000000000000004", "gc": "", "log_p_base": "", "flags": ""}
    assert second.values == {"optimised": "1e-09", "gc": "0.5", "log_p_base": "-1.5", "flags": "repeat;empty"}


def test_flags_say_what_to_know_about_a_design() -> None:
    designs = Designs("tuned", ["A", "A", "", "C"], [NAN, -INF, 1.0, 3.0], [1.0, NAN, 5.0, 3.0])
    assert flagged(designs, Letters(DNA), 4.0, {"gc": [True, True, True, False]}) == [
        ["not_scored"],
        ["infeasible", "not_judged", "repeat"],
        ["empty", "beyond_measured"],
        ["breaks_gc"],
    ]


def test_a_quantity_has_the_fields_name_unit_and_direction() -> None:
    energy = FunctionReward(lambda designs: [0.0], "binding_energy", units="kcal/mol")
    lower = quantity(declare(energy, direction="minimise"))
    assert lower == {
        "name": "binding_energy", "units": "kcal/mol", "label": "binding energy, kcal/mol",
        "sign": -1, "better": "lower", "guards": False,
    }  # fmt: skip
    assert (quantity(energy)["sign"], quantity(energy)["better"]) == (1, "higher")
    plain = FunctionReward(lambda designs: [0.0], "reward_of_mine")
    assert quantity(plain)["label"] == "reward of mine"
    charge = quantity(NetCharge(low=4.0, high=8.0))
    assert charge["label"] == "minus the distance of net charge from 4 to 8, elementary charges"
    short = quantity(Instability(high=40.0))  # which people write without the minus, as they do the index
    assert (short["label"], short["sign"]) == ("distance of instability from at most 40", -1)
    assert quantity(NetCharge())["label"] == "net charge, elementary charges"
    assert quantity(Sum([energy, plain]))["label"] == "sum of binding_energy and reward_of_mine"
    assert column_of(lower["label"]) == "binding_energy_kcal_mol"
