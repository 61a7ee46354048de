"""Options: every value that a document can hold is taken or refused in one line that names the key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from biotilt import Experiment
from biotilt.config import checked_keys, parse_config
from biotilt.errors import BiotiltError, CheckpointError, ConfigError, suggest
from biotilt.folder import RECORD
from biotilt.locate import located
from biotilt.objectives import OBJECTIVES
from biotilt.options import Count, End, Share, build_options, check_options, plain
from biotilt.processes import PROCESSES
from biotilt.provenance import read_record
from biotilt.rewards import REWARDS, build
from biotilt.samplers import SAMPLERS


@dataclass(frozen=True)
class Part:
    words: Sequence[str]
    share: Share = 0.5
    count: Count | None = None
    kind: Literal["one", "two"] = "one"
    ends: tuple[End, End] | None = None
    names: Mapping[str, str] | None = None
    plain_number: int = 0
    flag: bool = False

    def __post_init__(self) -> None:
        check_options(self, "part")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"share": 2}, "part.share: must be ≤ 1, got 2"),
        ({"share": True}, "part.share: must be a number, got True"),
        ({"share": "0.5"}, "part.share: must be a number, got '0.5'"),
        ({"share": float("nan")}, "part.share: must be a finite number, got nan"),
        ({"count": 0}, "part.count: must be ≥ 1, got 0"),
        ({"count": 2.5}, "part.count: must be a whole number, got 2.5"),
        ({"count": 10**5000}, "part.count: must be a whole number of at most 64 bits, got a value of type int"),
        (
            {"plain_number": 2**63},
            f"part.plain_number: must be a whole number of at most 64 bits, got {2**63}",
        ),
        ({"kind": "tow"}, 'part.kind: unknown choice "tow"; did you mean "two"?'),
        ({"ends": [1]}, "part.ends: has too few values, got [1]"),
        ({"ends": [1, 2, 3]}, "part.ends: has too many values, got [1, 2, 3]"),
        ({"names": {"a": 3}}, "part.names.a: must be text, got 3"),
        ({"flag": 1}, "part.flag: must be true or false, got 1"),
        ({"words": "abc"}, "part.words: must be a list, got 'abc'"),
        ({"words": ["a\0"]}, "part.words.0: must not contain the character NUL, got 'a\\x00'"),
        ({"words": ["\ud800"]}, "part.words.0: must be valid Unicode, and holds half a character, got '\\ud800'"),
    ],
)
def test_a_value_that_cannot_be(options, told):
    with pytest.raises(ConfigError) as caught:
        Part(**{"words": ["a"]} | options)
    assert str(caught.value) == told
    with pytest.raises(ConfigError) as caught:
        build_options(Part, {"words": ["a"]} | options, "part")
    assert str(caught.value) == told


def test_numbers_are_stored_as_what_they_stand_for():
    part = Part(["a"], share=1, count=1e4, ends=(-np.inf, np.float32(2)))  # type: ignore[arg-type]
    assert (part.share, type(part.share), part.count, type(part.count)) == (1.0, float, 10_000, int)
    assert Part(["a"], count=np.int64(3)).count == 3  # type: ignore[arg-type]


def test_keys_of_a_part():
    with pytest.raises(ConfigError, match=r'^part\.wrods: unknown key; did you mean "words"\?$'):
        build_options(Part, {"words": [], "wrods": 1}, "part")
    with pytest.raises(ConfigError, match=r"^part\.words: this key is missing$"):
        build_options(Part, {}, "part")
    with pytest.raises(ConfigError, match=r'^reward "x": option "words" is missing$'):
        build_options(Part, {}, 'reward "x"')


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else 0


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"a": {"b": [1, float("inf")]}}, "a.b.1: must be a finite number, got inf"),
        ({"a": [{"b": 10**5000}]}, "a.0.b: must be a whole number of at most 64 bits, got a value of type int"),
        ({"a": deep(900)}, "a.0.0.0: tables and lists are more than 32 levels deep"),
        ({"a": "x\0"}, "a: must not contain the character NUL, got 'x\\x00'"),
        ({"a": "x" * 100_001}, "a: must be text of at most 100,000 characters"),
        ({"a": b"x"}, "a: must be text, a number, a list or a table, got b'x'"),
        ({1: 2}, "a key must be text, got 1"),
    ],
)
def test_a_document_out_of_bounds(document, told):
    with pytest.raises(ConfigError) as caught:
        plain(document)
    assert str(caught.value).startswith(told)


def test_a_document_is_made_plain():
    given = {"a": (1, np.float64(0.5)), "b": {"c": None, "d": True}}
    assert plain(given) == {"a": [1, 0.5], "b": {"c": None, "d": True}}


ODD = (
    None,
    True,
    -1,
    2**63,
    10**5000,
    1e-320,
    1e308,
    float("nan"),
    "",
    "\0",
    "\ud800",
    "x" * 5000,
    [],
    [[]],
    {},
    {"a": 1},
)
BASE = {"alpha": 1.0, "model": {"path": "m"}, "reward": {"kind": "gc"}}


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_every_option_of_every_part_takes_a_value_or_refuses_it_in_one_line(value):
    def tried(make: Any) -> None:
        try:
            make()
        except BiotiltError as error:
            assert str(error) and "\n" not in str(error) and len(str(error)) <= 2000

    for section, parts in (("objective", OBJECTIVES), ("sampler", SAMPLERS)):
        for name, part in parts.items():
            for key in part.__dataclass_fields__:
                tried(lambda name=name, key=key, section=section: parse_config(
                    BASE | {section: {"name": name, key: value}}))  # fmt: skip
    for part in PROCESSES.values():
        for key in part.__dataclass_fields__:
            sizes = {"length": 3, "letters": 4} if "length" in part.__dataclass_fields__ else {}
            tried(lambda part=part, key=key, sizes=sizes: build_options(part, sizes | {key: value}, "process"))
    for name in ("gc", "forbidden_motifs", "upstream_aug", "kozak", "command"):
        for key in REWARDS[name].__dataclass_fields__:  # type: ignore[attr-defined]
            tried(lambda name=name, key=key: build(name, {key: value}))
    for key in ("seed", "alpha", "name", "device", "oracle", "train", "value", "lagrangian", "constraints", "design"):
        tried(lambda key=key: parse_config(BASE | {key: value}))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"seed": 2**63}, "seed: must be a whole number of at most 64 bits"),
        ({"alpha": 1e-320}, "alpha: must be ≥ 1e-30"),
        ({"oracle": {"workers": 10**9}}, "oracle.workers: must be ≤ 1024"),
        ({"reward": {"kind": "gc", "repeats": 2**62}}, "reward.repeats: must be ≤ 1"),
        ({"model": {"path": "a" * 300}}, "model.path: is too long for the path of a file"),
        ({"model": {"path": "a/" * 1500}}, "model.path: is too long for the path of a file"),
        (
            {"reward": {"kind": "sum", "parts": [{"kind": "gc", "weight": "1"}]}},
            "reward.parts.0.weight: must be a",
        ),
        ({"design": {"fixed": 3}}, "design.fixed: must be text, got 3"),
    ],
)
def test_bounds_of_a_configuration(keys, told):
    with pytest.raises(ConfigError) as caught:
        checked_keys(BASE | keys)
    assert str(caught.value).startswith(told)


TEXT = '''alpha = 1
[reward]
kind = "sum"
[[reward.parts]]
kind = "gc"
options = { low = 2 }
note = """
low = 3
"""
[[reward.parts]]
kind = "gc"
[reward.parts.options]
low = 4
[oracle]
a.b = 5
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("alpha", 1), ("reward.kind", 3), ("reward.parts.0.options.low", 6), ("reward.parts.1.options.low", 13),
        ("reward.parts.1.options.high", 12), ("reward.parts.1", 10), ("oracle.a.b", 15), ("oracle.a", 15),
    ],
)  # fmt: skip
def test_a_key_has_the_line_where_it_or_its_table_stands(key, line):
    assert located(f"{key}: wrong", "e.toml", TEXT) == f"e.toml:{line}: {key}: wrong"


def test_a_message_without_a_key_names_the_file_once():
    assert located("no such: thing", "e.toml", TEXT) == "e.toml: no such: thing"
    assert located("e.toml: no such thing", "e.toml", TEXT) == "e.toml: no such thing"


RECORDED = {"config": BASE, "base": "/", "reward_version": "1", "sha256": {"m": "0"}, "of a later version": [1]}


def test_a_record_is_read_back(tmp_path):
    (tmp_path / RECORD).write_text(json.dumps(RECORDED))
    record = read_record(tmp_path)
    assert (record.config.alpha, record.base, record.command, record.sha256) == (1.0, "/", None, {"m": "0"})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": 3}, "config: must be a table, got 3"),
        ({"config": BASE | {"alpha": "warm"}}, "alpha: must be a number, got 'warm'"),
        ({"base": None}, "base: must be text, got None"),
        ({"sha256": {"m": 3}}, "sha256.m: must be text, got 3"),
        ({"reward_version": ["1"]}, "reward_version: must be text"),
    ],
)
def test_a_damaged_record_says_what_and_how_to_write_it_again(tmp_path, changes, told):
    (tmp_path / RECORD).write_text(json.dumps(RECORDED | changes))
    with pytest.raises(CheckpointError) as caught:
        read_record(tmp_path)
    assert f"{RECORD} is damaged: {told}" in str(caught.value)
    assert f"`biotilt tune FILE --folder {tmp_path}`" in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_of_any_length_is_compared_in_no_time():
    assert suggest("vid" + "x" * 10**6, ["vidd"]) == "; valid: vidd"


@pytest.mark.parametrize(
    ("kind", "option"), [("plddt", "path"), ("vina", "box"), ("novelty", "file"), ("secondary_structure", "predictor")]
)
def test_rewards_that_read_files_refuse_what_is_no_path(keys, tmp_path, kind, option):
    """Before the system is asked whether it is there, which for a path of thousands of letters raises."""
    reward = {"kind": kind, "options": {option: "a/" * 3000}}
    with pytest.raises(ConfigError, match=f"reward.options.{option}: is too long for the path of a file"):
        Experiment.from_dict(keys | {"reward": reward}, tmp_path)
