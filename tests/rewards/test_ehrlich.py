"""Ehrlich functions against their definition, spelt out over all designs of small ones."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any

import pytest
import torch

from biotilt.errors import ConfigError
from biotilt.rewards import Infeasible, NotScored, build
from biotilt.rewards.generic.ehrlich import Ehrlich

SMALL = Ehrlich("ABCD", length=6, motifs=2, motif_length=2, seed=4)


def spelt_out(reward: Ehrlich, design: str) -> float:
    """Return the score by loops over letters: the largest share of each motif that stands at one place."""
    made, tokens = reward.landscape(), [reward.letters.index(letter) for letter in design]
    if any(made.transitions[a, b] == 0 for a, b in pairwise(tokens)):
        return -math.inf
    score = 1.0
    for motif, offsets in zip(made.motifs.tolist(), made.offsets.tolist()):
        starts = range(reward.length - offsets[-1])
        present = max(sum(tokens[at + d] == m for m, d in zip(motif, offsets)) for at in starts)
        levels = reward.quantization or reward.motif_length
        share = math.floor(present / reward.motif_length * levels) / levels
        score *= share * (1 + reward.epistasis * share * (share - 1))
    return score


def test_every_design_of_a_small_one_scores_what_the_definition_says() -> None:
    designs = ["".join(letters) for letters in product("ABCD", repeat=6)]
    found = SMALL(designs)
    assert found == pytest.approx([spelt_out(SMALL, design) for design in designs])
    assert max(found) == 1.0
    assert found[designs.index(SMALL.optimum())] == 1.0
    # four letters, a band of one on either side: after each letter one is forbidden
    assert sum(score >= 0 for score in found) == 4 * 3**5
    assert len({score for score in found if score >= 0}) == 4  # 0, and products of one and a half


def test_quantization_and_epistasis_by_hand() -> None:
    plain: dict[str, Any] = {"letters": "ACDEFGHIKLMNPQRSTVWY", "length": 24, "motifs": 1, "motif_length": 4, "seed": 1}
    reward = Ehrlich(**plain)
    made, best = reward.landscape(), reward.optimum()
    first, offsets = made.motifs[0, 0].item(), made.offsets[0].tolist()
    assert offsets[0] == 0
    assert offsets[-1] <= 3 + (24 - 4)  # gaps of one at least, which share what length there is left
    assert all(a < b for a, b in pairwise(offsets))
    only_first = reward.letters[int(first)] * 24  # one element of the motif, or as many as it has of this letter
    same = sum(letter == first for letter in made.motifs[0].tolist())
    assert reward([best, only_first]) == [1.0, same / 4]
    assert Ehrlich(**plain, quantization=2)([only_first]) == [same // 2 / 2]
    q = same / 4
    assert Ehrlich(**plain, epistasis=0.5)([only_first, best]) == pytest.approx([q * (1 + 0.5 * q * (q - 1)), 1.0])


@pytest.mark.parametrize("length", [32, 128])
def test_optima_and_drawn_designs_are_feasible(length: int) -> None:
    reward = Ehrlich("ACDEFGHIKLMNPQRSTVWY", length=length, motifs=4, motif_length=4)
    drawn = reward.feasible(50, torch.Generator().manual_seed(0))
    assert reward([reward.optimum()]) == [1.0]
    assert reward(drawn) == pytest.approx([spelt_out(reward, design) for design in drawn])
    assert all(0 <= score < 1 for score in reward(drawn))
    assert len(set(drawn)) == 50


def test_the_chain_is_stationary_and_sparse() -> None:
    made = Ehrlich("ACDEFGHIKLMNPQRSTVWY").landscape()
    assert made.transitions.sum(-1) == pytest.approx(torch.ones(20).numpy(), abs=1e-5)
    assert (made.stationary @ made.transitions).numpy() == pytest.approx(made.stationary.numpy(), abs=1e-5)
    assert bool((made.transitions.diagonal() > 0).all())
    # bands of 17 letters of 20: three zeros a row, or two where one of them would be the letter itself
    assert set((made.transitions == 0).sum(-1).tolist()) <= {2, 3}


def test_what_cannot_be_scored_says_why() -> None:
    short, foreign, forbidden = SMALL(["ABC", "ABCDEX", next(d for d in pairs() if spelt_out(SMALL, d) < 0)])
    assert isinstance(short, NotScored)
    assert short.reason == "the design has 3 letters, not 6"
    assert isinstance(foreign, NotScored)
    assert foreign.reason == '"E" is none of the letters ABCD'
    assert isinstance(forbidden, Infeasible)
    assert "may not follow" in forbidden.reason


def pairs() -> list[str]:
    return [a * 3 + b * 3 for a, b in product("ABCD", repeat=2)]


def test_options_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="letters must be 3 or more different ones"):
        build("ehrlich", {"letters": "AAB"})
    with pytest.raises(ConfigError, match="4 motifs of 10 letters do not fit into a length of 32"):
        build("ehrlich", {"letters": "ACGT", "motif_length": 10})
    with pytest.raises(ConfigError, match="quantization must divide motif_length = 4, got 3"):
        build("ehrlich", {"letters": "ACGT", "quantization": 3})
    assert SMALL.version != Ehrlich("ABCD", length=6, motifs=2, motif_length=2, seed=5).version
