"""Designs of several lengths: written with pads, read without them, whatever the state."""

import itertools

import pytest
import torch

from biotilt.errors import ConfigError, DataError
from biotilt.spaces import DNA, PROTEIN, RNA, Padded, as_space, build_space
from biotilt.spaces.space import stored_space


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_of_every_length_come_back(side):
    space = Padded(DNA, 3, side)
    texts = ["".join(letters) for n in (1, 2, 3) for letters in itertools.product("ACGT", repeat=n)]
    tokens = space.encode_many(texts)
    assert tokens.shape == (84, 3) and tokens.dtype == torch.int8
    assert space.decode_many(tokens) == texts
    assert len({tuple(row) for row in tokens.tolist()}) == len(texts)


def test_pads_stand_on_the_side_that_was_named():
    assert Padded(DNA, 4, "left").encode_many(["TG"]).tolist() == [[4, 4, 3, 2]]
    assert Padded(DNA, 4, "right").encode_many(["TG"]).tolist() == [[3, 2, 4, 4]]
    assert Padded(RNA, 4, "left").align(["UG"]) == ["--UG"] and Padded(RNA, 4).align(["UG"]) == ["UG--"]


def test_every_state_is_a_design():
    """All 5³ states: the text is that of the letters in order, pads left out."""
    states = torch.tensor(list(itertools.product(range(5), repeat=3)), dtype=torch.int8)
    expected = ["".join("ACGT"[t] for t in state if t < 4) for state in states.tolist()]
    assert Padded(DNA, 3).decode_many(states) == expected


def test_a_mask_is_never_taken_for_a_letter_or_a_pad():
    with pytest.raises(DataError, match="design 1, column 2: a mask is left"):
        Padded(DNA, 3).decode_many(torch.tensor([[0, 5, 4]]))


def test_what_cannot_be_written_is_named():
    space = Padded(PROTEIN, 3)
    with pytest.raises(DataError, match="sequence 2 has 4 letters, and at most 3 fit: MKVL"):
        space.encode_many(["MK", "MKVL"])
    with pytest.raises(DataError, match="sequence 2, column 2: 'O' is not a letter of protein"):
        space.encode_many(["MK", "MO"])
    with pytest.raises(DataError, match="sequence 1, the sequence is empty"):
        space.encode_many([""])
    with pytest.raises(DataError, match="no sequences"):
        space.encode_many([])


def test_spaces_are_rebuilt_from_what_describes_them():
    for space in (DNA, PROTEIN, Padded(RNA, 7, "left"), Padded(PROTEIN, 5)):
        assert build_space(space.spec()) == space
    assert stored_space({"alphabet": "rna"}) == RNA, "files of the first version name an alphabet"
    assert stored_space({"codec": {"kind": "padded", "alphabet": "dna", "length": 2, "side": "left"}}).symbols[4] == "-"
    assert as_space("protein") is PROTEIN and as_space(DNA) is DNA


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match='unknown space "paded"; did you mean "padded"'):
        build_space({"kind": "paded"})
    with pytest.raises(ConfigError, match='a side "left" or "right", got 3, "middle"'):
        Padded(DNA, 3, "middle")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="length ≥ 1"):
        Padded(DNA, 0)
