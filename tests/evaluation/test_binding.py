"""Which constraints bind: prices of rounds by hand, and what is said of them."""

from __future__ import annotations

from typing import Any

from biotilt.evaluation.binding import binding, binding_words

BOUNDS = [
    {"name": "herg", "at_least": None, "at_most": 0.5},
    {"name": "soluble", "at_least": -4.0, "at_most": None},
    {"name": "size", "at_least": 20.0, "at_most": 30.0},
]
ROUNDS = [
    {
        "multiplier/herg_at_most": price, "multiplier/soluble_at_least": 9.0 if price == 0 else 0.01,
        "multiplier/size_at_least": 0.0, "multiplier/size_at_most": price / 10,
    }
    for price in (0.0, 0.0, 1.0, 3.0)
]  # fmt: skip


def test_prices_are_those_of_the_second_half_in_nats_a_deviation() -> None:
    herg, soluble, size = binding(BOUNDS, ROUNDS, {"herg": 0.25, "soluble": 1.0, "size": 4.0}, alpha=0.5)
    assert (herg["multiplier"], herg["pull"], herg["binds"]) == (2.0, 2.0 * 0.25 / 0.5, True)
    assert (soluble["multiplier"], soluble["pull"], soluble["binds"]) == (0.01, 0.02, False)
    assert (size["multiplier"], size["pull"], size["binds"]) == (0.2, 1.6, True)  # the dearer of its two bounds


def rows(**means: float) -> list[dict[str, Any]]:
    bounds = [{"name": name, "mean": mean} for name, mean in means.items()]
    return [{"name": "base", "within_all": 0.125}, {"name": "tuned", "within_all": 0.5, "constraints": bounds}]


def test_words_name_what_binds_dearest_first() -> None:
    found = binding(BOUNDS, ROUNDS, {"herg": 0.25, "soluble": 1.0, "size": 4.0}, alpha=0.5)
    text = binding_words(found, rows(herg=0.5, soluble=-3.0, size=31.5))
    size = "size (at least 20 and at most 30), 1.600 nats a standard deviation, not met: 31.50 on average"
    assert text.startswith(f"What bind, dearest first: {size}; herg (at most 0.5), 1.000 nats a standard deviation. ")
    assert "costs nothing, since designs keep it anyway: soluble (at least −4)." in text
    assert "Within every bound at once: 50.0% of the tuned designs, 12.5% of the base's." in text
    assert binding_words([], rows()) == ""


def test_a_bound_that_is_not_met_is_not_called_free() -> None:
    found = binding(BOUNDS[1:2], ROUNDS, {"soluble": 1.0}, alpha=0.5)
    text = binding_words(found, rows(soluble=-4.5))
    assert "costs nothing" not in text
    assert "not met, and hardly priced so far: soluble (at least −4), −4.500 on average." in text


def test_without_prices_nothing_is_said_of_binding() -> None:
    found = binding(BOUNDS[:1], [], {"herg": 0.25}, alpha=0.5)
    assert found[0] == BOUNDS[0] | {"multiplier": None, "pull": None, "binds": None}
    assert binding_words(found, rows(herg=0.4)) == ""
