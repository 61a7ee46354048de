from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biotilt.errors import DataError
from biotilt.spaces import build_space
from biotilt.spaces.paired import PAIRS, UNPAIRED, Paired, partners_of

TARGET = ".((.(...)))..(...)"
PAIRED_BY_HAND = {1: 10, 2: 9, 4: 8, 13: 17}


@st.composite
def structures(draw, depth: int = 3) -> str:
    if depth == 0:
        return "." * draw(st.integers(1, 3))
    inner = structures(depth=depth - 1)
    return draw(st.one_of(st.just("."), inner.map(lambda s: f"({s})"), st.tuples(inner, inner).map("".join)))


def test_partners_by_hand():
    expected = [-1] * len(TARGET)
    for i, j in PAIRED_BY_HAND.items():
        expected[i], expected[j] = j, i
    assert partners_of(TARGET) == tuple(expected)


def test_tokens_of_a_loop_are_near_each_other():
    # tokens 1, 2 and 4 are the pairs 1-10, 2-9 and 4-8, and token 10 is the pair 13-17
    space = Paired(".((.(...)))..(...)")
    assert space.encode(["A" + "GC" + "A" + "G" + "AAA" + "C" + "GC" + "AA" + "G" + "AAA" + "C"]).shape == (1, 14)
    near = space.near
    assert near[4][0] == 4 and set(near[4][1:5]) == {2, 3, 5, 7}  # the pair 4-8: beside 9 (of 2), 3, 5 and 7
    assert set(near[1][1:4]) == {0, 2, 8}  # the pair 1-10 is beside 0 and 11, far in the state
    assert set(near[13][1:3]) == {10, 12} and near[13][-1] == 6  # the middle of the other hairpin is farthest
    assert all(sorted(order) == list(range(14)) for order in near)


@pytest.mark.parametrize(
    ("structure", "said"),
    [("", "empty"), ("(.))", 'column 4: "\\)"'), ("((.)", 'column 1: "\\("'), ("(.[)]", 'column 3: "\\["')],
)
def test_structures_are_checked(structure, said):
    with pytest.raises(DataError, match=said):
        partners_of(structure)
    with pytest.raises(DataError, match=said):
        Paired(structure)


@given(structures(), st.integers(0, 1000))
def test_every_state_is_a_design_whose_pairs_fit(structure, seed):
    space = Paired(structure)
    assert space.length == len(structure) - structure.count("(")
    tokens = torch.randint(6, (4, space.length), generator=torch.Generator().manual_seed(seed))
    for rna, row in zip(space.decode(tokens), tokens):
        assert len(rna) == len(structure)
        for i, j in enumerate(partners_of(structure)):
            assert j < 0 or {rna[i] + rna[j]} <= {"AU", "UA", "GC", "CG", "GU", "UG"}
        again = space.encode([rna])
        assert space.decode(again) == [rna]
        # the same tokens, but for the two other ways to write an unpaired A
        paired = torch.tensor([j >= 0 for i, j in enumerate(partners_of(structure)) if j < 0 or j > i])
        assert torch.equal(again[0].long(), torch.where(~paired & (row >= 4), 0, row))


def test_symbols_by_hand():
    space = Paired("(...).")
    assert space.decode(torch.tensor([[p, 0, 1, 2, 3] for p in range(6)])) == [
        "GAGUCC", "CAGUGC", "AAGUUC", "UAGUAC", "GAGUUC", "UAGUGC",
    ]  # fmt: skip
    assert space.decode(torch.tensor([[0, 4, 5, 4, 5]])) == ["GAAACA"]
    assert sorted(PAIRS) == ["AU", "CG", "GC", "GU", "UA", "UG"]
    assert set(UNPAIRED) == set("ACGU")
    assert space.encode(["gagtCC"]).tolist() == [[0, 0, 1, 2, 3]]
    assert space.encode(["GAGUCC"]).dtype == torch.int8


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "no sequences"),
        (["GAAAC", "GAAAG"], "sequence 2: G in column 1 and G in column 5 do not pair"),
        (["GAAACC"], "sequence 1 has 6 letters, and the target 5"),
        (["GANAC"], "sequence 1, column 3"),
    ],
)
def test_what_is_not_of_the_structure_is_refused(texts, said):
    with pytest.raises(DataError, match=said):
        Paired("(...)").encode(texts)


def test_states_are_checked():
    space = Paired("(...)")
    with pytest.raises(DataError, match="design 2, column 3: a mask is left"):
        space.decode(torch.tensor([[0, 0, 0, 0], [0, 0, 6, 0]]))
    with pytest.raises(DataError, match="7 is no token"):
        space.decode(torch.tensor([[0, 0, 7, 0]]))
    with pytest.raises(DataError, match=r"\(B, 4\)"):
        space.decode(torch.tensor([[0, 0, 0]]))
    with pytest.raises(DataError, match="integers"):
        space.decode(torch.zeros(1, 4))


def test_a_scaffold_keeps_letters_of_the_design():
    space = Paired("((...)).")
    held = space.fixed("G.AC..CU", space.length)
    mask, tokens = held.mask, held.letters
    assert mask.tolist() == [True, False, True, True, False, True]
    assert tokens[mask].tolist() == [0, 0, 3, 2]
    kept = torch.where(mask, tokens, torch.randint(6, (50, 6), generator=torch.Generator().manual_seed(0)))
    for rna in space.decode(kept):
        assert (rna[0], rna[2:4], rna[6:]) == ("G", "AC", "CU")


@pytest.mark.parametrize(
    ("scaffold", "said"),
    [
        ("G.......", "column 1 pairs with column 7: give both or none"),
        ("G.....G.", "do not pair"),
        ("G", "1 signs, and the target 8"),
        ("..x.....", "column 3"),
    ],
)
def test_scaffolds_are_checked(scaffold, said):
    with pytest.raises(DataError, match=said):
        Paired("((...)).").fixed(scaffold, 6)


def test_another_target_and_a_stored_one():
    space = Paired("(...)").for_target("..(....)")
    assert space == Paired("..(....)")
    assert build_space(space.spec()) == space
    assert space.spec() == {"kind": "paired", "target": "..(....)"}
