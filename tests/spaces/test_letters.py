"""Designs of several lengths: written with pads, read without them, whatever the state."""

import itertools
import json

import pytest
import torch

from biotilt.errors import ConfigError, DataError
from biotilt.spaces import (
    DNA,
    PROTEIN,
    RNA,
    Alphabet,
    Letters,
    Padded,
    Tokens,
    as_space,
    build_space,
    stored_space,
)


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_of_every_length_come_back(side):
    space = Padded(DNA, 3, side)
    texts = ["".join(letters) for n in (1, 2, 3) for letters in itertools.product("ACGT", repeat=n)]
    tokens = space.encode(texts)
    assert tokens.shape == (84, 3) and tokens.dtype == torch.int8
    assert space.decode(tokens) == texts
    assert len({tuple(row) for row in tokens.tolist()}) == len(texts)


def test_pads_stand_on_the_side_that_was_named():
    assert Padded(DNA, 4, "left").encode(["TG"]).tolist() == [[4, 4, 3, 2]]
    assert Padded(DNA, 4, "right").encode(["TG"]).tolist() == [[3, 2, 4, 4]]
    assert Padded(RNA, 4, "left").align(["UG"]) == ["--UG"] and Padded(RNA, 4).align(["UG"]) == ["UG--"]


def test_every_state_is_a_design():
    """All 5³ states: the text is that of the letters in order, pads left out."""
    states = torch.tensor(list(itertools.product(range(5), repeat=3)), dtype=torch.int8)
    expected = ["".join("ACGT"[t] for t in state if t < 4) for state in states.tolist()]
    assert Padded(DNA, 3).decode(states) == expected


def test_a_mask_is_never_taken_for_a_letter_or_a_pad():
    with pytest.raises(DataError, match="design 1, column 2: a mask is left"):
        Padded(DNA, 3).decode(torch.tensor([[0, 5, 4]]))


def test_what_cannot_be_written_is_named():
    space = Padded(PROTEIN, 3)
    with pytest.raises(DataError, match="sequence 2 has 4 letters, and at most 3 fit: MKVL"):
        space.encode(["MK", "MKVL"])
    with pytest.raises(DataError, match="sequence 2, column 2: 'O' is not a letter of protein"):
        space.encode(["MK", "MO"])
    with pytest.raises(DataError, match="sequence 1, the sequence is empty"):
        space.encode([""])
    with pytest.raises(DataError, match="no sequences"):
        space.encode([])


def test_spaces_are_rebuilt_from_what_describes_them():
    own = Alphabet("purines", "AGI", {"R": "A"})
    for space in (Letters(DNA), Letters(own), Padded(RNA, 7, "left"), Padded(own, 5), Tokens(("a", "bc"), ",")):
        assert build_space(json.loads(json.dumps(space.spec()))) == space
    assert stored_space({"alphabet": "rna"}) == Letters(RNA), "files of the first version name an alphabet"
    padded = {"kind": "padded", "alphabet": "dna", "length": 2, "side": "left"}
    assert stored_space({"codec": padded}) == Padded(DNA, 2, "left")
    assert as_space("protein") == Letters(PROTEIN) == as_space(PROTEIN) == as_space(Letters(PROTEIN))


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match='unknown space "paded"; did you mean "padded"'):
        build_space({"kind": "paded"})
    with pytest.raises(ConfigError, match='a side "left" or "right", got 3, "middle"'):
        Padded(DNA, 3, "middle")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="length ≥ 1"):
        Padded(DNA, 0)
