"""Alphabets: known codes, round trips, and every error that names a letter and its column."""

from __future__ import annotations

import itertools
import pickle
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biotilt.errors import ConfigError, DataError
from biotilt.spaces import DNA, PROTEIN, RNA, Alphabet, alphabet

ALPHABETS = [DNA, RNA, PROTEIN]
texts = st.sampled_from(ALPHABETS).flatmap(
    lambda known: st.tuples(st.just(known), st.text(known.letters, min_size=1, max_size=30))
)


@given(texts)
def test_a_token_is_the_place_of_its_letter(case):
    known, text = case
    tokens = known.encode(text)
    assert tokens.dtype == torch.int8
    assert tokens.tolist() == [known.letters.index(letter) for letter in text]
    assert known.decode(tokens) == text


@given(st.integers(1, 6).flatmap(lambda n: st.lists(st.text("ACGU", min_size=n, max_size=n), min_size=1)))
def test_many_are_encoded_row_by_row(rows):
    tokens = RNA.encode_many(rows)
    assert tokens.dtype == torch.int8
    assert tokens.tolist() == [["ACGU".index(letter) for letter in row] for row in rows]
    assert RNA.decode_many(tokens) == rows


def test_lower_case_and_aliases_are_read_as_their_letters():
    assert DNA.encode("aCuU").tolist() == [0, 1, 3, 3]
    assert RNA.encode("gTtu").tolist() == [2, 3, 3, 3]
    assert DNA.normalise("aCuU") == "ACTT"
    assert RNA.normalise("gTtu") == "GUUU"
    assert PROTEIN.normalise("mkv") == "MKV"


def test_ambiguity_codes_stand_for_the_iupac_sets():
    assert len(DNA.ambiguity) == 11
    assert DNA.ambiguity["R"] == "AG" and DNA.ambiguity["H"] == "ACT" and DNA.ambiguity["N"] == "ACGT"
    assert RNA.ambiguity["Y"] == "CU" and RNA.ambiguity["K"] == "GU" and RNA.ambiguity["N"] == "ACGU"
    assert PROTEIN.ambiguity.keys() == {"B", "Z", "J", "X"}
    assert PROTEIN.ambiguity["Z"] == "EQ" and set(PROTEIN.ambiguity["X"]) == set(PROTEIN.letters)
    assert Alphabet("six", "ACGTPZ").ambiguity == {}


def test_the_nucleic_codes_are_every_set_of_two_or_more_bases():
    sets = {frozenset(c) for size in (2, 3, 4) for c in itertools.combinations("ACGU", size)}
    assert {frozenset(letters) for letters in RNA.ambiguity.values()} == sets


@pytest.mark.parametrize("code", ["N", "r", "Y"])
def test_an_ambiguity_code_in_a_design_is_an_error(code):
    with pytest.raises(DataError, match=rf"^column 3: '{code}' is an ambiguity code .*valid letters: A, C, G, T$"):
        DNA.encode("AC" + code + "T")


@pytest.mark.parametrize(
    ("known", "text", "message"),
    [
        (DNA, "ACGX", "column 4: 'X' is not a letter of dna; valid letters: A, C, G, T"),
        (RNA, "A_G", "column 2: '_' is not a letter of rna; valid letters: A, C, G, U"),
        (DNA, "AC?", "column 3: '?' is not a letter of dna; valid letters: A, C, G, T"),
        (DNA, "é", "column 1: 'é' is not a letter of dna; valid letters: A, C, G, T"),
        (DNA, "A🧬C", "column 2: '🧬' is not a letter of dna; valid letters: A, C, G, T"),
        (DNA, "A\tC", "column 2: '\\t' is not a letter of dna; valid letters: A, C, G, T"),
        (
            PROTEIN,
            "MU",
            f"column 2: 'U' is not a letter of protein; valid letters: {', '.join(PROTEIN.letters)}",
        ),
        (DNA, "", "the sequence is empty"),
    ],
)
def test_a_wrong_letter_is_named_with_its_column(known, text, message):
    for use in (known.encode, known.normalise):
        with pytest.raises(DataError) as error:
            use(text)
        assert str(error.value) == message


def test_encode_many_names_row_and_column():
    with pytest.raises(DataError, match=r"^sequence 2, column 3: 'Q' is not a letter of dna"):
        DNA.encode_many(["ACGT", "ACQT", "QCGT"])


def test_encode_many_names_the_sequences_that_differ_in_length():
    with pytest.raises(DataError, match=r"most have 3 letters, but sequence 2 has 2, sequence 4 has 4$"):
        DNA.encode_many(["ACG", "AC", "TTT", "ACGT"])
    with pytest.raises(DataError, match=r"sequence 12 has 1 and 2 more differ$"):
        DNA.encode_many(["ACG"] * 7 + ["A"] * 7)


def test_encode_many_refuses_nothing():
    with pytest.raises(DataError, match="no sequences"):
        DNA.encode_many([])
    with pytest.raises(DataError, match="empty"):
        DNA.encode_many(["", ""])


def test_a_mask_is_never_a_letter():
    tokens = torch.tensor([[0, 1, 2], [3, 4, 0]])
    assert DNA.mask_token == 4 and PROTEIN.mask_token == 20
    with pytest.raises(DataError, match="design 2, column 2: a mask is left"):
        DNA.decode_many(tokens)
    assert DNA.decode_many(tokens, allow_mask=True) == ["ACG", "T_A"]


@pytest.mark.parametrize("token", [5, -1, 256, -252])
@pytest.mark.parametrize("allow_mask", [False, True])
def test_a_number_that_is_no_token_is_an_error(token, allow_mask):
    # 256 and -252 would be letters if they were cut to a byte before the check.
    with pytest.raises(DataError, match=rf"column 3: {token} is not a token of dna, which are 0 to 3"):
        DNA.decode(torch.tensor([0, 1, token]), allow_mask=allow_mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_tokens_are_integers(dtype):
    with pytest.raises(DataError, match="must be integers"):
        DNA.decode(torch.zeros(3, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_any_integers_decode(dtype):
    assert DNA.decode(torch.tensor([3, 0, 1], dtype=dtype)) == "TAC"


def test_decode_takes_tensors_that_are_not_contiguous():
    assert DNA.decode_many(torch.tensor([[0, 1, 2], [3, 3, 0]]).T) == ["AT", "CT", "GA"]


def test_shapes_are_checked():
    with pytest.raises(DataError, match=r"shape \(L,\), not \(1, 3\)"):
        DNA.decode(torch.zeros(1, 3, dtype=torch.int8))
    with pytest.raises(DataError, match=r"shape \(B, L\) with L > 0, not \(3,\)"):
        DNA.decode_many(torch.zeros(3, dtype=torch.int8))
    with pytest.raises(DataError, match=r"not \(2, 0\)"):
        DNA.decode_many(torch.zeros(2, 0, dtype=torch.int8))


def test_alphabets_are_found_by_name():
    assert alphabet("dna") is DNA and alphabet("RNA") is RNA and alphabet("Protein") is PROTEIN
    with pytest.raises(ConfigError, match="unknown alphabet 'protien'; did you mean \"protein\""):
        alphabet("protien")


@pytest.mark.parametrize(
    ("letters", "aliases", "message"),
    [
        ("", {}, "upper-case ASCII"),
        ("ACgT", {}, "upper-case ASCII"),
        ("AC_", {}, "upper-case ASCII"),
        ("ACÉ", {}, "upper-case ASCII"),
        ("ACA", {}, "A is given more than once"),
        ("ACGT", {"T": "A"}, "T is given more than once"),
        ("ACGT", {"U": "W"}, "alias 'U' stands for no letter: 'W'"),
        ("ACGT", {"UV": "T"}, "alias 'UV' stands for no letter"),
    ],
)
def test_a_malformed_alphabet_is_refused(letters, aliases, message):
    with pytest.raises(ConfigError, match=message):
        Alphabet("mine", letters, aliases)


def test_alphabets_can_be_keys_and_travel_to_other_processes():
    DNA.encode("A")
    twin = pickle.loads(pickle.dumps(DNA))
    assert twin == DNA and hash(twin) == hash(DNA) and twin.decode(twin.encode("cu")) == "CT"
    assert len({DNA, RNA, twin}) == 2


def test_a_library_is_encoded_quickly():
    rows = ["ACGTU" * 10] * 20_000
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        tokens = DNA.encode_many(rows)
        seconds.append(time.perf_counter() - start)
    assert tokens.shape == (20_000, 50) and tokens[-1, :5].tolist() == [0, 1, 2, 3, 3]
    assert min(seconds) < 0.2
