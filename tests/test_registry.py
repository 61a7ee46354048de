"""Names and classes: what is registered, what is refused, and what the messages say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from biotilt.errors import ConfigError
from biotilt.options import Count
from biotilt.registry import Registry


@dataclass(frozen=True)
class Walk:
    """Goes on foot."""

    miles: Count = 3

    name = "walk"


@dataclass(frozen=True)
class Ride:
    """Goes by bicycle.

    At some speed.
    """

    name = "ride"


@pytest.fixture
def trips() -> Registry[Any]:
    return Registry("trips", "trip", (Walk, Ride))


def another(called: str) -> type:
    class Sail:
        name = called

    return Sail


def test_a_registry_is_a_mapping_in_the_order_of_registration(trips):
    assert list(trips) == ["walk", "ride"] and len(trips) == 2
    assert dict(trips.items()) == {"walk": Walk, "ride": Ride}
    assert "walk" in trips and "wal" not in trips and ["walk"] not in trips
    assert trips.get("wal") is None
    assert trips.summaries() == {"walk": "Goes on foot.", "ride": "Goes by bicycle."}
    assert repr(trips) == "Registry(trips: walk, ride)"


def test_the_line_about_a_part_is_that_of_its_file():
    assert Registry("trips", "trip", (Walk,), own_files=True).summaries() == {
        "walk": "Names and classes: what is registered, what is refused, and what the messages say."
    }


def test_three_ways_to_register(trips):
    boat, raft, ship = another("boat"), another("raft"), another("ship")
    raft.__qualname__, ship.__qualname__ = "Raft", "Ship"
    trips["boat"] = boat
    assert trips.register(raft) is raft
    assert trips.register("ship")(ship) is ship
    assert [trips[name] for name in ("boat", "raft", "ship")] == [boat, raft, ship]
    del trips["boat"]
    assert list(trips) == ["walk", "ride", "raft", "ship"]


def test_a_class_defined_again_replaces_itself(trips):
    first, second = another("boat"), another("boat")
    trips["boat"] = first
    trips["boat"] = second
    assert trips["boat"] is second


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("walk", another("walk"), r'trips: "walk" is .*\.Walk; give .*\.another\.<locals>\.Sail another name'),
        ("boat", another("ship"), 'registered as "boat" but calls itself "ship"; give it name = "boat"'),
        ("boat", type("Nameless", (), {}), 'registered as "boat" but calls itself nothing'),
        ("boat", Walk(), r'trips: "boat" must be a class, got Walk\(miles=3\)'),
    ],
)
def test_what_is_refused(trips, name, part, message):
    with pytest.raises(ConfigError, match=message):
        trips[name] = part
    assert dict(trips.items()) == {"walk": Walk, "ride": Ride}


def test_a_part_is_built_from_its_options(trips):
    assert trips.build("walk", {"miles": 2}) == Walk(2)
    assert trips.of_table({"name": "walk", "miles": 7.0}) == Walk(7)
    assert trips.of_table({"miles": 5}, "trip", default="walk") == Walk(5)


@pytest.mark.parametrize(
    ("table", "where", "message"),
    [
        ({"name": "wlak"}, "trip", '^trip.name: unknown trip "wlak"; did you mean "walk"'),
        ({"name": "wlak"}, "", '^unknown trip "wlak"; did you mean "walk"'),
        ({"name": "zzz"}, "trip", '^trip.name: unknown trip "zzz"; valid: ride, walk$'),
        ({}, "trip", '^trip.name: unknown trip "None"'),
        ({"name": ["walk"]}, "trip", r"""^trip.name: unknown trip "\['walk'\]"; did you mean "walk"""),
        ({"name": "walk", "mile": 2}, "trip", '^trip.mile: unknown key; did you mean "miles"'),
        ({"name": "walk", "mile": 2}, "", '^trip "walk": unknown option "mile"; did you mean "miles"'),
        ({"name": "walk", "miles": 0}, "trip", "^trip.miles: must be ≥ 1, got 0"),
    ],
)
def test_names_and_options_that_cannot_be(trips, table, where, message):
    with pytest.raises(ConfigError, match=message):
        trips.of_table(table, where)


@dataclass(frozen=True)
class SailOptions:
    metres: Count = 8


class Sail:
    """Goes by wind."""

    name = "sail"
    Options = SailOptions

    def __init__(self, options: SailOptions):
        self.options = options


class Race(Sail):
    """Inherits the name."""


def test_a_part_made_of_options_of_another_class(trips):
    trips.register(Sail)
    assert trips.build("sail", {"metres": 5}).options == SailOptions(5)
    assert trips.options_of("sail") is SailOptions and trips.options_of("walk") is Walk
    with pytest.raises(ConfigError, match=r"^trip\.metres: must be ≥ 1, got 0"):
        trips.of_table({"name": "sail", "metres": 0}, "trip")


def test_an_object_has_the_name_of_its_own_class_only(trips):
    trips.register(Sail)
    assert trips.name_of(Sail(SailOptions())) == "sail"
    assert trips.name_of(Race(SailOptions())) is None
    assert trips.name_of(3) is None


def test_looking_a_name_up_in_python_says_what_there_is(trips):
    with pytest.raises(KeyError, match=r'unknown trip "rid"; did you mean "ride"'):
        trips["rid"]
