"""Options that a backend cannot have are refused before any work, with what to do instead."""

from __future__ import annotations

import pytest
from pool_samples import Faulty

from biotilt.errors import ConfigError
from biotilt.oracle import Limits, build_backend
from biotilt.rewards import reward


@pytest.mark.parametrize(
    ("name", "options", "limits", "words"),
    [
        (
            "inline",
            {},
            {"time_limit": 5.0},
            r'oracle\.time_limit means nothing to the backend "inline"; it is an option of "pool" and "ray"',
        ),
        ("inline", {}, {"memory_limit": 5.0}, r'oracle\.memory_limit .*an option of "pool" and "ray"'),
        ("inline", {"workers": 2}, {}, r'oracle\.workers .*"pool"'),
        (
            "pool",
            {"address": "auto"},
            {},
            r'oracle\.address means nothing to the backend "pool"; it is an option of "ray"',
        ),
        ("pool", {"workers": 0}, {}, r"oracle\.workers: must be ≥ 1, got 0"),
        ("poll", {}, {}, r'unknown backend "poll"; did you mean "pool"'),
    ],
)
def test_what_a_backend_cannot_have(name, options, limits, words):
    with pytest.raises(ConfigError, match=words):
        build_backend(name, Faulty(), **limits, **options)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_ray_cluster_that_does_not_answer(address):
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    with pytest.raises(ConfigError, match=f'nothing answers at oracle.address = "{address}"'):
        build_backend("ray", Faulty(), address=address)


def test_an_address_of_ray_needs_a_port():
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    with pytest.raises(ConfigError, match=r'oracle\.address = "head" must be'):
        build_backend("ray", Faulty(), address="head")


@pytest.mark.parametrize(("chunk", "sizes"), [(None, [5]), (2, [2, 2, 1]), (7, [5])])
def test_a_reward_in_this_process_is_given_chunks_too(chunk, sizes):
    given: list[int] = []

    def score(designs: list[str]) -> list[float]:
        given.append(len(designs))
        return [float(design) for design in designs]

    ticket = build_backend("inline", reward(version="1")(score), chunk=chunk).submit(list("40312"))
    assert given == sizes
    assert [(index, found.value) for index, found in ticket.finished()] == [*enumerate([4.0, 0.0, 3.0, 1.0, 2.0])]


@pytest.mark.parametrize("key", ["time_limit", "memory_limit", "chunk"])
def test_limits_are_positive(key):
    with pytest.raises(ConfigError, match=f"oracle.{key}: must be (> 0|≥ 1), got 0"):
        Limits(**{key: 0})


def test_retries_are_not_negative():
    with pytest.raises(ConfigError, match=r"oracle\.retries: must be ≥ 0, got -1"):
        Limits(retries=-1)
