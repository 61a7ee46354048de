"""What every space must keep to: designs come back from their states and their keys, and files and specs hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from biotilt.core.space import Counted, Measured, Mending, Pictured, Record, Related, Space, Targeted, Varying
from biotilt.spaces.kinds import build_space


def check_space(space: Space[Any], designs: Sequence[Any], path: Path) -> None:
    """Check a space on `designs`, two or more as `decode` returns them; `path`: a file that it can write, to be made.

    A design comes back from its state, alone or among others, and from its key; `decode` says the same twice and
    changes no state. The space is rebuilt from its spec as a file holds it. What else it can do (`core.space`) fits:
    distances are 0 between repeats alone, numbers are one a design, pads and families are there.
    """
    given = list(designs)
    keys = [space.key(design) for design in given]
    assert len(set(keys)) == len(keys) >= 2, "give at least two designs, all different"
    states = space.encode(given)
    before = states.clone()
    assert [space.key(design) for design in space.decode(states)] == keys, "designs do not come back from their states"
    assert [space.key(design) for design in space.decode(states)] == keys, "decode says something else a second time"
    assert torch.equal(states, before), "decode changed the states"
    for row, key in enumerate(keys):
        assert torch.equal(space.encode([given[row]])[0], states[row]), f"the state of design {row} depends on others"
        alone = space.decode(states[row : row + 1])
        assert [space.key(design) for design in alone] == [key], f"design {row} is another one by itself"
        assert space.key(space.design_of(key)) == key, f"design {row} does not come back from its key"
        assert isinstance(space.label(given[row]), str), f"design {row} has no label"
    told = space.sizes(states)
    whole = [size for size in told.values() if isinstance(size, int)]
    assert whole and min(whole) > 0, f"sizes says {told}"
    if not isinstance(space, Targeted):
        again = build_space(json.loads(json.dumps(space.spec())))
        assert again == space, f"{space.spec()} is rebuilt as {again}"
    space.check_output(path)
    space.write(path, [Record(f"d{row}", design) for row, design in enumerate(given)])
    assert path.exists(), f"nothing was written to {path}"
    _check_more(space, given)


def _check_more(space: Space[Any], given: list[Any]) -> None:
    if isinstance(space, Measured):
        nearest = space.nearest_distances(given)
        assert len(nearest) == len(given) and min(nearest) >= 0, f"distances to the nearest: {nearest}"
        repeats = [given[0]] * 3
        assert space.mean_distance(given) > 0, "different designs are not apart"
        assert abs(space.mean_distance(repeats)) < 1e-9 and max(space.nearest_distances(repeats)) < 1e-9
        assert space.nearest_distances(given[:1]) == [] and space.mean_distance(given[:1]) != space.mean_distance(given)
    if isinstance(space, Counted):
        counts = space.counts(given)
        assert counts.shape == (len(given), space.counts(given[:1]).shape[1]), f"counts of shape {tuple(counts.shape)}"
        assert bool((counts >= 0).all()) and torch.equal(space.counts(given[:1])[0], counts[0])
    if isinstance(space, Varying):
        assert isinstance(space.pad, int) and space.pad >= 0
    if isinstance(space, Related):
        assert all(space.family(design) for design in given), "a design is of no family"
    if isinstance(space, Mending):
        decoded = space.decode(space.encode(given))
        assert [space.mended(design) for design in decoded] == [False] * len(given), "states of designs were mended"
    if isinstance(space, Pictured):
        first = space.picture({"some": given, "others": given[:1]})
        assert first.startswith("<svg") and first == space.picture({"some": given, "others": given[:1]})
