"""The contract of spaces: those that ship keep it, and what breaks it is named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from biotilt.spaces import SPACES, Codons, Images, Letters, Padded, Points, Tokens, alphabet
from biotilt.spaces.graphs import Graphs
from biotilt.spaces.paired import Paired
from biotilt.spaces.selfies import Selfies
from biotilt.testing.contracts import check_space

MOLECULES = ["CCO", "c1ccccc1", "CC(N)=O"]
CASES = {
    "alphabet": (lambda: Letters(alphabet("dna")), ["ACGT", "AAGT"], "out.fasta"),
    "padded": (lambda: Padded(alphabet("dna"), 6), ["ACGT", "AAGTC"], "out.csv"),
    "tokens": (lambda: Tokens(("one", "two", "three"), " "), ["one two", "three one"], "out.csv"),
    "selfies": (lambda: Selfies.of_molecules(MOLECULES), MOLECULES, "out.smi"),
    "graphs": (lambda: Graphs.of_molecules(MOLECULES, 7), MOLECULES, "out.smi"),
    "codons": (lambda: Codons("MK"), ["AUGAAA", "AUGAAG"], "out.fasta"),
    "points": (lambda: Points(("x", "y")), [np.array([1.0, 2.0], np.float32), np.zeros(2, np.float32)], "out.csv"),
    "images": (
        lambda: Images(1, 2), [np.zeros((1, 2, 1), np.float32), np.ones((1, 2, 1), np.float32)], "out.npy",
    ),
    "paired": (lambda: Paired("(...)"), ["GAAAC", "AUUCU"], "out.fasta"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_spaces_that_ship_keep_the_contract(kind, tmp_path):
    if kind in ("selfies", "graphs"):
        pytest.importorskip("rdkit")
        pytest.importorskip("selfies")
    make, designs, name = CASES[kind]
    space = make()
    assert isinstance(space, SPACES[kind])
    check_space(space, designs, tmp_path / name)


def test_what_breaks_the_contract_is_named(tmp_path):
    @dataclass(frozen=True)
    class Backwards(Letters):
        def decode(self, states):
            return super().decode(states.flip(0))

    @dataclass(frozen=True)
    class Forgetting(Letters):
        def design_of(self, key):
            return key[:2]

    @dataclass(frozen=True)
    class Changing(Letters):
        def decode(self, states):
            found = super().decode(states)
            states[0] = 0
            return found

    dna = alphabet("dna")
    for space, message in (
        (Backwards(dna), "come back from their states"),
        (Forgetting(dna), "come back from its key"),
        (Changing(dna), "a second time"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_space(space, ["CCGT", "AAGT"], tmp_path / "out.csv")
    assert torch.equal(Letters(dna).encode(["AC"]), torch.tensor([[0, 1]], dtype=torch.int8))
