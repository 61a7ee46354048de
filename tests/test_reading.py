"""What a model's space tells a search: which states are one design, of one family, and which tokens are pads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from biotilt.core import Policy
from biotilt.core.reading import Reading, numbers, of_states
from biotilt.model import Model
from biotilt.networks import MLP, MLPConfig, VectorMLP, VectorMLPConfig
from biotilt.processes import AnyOrder, Gaussian, Simplex
from biotilt.spaces import DNA, Letters, Padded, Points


def model_of(space: Any, letters: int, length: int) -> Model:
    return Model(Policy(AnyOrder(length, letters), MLP(MLPConfig(letters, length, 4, 1))), space)


def test_pads_stand_anywhere_and_designs_are_known_without_them():
    reading = model_of(Padded(DNA, 5), 5, 5).reading
    assert (reading.pad, reading.pads_first, reading.families) == (4, False, None)
    states = torch.tensor([[0, 1, 4, 4, 2], [4, 0, 1, 2, 4], [0, 1, 2, 2, 4]], dtype=torch.int8)
    keys = reading.keys(states)
    assert keys[0] == keys[1] != keys[2] and keys.dtype == torch.int64
    assert model_of(Padded(DNA, 5, "left"), 5, 5).reading.pads_first


def test_where_lengths_are_fixed_there_is_no_pad():
    reading = model_of(Letters(DNA), 4, 3).reading
    assert (reading.pad, reading.families) == (None, None)
    keys = reading.keys(torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 2]], dtype=torch.int8))
    assert keys[0] == keys[2] != keys[1]


def test_molecules_are_known_by_their_canonical_text_and_their_scaffold():
    pytest.importorskip("rdkit")
    pytest.importorskip("selfies")
    from biotilt.spaces.selfies import Selfies

    space = Selfies.of_molecules(["CCOC", "c1ccncc1CC", "c1ccncc1O"], length=14)
    reading = model_of(space, len(space.symbols), 14).reading
    states = space.encode(["CCOC", "CCc1cccnc1", "Oc1cccnc1"])
    backwards = states[:1].clone()
    backwards[0, :4] = states[0, :4].flip(0)  # COCC
    assert reading.keys(backwards) == reading.keys(states)[0] and not torch.equal(backwards, states[:1])
    assert reading.families is not None
    chain, ethyl, hydroxy = reading.families(states).tolist()
    assert ethyl == hydroxy != chain and reading.pad == space.pad


def test_points_are_known_by_what_the_space_keeps_of_them():
    space = Points(("x", "y"))
    reading = Model(Policy(Gaussian(2, num_steps=3), VectorMLP(VectorMLPConfig(2, 4, 1))), space).reading
    points = torch.tensor([[0.5, 1.0], [0.5, 1.0], [0.5, 1.25]])
    keys = reading.keys(points)
    assert keys[0] == keys[1] != keys[2]


def test_points_of_a_simplex_are_read_as_letters():
    process = Simplex(3, 4, num_steps=3)
    reading = Model(Policy(process, MLP(MLPConfig(4, 3, 4, 1))), Letters(DNA)).reading
    generator = torch.Generator().manual_seed(0)
    states = process.noise(20, generator)
    words = process.tokens(states)
    same = (words[:, None] == words[None]).all(-1)
    keys = reading.keys(states)
    assert torch.equal(keys[:, None] == keys[None], same)


def test_numbers_are_the_same_in_every_run():
    """By blake2b of another program: `printf ACGT | b2sum -l 64` begins so; read as a signed number."""
    import hashlib

    digest = hashlib.blake2b(b"ACGT", digest_size=8).hexdigest()
    unsigned = int(digest, 16)
    assert numbers([b"ACGT"]).tolist() == [unsigned - 2**64 if unsigned >= 2**63 else unsigned]
    states = torch.tensor([[0, 1], [1, 0], [0, 1]], dtype=torch.int8)
    found = of_states(states)
    assert found[0] == found[2] != found[1] and torch.equal(Reading().keys(states), found)
