"""Vocabularies of any size, codons of a protein, and letters that a position may not have."""

import itertools

import pytest
import torch

from biotilt.core import Policy
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError, DataError
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder, Masked, Uniform
from biotilt.spaces import Codons, Tokens, build_space
from biotilt.testing import law


def test_300_tokens_need_16_bits_and_come_back():
    space = Tokens(tuple(f"t{i}" for i in range(300)), " ")
    states = space.encode(["t299 t0 t128"])
    assert states.dtype == torch.int16 and states.tolist() == [[299, 0, 128]]
    assert space.decode(states) == ["t299 t0 t128"]
    process = AnyOrder(length=3, letters=300)
    noise = process.noise(2, torch.Generator().manual_seed(0))
    assert noise.dtype == torch.int16 and (noise == 300).all()
    fresh = Uniform(length=3, letters=300).noise(500, torch.Generator().manual_seed(0))
    assert fresh.dtype == torch.int16 and 255 < int(fresh.max()) < 300


def test_tokens_without_a_separator_are_told_apart():
    space = Tokens(("a", "bc", "bd"))
    assert space.decode(space.encode(["abcbd"])) == ["abcbd"] and space.encode(["abcbd"]).tolist() == [[0, 1, 2]]
    with pytest.raises(ConfigError, match='"ab" begins with "a": give a separator'):
        Tokens(("a", "ab"))
    with pytest.raises(DataError, match='design 2: "xa" is no token'):
        space.encode(["a", "xa"])
    with pytest.raises(DataError, match="design 1 has 2 tokens, but design 2 has 1"):
        space.encode(["aa", "a"])


def test_every_state_of_a_protein_codes_for_it():
    space = Codons("MLI*")
    held = space.limits
    assert held.mask.tolist() == [True, False, False, False]
    assert held.allowed is not None and held.allowed.sum(-1).tolist() == [1, 6, 3, 3]  # by the textbook
    choices = [held.allowed[i].nonzero().flatten().tolist() for i in range(4)]
    states = torch.tensor(list(itertools.product(*choices)), dtype=torch.int8)
    designs = space.decode(states)
    assert len(set(designs)) == 6 * 3 * 3 and all(text.startswith("AUG") for text in designs)
    assert {text[-3:] for text in designs} == {"UAA", "UAG", "UGA"}
    assert space.encode(designs).equal(states)
    with pytest.raises(DataError, match="sequence 1, codon 2: GGG codes for G, not for L"):
        space.encode(["AUGGGGAUUUAA"])
    with pytest.raises(DataError, match="leaves nothing to choose"):
        Codons("MW")
    assert build_space(Codons("MK", dna=True).spec()) == Codons("MK", dna=True)


ALLOWED = torch.tensor([[True, False, True], [True, True, False]])


def restricted(process, logits):
    return Policy(process, StateTable(3, 2, logits))


@pytest.mark.parametrize("make", [AnyOrder, Masked, Uniform])
def test_letters_that_are_not_allowed_have_no_chance_and_the_rest_add_up(make):
    held = Fixed(torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int8), ALLOWED)
    logits = torch.randn(16, 2, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    options = {} if make is AnyOrder else {"num_steps": 4}
    found = law(restricted(make(length=2, letters=3, fixed=held, **options), logits))
    assert found.sum().item() == pytest.approx(1, abs=1e-6)
    possible = (ALLOWED[0].unsqueeze(1) & ALLOWED[1]).flatten()  # in lexicographic order
    assert found[~possible].abs().max() < 1e-9 and (found[possible] > 0.001).all()


def test_one_free_letter_has_the_law_of_its_allowed_logits():
    held = Fixed(torch.zeros(1, dtype=torch.bool), torch.zeros(1, dtype=torch.int8), ALLOWED[:1])
    logits = torch.tensor([[[0.3, 5.0, -1.0]]]).repeat(4, 1, 1).double()
    policy = Policy(AnyOrder(length=1, letters=3, fixed=held), StateTable(3, 1, logits))
    weights = torch.tensor([0.3, -1.0], dtype=torch.float64).softmax(-1)
    assert law(policy).tolist() == pytest.approx([weights[0].item(), 0.0, weights[1].item()])


def test_what_two_ask_for_is_merged_or_refused():
    free = torch.zeros(2, dtype=torch.bool)
    zero = torch.zeros(2, dtype=torch.int8)
    some = Fixed(free, zero, ALLOWED)
    first = Fixed(torch.tensor([True, False]), torch.tensor([2, 0], dtype=torch.int8))
    both = some.merged(first)
    assert both.mask.tolist() == [True, False] and both.letters[0] == 2 and both.allowed is not None
    assert both.allowed[1].tolist() == ALLOWED[1].tolist()
    with pytest.raises(ConfigError, match="position 1 cannot have"):
        some.merged(Fixed(torch.tensor([True, False]), torch.tensor([1, 0], dtype=torch.int8)))
